"""The outgoing rule: in whose name the component may speak, and to whom.

The server believes whatever this component writes, so this is the one place that keeps
a fault, or a clever stranger, from speaking as somebody else. It judges the very bytes that
would be written, last of all in the core. Copies of channel stanzas have their own form of the
same rule: `delivery.passage` lets them through only from what the mirror says was joined.
"""

from __future__ import annotations

from collections.abc import Mapping

from component.core.context import Context
from component.core.effects import Send
from component.core.users.mirror import Row
from component.wire.framing import Frame, only_frame
from schemas import jid
from schemas.jid import Jid


class Outgoing:
    """Judges stanzas before they are written."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._mirror = context.mirror
        self._own = context.own

    def judged(self, sent: Send) -> list[Send]:
        """Give what may be written of a stanza: it, what stands in for it, or nothing.

        What is kept back is counted and reported.
        """
        context, largest = self._context, self._context.largest
        if not largest.fits(sent.data):
            context.drop("unsendable")
            context.report("stanza-unsendable", "warning", reason="larger than the server takes")
            fitting = largest.fitting([sent.data])
            if not fitting:
                return []
            sent = sent._replace(data=fitting[0])
        reason = self.why_not(sent.data)
        if reason is None:
            return [sent]
        context.count("outgoing-refused", reason)
        context.report("outgoing-refused", "error", reason=reason)
        return []

    def why_not(self, data: bytes) -> str | None:
        """Give the reason why these bytes must not be written, or None."""
        frame = only_frame(data)
        if frame is None:
            return "not-one-stanza"
        try:
            sender = jid.parse(_text(frame.sender))
            to = jid.parse(_text(frame.to))
        except ValueError:
            return "unaddressed"
        if frame.name not in {b"message", b"presence", b"iq"}:
            return "no-stanza"
        if sender == self._own or (
            # Nobody else lives at the domain, and that is all that is ever said.
            sender.domain == self._own.domain and frame.type == b"error"
        ):
            return None
        if sender.local is not None and sender.domain in self._context.domains:
            return self._as_user(frame, sender, to)
        return self._as_channel(sender, to)

    def _as_user(self, frame: Frame, sender: Jid, to: Jid) -> str | None:
        """In a user's name: to the own sessions, the own server and the own channels."""
        is_presence = frame.name == b"presence"
        if sender.resource is not None and not is_presence:
            return "full-jid"
        if to.bare == sender.bare:
            return None if to.resource is not None else "own-account"
        if sender.resource is None and frame.type == b"error" and not is_presence:
            return None  # the refusal of what a stranger sent
        if frame.name == b"message":
            return "message-as-user"
        if frame.name == b"iq" and to.local is None and to.domain in self._mirror.asked_domains:
            return None
        row = self._mirror.find(sender.bare)
        return None if row is not None and _knows(row, to.bare) else "not-a-channel-of-the-user"

    def _as_channel(self, sender: Jid, to: Jid) -> str | None:
        """In a channel's name: to a user who has joined it."""
        row = self._mirror.find(to.bare)
        if row is None or not (
            _is_joined(row, sender.bare) or _is_joined(row, jid.split_encoded(sender)[1])
        ):
            return "channel-not-joined"
        return None


def _is_joined(row: Row, channel: Jid) -> bool:
    return row.has_joined(channel.key)


def _knows(row: Row, channel: Jid) -> bool:
    key = channel.key
    return row.has_joined(key) or row.is_pending(key)


_ENTITIES: Mapping[bytes, bytes] = {
    b"&apos;": b"'",
    b"&quot;": b'"',
    b"&lt;": b"<",
    b"&gt;": b">",
    b"&amp;": b"&",
}


def _text(raw: bytes) -> str:
    """Undo the escapes that `schemas.codec.escape` and servers make in addresses."""
    if b"&" in raw:
        for entity, character in _ENTITIES.items():
            raw = raw.replace(entity, character)
    return raw.decode()
