"""Redis: loaded whole at the start, written behind the core's back in batches.

The hot lane never waits for Redis. Writes go out in order, many in one transaction.
When Redis is away, takes no writes or is slow, a write somebody waits for fails and that
client is told; one nobody waits for is kept and done first when Redis is back. If too many
would have to be kept, none are: then everything is written anew from memory, and so it
is when Redis turns out to have lost what it held (`component.store.mark`). While another
process leads, memory follows what that one writes (`component.store.following`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from time import perf_counter
from typing import Protocol

from redis.exceptions import ReadOnlyError

from component.core.effects import Write
from component.process.counters import Timings
from component.process.log import frames
from component.store.client import connect, diagnose
from component.store.following import Follower
from component.store.mark import Mark, Marks
from component.store.ownership import Ownership, make_keys
from component.store.reading import Learner, Loaded, Reader
from component.store.trouble import FAILURES, Foreign, Trouble, check_version
from component.store.writing import BATCH, Memory, add, leave_mark, write_anew
from schemas.records import MembershipRecord
from schemas.settings import Settings

LOOK_EVERY = 5.0
"""Seconds between two looks after a Redis that nothing is written to."""

FOLLOW_EVERY = 1.0
"""Seconds between two looks at what another process writes: what came since the last one is
still to be learnt when it is to be taken over from."""

FIRST_WAIT = 0.5
LONGEST_WAIT = 10.0


class Duty(Enum):
    """What a store does besides writing what is queued (`component.leadership`)."""

    NONE = 0
    FOLLOW = 1
    LEAD = 2


class Owner(Protocol):
    """Whoever the store works for."""

    def written(self, token: int, done: bool) -> None:
        """Learn whether the write with a token was done."""

    def loaded(self, loaded: Loaded) -> None:
        """Learn that everything was read again while another process leads."""

    def superseded(self) -> None:
        """Learn that another process has served meanwhile; the store has to `resign`."""

    @property
    def memory(self) -> Memory:
        """What the store is to hold."""


class Store:
    """The connection to Redis and the queue before it."""

    def __init__(self, settings: Settings, report: Callable[..., None], owner: Owner) -> None:
        self._redis = connect(settings, named=True)
        self._keys = make_keys(settings)
        self._ownership = Ownership(self._redis, self._keys, settings, report)
        self._reader = Reader(self._redis, self._keys, report)
        self._follower = Follower(self._redis, self._keys, self._reader)
        # Who was loaded, and is kept current while another process leads.
        self._learner: Learner | None = None
        # Held while somebody learns.
        self._learning = asyncio.Lock()
        self._report = report
        self._owner = owner
        self._queue: deque[Write] = deque()
        self._most = settings.max_waiting_writes
        self._wake = asyncio.Event()
        self._trouble: Trouble | None = None
        self._marks = Marks()
        self._duty = Duty.NONE
        self.latency = Timings()
        # Whether Redis has been read at all.
        self.loaded = False
        # Whether Redis holds less than memory does, and nothing that waits will mend it.
        self.behind = False

    @property
    def waiting(self) -> int:
        """Writes that wait."""
        return len(self._queue)

    @property
    def _leads(self) -> bool:
        """Whether this process, and no other, answers for what Redis holds."""
        return self._duty is Duty.LEAD

    # -- start ---------------------------------------------------------------------------

    async def load(self, learner: Learner) -> Loaded:
        """Give everything to whoever learns it, in place of what was learnt before.

        Says what is wrong with Redis for as long as that takes.
        """
        wait = FIRST_WAIT
        while True:
            try:
                async with self._learning:
                    loaded = await self._load(learner)
            except FAILURES as error:
                self._complain(await diagnose(self._redis, error))
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
            else:
                self._trouble = None
                self._learner = learner
                self.loaded = True
                return loaded

    async def _load(self, learner: Learner) -> Loaded:
        self._follower.begin(None)
        learner.start_over()
        await check_version(self._redis)
        await self._ownership.settle()
        place = await self._follower.find()
        loaded = await self._reader.load(learner)
        self._marks.begin(loaded.mark)
        self._follower.begin(place)
        return loaded

    async def memberships(self, user: str) -> dict[str, MembershipRecord] | None:
        """Read what Redis has of one user's memberships; None if it does not answer.

        Nor is anything given of what is another component's.
        """
        try:
            await self._ownership.confirm()
            return await self._reader.memberships(user)
        except FAILURES:
            return None

    # -- duties (component.leadership) ---------------------------------------------------

    def lead(self) -> None:
        """Answer for what Redis holds."""
        self._duty = Duty.LEAD
        self._follower.begin(None)
        self._wake.set()

    def resign(self) -> None:
        """No longer answer for what Redis holds: another process may do so."""
        self._duty = Duty.NONE

    def follow(self) -> None:
        """Keep who was loaded current: another process serves."""
        self._duty = Duty.FOLLOW
        self._wake.set()

    async def take_over(self) -> int | None:
        """Learn the last of what the process before wrote, and lay claim to what follows.

        Give the number of changes followed; None if all is to be loaded instead.
        """
        if self._learner is None:
            return None
        async with self._learning:
            try:
                await self._confirm()
                current = await self._follower.take_over(self._learner, self._marks)
            except FAILURES:
                current = False
        return self._follower.changes if current else None

    async def _follow(self) -> None:
        """Learn what is new; all of it, if some may be missing and it can be followed then."""
        async with self._learning:
            if self._duty is not Duty.FOLLOW or self._learner is None:
                return
            if await self._follower.follow(self._learner):
                return
            if await self._follower.find() is not None:
                self._owner.loaded(await self._load(self._learner))

    # -- end -----------------------------------------------------------------------------

    async def close(self) -> None:
        """Write what still waits, once, and let go."""
        while self._queue and await self._write_batch():
            pass
        await self._redis.aclose()

    # -- writing -------------------------------------------------------------------------

    def put(self, write: Write) -> None:
        """Queue a write; if too many wait, fail it, or have all be written anew instead."""
        if write.token is None and self.behind:
            return
        if len(self._queue) >= self._most:
            if write.token is not None:
                loop = asyncio.get_running_loop()
                loop.call_soon(self._owner.written, write.token, False)
                return
            kept = len(self._queue)
            self._queue = deque(each for each in self._queue if each.token is not None)
            self.behind = True
            self._report("writes-given-up", "warning", writes=kept - len(self._queue) + 1)
            return
        self._queue.append(write)
        # What nobody waits for is no reason to hurry back to a Redis that is away.
        if write.token is not None or self._trouble is None:
            self._wake.set()

    async def run(self) -> None:
        """Write what is queued and look after Redis, until cancelled."""
        wait = FIRST_WAIT
        while True:
            if await self._once_or_fault():
                wait = FIRST_WAIT
                if not self._queue and not (self.behind and self._leads):
                    await self._pause(FOLLOW_EVERY if self._duty is Duty.FOLLOW else LOOK_EVERY)
            else:
                await self._pause(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    async def _once_or_fault(self) -> bool:
        """Do what is to be done; a fault of ours costs what was to be written, never the rest."""
        try:
            return await self._once()
        except Exception as error:  # noqa: BLE001 - see above; it is reported
            self._report("fault", "error", exception=frames(error))
            waiting, self._queue = self._queue, deque()
            self.behind = True
            self._refuse(waiting)
            return False

    def _refuse(self, writes: Iterable[Write]) -> None:
        """Tell those who wait that it was not done."""
        for write in writes:
            if write.token is not None:
                self._owner.written(write.token, False)

    async def _pause(self, seconds: float) -> None:
        """Wait, or until there is a reason to go on at once."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _once(self) -> bool:
        """Do what is to be done first; False if Redis did not let us."""
        if self._leads and self.behind:
            return await self._write_anew()
        if self._leads or self._queue:
            return await self._write_batch()
        try:
            if self._duty is Duty.FOLLOW:
                await self._confirm()
                await self._follow()
            else:
                await self._redis.ping()
        except FAILURES as error:
            await self._failed([], error)
            return False
        self._is_there()
        return True

    async def _write_batch(self) -> bool:
        """Write the first of the queue; without any, only see whether all is as it was left."""
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        began = perf_counter()
        try:
            await self._confirm()
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hgetall(self._keys.mark)
                changes = [
                    add(pipeline, self._keys, change) for write in batch for change in write.changes
                ]
                leave_mark(pipeline, self._keys, self._marks.next(), self._marks.known, changes)
                found = Mark.read((await pipeline.execute())[0])
        except FAILURES as error:
            await self._failed(batch, error)
            return False
        except Exception:
            self._refuse(batch)
            raise
        except asyncio.CancelledError:
            # It may have been done; doing it again does no harm.
            self._queue.extendleft(reversed(batch))
            raise
        self.latency.add(perf_counter() - began)
        self._look_at(found)
        self._is_there()
        for write in batch:
            if write.token is not None:
                self._owner.written(write.token, True)
        return True

    async def _confirm(self) -> None:
        """See that nobody else has taken what is below our prefix, or leave it to them.

        Raises Foreign where only the operator can tell whose it is.
        """
        try:
            await self._ownership.confirm()
        except Foreign:
            if not self._ownership.may_move():
                raise
            await self._ownership.confirm()
            self._follower.begin(None)
            self._report("prefix-taken", prefix=self._keys.prefix)
            self.behind = self._leads

    def _look_at(self, found: Mark) -> None:
        """See whether Redis still is the one that was written to last."""
        verdict = self._marks.judge(found)
        if self.behind:
            return
        self._marks.written()
        if not self._leads:
            return
        if verdict == "superseded":
            self._report("superseded", "warning")
            self._owner.superseded()
        elif verdict == "lost":
            self.behind = True
            self._report("memory-lost", "warning")

    async def _write_anew(self) -> bool:
        """Write everything from memory; what changes meanwhile is queued behind it."""
        self.behind = False
        try:
            await self._confirm()
            users = await write_anew(self._redis, self._keys, self._owner.memory, self._marks)
        except FAILURES as error:
            self.behind = True
            waiting = list(self._queue)
            self._queue.clear()
            await self._failed(waiting, error)
            return False
        self._marks.written()
        self._is_there()
        self._report("memory-rewritten", users=users)
        return True

    async def _failed(self, batch: list[Write], error: Exception) -> None:
        trouble = await diagnose(self._redis, error)
        if self._trouble is None or self._trouble.kind != trouble.kind:
            self._complain(trouble)
        if isinstance(error, ReadOnlyError):
            # The name, or proxy, may lead to the new primary by now.
            await self._redis.connection_pool.disconnect()
        if not self.behind:
            kept = (write for write in reversed(batch) if write.token is None)
            self._queue.extendleft(kept)
        self._refuse(batch)

    def _complain(self, trouble: Trouble) -> None:
        self._trouble = trouble
        kind, reason, remedy = trouble.kind, trouble.reason, trouble.remedy
        self._report("redis-away", "error", kind=kind, reason=reason, remedy=remedy)

    def _is_there(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            self._report("redis-back")
