"""The short cut of the hot lane: plain messages from joined channels, straight to copies.

What `delivery` does with a frame is done here without one. `passage` decides here too, and
whatever is in any way special (a join under way, a core namespace to translate in other than the
usual place, a stanza for several devices at once) is left to the lanes.
"""

from __future__ import annotations

from component.core.delivery.fanout import (
    CORE,
    names,
    translate_usual,
)
from component.core.delivery.multicast import Multicast
from component.core.delivery.passage import NO_CODE, of_routes
from component.core.delivery.translation import FORWARDED
from component.core.lane_counts import LaneCounts
from component.core.limits import Limits
from component.core.stanza_size import Largest
from component.core.users.mirror import Mirror
from component.core.users.packed import OFF
from component.core.users.routes import MIXED, NOT_UNDERSTOOD, NUMBER
from component.wire.simple_messages import BETWEEN, CLOSE, TO, plain_messages

_AROUND = len(BETWEEN)
_TO = len(TO)


class Shortcut:
    """Carries what it can, and counts it: messages that came, copies that went."""

    def __init__(
        self,
        mirror: Mirror,
        multicast: Multicast,
        limits: Limits,
        largest: Largest,
        counts: LaneCounts,
    ) -> None:
        self._routed = of_routes(mirror)
        self._codes = mirror.common.channels.codes
        self._multicast = multicast
        self._max_bytes = limits.max_stanza_bytes
        self._largest = largest
        self._counts = counts

    def carry(self, data: bytes, position: int, out: list[bytes]) -> int:
        """Put the copies of plain messages into `out`; give where the rest begins."""
        routed, codes, together = self._routed, self._codes, self._multicast.in_use
        messages = copies = 0
        # In the place of each target are its own bytes; what stands between two is all the same.
        run: list[bytes] = []
        # The copies of a larger stanza may exceed the limit and must be checked.
        max_bytes = min(self._max_bytes, self._largest.copied)
        for to, sender, stanza in plain_messages(data, position, max_bytes):
            # As `code_of` does it; a call takes as long as that.
            route = routed(to, codes.get(sender.partition(b"/")[0], NO_CODE))
            if route is None:
                break
            first, targets = route
            if first:
                cut = stanza.find(TO) + _TO
                head, tail = BETWEEN + stanza[:cut], stanza[cut + len(to) :]
                if first == 1:
                    run += (head, targets, tail)
                elif together and first & NUMBER != 1:
                    break
                elif first <= NUMBER:
                    run += (head, targets.replace(OFF, tail + head), tail)
                elif not _carry_unlike(first & ~NUMBER, head, targets, tail, run):
                    break
                copies += first & NUMBER or targets.count(OFF) + 1
            messages += 1
            position += len(stanza) + _AROUND
        if run:
            run[0] = run[0].removeprefix(CLOSE)
            out += run
            out.append(CLOSE)
        self._counts.hot[b"message"] += messages
        self._counts.copies += copies
        return position


def _carry_unlike(kind: int, head: bytes, targets: bytes, tail: bytes, run: list[bytes]) -> bool:
    """Make the copies for devices that do not all understand both core namespaces.

    False if that is not simple.
    """
    if kind != MIXED:
        spoken = _spoken(tail, kind)
        if spoken is None:
            return False
        run += (head, targets.replace(OFF, spoken + head), spoken)
        return True
    made: list[bytes] = []
    for target in targets.split(OFF):
        spoken = _spoken(tail, target[0])
        if spoken is None:
            return False
        made += (head, target[1:], spoken)
    run += made
    return True


def _spoken(tail: bytes, kind: int) -> bytes | None:
    """Give the rest of a plain message as a kind of device understands it, if that is simple."""
    old = NOT_UNDERSTOOD.get(kind)
    if old is None or not names(tail, old):
        return tail
    if FORWARDED in tail:
        return None
    return translate_usual(tail, CORE[old], CORE[1 - old])
