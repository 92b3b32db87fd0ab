"""Actions that are due later, in order of time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator

_FEW_CALLED_OFF = 1_000


class Deadlines:
    """Actions that are due at a moment, unless called off."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._actions: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()

    def at(self, moment: float, action: Callable[[], None]) -> int:
        """Plan an action; gives a number to call it off by."""
        number = next(self._numbers)
        heapq.heappush(self._heap, (moment, number))
        self._actions[number] = action
        return number

    def off(self, number: int) -> None:
        """Cancel a planned action, and release it."""
        self._actions.pop(number, None)
        # Its moment leaves as the heap drains; when most are off, clear them out, so that
        # memory follows what is planned.
        if len(self._heap) > 2 * len(self._actions) + _FEW_CALLED_OFF:
            self._heap = [entry for entry in self._heap if entry[1] in self._actions]
            heapq.heapify(self._heap)

    @property
    def next(self) -> float | None:
        """The earliest planned moment."""
        while self._heap and self._heap[0][1] not in self._actions:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Callable[[], None]]:
        """Take out what is due, one by one."""
        while (moment := self.next) is not None and moment <= now:
            yield self._actions.pop(heapq.heappop(self._heap)[1])
