"""The short cut of the hot lane: plain messages from joined channels, straight to copies.

What `component.core.fanout` does with a frame is done here without one. The same look-ups
decide, and whatever is in any way special (a join under way, a core namespace to translate
in other than the usual place, a stanza for several devices at once) is left to the lanes.
"""

from __future__ import annotations

from component.core.fanout import (
    CORE,
    FORWARDED,
    core_named,
    others_among,
    translate_usual,
)
from component.core.mirror import Mirror
from component.core.multicast import Multicast
from component.plain import plain_messages


class Express:
    """Carries what it can, and counts it: messages that came, copies that went."""

    def __init__(self, mirror: Mirror, multicast: Multicast, max_bytes: int) -> None:
        self._mirror = mirror
        self._multicast = multicast
        self._max_bytes = max_bytes
        self.messages = 0
        self.copies = 0

    def carry(self, data: bytes, position: int, out: list[bytes]) -> int:
        """Put the copies of plain messages into `out`; give where the rest begins."""
        rows, waiting = self._mirror.rows, self._mirror.waiting
        alone = 1 if self._multicast.in_use else len(data)
        messages = copies = 0
        for to, sender, head, tail, end in plain_messages(data, position, self._max_bytes):
            row = rows.get(to)
            targets = None if row is None else row.targets(sender.partition(b"/")[0])
            if targets is None or to in waiting:
                break
            every, only_0, only_1 = targets
            if len(every) > alone:
                break
            unlike: tuple[bytes, ...] = ()
            if only_0 or only_1:
                old, unlike = others_among(targets, core_named(tail, 0, len(tail)))
            if unlike:
                other = _translated(tail, old)
                if other is None:
                    break
                for target in every:
                    out += (head, target, other if target in unlike else tail)
            elif every:
                out += (head, (tail + head).join(every), tail)
            messages += 1
            copies += len(every)
            position = end
        self.messages += messages
        self.copies += copies
        return position


def _translated(tail: bytes, old: int) -> bytes | None:
    """Put the rest of a plain message into the other core namespace, if that is simple."""
    if FORWARDED in tail:
        return None
    return translate_usual(tail, CORE[old], CORE[1 - old])
