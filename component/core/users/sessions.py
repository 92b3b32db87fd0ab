"""A user's sessions: their capabilities, last presence, and what was announced of them.

Packed: the resources of a user and, for each, the code of a `State` are a part of the row
(component.core.users.packed). States are shared by all sessions of which the same is known,
presence included: it is kept without its addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntFlag
from typing import NamedTuple
from weakref import WeakValueDictionary

from component.core.users.packed import CODE, EMPTY, OFF, Interned, Parts, Shared
from component.core.users.routes import EITHER, ONLY_0, ONLY_1, Lines
from component.core.users.trimmed_presence import shortened
from component.wire.framing import ATTRIBUTE, Frame
from schemas import codec, jid
from schemas.jid import Jid
from schemas.namespaces import MIX_CORE


class Speaks(IntFlag):
    """The relevant features in a device's verified service discovery."""

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


_MIX = int(Speaks.MIX)
_CORE_0, _CORE_1 = int(Speaks.CORE_0), int(Speaks.CORE_1)
_KINDS: Mapping[int, int] = {_CORE_0: ONLY_0, _CORE_1: ONLY_1, _MIX: EITHER}


class State(NamedTuple):
    """The state of a session.

    `presence` is None for one that is not available: it was announced to channels, and
    that has to be withdrawn.
    """

    speaks: Speaks | None = None
    caps: str | None = None
    hibernated: bool = False
    presence: bytes | None = None
    shown: str | None = None

    @property
    def mix(self) -> int:
        """Which MIX core namespaces it is known to speak, as bits of `Speaks`."""
        # On plain numbers: the arithmetic of flags takes long.
        return 0 if self.speaks is None or self.presence is None else int(self.speaks) & _MIX

    @property
    def is_mix(self) -> bool:
        """Whether it is known to speak MIX."""
        return bool(self.mix)


_NOTHING = State()


class Device:
    """An available session of a user: a view of what the row holds.

    The same object while it is referenced; a reconnect with the same resource is a new one.
    """

    __slots__ = ("__weakref__", "_row", "resource")

    def __init__(self, row: Sessions, resource: str) -> None:
        self._row = row
        self.resource = resource

    @property
    def jid(self) -> Jid:
        """The full JID."""
        return self._row.jid.with_resource(self.resource)

    @property
    def speaks(self) -> Speaks | None:
        """Its MIX features; None until they are known."""
        return self._row.state(self.resource).speaks

    @speaks.setter
    def speaks(self, speaks: Speaks | None) -> None:
        self._row.change(self.resource, self._state._replace(speaks=speaks))

    @property
    def caps(self) -> str | None:
        """The capabilities hash of its presence; None before its first presence."""
        return self._row.state(self.resource).caps

    @caps.setter
    def caps(self, caps: str) -> None:
        self._row.change(self.resource, self._state._replace(caps=caps))

    @property
    def hibernated(self) -> bool:
        """Whether its connection is lost and may be resumed (XEP-0198)."""
        return self._row.state(self.resource).hibernated

    @hibernated.setter
    def hibernated(self, hibernated: bool) -> None:
        self._row.change(self.resource, self._state._replace(hibernated=hibernated))

    @property
    def presence(self) -> bytes:
        """Its last presence, without addresses and id."""
        return self._row.state(self.resource).presence or b""

    @presence.setter
    def presence(self, presence: bytes) -> None:
        self._row.change(self.resource, self._state._replace(presence=presence))

    def presence_for(self, address: Jid) -> bytes:
        """Give its last presence, addressed to somebody."""
        sender, to = (codec.escape(str(each)).encode() for each in (self.jid, address))
        name = len(b"<presence")
        said = self.presence
        return b"%b from='%b' to='%b'%b" % (said[:name], sender, to, said[name:])

    @property
    def is_mix(self) -> bool:
        """Whether the device is known to speak MIX."""
        return self._state.is_mix

    @property
    def _state(self) -> State:
        return self._row.state(self.resource)


def said(frame: Frame) -> bytes:
    """Give a presence without addresses and id, as `Device.presence` has it, and short."""
    pieces, done = [], 0
    for found in ATTRIBUTE.finditer(frame.data, 0, frame.tag_end):
        if found[1] in _OWN:
            pieces.append(frame.data[done : found.start()])
            done = found.end()
    return shortened(b"".join([*pieces, frame.data[done:]]))


_OWN = frozenset({b"from", b"to", b"id"})


class Copies(NamedTuple):
    """Where copies go: full JIDs ready to stand inside an attribute.

    `every` has them all, `only_0` and `only_1` those that understand just the one core
    namespace.
    """

    every: tuple[bytes, ...] = ()
    only_0: tuple[bytes, ...] = ()
    only_1: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, targets: list[tuple[bytes, int]]) -> Copies:
        """Sort the devices that speak MIX into targets."""
        return cls(
            tuple([target for target, mix in targets if mix]),
            tuple([target for target, mix in targets if mix == _CORE_0]),
            tuple([target for target, mix in targets if mix == _CORE_1]),
        )

    @classmethod
    def routed(cls, targets: list[tuple[int, bytes]]) -> Copies:
        """Sort the targets of a route."""
        return cls(
            tuple([target for _, target in targets]),
            tuple([target for kind, target in targets if kind == ONLY_0]),
            tuple([target for kind, target in targets if kind == ONLY_1]),
        )


def copies_for(device: Device) -> Copies:
    """Give one device as a target, if it speaks MIX."""
    mix = 0 if device.speaks is None else int(device.speaks) & _MIX
    return Copies.of([(codec.escape(str(device.jid)).encode(), mix)])


