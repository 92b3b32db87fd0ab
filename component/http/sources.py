"""The data behind HTTP: references to the component's parts, samples, and cached sums.

A sample is taken every two seconds, on the event loop: rates for the charts, and the loop's worst
lateness, which is how long everybody had to wait.
"""

from __future__ import annotations

import asyncio
import platform
from collections import Counter, deque
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Protocol

from component import __version__
from component.core.lane_counts import LaneCounts
from component.core.machine import Core
from component.http.watch import Watch
from component.operator.views import Totals, count, totals
from component.process.counters import Timings
from schemas.settings import Settings

INTERVAL = 2.0
"""Seconds between samples."""

NAPS = 4
"""Measurements of the loop's lateness in each interval."""

SAMPLES = 150
"""Samples kept: five minutes."""

TOTALS_SHARE = 0.002
"""Share of its time the process may spend on sums over all users, which walk the mirror."""

FEW_ROWS = 2_000
"""Users up to which sums are made at once, on each request."""


class StoreView(Protocol):
    """The store, as far as it is shown."""

    latency: Timings

    @property
    def waiting(self) -> int:
        """The number of writes that wait."""

    @property
    def needs_rewrite(self) -> bool:
        """Whether Redis still has to be rewritten."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rates per second since the sample before, and the loop's lateness in seconds."""

    messages: float
    deliveries: float
    lag: float


@dataclass(slots=True)
class Sources:
    """Everything that can be shown."""

    settings: Settings
    core: Core
    watch: Watch
    tally: LaneCounts
    counts: Counter[tuple[str, str]]
    store: StoreView
    lag: Timings = field(default_factory=Timings)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    version: str = __version__
    python: str = field(default_factory=platform.python_version)
    _totals: Totals | None = None
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def totals(self) -> Totals:
        """Give the sums over all users: current for few users, else those last counted."""
        if self._totals is None or self._are_few:
            self._totals = totals(self.core)
        else:
            self._wanted.set()
        return self._totals

    async def counted(self) -> None:
        """Make sure that there are sums, even if none were ever requested."""
        if self._totals is None and not self._are_few:
            await self._count()

    async def count(self) -> None:
        """Count many users in the background, with pauses for other tasks, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            began = process_time()
            await self._count()
            await asyncio.sleep((process_time() - began) / TOTALS_SHARE)

    @property
    def _are_few(self) -> bool:
        return len(self.core.mirror.rows) <= FEW_ROWS

    async def _count(self) -> None:
        counting = count(self.core)
        while True:
            try:
                next(counting)
            except StopIteration as done:
                self._totals = done.value
                return
            await asyncio.sleep(0)

    async def sample(self) -> None:
        """Take samples until cancelled."""
        messages, deliveries = self._done()
        before = perf_counter()
        while True:
            late = max([await self._nap() for _ in range(NAPS)])
            now = perf_counter()
            new_messages, new_deliveries = self._done()
            seconds = now - before
            self.samples.append(
                Sample(
                    (new_messages - messages) / seconds,
                    (new_deliveries - deliveries) / seconds,
                    late,
                )
            )
            messages, deliveries, before = new_messages, new_deliveries, now

    async def _nap(self) -> float:
        """Sleep a moment; return by how many seconds the loop was late."""
        # The loop's own clock does not advance within one iteration.
        due = perf_counter() + INTERVAL / NAPS
        await asyncio.sleep(INTERVAL / NAPS)
        late = max(0.0, perf_counter() - due)
        self.lag.add(late)
        return late

    def _done(self) -> tuple[int, int]:
        return self.tally.hot[b"message"], self.tally.copies
