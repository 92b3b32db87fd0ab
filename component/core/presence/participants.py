"""The presence of the channels' participants, kept for devices that come online later.

XEP-0405 §5.8.2, §5.8.3. The hot lane passes each presence on at once; here it is
remembered, for each user and channel, up to bounds (`presence_memory`). A MIX device
that comes online is served from memory without asking the channel. Where memory is not
complete (after a start, or past a bound), the channel is asked by a presence from the bare
JID, which makes it send everything; not all at once, so that a start is no flood. For a user
without a MIX device, a memory that is not complete is not begun.

The question is no presence (XEP-0405 tells them apart by the address): it is asked, too, where
presence is not shared, and the tap keeps it from a channel that the user has blocked.
"""

from __future__ import annotations

from collections.abc import Iterator

from component.core.context import Context, Copy
from component.core.presence.portions import Portions
from component.core.presence.presence_memory import USER_SHARE, Presences
from component.core.rates import TokenBucket
from component.core.users.activity import TELLS, Greeting, ParticipantPresence
from component.core.users.mirror import Membership, Row
from component.core.users.sessions import Device
from component.core.users.trimmed_presence import LARGEST, shortened
from component.wire.framing import Frame
from schemas import codec
from schemas import stanza as stanzas
from schemas.namespaces import MIX_NODES

PRESENCE_NODE = f"{MIX_NODES}presence"

REQUESTS_AT_ONCE = 20
"""Channels asked at the same time …"""

REQUEST_INTERVAL = 0.1
"""… and seconds until the next ones."""

LATE_SHARE = 4
"""Presences that wait may take a fourth of the bytes that are remembered."""

LATE_INTERVAL = 0.1
"""Seconds between two portions of delayed presence."""