def _address(user: bytes, resource: bytes) -> bytes:
    address = b"%b/%b" % (user, resource)
    if address.translate(None, _SPECIAL) == address:
        return address
    return codec.escape(address.decode()).encode()


_SPECIAL = b"&<>'\"\t\n\r"


class Common(Interned):
    """The values that the rows of one mirror share, their routes, and their device objects.

    Another mirror has its own: two cores in a process share nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: Lines = {}
        self.states: Shared[State] = Shared()
        # The device objects that are referenced, by row and resource.
        self.devices: WeakValueDictionary[tuple[int, str], Device] = WeakValueDictionary()


class Sessions:
    """A user's sessions."""

    __slots__ = ("_packed", "common", "key")

    def __init__(self, user: Jid, common: Common) -> None:
        self.key = user.key
        self._packed = EMPTY
        self.common = common

    @property
    def jid(self) -> Jid:
        """The user's bare JID."""
        return jid.parse(self.key.decode())

    @property
    def devices(self) -> Devices:
        """The available sessions by resource."""
        return Devices(self)

    @property
    def mix_devices(self) -> list[Device]:
        """The devices that are known to speak MIX."""
        devices = self.devices
        return [devices[name.decode()] for name, state in self._each() if state.mix]

    @property
    def copies(self) -> Copies:
        """The MIX devices as targets."""
        return Copies.of([(_address(self.key, name), state.mix) for name, state in self._each()])

    @property
    def is_online(self) -> bool:
        """Whether there is any device."""
        return any(state.presence is not None for _, state in self.states())

    # -- what channels were shown ---------------------------------------------------------

    @property
    def shown(self) -> dict[str, str]:
        """The sessions that the channels were shown, with a digest of what."""
        return {
            resource: state.shown for resource, state in self.states() if state.shown is not None
        }

    @property
    def shown_but_gone(self) -> list[str]:
        """The sessions that the channels believe in and that are not available."""
        return [
            resource
            for resource, state in self.states()
            if state.shown is not None and state.presence is None
        ]

    def show(self, resource: str, digest: str | None) -> None:
        """Note what the channels were shown of a session; None for nothing any more."""
        self.change(resource, self.state(resource)._replace(shown=digest))

    # -- packed ---------------------------------------------------------------------------

    def _targets(self) -> list[tuple[int, bytes]]:
        """Give the MIX devices as a line has them."""
        return [
            (_KINDS[state.mix], _address(self.key, name))
            for name, state in self._each()
            if state.mix
        ]

    def states(self) -> Iterator[tuple[str, State]]:
        """Give all sessions that anything is known of."""
        for name, state in self._each():
            yield name.decode(), state

    def _each(self) -> Iterator[tuple[bytes, State]]:
        sessions, values = Parts.sessions_of(self._packed), self.common.states.values
        for each in sessions.split(OFF) if sessions else ():
            yield each[CODE:], values[each[:CODE]]

    def state(self, resource: str) -> State:
        """Give what is known of a session."""
        found = self._find(resource)
        return _NOTHING if found is None else self.common.states.values[found]

    def change(self, resource: str, state: State) -> None:
        """Note what is known of a session; one of which nothing is ends."""
        before = self._find(resource)
        if before is not None and self.common.states.values[before] == state:
            return
        name = resource.encode()
        parts = Parts.of(self._packed)
        sessions = parts.sessions.split(OFF) if parts.sessions else []
        known = state.presence is not None or state.shown is not None
        now = [self.common.states.take(state) + name] if known else []
        if before is None:
            sessions += now
        else:
            at = sessions.index(before + name)
            sessions[at : at + 1] = now
            self.common.states.drop(before)
        self._repack(parts._replace(sessions=OFF.join(sessions)))

    def _repack(self, parts: Parts) -> None:
        self._packed = parts.row()
        self.common.lines.pop(self.key, None)

    def _find(self, resource: str) -> bytes | None:
        """Give the code of a session's state."""
        name = resource.encode()
        for each in Parts.sessions_of(self._packed).split(OFF):
            if each[CODE:] == name:
                return each[:CODE]
        return None

    def all_gone(self) -> None:
        """Note that no session is available any more, as far as is known."""
        for resource, state in list(self.states()):
            if state.presence is not None:
                self.common.devices.pop((id(self), resource), None)
                self.change(resource, State(shown=state.shown))

    def forget_sessions(self) -> None:
        """Forget all sessions, and what channels were shown of them."""
        self.all_gone()
        for resource, _ in list(self.states()):
            self.change(resource, _NOTHING)


class Devices(Mapping[str, Device]):
    """A user's available sessions by resource, made as they are asked for."""

    __slots__ = ("_row",)

    def __init__(self, row: Sessions) -> None:
        self._row = row

    def __getitem__(self, resource: str) -> Device:
        row = self._row
        if row.state(resource).presence is None:
            raise KeyError(resource)
        kept = row.common.devices
        device = kept.get((id(row), resource))
        if device is None:
            device = kept[id(row), resource] = Device(row, resource)
        return device

    def __iter__(self) -> Iterator[str]:
        return (name for name, state in self._row.states() if state.presence is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def come(self, resource: str, presence: bytes = b"") -> Device:
        """Enter a session that is available now."""
        self._row.change(resource, self._row.state(resource)._replace(presence=presence))
        return self[resource]

    def end(self, resource: str) -> Device | None:
        """Remove a session; gives what it was, None if it was none."""
        device = self.get(resource)
        if device is not None:
            self._row.common.devices.pop((id(self._row), resource), None)
            self._row.change(resource, State(shown=self._row.state(resource).shown))
        return device
