"""Long jobs of a user, done in portions, so that other users have their turn in between.

A presence goes to up to a thousand channels, and a new device gets the presence of as many
participants. Each user's jobs follow one another in the order in which they began, as fast as
the user's budget of bytes allows. A job is an iterator: each step writes a little and gives the
number of bytes, or for how long it has to pause; the job itself checks that it is still up to date.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import NamedTuple

from component.core.context import Context
from component.core.rates import Buckets

PORTION = 65_536
"""Bytes that are written in one go …"""

STEPS = 50
"""… steps that are done in it …"""

INTERVAL = 0.002
"""… and seconds until the next."""

RATE = 1_048_576
"""Bytes a second that are written for one user …"""

BURST = 2_097_152
"""… after so many at once: a presence of usual size to a thousand channels is less."""


class Pause(NamedTuple):
    """What a job gives that cannot do its next step before so many seconds."""

    seconds: float


class Portions:
    """Goes on with the jobs of all users, until the link ends."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._jobs: dict[bytes, dict[Hashable, Iterator[int | Pause]]] = {}
        self._budget: Buckets[bytes] = Buckets(RATE, BURST)

    def begin(self, user: bytes, key: Hashable, job: Iterator[int | Pause]) -> None:
        """Begin a job of a user, at once if there is none; it takes the place of one of its key."""
        jobs = self._jobs.get(user)
        if jobs is None:
            jobs = self._jobs[user] = {key: job}
            self._go_on(user, jobs)
        else:
            jobs.pop(key, None)
            jobs[key] = job

    def forget(self) -> None:
        """Drop all jobs: the link is gone."""
        self._jobs.clear()

    def _go_on(self, user: bytes, jobs: dict[Hashable, Iterator[int | Pause]]) -> None:
        if self._jobs.get(user) is not jobs:
            return  # of another link
        room, pause = PORTION, INTERVAL
        for _ in range(STEPS):
            if not jobs:
                del self._jobs[user]
                return
            seconds = self._budget.take(user, self._context.now, 0)
            if seconds or room <= 0:
                break
            key, job = next(iter(jobs.items()))
            size = self._step(job)
            if isinstance(size, Pause):
                pause = max(pause, size.seconds)
                break
            if size is not None:
                room -= size
                self._budget.spend(user, size)
            elif jobs.get(key) is job:
                del jobs[key]
        pause = max(pause, self._budget.take(user, self._context.now, 0))
        self._context.after(pause, lambda: self._go_on(user, jobs))

    def _step(self, job: Iterator[int | Pause]) -> int | Pause | None:
        """Take a step of a job; None if it is over or has failed, which costs no other job."""
        given: list[int | Pause | None] = []
        self._context.attempt(lambda: given.append(next(job, None)))
        return given[0] if given else None
