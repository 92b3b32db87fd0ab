"""Which devices speak MIX (XEP-0405 §5.1, XEP-0369 "Discovering Client MIX Capability").

A presence's capabilities hash is looked up in a bounded cache; one not known yet is asked for
from a few who have it, and believed for others only if the answer gives the hash
again, and then as the hashed bytes say it (schemas.disco). A device without a hash, or with
a false one, is asked itself and believed for itself only. No answer: not MIX.

A device that copies a hash and does not answer delays others for a moment only: every second
twice as many devices are asked, one of each user in turn. The questions to one user's devices
are limited by a rate, so that a device that keeps changing its hash waits.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from component.core.context import Context
from component.core.effects import DropCapability, PutCapability
from component.core.rates import Buckets
from component.core.users.mirror import Row
from component.core.users.sessions import Device, Speaks
from schemas import disco
from schemas.disco import CapsKey
from schemas.jid import Jid
from schemas.records import CapabilityRecord
from schemas.stanza import Stanza

NO_HASH = ""

PATIENCE = 1.0
"""Seconds after which more of those who wait are asked."""

SETTLED_AT_ONCE = 50
"""Devices that an answer settles in one go: each may have many channels to be shown to."""

_ALL_DEVICES = 1_000_000
"""More than there are, of one hash."""

_Devices = dict[Jid, dict[Device, None]]
"""Devices by user (bare JID), in the order in which they came."""


@dataclass(slots=True)
class _Hash:
    """A hash that nobody has vouched for yet: devices that were asked, and the rest.

    `room` is how many may have been asked and not answered.
    """

    key: CapsKey
    room: int
    asked: set[Device] = field(default_factory=set)
    rest: _Devices = field(default_factory=dict)


class Capability:
    """Finds out what devices speak. `learned` is called when that of one changes."""

    def __init__(self, context: Context, learned: Callable[[Row, Device], None]) -> None:
        self._context = context
        self._learned = learned
        self._cache: OrderedDict[str, Speaks] = OrderedDict()
        self._waiting: dict[str, _Hash] = {}
        # Those to be asked for themselves, when their users may be asked again.
        self._later: _Devices = {}
        self._looks_again = False
        self._budget: Buckets[Jid] = Buckets(context.limits.disco_rate, context.limits.disco_burst)

    def __len__(self) -> int:
        """Return the number of verified hashes."""
        return len(self._cache)

    def __contains__(self, key: object) -> bool:
        """Tell whether a hash is verified."""
        return key in self._cache

    def load(self, key: str, record: CapabilityRecord) -> None:
        """Take over a verified hash from the store."""
        self._cache[key] = Speaks.from_features(frozenset(record.features))
        if len(self._cache) > self._context.limits.caps_cache:
            self._cache.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget a hash that the store no longer holds."""
        self._cache.pop(key, None)

    def seen(self, row: Row, device: Device, presence: ET.Element) -> None:
        """Take a device's presence, and ask for its features if they are not known."""
        key = disco.caps_keys(presence)
        name = key.cache_key if key is not None else NO_HASH
        before = device.caps
        if before == name:
            return
        device.caps = name
        if before is not None:
            self._withdraw(row, device, before)
        if key is None:
            # A presence without its former hash changes nothing; a device without any must
            # be asked.
            if before is None:
                self._later.setdefault(row.jid, {})[device] = None
                self._ask_for_themselves()
        elif name in self._cache:
            self._cache.move_to_end(name)
            self._settle(row, device, self._cache[name])
        else:
            unknown = self._waiting.get(name)
            if unknown is None:
                unknown = self._waiting[name] = _Hash(key, self._context.limits.hash_devices)
            unknown.rest.setdefault(row.jid, {})[device] = None
            self._ask_some(name)

    def remembered(self) -> list[PutCapability]:
        """Give all verified hashes, as the store is to hold them."""
        return [
            PutCapability(name, CapabilityRecord(features=speaks.to_features()))
            for name, speaks in self._cache.items()
        ]

    def forget_waiting(self) -> None:
        """Forget the open questions: the link is gone."""
        self._waiting.clear()
        self._later.clear()
        self._looks_again = False

    # -- whom to ask ----------------------------------------------------------------------

    def _withdraw(self, row: Row, device: Device, name: str) -> None:
        """Remove a device from those that wait for its former hash."""
        unknown = self._waiting.get(name)
        for waiting in (self._later, {} if unknown is None else unknown.rest):
            if device in waiting.get(row.jid, {}):
                del waiting[row.jid][device]
                if not waiting[row.jid]:
                    del waiting[row.jid]
        if unknown is not None and not (unknown.asked or unknown.rest):
            del self._waiting[name]

    def _ask_some(self, name: str) -> None:
        """Ask as many of a hash's devices as may be asked at the same time."""
        unknown = self._waiting[name]
        someone = True
        while someone and unknown.rest and len(unknown.asked) < unknown.room:
            someone = False
            for user in list(unknown.rest):
                if len(unknown.asked) >= unknown.room:
                    break
                device = self._next(unknown.rest, user)
                if device is not None:
                    someone = True
                    unknown.asked.add(device)
                    self._ask(device, unknown.key)
        if unknown.rest:
            self._look_again()
        elif not unknown.asked:
            del self._waiting[name]

    def _ask_for_themselves(self) -> None:
        """Ask devices that have no hash to vouch for."""
        for user in list(self._later):
            while (device := self._next(self._later, user)) is not None:
                self._ask(device, None)
        if self._later:
            self._look_again()

    def _next(self, waiting: _Devices, user: Jid) -> Device | None:
        """Take a device of a user, who is the last to have a turn then; None if none may be asked.

        Each costs one of the user's budget.
        """
        devices = waiting.pop(user, {})
        found = None
        for device in list(devices):
            if self._is_online(device):
                if not self._budget.take(user, self._context.now):
                    del devices[device]
                    found = device
                break
            del devices[device]
        if devices:
            waiting[user] = devices
        return found

    def _look_again(self) -> None:
        """See to it that those who wait are looked at before long."""
        if not self._looks_again:
            self._looks_again = True
            self._context.after(PATIENCE, self._ask_more)

    def _ask_more(self) -> None:
        """Ask more: those who were asked have been silent for a while."""
        if not self._looks_again:
            return  # it was another link's
        self._looks_again = False
        for name, unknown in list(self._waiting.items()):
            if unknown.rest:
                unknown.room = min(2 * unknown.room, _ALL_DEVICES)
                self._ask_some(name)
        self._ask_for_themselves()

    # -- asking ---------------------------------------------------------------------------

    def _ask(self, device: Device, key: CapsKey | None) -> None:
        context = self._context
        query = ET.Element(disco.QUERY_TAG)
        if key is not None:
            query.set("node", key.node)

        def late_answer(reply: Stanza | None) -> None:
            # A session that slept while it was asked may still answer, for itself.
            if reply is not None:
                self._answered(device, None, reply)

        request = context.iq("get", context.own, device.jid, query)
        late_key = (device.jid, context.own, request.get("id", ""))

        def answer(reply: Stanza | None) -> None:
            if reply is None and device.caps == (NO_HASH if key is None else key.cache_key):
                context.expect(late_key, context.limits.late_window, late_answer)
            self._answered(device, key, reply)

        context.ask(request, context.limits.disco_timeout, answer)

    def _answered(self, device: Device, key: CapsKey | None, reply: Stanza | None) -> None:
        query = None
        if reply is not None and reply.type == "result":
            query = reply.element.find(disco.QUERY_TAG)
        said = None if query is None or key is None else disco.verified(key, query)
        if query is None:
            self._context.count("capability", "no-answer")
            speaks = Speaks.NOTHING
        else:
            # What is vouched for is the same for all, whatever this one makes of it.
            speaks = Speaks.from_features(disco.features_of(query) if said is None else said)
        if key is None:
            self._settle_if_online(device, device.caps or NO_HASH, speaks)
            return
        name = key.cache_key
        unknown = self._waiting.get(name)
        if unknown is not None:
            unknown.asked.discard(device)
        self._settle_if_online(device, name, speaks)
        if said is not None:
            self._remember(name, speaks)
            waiting = self._waiting.pop(name, None)
            if waiting is not None:
                rest = (each for some in waiting.rest.values() for each in some)
                self._context.each(
                    [*waiting.asked, *rest],
                    lambda other: self._settle_if_online(other, name, speaks),
                    at_once=SETTLED_AT_ONCE,
                )
            return
        if query is not None:
            self._context.count("capability", "false-hash")
        # This answer is good for one device only; the next one is asked in its turn.
        if unknown is not None and name in self._waiting:
            self._ask_some(name)

    def _remember(self, name: str, speaks: Speaks) -> None:
        changes: list[PutCapability | DropCapability] = [
            PutCapability(name, CapabilityRecord(features=speaks.to_features()))
        ]
        self._cache[name] = speaks
        while len(self._cache) > self._context.limits.caps_cache:
            changes.append(DropCapability(self._cache.popitem(last=False)[0]))
        self._context.write(*changes)

    def _is_online(self, device: Device) -> bool:
        row = self._context.mirror.find(device.jid.bare)
        return row is not None and row.devices.get(device.jid.resource or "") is device

    def _settle_if_online(self, device: Device, name: str, speaks: Speaks) -> None:
        """Settle unless the device went, or changed its hash, while it was asked."""
        if self._is_online(device) and device.caps == name:
            self._settle(self._context.mirror.row(device.jid.bare), device, speaks)

    def _settle(self, row: Row, device: Device, speaks: Speaks) -> None:
        if device.speaks == speaks:
            return
        device.speaks = speaks
        self._learned(row, device)
