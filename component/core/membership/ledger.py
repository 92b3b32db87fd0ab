"""The channel's side of each membership that is being changed.

A channel works off what it is asked in the order it was asked; its answers may come late, and
not in that order. So of one user and channel this keeps what was asked, oldest first, as a
small state machine. Each question is *open* until its answer is there, or until it is certain
that none will come, which is as if it had been refused; then it is

    done     the channel's side is as was asked (it was already, if it says that there is
             nobody to leave), whatever was asked before: that is forgotten, and answers to it
             that are still to come say nothing any more;
    refused  it has changed nothing: it is forgotten.

What is left is at most one that is done, and open ones behind it. What is done is *used*
by who waits for just that, or else settled when nothing is open any more: memory and roster
follow the channel, or the channel is asked to follow them. As long as an open question could
change what is believed there is *doubt*, and an entry in the journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.records import CoreVersion
from schemas.stanza import Stanza


@dataclass(slots=True, eq=False)
class Asked:
    """One join or leave that a channel was asked; `reply` is there once it is done.

    `wish` is what the user wants to share (schemas.preferences), and all that is kept of the
    request: an answer may be ten minutes late, and a request as large as a stanza.
    `recovers` one that was asked before a cut, of which only the journal knew. `id` is the
    question's.
    """

    kind: Literal["join", "leave"]
    user: Jid
    channel: Jid
    core: CoreVersion
    wish: bool | None
    recovers: bool = False
    id: str = ""
    reply: Stanza | None = None


class Ledger:
    """Keeps what was asked; a link's end forgets it, the journal knows what matters."""

    def __init__(self) -> None:
        self._asked: dict[tuple[Jid, Jid], list[Asked]] = {}

    def __len__(self) -> int:
        """Return the number of memberships with a question that is open or not settled."""
        return len(self._asked)

    def ask(self, asked: Asked) -> None:
        """Enter what a channel is about to be asked."""
        self._asked.setdefault((asked.user, asked.channel), []).append(asked)

    def answer(self, asked: Asked, reply: Stanza | None) -> None:
        """Take an answer, or None for that none will come."""
        side = self._asked.get((asked.user, asked.channel), [])
        if asked not in side:
            return  # something later was done since
        if reply is None or not _is_done(asked, reply):
            self.forget(asked)
            return
        asked.reply = reply
        del side[: side.index(asked)]

    def forget(self, asked: Asked) -> None:
        """Take a question out: it has changed nothing, or its answer is used."""
        key = asked.user, asked.channel
        side = self._asked.get(key, [])
        if asked in side:
            side.remove(asked)
        if not side:
            self._asked.pop(key, None)

    def knows(self, user: Jid, channel: Jid) -> bool:
        """Tell whether something is open or not settled."""
        return (user, channel) in self._asked

    def is_open(self, user: Jid, channel: Jid) -> bool:
        """Tell whether a question is open."""
        side = self._asked.get((user, channel))
        return side is not None and any(each.reply is None for each in side)

    def is_recovering(self, user: Jid, channel: Jid) -> bool:
        """Tell whether answers to what nobody remembers may still come before an open one."""
        side = self._asked.get((user, channel))
        return side is not None and any(each.recovers and each.reply is None for each in side)

    def open_join(self, user: Jid, channel: Jid) -> Asked | None:
        """Give the last join that is open."""
        side = self._asked.get((user, channel), [])
        joins = [each for each in side if each.reply is None and each.kind == "join"]
        return joins[-1] if joins else None

    def done(self, user: Jid, channel: Jid) -> Asked | None:
        """Give the last that is known to be done and was not used."""
        side = self._asked.get((user, channel), [])
        return side[0] if side and side[0].reply is not None else None

    def doubt(self, user: Jid, channel: Jid, *, member: bool) -> bool:
        """Tell whether an open question could make something else of a membership."""
        side = self._asked.get((user, channel))
        if side is None:
            return False
        done = self.done(user, channel)
        believed = member if done is None else done.kind == "join"
        return any(each.reply is None and (each.kind == "join") != believed for each in side)

    def of_user(self, user: Jid) -> list[Jid]:
        """List the channels with which something of a user's is open or not settled."""
        return [channel for owner, channel in self._asked if owner == user]

    def clear(self) -> None:
        """Forget everything."""
        self._asked.clear()


def _is_done(asked: Asked, reply: Stanza) -> bool:
    return reply.type != "error" or (
        asked.kind == "leave" and stanzas.has_condition(reply, "item-not-found")
    )
