"""What is going on for one user beside what is known: changes, what is held back, presence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from component.core.rates import TokenBucket
from component.wire.framing import Frame


class Waiting(Protocol):
    """Takes what a channel sends while it must not be delivered yet."""

    def take(self, frame: Frame) -> None:
        """Keep a stanza back."""


@dataclass(slots=True)
class ParticipantPresence:
    """The presence of a channel's participants: sender as on the wire -> stanza without `to`.

    `complete` tells whether a newly come device may be served from it, `tells` whether the
    channel has sent any presence. `late` has what is passed on later, because it came too
    fast; `bucket` how many more may be passed on at once.
    """

    complete: bool = False
    tells: bool = False
    stanzas: dict[bytes, bytes] = field(default_factory=dict)
    late: dict[bytes, bytes] = field(default_factory=dict)
    bucket: TokenBucket = field(default_factory=TokenBucket)


class Tells(NamedTuple):
    """Stands for a memory of participants that was not begun: the channel tells of them."""

    complete: bool = False
    tells: bool = True
    stanzas: Mapping[bytes, bytes] = MappingProxyType({})


TELLS: Final = Tells()


class Change:
    """A membership's change under way (component.core.membership.change)."""

    __slots__ = ()


@dataclass(slots=True)
class Activity:
    """What is going on for one user; most rows have none.

    `changes` has the change under way for each channel (bare JID), `inquiries` the channels
    that are asked in the user's name and may not be the user's, `holding` what a
    channel sends while it must wait, `participants` the presence of its participants,
    `presences` how many more of all those channels may be passed on at once, `late_bytes` how
    large those are that wait.
    """

    changes: dict[bytes, Change] = field(default_factory=dict)
    inquiries: frozenset[bytes] = frozenset()
    holding: dict[bytes, Waiting] = field(default_factory=dict)
    participants: dict[bytes, ParticipantPresence | Tells] = field(default_factory=dict)
    presences: TokenBucket = field(default_factory=TokenBucket)
    late_bytes: int = 0


class Greeting(Enum):
    """Whether a user's channels have been asked who is there."""

    NOT_YET = 0
    WAITS = 1
    DONE = 2
