"""Effects: outputs of the core, which the shell carries out in order.

Effects of every stanza are named tuples, which are created faster than frozen dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from component.wire.framing import Frame, LeftOut
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord


class Send(NamedTuple):
    """Put these bytes, one stanza, onto the link: the outgoing rule has let it pass (`Core`)."""

    data: bytes


class Deliver(NamedTuple):
    """Put copies of a channel's stanza onto the link; they were judged when they were made."""

    copies: list[bytes]


class Queue(NamedTuple):
    """Have a stanza come back, by `Core.receive` or `Core.left_out`, when its turn has come.

    The turn, and the room it takes until then, are `payer`'s: a local user's (bare JID), a strange
    domain's or nobody's. What is to be dealt with `alone` follows all that came before it, and
    precedes all that comes.
    """

    stanza: Frame | LeftOut
    payer: bytes
    alone: bool = False


@dataclass(frozen=True, slots=True)
class PutMembership:
    """Remember that `user` (bare JID) is in a channel."""

    user: str
    record: MembershipRecord


@dataclass(frozen=True, slots=True)
class DropMembership:
    """Forget that `user` is in `channel` (bare JIDs)."""

    user: str
    channel: str


@dataclass(frozen=True, slots=True)
class PutJournal:
    """Remember that a change of membership is under way."""

    user: str
    record: JournalRecord


@dataclass(frozen=True, slots=True)
class DropJournal:
    """The change for this user and channel is finished, one way or the other."""

    user: str
    channel: str


@dataclass(frozen=True, slots=True)
class PutShown:
    """Store the digest of a device's presence as announced to the channels."""

    user: str
    resource: str
    digest: str


@dataclass(frozen=True, slots=True)
class DropShown:
    """The channels know that a user's device is gone."""

    user: str
    resource: str


@dataclass(frozen=True, slots=True)
class PutCapability:
    """Remember what a verified capabilities hash stands for."""

    key: str
    record: CapabilityRecord


@dataclass(frozen=True, slots=True)
class DropCapability:
    """Forget a capabilities hash that had to make room."""

    key: str


Drop = DropMembership | DropJournal | DropShown | DropCapability
Change = PutMembership | PutJournal | PutShown | PutCapability | Drop


class Write(NamedTuple):
    """Make these changes durable, all or none.

    With a token, the outcome is passed to the core: `Core.written(token, done=…)`.
    """

    changes: tuple[Change, ...]
    token: int | None = None


class Report(NamedTuple):
    """Something an operator may want to know: an event's name and its facts."""

    event: str
    level: str
    facts: dict[str, Any]


class Fault(NamedTuple):
    """An exception in the core; for the log, with its traceback."""

    error: Exception


class Count(NamedTuple):
    """One more of a kind, for the metrics; never carries a JID."""

    what: str
    reason: str = ""


Effect = Send | Deliver | Queue | Write | Report | Fault | Count
