"""The mirror: who is in which channel and which devices are online, for look-ups only.

The hot lane decides with one dictionary look-up per stanza, keyed by the bytes that stand
on the wire; the control lane comes through the same rows. Grows with memberships of
all users and devices of online ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Protocol

from component.core.bucket import TokenBucket
from component.framing import Frame
from schemas import codec, jid
from schemas.jid import Jid
from schemas.namespaces import MIX_CORE
from schemas.records import CoreVersion, MembershipRecord


class Speaks(IntFlag):
    """What a device's verified service discovery says of it."""

    NOTHING = 0
    CORE_0 = 1
    CORE_1 = 2
    PSA = 4
    MIX = CORE_0 | CORE_1

    @classmethod
    def from_features(cls, features: frozenset[str]) -> Speaks:
        """Reduce a feature list to what matters here."""
        speaks = cls.NOTHING
        if MIX_CORE[0] in features:
            speaks |= cls.CORE_0
        if MIX_CORE[1] in features:
            speaks |= cls.CORE_1
        if "urn:xmpp:psa" in features:
            speaks |= cls.PSA
        return speaks

    def to_features(self) -> list[str]:
        """Give the feature names back, for the cache."""
        names = zip((MIX_CORE[0], MIX_CORE[1], "urn:xmpp:psa"), (1, 2, 4), strict=True)
        return [name for name, bit in names if self & bit]


@dataclass(slots=True)
class Device:
    """An available session of a user.

    `speaks` is None until it is known; `presence` is its last one, as it came.
    """

    jid: Jid
    speaks: Speaks | None = None
    caps: str | None = None
    hibernated: bool = False
    presence: bytes = b""

    @property
    def is_mix(self) -> bool:
        """Whether the device is known to speak MIX."""
        return self.speaks is not None and bool(self.speaks & Speaks.MIX)

    @property
    def resource(self) -> str:
        """The resource of the device's JID."""
        return self.jid.resource or ""


@dataclass(frozen=True, slots=True)
class Membership:
    """A user's participation in one channel."""

    channel: Jid
    participant_id: str
    nick: str | None
    nodes: tuple[str, ...]
    core: CoreVersion
    shares_presence: bool

    @classmethod
    def of(cls, record: MembershipRecord) -> Membership:
        """Make one of what the store holds."""
        return cls(
            jid.parse(record.channel),
            record.participant_id,
            record.nick,
            tuple(record.nodes),
            record.core,
            record.shares_presence,
        )

    def record(self) -> MembershipRecord:
        """Give what the store is to hold."""
        return MembershipRecord(
            channel=str(self.channel),
            participant_id=self.participant_id,
            nick=self.nick,
            nodes=list(self.nodes),
            core=self.core,
            shares_presence=self.shares_presence,
        )


@dataclass(frozen=True, slots=True)
class Copies:
    """Where copies go: full JIDs ready to stand inside an attribute.

    `every` has them all, `only_0` and `only_1` those that understand just the one core
    namespace.
    """

    every: tuple[bytes, ...] = ()
    only_0: tuple[bytes, ...] = ()
    only_1: tuple[bytes, ...] = ()


def copies_for(devices: Iterable[Device]) -> Copies:
    """Sort those of the devices that speak MIX into targets."""
    targets = [
        (codec.escape(str(device.jid)).encode(), device.speaks & Speaks.MIX)
        for device in devices
        if device.speaks is not None and device.is_mix
    ]
    return Copies(
        tuple(target for target, _ in targets),
        tuple(target for target, speaks in targets if speaks == Speaks.CORE_0),
        tuple(target for target, speaks in targets if speaks == Speaks.CORE_1),
    )


class Waiting(Protocol):
    """Takes what a channel sends while it must not be delivered yet."""

    def take(self, frame: Frame) -> None:
        """Keep a stanza back."""


@dataclass(slots=True)
class ParticipantPresence:
    """The presence of a channel's participants: sender as on the wire -> stanza.

    `complete` tells whether a newly come device may be served from it. `late` has what is
    passed on later, because it came too fast; `bucket` how many more may be passed on at once.
    """

    complete: bool = False
    stanzas: dict[bytes, bytes] = field(default_factory=dict)
    late: dict[bytes, bytes] = field(default_factory=dict)
    bucket: TokenBucket = field(default_factory=TokenBucket)


@dataclass(slots=True)
class Row:
    """All about one user, or one who has devices and no channel yet.

    `busy` has the change under way for each channel (bare JID), `holding` what the
    channel sends while it must wait, `participants` the presence of its participants.
    `shown` has the devices (resources) that the channels were shown, with a digest of what.
    """

    jid: Jid
    channels: dict[bytes, Membership] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    busy: dict[bytes, object] = field(default_factory=dict)
    holding: dict[bytes, Waiting] = field(default_factory=dict)
    participants: dict[bytes, ParticipantPresence] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    presences: TokenBucket = field(default_factory=TokenBucket)
    _copies: Copies | None = None

    @property
    def copies(self) -> Copies:
        """The MIX devices as targets; made anew after a change of devices."""
        if self._copies is None:
            self._copies = copies_for(self.devices.values())
        return self._copies

    def devices_changed(self) -> None:
        """Have the targets made anew."""
        self._copies = None

    @property
    def mix_devices(self) -> Iterator[Device]:
        """The devices that are known to speak MIX."""
        return (device for device in self.devices.values() if device.is_mix)

    @property
    def empty(self) -> bool:
        """Whether nothing is known of the user any more."""
        return not (self.channels or self.devices or self.busy or self.holding)


class Mirror:
    """All rows, and the MIX domains that follow from them."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Row] = {}
        self.services: set[str] = set()
        # Domains that are being asked whether they are MIX services.
        self.asked_domains: set[str] = set()

    def find(self, user: Jid) -> Row | None:
        """Look a user up by bare JID."""
        return self.rows.get(str(user).encode())

    def row(self, user: Jid) -> Row:
        """Look a user up by bare JID, making the row if need be."""
        key = str(user).encode()
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = Row(user)
        return row

    def tidy(self, user: Jid) -> None:
        """Let go of a row in which nothing is left."""
        key = str(user).encode()
        row = self.rows.get(key)
        if row is not None and row.empty:
            del self.rows[key]

    def membership(self, user: Jid, channel: Jid) -> Membership | None:
        """Look up one membership."""
        row = self.find(user)
        return None if row is None else row.channels.get(str(channel).encode())

    def join(self, user: Jid, membership: Membership) -> None:
        """Enter a membership, in place of an older one."""
        self.row(user).channels[str(membership.channel).encode()] = membership
        self.services.add(membership.channel.domain)

    def part(self, user: Jid, channel: Jid) -> None:
        """Remove a membership, if there is one."""
        row = self.find(user)
        if row is not None:
            key = str(channel).encode()
            row.channels.pop(key, None)
            self.tidy(user)

    def all_devices_gone(self) -> None:
        """Forget every device: the link that told of them is gone."""
        for row in list(self.rows.values()):
            row.devices.clear()
            row.devices_changed()
            # What the channels sent meanwhile is not known.
            row.participants.clear()
            self.tidy(row.jid)
