"""One change of one user's membership in one channel, while it is under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from component.core.context import Limits
from component.core.effects import DropMembership
from component.core.errors import wait
from component.core.holding import Holding
from component.core.mirror import Row
from component.core.requests import Request
from schemas.jid import Jid
from schemas.records import CoreVersion
from schemas.stanza import Stanza


@dataclass(slots=True)
class Op:
    """A change under way. `request` is None when no client waits for its outcome.

    `member` tells whether the user was a participant before; with `forced` the membership
    ends whatever the channel says. `afterwards` is what happened to the membership
    meanwhile and has to follow. `label` goes through the log with it. `participant_id` is
    what the channel has granted, `key` the channel as the mirror's rows name it.
    """

    kind: Literal["join", "leave"]
    user: Jid
    channel: Jid
    core: CoreVersion
    member: bool
    request: Request | None = None
    reply: Stanza | None = None
    forced: bool = False
    afterwards: Literal["", "forget", "depart"] = ""
    label: str = ""
    holding: Holding | None = None
    queue: list[Request] = field(default_factory=list)
    participant_id: str | None = None
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = str(self.channel).encode()

    def facts(self) -> dict[str, Any]:
        """Give what every log entry about this change says."""
        return {
            "kind": self.kind,
            "user": str(self.user),
            "channel": str(self.channel),
            "request": self.label,
        }

    @property
    def drop(self) -> DropMembership:
        """The end of the membership, for the store."""
        return DropMembership(str(self.user), str(self.channel))


def check_room(row: Row, limits: Limits, *, new: bool) -> None:
    """See that a user may ask for one more change. Raises Refusal if not."""
    ops = [op for op in row.busy.values() if isinstance(op, Op)]
    if len(ops) + sum(len(op.queue) for op in ops) >= limits.max_pending:
        raise wait("resource-constraint", "too many joins and leaves at the same time")
    coming = sum(op.kind == "join" and not op.member for op in ops)
    if new and len(row.channels) + coming >= limits.max_channels:
        raise wait("policy-violation", f"at most {limits.max_channels} channels")
