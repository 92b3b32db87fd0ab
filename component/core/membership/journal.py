"""The journal: which changes of membership are under way (DESIGN "State").

An entry is written before the first stanza of a change leaves and closed when the roster
has followed. What is still in it when a link begins was cut off half-way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from component.core.context import Context
from component.core.effects import DropJournal, PutJournal
from component.core.membership.change import Op
from schemas import jid
from schemas.jid import Jid
from schemas.records import JournalRecord


class Journal:
    """Keeps the entries, here and in the store."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._entries: dict[tuple[Jid, Jid], JournalRecord] = {}

    def __len__(self) -> int:
        """Return the number of changes under way."""
        return len(self._entries)

    def load(self, user: Jid, record: JournalRecord) -> None:
        """Take over an entry from the store."""
        self._entries[user, jid.parse(record.channel)] = record

    def forget(self, user: Jid, channel: Jid) -> None:
        """Forget an entry that the store no longer holds."""
        self._entries.pop((user, channel), None)

    def clear(self) -> None:
        """Forget all entries, here only."""
        self._entries.clear()

    def of_domain(self, domain: str) -> list[tuple[Jid, Jid, JournalRecord]]:
        """List the entries of a domain's users: user, channel, entry."""
        return [
            (user, channel, record)
            for (user, channel), record in self._entries.items()
            if user.domain == domain
        ]

    def find(self, user: Jid, channel: Jid) -> JournalRecord | None:
        """Look one entry up."""
        return self._entries.get((user, channel))

    def users(self) -> set[Jid]:
        """Give the users who have entries."""
        return {user for user, _ in self._entries}

    def of_user(self, user: Jid) -> list[JournalRecord]:
        """List a user's entries."""
        return [record for (owner, _), record in self._entries.items() if owner == user]

    def entry(self, op: Op, step: Literal["ask", "roster"], *, shares: bool = True) -> PutJournal:
        """Enter a step; the caller has the change written with what belongs to it.

        Whatever it is, a leave comes next where the membership has ended meanwhile.
        """
        if op.afterwards:
            op, step = replace(op, kind="leave"), "ask"
        record = JournalRecord(
            kind=op.kind,
            channel=op.channel.text,
            step=step,
            core=op.core,
            member=op.sure,
            shares_presence=shares,
        )
        self._entries[op.user, op.channel] = record
        return PutJournal(op.user.text, record)

    def close(self, op: Op) -> None:
        """Close the entry of a change that is finished or undone."""
        if self._entries.pop((op.user, op.channel), None) is not None:
            self._context.write(DropJournal(op.user.text, op.channel.text))
