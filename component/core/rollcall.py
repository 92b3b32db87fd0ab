"""Asks the channels whether their participants still are some.

A kick that a channel sent while no component was there, or that was on its way when a link
broke, is never sent again. So some time after every new link each channel that users are
in is asked for their participant ids, in the name of one of them. Who is missing was
kicked. A channel that refuses may hide its participants, or have kicked the one who asks:
then others ask, and at last that user asks how many messages there are (XEP-0313). Who
may know neither the participants nor the messages is no participant (XEP-0369 §5.1). Where
no question is answered nothing is done.

A channel service that has lost its memory says of everybody that they are gone. When that
seems so, nobody is taken for kicked and the operator is told.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from component.core import results
from component.core.audit import FEW, LARGE_SHARE
from component.core.context import Context
from component.core.membership import Memberships
from component.core.mirror import Membership, Row
from schemas import jid, mam, participants
from schemas.jid import Jid
from schemas.stanza import Stanza

DELAY = 1.0
"""Seconds after the replay: rosters, and what was cut off, come first."""

AT_ONCE = 4
"""Questions that are open at the same time: their answers may come in one read, and each
takes milliseconds, for which everybody waits."""

TOGETHER = 50
"""Participants who are asked for in one question."""


ASKERS = 3
"""Participants in whose names a channel is asked that refuses."""


@dataclass(slots=True)
class _Question:
    """Whether some users, with the ids they were given, are in a channel.

    `refused` is how many of them have asked in vain.
    """

    channel: Jid
    members: list[tuple[Jid, str]]
    refused: int = 0


class RollCall:
    """Compares memory with the channels, once a link."""

    def __init__(self, context: Context, memberships: Memberships) -> None:
        self._context = context
        self._memberships = memberships
        self._link = 0
        # Channels and the users of each who have to be asked for, as the mirror names them:
        # of all there are, nothing else is kept.
        self._unasked: dict[bytes, list[bytes]] = {}
        self._to_ask: deque[_Question] = deque()
        self._asking: list[_Question] = []
        # Channels whose answer may have been what broke a link, by its size.
        self._avoided: set[Jid] = set()
        self._looked_at = 0
        self._missing = 0

    def begin(self, domain: str) -> None:
        """Look at all members of a domain, in a moment."""
        link = self._link
        self._context.after(DELAY, lambda: self._begin(domain) if link == self._link else None)

    def link_lost(self) -> None:
        """Forget whom to ask: the next link begins anew."""
        self._link += 1
        self._avoided.update(question.channel for question in self._asking)
        self._to_ask.clear()
        self._unasked.clear()
        self._asking.clear()
        self._looked_at = self._missing = 0

    def _begin(self, domain: str) -> None:
        end = f"@{domain}".encode()

        def look(row: Row) -> None:
            if row.key.endswith(end):
                for channel in row.channels:
                    self._unasked.setdefault(channel, []).append(row.key)

        self._context.each_row(look, then=self._ask_more)

    def _ask_more(self) -> None:
        while len(self._asking) < AT_ONCE:
            question = self._next()
            if question is None:
                return
            if question.members:
                self._asking.append(question)
                self._ask(question)

    def _next(self) -> _Question | None:
        """Give the next question, of those who are still members."""
        if self._to_ask:
            question = self._to_ask.popleft()
            question.members = [
                (user, id_)
                for user, id_ in question.members
                if self._member(user, question.channel, id_) is not None
            ]
            return question
        if not self._unasked:
            return None
        key, users = next(iter(self._unasked.items()))
        channel, some = jid.parse(key.decode()), users[:TOGETHER]
        del users[:TOGETHER]
        if not users or channel in self._avoided:
            del self._unasked[key]
        if channel in self._avoided:
            return _Question(channel, [])
        return _Question(channel, [each for user in some for each in self._id(user, key)])

    def _id(self, user: bytes, channel: bytes) -> list[tuple[Jid, str]]:
        """Give a user with the id in a channel, unless that is about to change."""
        row = self._context.mirror.rows.get(user)
        if row is None or channel in row.busy or not row.has_joined(channel):
            return []
        return [(row.jid, row.channels[channel].participant_id)]

    def _member(self, user: Jid, channel: Jid, id_: str) -> Membership | None:
        """Give a membership that is as it was, and not about to change."""
        row = self._context.mirror.find(user)
        key = str(channel).encode()
        found = None if row is None or key in row.busy else row.channels.get(key)
        return found if found is not None and found.participant_id == id_ else None

    def _ask(self, question: _Question) -> None:
        context, asker = self._context, question.members[question.refused][0]
        request = participants.request(id_ for _, id_ in question.members)
        context.ask(
            context.iq("get", asker, question.channel, request),
            context.limits.channel_timeout,
            lambda reply: self._told(question, reply),
        )

    def _told(self, question: _Question, reply: Stanza | None) -> None:
        told = None if reply is None else participants.read(reply.element)
        if reply is not None and reply.type == "result" and told is not None and told.complete:
            missing = [
                (user, id_)
                for user, id_ in question.members
                if told.by_id(id_) is None and told.of(user) is None
            ]
            self._end(question, len(question.members), missing if told.understood else [])
        elif reply is None or not results.has_condition(reply, "forbidden"):
            self._end(question, 0, [])
        else:
            question.refused += 1
            if question.refused < min(ASKERS, len(question.members)):
                self._ask(question)
            else:
                self._ask_for_messages(question)

    def _ask_for_messages(self, question: _Question) -> None:
        context, asker = self._context, question.members[0][0]
        context.ask(
            context.iq("set", asker, question.channel, mam.count()),
            context.limits.channel_timeout,
            lambda reply: self._counted(question, reply),
        )

    def _counted(self, question: _Question, reply: Stanza | None) -> None:
        if reply is None or not results.has_condition(reply, "forbidden"):
            self._end(question, 0, [])  # it hides its participants from this one, and all
            return
        asker, *others = question.members
        if others:
            self._to_ask.append(_Question(question.channel, others))
        self._end(question, 1, [asker])

    def _end(self, question: _Question, looked_at: int, missing: list[tuple[Jid, str]]) -> None:
        self._asking.remove(question)
        self._looked_at += looked_at
        self._missing += len(missing)
        if missing and self._missing > max(FEW, self._looked_at * LARGE_SHARE):
            self._context.report("roll-call-stopped", "error", participants=self._missing)
            self._to_ask.clear()
            self._unasked.clear()
            return
        for user, id_ in missing:
            if self._member(user, question.channel, id_) is not None:
                self._context.report("kicked", user=str(user), channel=str(question.channel))
                self._memberships.forget(user, question.channel)
        self._ask_more()
