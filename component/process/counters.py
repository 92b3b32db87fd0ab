"""The store's counters: plain numbers, nothing more.

Nothing here knows of metrics; `component.http.metrics` makes them from these on request.
"""

from __future__ import annotations

from bisect import bisect_left

FINE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Bounds of durations, in seconds."""


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
