"""The user's presence towards channels (XEP-0405 §5.8.1, §5.8.4).

Only MIX devices are announced, only to channels with which the user shares presence, and by
the component alone: at the join, at every change, at the end. The store has a digest of each
announcement, so that a new process corrects changes that it missed and repeats nothing.

Many channels are notified in `portions`; an announcement that is replaced before all of them
have it is not sent to the rest.
"""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from component.core.context import Context
from component.core.effects import DropShown, PutShown, Send
from component.core.presence.hidden import Hidden
from component.core.presence.portions import Pause, Portions
from component.core.users.mirror import Membership, Row
from component.core.users.sessions import Device
from component.core.users.trimmed_presence import shortened
from component.wire.framing import Frame
from schemas import codec, tap
from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.stanza import Stanza

_DELAY = "{urn:xmpp:delay}delay"

UNKNOWN = ""
"""The digest of a device whose announcement is not certain."""

_UNAVAILABLE = 200
"""Bytes of an unavailable presence without content, about."""

GONE = "gone"
"""The digest of a device whose unavailable presence was sent; the link may still lose it."""


class Presence:
    """Announces devices to channels."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._portions = Portions(context)
        self._hidden = Hidden(context)
        self._digests = Digests()

    def load(self, user: Jid, resource: str, digest: str) -> None:
        """Load the digest of an announcement from the store."""
        self._context.mirror.row(user).show(resource, digest)

    def forget(self, user: Jid, resource: str) -> None:
        """Forget the announcement of a device, as the store has."""
        row = self._context.mirror.find(user)
        if row is not None:
            row.show(resource, None)
            self._context.mirror.tidy(user)

    def show(self, row: Row, device: Device) -> None:
        """Announce a device's presence, if it speaks MIX and the channels do not have it yet."""
        if not device.is_mix:
            self.hide(row, device.jid)
            return
        channels = _sharing(row)
        if not channels:
            return
        digest = self._digests.of(device.presence)
        if row.state(device.resource).shown == digest:
            return
        self._record(row, device, digest)

    def hide(
        self, row: Row, device: Jid, unavailable: bytes | None = None, *, unseen: bool = False
    ) -> None:
        """Send the channels unavailable presence of a device that was announced.

        `unavailable` is the device's own, if it sent one. With `unseen`, the device ended while
        no component was there: channels that the user may have blocked meanwhile get it, too.
        """
        resource = device.resource or ""
        if row.state(resource).shown in {None, GONE}:
            return
        # Not forgotten yet: if the link breaks now, it is sent again on the next.
        row.show(resource, GONE)
        left_with = None if unavailable is None else shortened(unavailable)

        def tell(channel: Jid) -> int:
            marked = unseen and not self._hidden.has(row.key, channel)
            return self._unavailable(device, channel, left_with, marked=marked)

        def told() -> None:
            self._context.write(PutShown(str(row.jid), resource, UNKNOWN))
            self._context.after(
                self._context.limits.link_timeout, lambda: self._forget(row.jid, resource)
            )

        self._portions.begin(row.key, resource, self._to_all(row, resource, GONE, tell, told))

    def began(self, row: Row, membership: Membership) -> None:
        """Announce all MIX devices to a channel with which presence is shared from now on."""
        if not membership.shares_presence:
            return
        self._hidden.ends(row.key, membership.channel)
        for device in row.mix_devices:
            digest = self._digests.of(device.presence)
            if row.state(device.resource).shown == digest:
                self._tell([membership], device)
            else:
                # No channel has this presence yet: announce it to all.
                self.show(row, device)

    def ended(self, row: Row, membership: Membership) -> None:
        """Withdraw the devices from a channel with which presence is no longer shared."""
        for resource, digest in row.shown.items():
            if digest != GONE:
                self._unavailable(row.jid.with_resource(resource), membership.channel, None)

    def blocked(self, row: Row, membership: Membership) -> None:
        """Withdraw the devices from a channel that the user has blocked.

        The mark makes the tap pass this last presence (XEP-0191 §3.3). An unblock may come
        while no component is connected. So the store has the digests as uncertain until then,
        and a new process announces the devices to all channels.
        """
        if not membership.shares_presence:
            return
        is_new = self._hidden.begins(row.key, membership.channel)
        for resource, digest in row.shown.items():
            if digest != GONE:
                self._context.write(PutShown(str(row.jid), resource, UNKNOWN))
                if is_new:
                    device = row.jid.with_resource(resource)
                    self._unavailable(device, membership.channel, None, marked=True)

    def sharing_changed(self, user: Jid, channel: Jid, before: Membership | None) -> None:
        """Follow a change of whether presence is shared; `before` is how it was."""
        if before is None:
            return
        row = self._context.mirror.find(user)
        now = self._context.mirror.membership(user, channel)
        if now is None or row is None:  # pragma: no cover - what is changed is there
            return
        if now.shares_presence and not before.shares_presence:
            self.began(row, now)
        elif before.shares_presence and not now.shares_presence:
            self.ended(row, now)
            self.tidy(row)

    def tidy(self, row: Row) -> None:
        """Forget what was shown when there is no channel left to correct."""
        if row.shown and not _sharing(row):
            for resource in row.shown:
                row.show(resource, None)
                self._context.write(DropShown(str(row.jid), resource))

    def no_link(self) -> None:
        """Let go of what was yet to be told."""
        self._portions.forget()
        self._hidden.link_lost()

    def link_lost(self, row: Row) -> None:
        """Doubt all that was shown: the last of it may have been on the link."""
        for resource in row.shown:
            row.show(resource, UNKNOWN)

    def probed(self, stanza: Stanza) -> None:
        """Answer a joined channel's probe (RFC 6121 §4.3.2); nobody else's."""
        row = self._context.mirror.find(stanza.to)
        membership = self._context.mirror.membership(stanza.to, stanza.sender.bare)
        if row is None or membership is None or not membership.shares_presence:
            self._context.drop("probe-of-stranger")
            return
        devices = row.mix_devices
        for device in devices:
            self._tell([membership], device)
        if not devices:
            self._unavailable(row.jid, membership.channel, None)

    def correct(self, domain: str) -> None:
        """Hide the devices that vanished while nobody watched; the replay is complete."""
        end = f"@{domain}".encode()

        def look(row: Row) -> None:
            if row.key.endswith(end):
                for resource in row.shown_but_gone:
                    self.hide(row, row.jid.with_resource(resource), unseen=True)

        self._context.each_row(look, lambda: self._hidden.replayed(domain))

    # -- inside ---------------------------------------------------------------------------

    def _forget(self, user: Jid, resource: str) -> None:
        """Forget a device that has not come back since its end was told."""
        row = self._context.mirror.find(user)
        if row is not None and row.shown.get(resource) == GONE:
            row.show(resource, None)
            self._context.write(DropShown(str(user), resource))

    def _record(self, row: Row, device: Device, digest: str) -> None:
        """Remember that a device is shown, and show it.

        A new one is shown only when that is durable: what a channel knows and we forgot
        could never be taken back.
        """
        is_new = row.state(device.resource).shown is None
        row.show(device.resource, digest)
        if is_new:
            intent = PutShown(str(row.jid), device.resource, UNKNOWN)
            self._context.write(intent, then=lambda _: self._tell_if_there(row, device))
        else:
            self._tell_all(row, device, digest)

    def _tell_if_there(self, row: Row, device: Device) -> None:
        digest = row.state(device.resource).shown
        if row.devices.get(device.resource) is device and device.is_mix and digest is not None:
            self._tell_all(row, device, digest)

    def _tell_all(self, row: Row, device: Device, digest: str) -> None:
        resource = device.resource

        def tell(channel: Jid) -> int:
            data = device.presence_for(channel)
            self._context.effects.append(Send(data))
            return len(data)

        def told() -> None:
            known = UNKNOWN if self._hidden.has_any(row.key) else digest
            self._context.write(PutShown(str(row.jid), resource, known))

        self._portions.begin(row.key, resource, self._to_all(row, resource, digest, tell, told))

    def _to_all(
        self,
        row: Row,
        resource: str,
        digest: str,
        tell: Callable[[Jid], int],
        told: Callable[[], None],
    ) -> Iterator[int | Pause]:
        """Notify all channels of a session, as long as its announcement stays the same."""
        context = self._context
        for channel in [each.channel for each in _sharing(row)]:
            while pause := context.pause(row.key, channel.domain):
                yield Pause(pause)
            if row.state(resource).shown != digest:
                return
            membership = row.channels.get(channel.key)
            if membership is not None and membership.shares_presence:
                yield tell(channel)
        if row.state(resource).shown == digest:
            told()

    def _tell(self, memberships: Iterable[Membership], device: Device) -> None:
        for membership in memberships:
            self._context.effects.append(Send(device.presence_for(membership.channel)))

    def _unavailable(
        self, device: Jid, channel: Jid, presence: bytes | None, *, marked: bool = False
    ) -> int:
        """Tell a channel that a device is gone; gives the bytes, or about so many.

        `marked`, it passes the user's blocking list.
        """
        if presence is None:
            marks = [ET.Element(tap.BLOCKED_TAG)] if marked else []
            self._context.send(
                stanzas.make(stanzas.PRESENCE, "unavailable", device, channel, None, *marks)
            )
            return _UNAVAILABLE
        data = Frame(presence).readdressed(codec.escape(str(channel)).encode())
        self._context.effects.append(Send(data))
        return len(data)


def _sharing(row: Row) -> list[Membership]:
    return [each for each in row.channels.all() if each.shares_presence]


def digest_of(presence: bytes) -> str:
    """Give a digest of a presence without its addresses.

    A replay may add the server's time stamp (XEP-0203) and change the order of attributes; the
    digest stays the same.
    """
    try:
        children = [each for each in codec.read(presence) if each.tag != _DELAY]
    except codec.MalformedStanza:  # pragma: no cover - it was read when it came
        children = []
    said = json.dumps([_comparable(child) for child in children])
    return hashlib.blake2b(said.encode(), digest_size=6).hexdigest()


class Digests:
    """Digests of presence; those of a thousand short ones are kept."""

    def __init__(self) -> None:
        self._kept = lru_cache(maxsize=1_000)(digest_of)

    def of(self, presence: bytes) -> str:
        """Give the digest of a presence (`digest_of`)."""
        # A thousand large ones, which a single user can send, would take too much memory.
        return self._kept(presence) if len(presence) < _LONG else digest_of(presence)


_LONG = 4_096


def _comparable(element: ET.Element) -> list[object]:
    parts = [_comparable(child) for child in element]
    return [element.tag, sorted(element.attrib.items()), element.text, parts, element.tail]
