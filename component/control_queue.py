"""The control lane: stanzas that need a decision, in order, in small slices.

A stanza that is only passed on takes a few microseconds, one that needs a decision a hundred times
as many. So the latter wait here and are processed in slices, between which the event loop, and with
it the hot lane, runs: two hundred users who join at the same time do not delay anybody's message.
Nothing overtakes waiting stanzas of the same user: those users are in `waiting`, and later stanzas
for them queue up behind. Users take turns, a step each: only a user with a thousand requests waits
for the thousandth. The bytes that may wait for one user are bounded. A strange domain is treated
like a user (component.core.delivery.payer), and all strange domains together are bounded, too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter

from component.core.delivery.payer import is_strange

SLICE = 0.001
"""Seconds of a slice of the control lane; a single step is never split."""

MOST = 4_194_304
"""Bytes of stanzas that may wait, beyond which no more is read from the link."""

ROOM = 524_288
"""Bytes of stanzas that may wait for one user: two of the largest …"""

LITTLE_ROOM = 32_768
"""… and when half of all that may wait is there, so that it takes many users to fill it."""

STRANGE = 1_048_576
"""Bytes of stanzas that may wait for all strange domains together, so that they cannot fill it."""

SPARE = 262_144
"""Bytes more that what is left out may take: it still has its effect, in its turn."""

_AROUND = 256
"""Further bytes that a step takes, about."""


_Step = tuple[int, Callable[[], None]]


class _Round:
    """Steps of several users, who take turns; those of one user in order."""

    __slots__ = ("_steps", "order")

    def __init__(self) -> None:
        self.order: deque[bytes] = deque()
        self._steps: dict[bytes, deque[_Step]] = {}

    def add(self, user: bytes, size: int, step: Callable[[], None]) -> None:
        steps = self._steps.get(user)
        if steps is None:
            self._steps[user] = deque([(size, step)])
            self.order.append(user)
        else:
            steps.append((size, step))

    def take(self) -> tuple[bytes, int, Callable[[], None]]:
        """Take the next step of the user whose turn it is."""
        user = self.order.popleft()
        steps = self._steps[user]
        size, step = steps.popleft()
        if steps:
            self.order.append(user)
        else:
            del self._steps[user]
        return user, size, step


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
        # Each round is done before the next one; the last is the one that grows.
        self._rounds: deque[_Round] = deque([_Round()])
        self._bytes = 0
        self._strange = 0
        # Bytes of users for whom something waits.
        self._sizes: dict[bytes, int] = {}
        self._is_crowded = False
        self._next: asyncio.Handle | None = None

    def has_room(self, user: bytes, size: int) -> bool:
        """Tell whether so many bytes more may wait for a user, or a strange domain."""
        waiting = self._sizes.get(user)
        half_full = self._bytes * 2 > MOST
        if is_strange(user):
            if self._strange + size > STRANGE:
                return False
            half_full = half_full or self._strange * 2 > STRANGE
        return waiting is None or waiting + size <= (LITTLE_ROOM if half_full else ROOM)

    def add(
        self, step: Callable[[], None], user: bytes = b"", size: int = 0, *, alone: bool = False
    ) -> None:
        """Queue a step; it is done soon, or at the next `work`.

        A step to be done `alone` comes after all earlier steps, and before all later ones.
        """
        if alone:
            self._rounds.append(_Round())
        size += _AROUND
        self._rounds[-1].add(user, size, step)
        if alone:
            self._rounds.append(_Round())
        self._waiting[user] = self._waiting.get(user, 0) + 1
        self._sizes[user] = self._sizes.get(user, 0) + size
        self._bytes += size
        self._strange += size * is_strange(user)
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self.work)
        if self._bytes > MOST and not self._is_crowded:
            self._is_crowded = True
            self._crowded(True)

    def work(self) -> bool:
        """Do a slice of the waiting steps; False if none are left."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if not self._waiting:
            return False
        end = perf_counter() + SLICE
        while self._waiting:
            while not self._rounds[0].order:
                self._rounds.popleft()
            user, size, step = self._rounds[0].take()
            self._bytes -= size
            self._strange -= size * is_strange(user)
            left = self._waiting.pop(user) - 1
            if left:
                self._waiting[user] = left
                self._sizes[user] -= size
            else:
                del self._sizes[user]
            step()
            if perf_counter() >= end:
                break
        self._slice_ended()
        if self._is_crowded and self._bytes * 2 < MOST:
            self._is_crowded = False
            self._crowded(False)
        if self._waiting and self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self.work)
        return bool(self._waiting)

    def rest(self) -> Iterator[None]:
        """Do all that waits, slice by slice."""
        while self.work():
            yield