class Participants:
    """Remembers participants' presence and sends it to devices that come online."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # Users (bare JIDs), each once, in the order of their turns.
        self._to_ask: dict[bytes, None] = {}
        self._asking = False
        self._late = 0
        self._late_bytes = 0
        self.presences = Presences(context.limits.presence_bytes)
        self._portions = Portions(context)

    def remember(self, row: Row, channel: bytes, frame: Frame) -> None:
        """Remember a participant's presence that was just delivered."""
        memory = row.participants.get(channel)
        if (memory is None or not memory.complete) and not row.targets.every:
            if memory is None:
                # Remember only that the channel sends presence, so that it can be asked.
                row.activity.participants[channel] = TELLS
            elif isinstance(memory, ParticipantPresence):
                self.presences.clear(row.key, channel, memory)
                memory.tells = True
            return
        memory = _memory(row, channel)
        sender = frame.sender
        if frame.type == b"unavailable":
            self.presences.drop(row.key, channel, memory, sender)
            return
        has_room = sender in memory.stanzas or (
            len(memory.stanzas) < self._context.limits.presence_memory
        )
        if has_room and self.presences.keep(row.key, channel, memory, sender, _text(frame)):
            memory.tells = True
        elif memory.complete or memory.stanzas or not memory.tells:
            # Over the limit: drop all and ask the channel next time; a partial list looks complete.
            self.presences.clear(row.key, channel, memory)
            memory.complete, memory.tells = False, True
            self._context.count("presence-memory", "full")

    def admit(self, row: Row, channel: bytes, frame: Frame) -> bool:
        """Tell whether a presence may be delivered at once.

        Presence beyond the rate of a channel, or of all channels of a user, waits, and of each
        participant only the last: participants that keep changing must not fill the shared link.
        """
        memory = _memory(row, channel)
        limits, presences = self._context.limits, row.activity.presences
        if not memory.late and self._may_pass(presences, memory):
            memory.bucket.take()
            presences.take()
            return True
        sender = frame.sender
        before = memory.late.get(sender)
        more = len(frame.data) - (0 if before is None else len(before))
        most = limits.presence_bytes // LATE_SHARE
        if (
            (before is None and self._late >= limits.late_presences)
            or self._late_bytes + more > most
            or row.activity.late_bytes + more > most // USER_SHARE
        ):
            # The next device that comes online asks the channel for all of it.
            memory.complete = False
            self._context.drop("presence-flood")
            if before is not None:
                self._take_late(row, memory, sender)
            return False
        if before is None:
            self._late += 1
        else:
            self._context.count("presence-late", "replaced")
        self._late_bytes += more
        row.activity.late_bytes += more
        if not memory.late:
            self._context.after(LATE_INTERVAL, lambda: self._pass_on(row, channel))
        memory.late[sender] = frame.data
        return False

    def _take_late(self, row: Row, memory: ParticipantPresence, sender: bytes) -> bytes:
        """Take out a presence that waits."""
        data = memory.late.pop(sender)
        self._late -= 1
        self._late_bytes -= len(data)
        row.activity.late_bytes -= len(data)
        return data

    def _pass_on(self, row: Row, channel: bytes) -> None:
        """Deliver some of the presences that waited, oldest participants first."""
        memory = row.participants.get(channel)
        if not isinstance(memory, ParticipantPresence):
            return
        some = max(1, int(self._context.limits.presence_rate * LATE_INTERVAL))
        for sender in list(memory.late)[:some]:
            if not self._may_pass(row.activity.presences, memory):
                break
            memory.bucket.take()
            row.activity.presences.take()
            late = self._take_late(row, memory, sender)
            self._context.effects.append(Copy(Frame(late), row, channel))
        if memory.late:
            self._context.after(LATE_INTERVAL, lambda: self._pass_on(row, channel))

    def _may_pass(self, presences: TokenBucket, memory: ParticipantPresence) -> bool:
        """Tell whether the rates of the channel and of the user allow one more."""
        limits, now = self._context.limits, self._context.now
        of_channel, of_user = limits.presence_rate, limits.presence_user_rate
        return memory.bucket.has(now, of_channel, of_channel) and presences.has(
            now, of_user, of_user
        )

    def forget(self, row: Row, channel: bytes) -> None:
        """Forget the presence of a channel's participants."""
        memory = row.participants.get(channel)
        if isinstance(memory, ParticipantPresence):
            for sender in list(memory.late):
                self._take_late(row, memory, sender)
            self.presences.clear(row.key, channel, memory)
        if memory is not None:
            del row.activity.participants[channel]

    def doubt(self, row: Row, channel: bytes) -> None:
        """Forget that presence, and that it was asked for."""
        self.forget(row, channel)
        row.activity.participants[channel] = ParticipantPresence()

    def ask_again(self, row: Row) -> None:
        """Ask the channels whose presence is not known, if a MIX device is online."""
        if row.mix_devices and any(_is_unasked(row, each) for each in row.channels.all()):
            self._queue(row)

    def began(self, row: Row, channel: bytes) -> None:
        """Begin with a new membership: the channel sends all presence unasked."""
        _own(row, channel).complete = True

    def greet(self, row: Row, device: Device) -> None:
        """Send a new MIX device the presence of its channels' participants."""
        must_ask = False
        known: list[bytes] = []
        for membership in row.channels.all():
            key = membership.channel.key
            memory = row.participants.get(key)
            if _is_unasked(row, membership):
                must_ask = True
            elif memory is not None and memory.stanzas:
                known.append(key)
        if known:
            self._portions.begin(row.key, device.resource, self._serve(row, device, known))
        if must_ask:
            self._queue(row)

    def _serve(self, row: Row, device: Device, channels: list[bytes]) -> Iterator[int]:
        """Send a device the remembered presence of channels, as it is when their turn comes."""
        for key in channels:
            memory = row.participants.get(key)
            if memory is None or key in row.holding:
                continue
            if not memory.complete:
                self._queue(row)  # it was dropped meanwhile
                continue
            for sender in list(memory.stanzas):
                text = memory.stanzas.get(sender)
                if row.devices.get(device.resource) is not device:
                    return
                if text is not None and row.participants.get(key) is memory:
                    self._context.effects.append(Copy(_for(row, text), row, key, device))
                    yield len(text)

    def _queue(self, row: Row) -> None:
        """Queue a user whose channels are to be asked for presence."""
        if row.greeting is Greeting.WAITS:
            return
        if row.greeting is Greeting.NOT_YET:
            row.greeting = Greeting.WAITS
        self._to_ask[row.key] = None
        if not self._asking:
            self._ask_some()

    def link_lost(self) -> None:
        """Forget the queue: the next link starts from the beginning."""
        self._to_ask.clear()
        self._asking = False
        self._late = self._late_bytes = 0
        self.presences.forget()
        self._portions.forget()

    def _ask_some(self) -> None:
        self._asking = False
        left = REQUESTS_AT_ONCE
        while self._to_ask and left:
            user = next(iter(self._to_ask))
            row = self._context.mirror.rows.get(user)
            asked, is_held_up = (0, False) if row is None else self._ask(row, left)
            left -= asked
            if is_held_up:
                # All of its channels were looked at: enough for now.
                del self._to_ask[user]
                self._to_ask[user] = None
                break
            if left:
                del self._to_ask[user]
        if self._to_ask:
            self._asking = True
            self._context.after(REQUEST_INTERVAL, self._ask_some)

    def _ask(self, row: Row, at_most: int) -> tuple[int, bool]:
        """Ask a user's channels for presence; gives how many, and whether the next has to wait."""
        unasked = [each for each in row.channels.all() if _is_unasked(row, each)]
        asked = 0
        is_held_up = False
        for membership in unasked[:at_most]:
            key = membership.channel.key
            if self._context.pause(row.key, membership.channel.domain):
                is_held_up = True
                break
            asked += 1
            if key in row.participants:
                _own(row, key).complete = True
            to = membership.channel
            self._context.send(stanzas.make(stanzas.PRESENCE, None, row.jid, to, None))
        for membership in unasked[asked:]:
            # Not asked yet, though the user's turn has come.
            _memory(row, membership.channel.key)
        row.greeting = Greeting.DONE
        return asked, is_held_up


