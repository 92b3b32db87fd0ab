"""A user's transient state: changes under way, stanzas held back, participants' presence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from component.core.rates import TokenBucket
from component.wire.framing import Frame


class Waiting(Protocol):
    """Buffers a channel's stanzas while they must not be delivered yet."""

    def take(self, frame: Frame) -> None:
        """Keep a stanza back."""


@dataclass(slots=True)
class ParticipantPresence:
    """The presence of a channel's participants: sender as on the wire -> stanza without `to`.

    `complete` tells whether a new device may be served from it, `tells` whether the channel
    has sent any presence. `late` has the presences that exceeded the rate and are passed on
    later; `bucket` limits that rate.
    """

    complete: bool = False
    tells: bool = False
    stanzas: dict[bytes, bytes] = field(default_factory=dict)
    late: dict[bytes, bytes] = field(default_factory=dict)
    bucket: TokenBucket = field(default_factory=TokenBucket)


class Tells(NamedTuple):
    """Stands for a `ParticipantPresence` without stanzas: the channel has sent some presence."""

    complete: bool = False
    tells: bool = True
    stanzas: Mapping[bytes, bytes] = MappingProxyType({})


TELLS: Final = Tells()


class Change:
    """A membership's change under way (component.core.membership.change)."""

    __slots__ = ()


@dataclass(slots=True)
class Activity:
    """A user's transient state; most rows have none.

    `changes` has the change under way for each channel (bare JID), `inquiries` the channels
    that are asked in the user's name without a membership, `holding` the buffer of each
    channel whose stanzas must wait, `participants` the presence of its participants.
    `presences` limits the rate of presence from all channels, `late_bytes` counts the bytes
    of the presences that wait.
    """

    changes: dict[bytes, Change] = field(default_factory=dict)
    inquiries: frozenset[bytes] = frozenset()
    holding: dict[bytes, Waiting] = field(default_factory=dict)
    participants: dict[bytes, ParticipantPresence | Tells] = field(default_factory=dict)
    presences: TokenBucket = field(default_factory=TokenBucket)
    late_bytes: int = 0


class Greeting(Enum):
    """Whether a user's channels have been asked for their participants' presence."""

    NOT_YET = 0
    WAITS = 1
    DONE = 2
