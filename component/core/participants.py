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

LATE_INTERVAL = 0.1
"""Seconds between two portions of presence that had to wait."""


class Participants:
    """Remembers participants' presence and hands it to devices that come."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._to_ask: deque[tuple[Jid, Jid]] = deque()
        self._asking = False
        self._late = 0

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

    def admit(self, row: Row, channel: bytes, frame: Frame) -> bool:
        """Tell whether a presence may be passed on at once.

        What a channel, or all channels of a user, send beyond their rate waits, and of
        each participant only the last: a crowd that comes and goes must not fill the link
        that everybody shares.
        """
        memory = row.participants.setdefault(channel, ParticipantPresence())
        limits = self._context.limits
        if not memory.late and self._may_pass(row, memory):
            memory.bucket.take()
            row.presences.take()
            return True
        sender = frame.sender
        if sender in memory.late:
            self._context.count("presence-late", "replaced")
        elif self._late >= limits.late_presences:
            # Whoever comes online next asks the channel for all of it.
            memory.complete = False
            self._context.drop("presence-flood")
            return False
        else:
            self._late += 1
        if not memory.late:
            self._context.after(LATE_INTERVAL, lambda: self._pass_on(row, channel))
        memory.late[sender] = frame.data
        return False

    def _pass_on(self, row: Row, channel: bytes) -> None:
        """Pass on some of what had to wait, oldest participants first."""
        memory = row.participants.get(channel)
        if memory is None:
            return
        some = max(1, int(self._context.limits.presence_rate * LATE_INTERVAL))
        for sender in list(memory.late)[:some]:
            if not self._may_pass(row, memory):
                break
            memory.bucket.take()
            row.presences.take()
            self._late -= 1
            self._context.effects.append(Copy(Frame(memory.late.pop(sender)), row, channel))
        if memory.late:
            self._context.after(LATE_INTERVAL, lambda: self._pass_on(row, channel))

    def _may_pass(self, row: Row, memory: ParticipantPresence) -> bool:
        """Tell whether neither the channel nor all of the user's together send too fast."""
        limits, now = self._context.limits, self._context.now
        of_channel, of_user = limits.presence_rate, limits.presence_user_rate
        return memory.bucket.has(now, of_channel, of_channel) and row.presences.has(
            now, of_user, of_user
        )

    def forget(self, row: Row, channel: bytes) -> None:
        """Forget what is known of a channel's participants."""
        memory = row.participants.pop(channel, None)
        if memory is not None:
            self._late -= len(memory.late)

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
        self._asking = False
        self._late = 0

    def _ask_some(self) -> None:
        self._asking = False
        for _ in range(min(REQUESTS_AT_ONCE, len(self._to_ask))):
            user, channel = self._to_ask.popleft()
            if self._context.mirror.membership(user, channel) is not None:
                self._context.send(stanzas.make(stanzas.PRESENCE, None, user, channel, None))
        if self._to_ask:
            self._asking = True
            self._context.after(REQUEST_INTERVAL, self._ask_some)
