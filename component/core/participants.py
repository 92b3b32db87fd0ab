"""The presence of the channels' participants, kept for devices that come online later.

XEP-0405 §5.8.2, §5.8.3. The hot lane passes each presence on at once; here it is
remembered, for each user and channel, up to a bound. A MIX device that comes online is
served from memory without asking the channel. Where memory is not complete (after a
start, or past the bound), the channel is asked by a presence from the bare JID, which
makes it send everything; not all at once, so that a start is no flood.
"""

from __future__ import annotations

from collections import deque

from component.core.context import Context
from component.core.effects import Copy
from component.core.mirror import Device, Membership, ParticipantPresence, Row
from component.framing import Frame
from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.namespaces import MIX_NODES

PRESENCE_NODE = f"{MIX_NODES}presence"

REQUESTS_AT_ONCE = 20
"""Channels asked in one go …"""

REQUEST_INTERVAL = 0.1
"""… and seconds until the next go."""


class Participants:
    """Remembers participants' presence and hands it to devices that come."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._to_ask: deque[tuple[Jid, Jid]] = deque()
        self._asking = False

    def remember(self, row: Row, channel: bytes, frame: Frame) -> None:
        """Note a participant's presence that was just passed on."""
        memory = row.participants.get(channel)
        if memory is None:
            memory = row.participants[channel] = ParticipantPresence()
        sender = frame.get(b"from")
        if frame.get(b"type") == b"unavailable":
            memory.stanzas.pop(sender, None)
        elif sender in memory.stanzas or (
            len(memory.stanzas) < self._context.limits.presence_memory
        ):
            memory.stanzas[sender] = frame.data
        elif memory.complete or memory.stanzas:
            # Half a memory would tell a device half the truth.
            memory.stanzas.clear()
            memory.complete = False
            self._context.count("presence-memory", "full")

    def began(self, row: Row, membership: Membership) -> None:
        """Begin with a new membership: the channel sends everything of itself."""
        key = str(membership.channel).encode()
        row.participants.setdefault(key, ParticipantPresence()).complete = True

    def greet(self, row: Row, device: Device) -> None:
        """Give a device that just turned out to speak MIX what its channels' people do."""
        for key, membership in row.channels.items():
            memory = row.participants.setdefault(key, ParticipantPresence())
            # Whose presence came has subscribed since, whatever the join said.
            subscribed = PRESENCE_NODE in membership.nodes or memory.stanzas
            if not subscribed or key in row.holding:
                continue
            if memory.complete:
                for data in memory.stanzas.values():
                    self._context.effects.append(Copy(Frame(data), row, key, device))
            else:
                memory.complete = True
                self._to_ask.append((row.jid, membership.channel))
        if self._to_ask and not self._asking:
            self._ask_some()

    def link_lost(self) -> None:
        """Forget whom to ask: everything begins anew with the next link."""
        self._to_ask.clear()

    def _ask_some(self) -> None:
        self._asking = False
        for _ in range(min(REQUESTS_AT_ONCE, len(self._to_ask))):
            user, channel = self._to_ask.popleft()
            if self._context.mirror.membership(user, channel) is not None:
                self._context.send(stanzas.make(stanzas.PRESENCE, None, user, channel, None))
        if self._to_ask:
            self._asking = True
            self._context.after(REQUEST_INTERVAL, self._ask_some)
