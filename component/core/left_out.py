"""Stanzas that cannot be read have the effect that their kind demands.

A stanza may be too large, too deep or malformed, or an exception may have stopped it. Its start
tag still has addresses, id and type. So a request gets an error with the reason; presence makes
a session or participant available or unavailable by its type; an answer ends its question; after
a possible kick or roster change, channel or roster is asked; and a roster on its way is passed
on unchanged.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from component.core.checks.participant_audit import RollCall
from component.core.checks.reread import Rereading
from component.core.context import Context
from component.core.delivery.delivery import Delivery
from component.core.delivery.multicast import Multicast, several
from component.core.effects import Send
from component.core.errors import Refusal, bad_request, wait
from component.core.presence.announce import Presence
from component.core.presence.devices import Devices
from component.core.roster.annotate import on_its_way, original
from component.wire.framing import CROWDED, OVERSIZED, Frame, LeftOut
from schemas import codec, roster
from schemas import stanza as stanzas
from schemas.stanza import Stanza

FAULT = "fault"
"""The reason of a stanza during which an exception was raised."""


class LeftOuts:
    """Sees to the effect of stanzas whose content is not known."""

    def __init__(
        self,
        context: Context,
        multicast: Multicast,
        *,
        devices: Devices,
        delivery: Delivery,
        presence: Presence,
        rereading: Rereading,
        roll_call: RollCall,
    ) -> None:
        self._context = context
        self._multicast = multicast
        self._devices = devices
        self._delivery = delivery
        self._presence = presence
        self._rereading = rereading
        self._roll_call = roll_call

    def take(self, left: LeftOut, why: str = "", frame: Frame | None = None) -> None:
        """Deal with a stanza that is left out.

        `why` is what is wrong with one that came whole, in words, and `frame` that stanza.
        """
        self._context.drop(left.reason)
        self._tell(left, why)
        self._settle(left, why, frame)

    def _tell(self, left: LeftOut, why: str) -> None:
        kind, sender = (part.decode(errors="replace") for part in (left.name, left.sender))
        if left.reason == OVERSIZED:
            self._context.report("stanza-oversized", "warning", kind=kind, sender=sender)
        elif left.reason != CROWDED:  # of those there are many; they are counted
            self._context.report(
                "stanza-malformed", "warning", kind=kind, sender=sender, reason=why
            )

    def failed(self, frame: Frame) -> None:
        """Handle a stanza during which an exception was raised.

        Some of its changes may have been made; but its sender may wait for an answer.
        """
        self._context.drop(FAULT)
        is_request = frame.name == b"iq" and frame.type not in {b"result", b"error"}
        if is_request or on_its_way(frame) is not None:
            self._settle(LeftOut.of(frame, FAULT), "", frame)

    def _settle(self, left: LeftOut, why: str, frame: Frame | None) -> None:
        if left.reason == OVERSIZED:
            why = f"it is larger than {self._context.limits.max_stanza_bytes:,} bytes"
            refusal = Refusal("modify", "policy-violation", f"left out, because {why}")
        elif left.reason == CROWDED:
            refusal = wait("resource-constraint", "too much waits already; try again later")
        elif left.reason == FAULT:
            refusal = wait("internal-server-error", "a fault of mixpam; its log has more")
        else:
            refusal = bad_request(why)
        try:
            stanza = stanzas.head(left.name, left.type, left.id, left.sender, left.to, why=why)
        except codec.MalformedStanza:
            return  # there is nobody to tell
        if stanza.to.key == self._multicast.gathering:
            # Each of them, as if it had come alone; else that address would get about.
            for user in several(left):
                self._settle(left._replace(to=user), why, None)
            return
        try:
            self._by_address(stanza, left, frame, refusal)
        except Refusal as other:
            self._context.refuse(stanza, other)
        self._context.mirror.tidy(stanza.to.bare)
        self._context.mirror.tidy(stanza.sender.bare)

    def _by_address(
        self, stanza: Stanza, left: LeftOut, frame: Frame | None, refusal: Refusal
    ) -> None:
        context, to = self._context, stanza.to
        is_request = stanza.kind == stanzas.IQ and stanza.type in {"get", "set"}
        if to == context.own:
            self._to_us(stanza, _empty(left), refusal, is_request=is_request)
        elif context.is_local(to) and to.resource is None:
            if not is_request:
                self._to_user(stanza, left)
            elif stanza.sender.bare == to and stanza.id:
                raise refusal  # without its id it would be nobody's answer
        elif context.is_local(to) and stanza.sender == to.bare:
            self._to_session(stanza, frame)
        elif to.domain == context.own.domain:
            raise Refusal("cancel", "service-unavailable")

    def _to_us(self, stanza: Stanza, frame: Frame, refusal: Refusal, *, is_request: bool) -> None:
        sender = stanza.sender
        if stanza.kind == stanzas.PRESENCE:
            self._devices.presence(stanza, frame)
        elif not is_request:
            if stanza.kind == stanzas.IQ:
                self._context.answered(stanza)
            elif sender.local is None and sender.domain in self._context.domains:
                raise refusal  # an event; the server's log may be read
        elif self._context.is_local(sender) and sender.resource is None:
            # A roster push takes no answer, and the roster itself has the same content.
            self._rereading.look_at(sender)
        else:
            raise refusal

    def _to_user(self, stanza: Stanza, left: LeftOut) -> None:
        if stanza.kind == stanzas.IQ:
            self._context.answered(stanza)
        elif stanza.kind == stanzas.MESSAGE:
            # A message of a joined channel is in the archive.
            if self._delivery.find(stanza) is not None and stanza.type != "groupchat":
                self._roll_call.ask_about(stanza.to, stanza.sender)
        elif stanza.type in {"available", "unavailable"}:
            # Passed on without what is in it. Were it forgotten instead, the channel would be
            # asked for it again and again, and send the same.
            self._delivery.settle(stanza, _empty(left))
        elif stanza.type == "probe":
            self._presence.probed(stanza)

    def _to_session(self, stanza: Stanza, frame: Frame | None) -> None:
        """Give a roster back as it was, or what tells the tap to do so."""
        if stanza.kind != stanzas.IQ:
            return
        if frame is not None:
            self._context.effects.append(Send(original(frame)))
        elif self._context.tap(stanza.to.domain).pages:
            # This tap takes annotations from what comes back, and nothing else.
            query = ET.Element(roster.QUERY_TAG)
            self._context.send(
                stanzas.make(stanza.kind, stanza.type, stanza.sender, stanza.to, stanza.id, query)
            )


def _empty(left: LeftOut) -> Frame:
    """Give a stanza without anything in it, its addresses as they came."""
    said = ((b"type", left.type), (b"from", left.sender), (b"to", left.to))
    written = b"".join(
        b" %b='%b'" % (name, value.replace(b"'", b"&apos;")) for name, value in said if value
    )
    return Frame(b"<%b%b/>" % (left.name, written))
