"""The control lane: what has to be thought about, in order, a little at a time.

A stanza that is only passed on takes a few microseconds, one that has to be thought about
a hundred times as many. So the latter wait here and are dealt with in slices, between
which the loop, and with it the hot lane, has its turn: two hundred people who join at the
same time do not keep anybody's message waiting. Nothing overtakes what waits for the same
user: those users are in `waiting`, and what comes for them has to queue up behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter

from component.framing import Frame, LeftOut

SLICE = 0.001
"""Seconds that the control lane has at a time; one step is never cut in two."""

MOST = 4_194_304
"""Bytes of stanzas that may wait, beyond which no more is read from the link."""


class ControlLane:
    """A queue of steps, each for a user or for nobody.

    `waiting` is kept up to date: user (bare JID) -> number of steps. `slice_ended` is called
    after each slice, to write what came of it; `crowded` when there is too much to go on
    reading, and when there no longer is.
    """

    def __init__(
        self,
        waiting: dict[bytes, int],
        slice_ended: Callable[[], None],
        crowded: Callable[[bool], None],
    ) -> None:
        self._waiting = waiting
        self._slice_ended = slice_ended
        self._crowded = crowded
        self._steps: deque[tuple[bytes, int, Callable[[], None]]] = deque()
        self._bytes = 0
        self._is_crowded = False
        self._next: asyncio.Handle | None = None

    def add(self, step: Callable[[], None], user: bytes = b"", size: int = 0) -> None:
        """Queue a step; it is done soon, or at the next `work`."""
        self._steps.append((user, size, step))
        self._waiting[user] = self._waiting.get(user, 0) + 1
        self._bytes += size
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self.work)
        if self._bytes > MOST and not self._is_crowded:
            self._is_crowded = True
            self._crowded(True)

    def work(self) -> bool:
        """Do a slice of what waits; False if nothing is left."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if not self._steps:
            return False
        end = perf_counter() + SLICE
        while self._steps:
            user, size, step = self._steps.popleft()
            self._bytes -= size
            left = self._waiting.pop(user) - 1
            if left:
                self._waiting[user] = left
            step()
            if perf_counter() >= end:
                break
        self._slice_ended()
        if self._is_crowded and self._bytes * 2 < MOST:
            self._is_crowded = False
            self._crowded(False)
        if self._steps and self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self.work)
        return bool(self._steps)

    def rest(self) -> Iterator[None]:
        """Do all that waits, slice by slice."""
        while self.work():
            yield


def user_of(frame: Frame | LeftOut) -> bytes:
    """Tell for which user (bare JID) a stanza is, or from whom if it is for the component."""
    return _bare(frame.to) if b"@" in frame.to else _bare(frame.sender)


def _bare(address: bytes) -> bytes:
    return address.partition(b"/")[0]
