"""Devices come and go (tap protocol T6 and the events of XEP-0198 sessions).

A device is a session that has sent available presence and not unavailable since. A
hibernated session stays one: the server keeps what is sent to it.
"""

from __future__ import annotations

from collections.abc import Callable

from component.core.context import Context
from component.core.users.mirror import Row
from component.core.users.sessions import Device, said
from component.wire.framing import Frame
from schemas.jid import Jid
from schemas.stanza import Stanza


class Devices:
    """Keeps the mirror's devices as the tap reports them.

    `seen` is called with the presence of an available device, `gone` with one that ended
    and the presence it ended with.
    """

    def __init__(
        self,
        context: Context,
        seen: Callable[[Row, Device, Stanza], None],
        gone: Callable[[Row, Device, bytes], None],
    ) -> None:
        self._context = context
        self._seen = seen
        self._gone = gone

    def presence(self, stanza: Stanza, frame: Frame) -> None:
        """Take a session's presence broadcast, or its end."""
        jid = stanza.sender
        if not self._context.is_local(jid) or jid.resource is None:
            self._context.drop("presence-of-stranger")
            return
        if stanza.type == "available":
            row = self._context.mirror.row(jid.bare)
            device = row.devices.come(jid.resource, said(frame))
            self._seen(row, device, stanza)
        elif stanza.type == "unavailable":
            self._end(jid, frame)
        else:
            self._context.drop("presence-type")

    def _end(self, jid: Jid, frame: Frame) -> None:
        mirror = self._context.mirror
        row = mirror.find(jid.bare)
        device = None if row is None else row.devices.end(jid.resource or "")
        if row is None or device is None:
            return
        self._gone(row, device, frame.data)
        mirror.tidy(jid.bare)

    def hibernated(self, jid: Jid, *, asleep: bool) -> None:
        """Note that a session lost its connection and waits, or came back."""
        row = self._context.mirror.find(jid.bare)
        device = None if row is None else row.devices.get(jid.resource or "")
        if device is not None:
            device.hibernated = asleep
