"""What the lanes and the store count as they go: plain integers, nothing more.

The hot lane may not get slower by more than an addition, so nothing here knows of metrics;
`component.http.metrics` makes them of these numbers when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left

_CONTROL = (b"message", b"presence", b"iq")
_OTHER = b"other"

FINE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Bounds of durations, in seconds."""


class Tally:
    """How many stanzas came by each lane, by kind, and how many copies went out."""

    __slots__ = ("control", "copies", "hot")

    def __init__(self) -> None:
        self.hot: dict[bytes, int] = {b"message": 0, b"presence": 0}
        self.control: dict[bytes, int] = dict.fromkeys((*_CONTROL, _OTHER), 0)
        self.copies = 0

    def controlled(self, name: bytes) -> None:
        """Count a stanza of the control lane; names nobody foresaw share one number."""
        self.control[name if name in self.control else _OTHER] += 1


class Timings:
    """A histogram of durations in seconds, with fixed bounds."""

    __slots__ = ("counts", "last", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(FINE) + 1)
        self.total = 0.0
        self.last = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(FINE, seconds)] += 1
        self.total += seconds
        self.last = seconds
