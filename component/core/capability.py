"""Which devices speak MIX (XEP-0405 §5.1, XEP-0369 "Discovering Client MIX Capability").

A presence's capabilities hash is looked up in a bounded cache; one not known yet is asked for
from a few who have it, and believed for others only if the answer gives the hash
again. A device without a hash, or with a false one, is asked itself and believed for
itself only. No answer: not MIX.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from component.core.context import Context
from component.core.effects import DropCapability, PutCapability
from component.core.mirror import Row
from component.core.sessions import Device, Speaks
from schemas import disco
from schemas.disco import CapsKey
from schemas.records import CapabilityRecord
from schemas.stanza import Stanza

NO_HASH = ""


@dataclass(slots=True)
class _Hash:
    """A hash that nobody has vouched for yet: devices that were asked, and the rest."""

    key: CapsKey
    asked: list[Device] = field(default_factory=list)
    rest: list[Device] = field(default_factory=list)


class Capability:
    """Finds out what devices speak. `learned` is called when that of one changes."""

    def __init__(self, context: Context, learned: Callable[[Row, Device], None]) -> None:
        self._context = context
        self._learned = learned
        self._cache: OrderedDict[str, Speaks] = OrderedDict()
        self._waiting: dict[str, _Hash] = {}

    def load(self, key: str, record: CapabilityRecord) -> None:
        """Take over a verified hash from the store."""
        self._cache[key] = Speaks.from_features(frozenset(record.features))

    def forget(self, key: str) -> None:
        """Forget a hash that the store no longer holds."""
        self._cache.pop(key, None)

    def seen(self, row: Row, device: Device, presence: ET.Element) -> None:
        """Look at a device's presence, and find out what is not known of it yet."""
        key = disco.caps_keys(presence)
        name = key.cache_key if key is not None else NO_HASH
        if device.caps == name:
            return
        first_time = device.caps is None
        device.caps = name
        if key is None:
            # A presence that lost its hash says nothing new; one that never had any must
            # be asked.
            if first_time:
                self._ask(device, None)
        elif name in self._cache:
            self._cache.move_to_end(name)
            self._settle(row, device, self._cache[name])
        else:
            self._waiting.setdefault(name, _Hash(key)).rest.append(device)
            self._ask_some(name)

    def remembered(self) -> list[PutCapability]:
        """Give all verified hashes, as the store is to hold them."""
        return [
            PutCapability(name, CapabilityRecord(features=speaks.to_features()))
            for name, speaks in self._cache.items()
        ]

    def forget_waiting(self) -> None:
        """Let go of what was asked: the link is gone."""
        self._waiting.clear()

    def _ask_some(self, name: str) -> None:
        """Ask as many of a hash's devices as may be asked at the same time."""
        unknown = self._waiting[name]
        while unknown.rest and len(unknown.asked) < self._context.limits.hash_devices:
            device = unknown.rest.pop(0)
            if self._is_online(device):
                unknown.asked.append(device)
                self._ask(device, unknown.key)
        if not unknown.asked:
            del self._waiting[name]

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
        if query is None:
            self._context.count("capability", "no-answer")
            speaks = Speaks.NOTHING
        else:
            speaks = Speaks.from_features(disco.features_of(query))
        if key is None:
            self._settle_if_online(device, device.caps or NO_HASH, speaks)
            return
        name = key.cache_key
        unknown = self._waiting.get(name)
        if unknown is not None and device in unknown.asked:
            unknown.asked.remove(device)
        self._settle_if_online(device, name, speaks)
        if query is not None and disco.matches(key, query):
            self._remember(name, speaks)
            waiting = self._waiting.pop(name, None)
            for other in [] if waiting is None else waiting.asked + waiting.rest:
                self._settle_if_online(other, name, speaks)
            return
        if query is not None:
            self._context.count("capability", "false-hash")
        # This answer is good for one device only; the next one is asked in its turn.
        if unknown is not None:
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