def _is_unasked(row: Row, membership: Membership) -> bool:
    """Tell whether a channel has to be asked for presence."""
    key = membership.channel.key
    if key in row.holding:
        return False  # at the end of its join it sends presence unasked
    memory = row.participants.get(key)
    if memory is None:
        return PRESENCE_NODE in membership.nodes and row.greeting is not Greeting.DONE
    # Presence shows a subscription, whatever nodes the join listed.
    return not memory.complete and (PRESENCE_NODE in membership.nodes or memory.tells)


def _own(row: Row, channel: bytes) -> ParticipantPresence:
    """Give a channel's memory, made if need be."""
    memory = row.participants.get(channel)
    if isinstance(memory, ParticipantPresence):
        return memory
    memory = ParticipantPresence(tells=memory is not None)
    row.activity.participants[channel] = memory
    return memory


def _memory(row: Row, channel: bytes) -> ParticipantPresence:
    """Give the memory of a channel's participants, made if need be.

    A channel that was asked and has sent nothing has no participant online: complete.
    """
    if channel not in row.participants:
        membership = row.channels.get(channel)
        subscribed = membership is not None and PRESENCE_NODE in membership.nodes
        asked = subscribed and row.greeting is Greeting.DONE and channel not in row.holding
        row.activity.participants[channel] = ParticipantPresence(complete=asked)
    return _own(row, channel)


def _text(frame: Frame) -> bytes:
    """Give a presence without its `to`, as all users' memories share it."""
    if len(frame.data) > LARGEST:
        frame = Frame(shortened(frame.data))
    data = frame.data
    return data[: data.rindex(b"to", 0, frame.to_start)] + data[frame.to_end + 1 :]


def _for(row: Row, text: bytes) -> Frame:
    """Give a remembered presence, addressed to a user."""
    name = len(b"<presence")
    to = codec.escape(row.key.decode()).encode()
    return Frame(b"%b to='%b'%b" % (text[:name], to, text[name:]))
