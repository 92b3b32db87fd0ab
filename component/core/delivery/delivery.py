"""Delivery of stanzas: the one place that decides whether one is delivered, and when.

In the hot lane, stanzas from a joined channel go to the user's MIX devices at once (XEP-0405
§5.2). All others wait for their turn in the control lane. It also delivers stanzas of channels
whose address is spelt differently, or whose join is under way. A message from a stranger is
refused (RFC 6121 §8.5.2); other stanzas from strangers are dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from component.core.context import Context, Copy
from component.core.delivery.multicast import Multicast
from component.core.delivery.passage import must_be_inspected, of_frame
from component.core.delivery.payer import is_alone, payer
from component.core.delivery.shortcut import Shortcut
from component.core.effects import Deliver, Queue
from component.core.errors import Refusal
from component.core.lane_counts import LaneCounts
from component.core.users.mirror import Row
from component.core.users.sessions import copies_for
from component.wire.framing import Frame, LeftOut
from schemas import jid
from schemas import stanza as stanzas
from schemas.stanza import Stanza


@dataclass(frozen=True, slots=True)
class Inspector:
    """Callbacks for channels' presence and kicks; each gets row, channel and stanza.

    `admits` tells whether the rate allows a presence now; `passed` gets delivered stanzas.
    """

    admits: Callable[[Row, bytes, Frame], bool]
    passed: Callable[[Row, bytes, Frame], None]


class Delivery:
    """Takes stanzas and has copies made of them."""

    def __init__(self, context: Context, multicast: Multicast, inspector: Inspector) -> None:
        self._context = context
        self._mirror = context.mirror
        self._multicast = multicast
        self._inspector = inspector
        self._domains = frozenset(domain.encode() for domain in context.domains)
        self.counts = LaneCounts()
        self.shortcut = Shortcut(
            context.mirror, multicast, context.limits, context.largest, self.counts
        )

    # -- at once ---------------------------------------------------------------------------

    def take(self, frame: Frame) -> None:
        """Deliver a stanza that was just read, or have it queued."""
        if frame.to == self._multicast.gathering:
            self._take_gathered(frame)
        elif not self.passes(frame):
            self.queue(frame)

    def passes(self, frame: Frame) -> bool:
        """Deliver a stanza if it may pass now; False if it is none of the hot lane's."""
        found = of_frame(self._mirror, frame)
        if found is None:
            return False
        row, channel = found
        self.counts.hot[frame.name] += 1
        targets = row.targets
        if (
            frame.name != b"presence"
            or not targets.every
            or self._inspector.admits(row, channel, frame)
        ):
            self._deliver(frame, self._multicast.copies(targets, frame), len(targets.every))
        if must_be_inspected(frame):
            # A fault in there does not take back what has been delivered.
            self._context.attempt(self._inspector.passed, row, channel, frame)
        return True

    def queue(self, stanza: Frame | LeftOut) -> None:
        """Have a stanza dealt with in its turn."""
        owner = payer(self._mirror, self._domains, stanza)
        alone = isinstance(stanza, Frame) and is_alone(owner, stanza)
        self._context.effects.append(Queue(stanza, owner, alone))

    def _take_gathered(self, frame: Frame) -> None:
        """Deal with one stanza for many users (tap protocol T10)."""
        spread = self._multicast.spread(self._mirror, frame)
        self.counts.hot[b"message"] += 1
        self._deliver(frame, spread.written, spread.deliveries)
        for other in spread.others:
            if not self.passes(other):
                self.queue(other)

    def _deliver(self, frame: Frame, copies: list[bytes], devices: int) -> None:
        """Have copies written, all that the server takes of them."""
        self.counts.copies += devices
        largest = self._context.largest
        if len(frame.data) > largest.copied:
            for data in copies:
                if not largest.fits(data):
                    self._context.drop("unsendable")
            copies = largest.fitting(copies)
        if copies:
            self._context.effects.append(Deliver(copies))

    # -- in its turn -----------------------------------------------------------------------

    def settle(self, stanza: Stanza, frame: Frame) -> None:
        """Copy, keep back or refuse what comes to a user and did not pass at once.

        Raises Refusal (service-unavailable) for a message from a channel that the user is
        not in; nobody learns from it whether the account exists.
        """
        found = self.find(stanza)
        if found is None:
            return
        row, key = found
        if key in row.holding:
            row.holding[key].take(frame)
        elif stanza.kind != stanzas.PRESENCE or self._inspector.admits(row, key, frame):
            # Only the spelling of its address kept it off the hot lane.
            self._context.effects.append(Copy(frame, row, key))

    def find(self, stanza: Stanza) -> tuple[Row, bytes] | None:
        """Find the channel that a stanza speaks for, if the user is, or may soon be, in it.

        None for what is dropped. Raises Refusal as `settle` does.
        """
        if stanza.type == "error":
            self._context.drop("channel-error")
            return None
        row = self._mirror.find(stanza.to)
        for channel in () if row is None else _channels(stanza):
            key = channel.key
            if row is not None and (key in row.holding or row.has_joined(key)):
                return row, key
        if stanza.kind == stanzas.MESSAGE:
            raise Refusal("cancel", "service-unavailable")
        self._context.drop("channel-not-joined")
        return None

    def deliver_after_all(self, copy: Copy) -> None:
        """Make the copies of what had to wait, if its channel is still joined."""
        frame, row, channel, device = copy
        if not row.has_joined(channel):
            return
        targets = row.targets if device is None else copies_for(device)
        self._deliver(frame, self._multicast.copies(targets, frame), len(targets.every))
        if device is None and must_be_inspected(frame):
            self._context.attempt(self._inspector.passed, row, channel, frame)


def _channels(stanza: Stanza) -> list[jid.Jid]:
    """Give the channels a stanza may speak for: itself, or that of a participant."""
    plain = stanza.sender.bare
    participant_id, channel = jid.split_encoded(stanza.sender)
    if participant_id is None or stanza.type == "groupchat":
        return [plain]
    return [plain, channel]
