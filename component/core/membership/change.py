"""One change of one user's membership in one channel, while it is under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from component.core.delivery.join_buffer import Holding
from component.core.effects import DropMembership
from component.core.errors import wait
from component.core.limits import Limits
from component.core.membership.ledger import Asked
from component.core.membership.requests import Request
from component.core.users.activity import Change
from component.core.users.mirror import Row
from schemas.jid import Jid
from schemas.preferences import shares_presence
from schemas.records import CoreVersion
from schemas.stanza import Stanza


@dataclass(slots=True)
class Op(Change):
    """A change under way. `request` is None when no client waits for its outcome.

    `member` tells whether the user was a participant before, `doubted` whether a late answer
    to an earlier change may still end that. With `forced` the membership ends whatever the
    channel answers. `wish` is the requested preference, `asked` the last question to the channel.
    `afterwards` is an end of the membership that came meanwhile and is to follow. `gone` means
    that the change was cancelled, because the account was removed; `recovers`, that it was cut
    off by the end of a link. `label` is its id in the log, `participant_id` the one that the
    channel has granted, `key` the channel's key in rows.
    """

    kind: Literal["join", "leave"]
    user: Jid
    channel: Jid
    core: CoreVersion
    member: bool
    request: Request | None = None
    reply: Stanza | None = None
    wish: bool | None = None
    asked: Asked | None = None
    doubted: bool = False
    forced: bool = False
    gone: bool = False
    recovers: bool = False
    afterwards: Literal["", "forget", "depart"] = ""
    label: str = ""
    holding: Holding | None = None
    participant_id: str | None = None
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.channel.key
        if self.request is not None:
            self.wish = shares_presence(self.request.inner)

    @property
    def sure(self) -> bool:
        """Whether the user is known to have been a participant before."""
        return self.member and not self.doubted

    def facts(self) -> dict[str, Any]:
        """Give the facts for log entries about this change."""
        return {
            "kind": self.kind,
            "user": self.user.text,
            "channel": self.channel.text,
            "request": self.label,
        }

    @property
    def drop(self) -> DropMembership:
        """The end of the membership, for the store."""
        return DropMembership(self.user.text, self.channel.text)


def ops_of(row: Row) -> list[Op]:
    """List the changes under way for a user."""
    return [op for op in row.changes.values() if isinstance(op, Op)]


def op_of(row: Row, channel: bytes) -> Op | None:
    """Give the change of a channel that is under way for a user."""
    found = row.changes.get(channel)
    return found if isinstance(found, Op) else None


MOST_BYTES = 1_048_576
"""Bytes that a user's participant ids, nicks and nodes may take, beyond which no channel is
added: a thousand channels take a tenth …"""

FEW = 150
"""… and so many cannot take more."""


def check_room(row: Row, limits: Limits) -> None:
    """See that a user may join one more channel. Raises Refusal if not."""
    coming = sum(op.kind == "join" and not op.member for op in ops_of(row))
    joined = len(row.channels)
    if joined + coming >= limits.max_channels:
        raise wait("policy-violation", f"at most {limits.max_channels} channels")
    if joined > FEW and row.membership_bytes > MOST_BYTES:
        raise wait("resource-constraint", "nicks and nodes of all your channels are too long")
