"""Redis: read whole at the start, then written in batches from a queue.

The hot lane never waits for Redis. Writes are made in order, many in one transaction.
When Redis is away, refuses writes or is slow, a write with a token fails and the client
that waits for it gets an error; a write without one is kept and made first when Redis is back.
If too many would have to be kept, all are dropped and everything is rewritten from the
core's snapshot, as it is when Redis has lost writes (`component.store.epoch`). While another
process leads, the replica follows its writes (`component.store.following`).
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
from component.store.epoch import Epoch, Fence
from component.store.following import Follower
from component.store.ownership import Ownership, make_keys
from component.store.reading import Loaded, Reader, Replica
from component.store.trouble import FAILURES, Foreign, Trouble, check_version
from component.store.writing import BATCH, Snapshot, add_change, leave_epoch, rewrite
from schemas.records import MembershipRecord
from schemas.settings import Settings

LOOK_EVERY = 5.0
"""Seconds between two pings while nothing is written."""

FOLLOW_EVERY = 1.0
"""Seconds between two reads of the stream that another process writes. A takeover has to apply the
entries since the last read."""

FIRST_WAIT = 0.5
LONGEST_WAIT = 10.0


class Duty(Enum):
    """The store's duty besides writing the queue (`component.leadership`)."""

    NONE = 0
    FOLLOW = 1
    LEAD = 2


class StoreListener(Protocol):
    """Takes the store's events."""

    def written(self, token: int, done: bool) -> None:
        """Take the outcome of the write with a token."""

    def loaded(self, loaded: Loaded) -> None:
        """Note that everything was read again while another process leads."""

    def superseded(self) -> None:
        """Note that another process has served since; the store has to `resign`."""

    @property
    def snapshot(self) -> Snapshot:
        """The records that Redis has to hold, for a full rewrite."""


class Store:
    """The connection to Redis and the queue before it."""

    def __init__(
        self, settings: Settings, report: Callable[..., None], listener: StoreListener
    ) -> None:
        self._redis = connect(settings, named=True)
        self._keys = make_keys(settings)
        self._ownership = Ownership(self._redis, self._keys, settings, report)
        self._reader = Reader(self._redis, self._keys, report)
        self._follower = Follower(self._redis, self._keys, self._reader)
        # Loaded, and kept current while another process leads.
        self._replica: Replica | None = None
        # Locked while the replica takes records: they come from one reader at a time.
        self._loading = asyncio.Lock()
        self._report = report
        self._listener = listener
        self._queue: deque[Write] = deque()
        self._most = settings.max_waiting_writes
        self._wake = asyncio.Event()
        self._trouble: Trouble | None = None
        self._fence = Fence()
        self._duty = Duty.NONE
        self.latency = Timings()
        # Whether another process has written since Redis was read or taken over.
        self._superseded = False
        # Whether Redis has been read.
        self.loaded = False
        # Whether Redis lacks writes that are not queued, and has to be rewritten.
        self.needs_rewrite = False

    @property
    def waiting(self) -> int:
        """The number of writes that wait."""
        return len(self._queue)

    @property
    def _leads(self) -> bool:
        """Whether this process alone is responsible for the records in Redis."""
        return self._duty is Duty.LEAD

    # -- start ---------------------------------------------------------------------------

    async def load(self, replica: Replica) -> Loaded:
        """Read everything into the replica, which forgets its records first.

        Tries until Redis answers, and reports what is wrong with it.
        """
        wait = FIRST_WAIT
        while True:
            try:
                async with self._loading:
                    loaded = await self._load(replica)
            except FAILURES as error:
                self._complain(await diagnose(self._redis, error))
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
            else:
                self._trouble = None
                self._replica = replica
                self.loaded = True
                return loaded

    async def _load(self, replica: Replica) -> Loaded:
        self._follower.begin(None)
        replica.start_over()
        await check_version(self._redis)
        await self._ownership.settle()
        position = await self._follower.find()
        loaded = await self._reader.load(replica)
        self._fence.begin(loaded.epoch)
        self._superseded = False
        self._follower.begin(position)
        return loaded

    async def memberships(self, user: str) -> dict[str, MembershipRecord] | None:
        """Read one user's memberships from Redis.

        None if Redis does not answer, or the records are another component's.
        """
        try:
            await self._ownership.confirm()
            return await self._reader.memberships(user)
        except FAILURES:
            return None

    # -- duties (component.leadership) ---------------------------------------------------

    def lead(self) -> None:
        """Take responsibility for the records in Redis."""
        self._duty = Duty.LEAD
        self._follower.begin(None)
        self._wake.set()

    def resign(self) -> None:
        """Give up responsibility for the records in Redis: another process may have it."""
        self._duty = Duty.NONE

    def follow(self) -> None:
        """Keep the replica current with the writes of another process."""
        self._duty = Duty.FOLLOW
        self._wake.set()

    async def take_over(self) -> int | None:
        """Apply the last writes of another process, and write an epoch of this one.

        Return the number of changes applied since the last full read; None if some may be missing,
        so that everything must be read again.
        """
        if self._replica is None:
            return None
        async with self._loading:
            try:
                await self._confirm()
                current = await self._follower.take_over(self._replica, self._fence)
            except FAILURES:
                current = False
        self._superseded &= not current
        return self._follower.changes if current else None

    async def _follow(self) -> None:
        """Apply new entries; read everything if some may be missing and there is a stream."""
        async with self._loading:
            if self._duty is not Duty.FOLLOW or self._replica is None:
                return
            if await self._follower.follow(self._replica):
                return
            if await self._follower.find() is not None:
                self._listener.loaded(await self._load(self._replica))

    # -- end -----------------------------------------------------------------------------

    async def close(self) -> None:
        """Write the queue, without a retry, and disconnect."""
        while self._queue and await self._write_batch():
            pass
        await self._redis.aclose()

    # -- writing -------------------------------------------------------------------------

    def put(self, write: Write) -> None:
        """Queue a write. If too many wait, one with a token fails, others cause a rewrite."""
        if write.token is None and self.needs_rewrite:
            return
        if len(self._queue) >= self._most:
            if write.token is not None:
                loop = asyncio.get_running_loop()
                loop.call_soon(self._listener.written, write.token, False)
                return
            kept = len(self._queue)
            self._queue = deque(each for each in self._queue if each.token is not None)
            self.needs_rewrite = True
            self._report("writes-given-up", "warning", writes=kept - len(self._queue) + 1)
            return
        self._queue.append(write)
        # A write without a token does not shorten the wait for a Redis that is away.
        if write.token is not None or self._trouble is None:
            self._wake.set()

    async def run(self) -> None:
        """Write the queue and do this store's duty, until cancelled."""
        wait = FIRST_WAIT
        while True:
            if await self._once_or_fault():
                wait = FIRST_WAIT
                if not self._queue and not (self.needs_rewrite and self._leads):
                    await self._pause(FOLLOW_EVERY if self._duty is Duty.FOLLOW else LOOK_EVERY)
            else:
                await self._pause(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    async def _once_or_fault(self) -> bool:
        """Do one round; a bug in mixpam costs the queued writes, and causes a rewrite."""
        try:
            return await self._once()
        except Exception as error:  # noqa: BLE001 - see above; it is reported
            self._report("fault", "error", exception=frames(error))
            waiting, self._queue = self._queue, deque()
            self.needs_rewrite = True
            self._refuse(waiting)
            return False

    def _refuse(self, writes: Iterable[Write]) -> None:
        """Fail the writes that have a token."""
        for write in writes:
            if write.token is not None:
                self._listener.written(write.token, False)

    async def _pause(self, seconds: float) -> None:
        """Wait, or until `_wake` is set."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _once(self) -> bool:
        """Do the first task that is due: rewrite, write, follow or ping; False if Redis fails."""
        if self._leads and self.needs_rewrite:
            return await self._rewrite()
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
        """Write the head of the queue and compare epochs; with an empty queue only compare them."""
        batch = self._head()
        began = perf_counter()
        try:
            await self._confirm()
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hgetall(self._keys.mark)
                changes = [
                    add_change(pipeline, self._keys, change)
                    for write in batch
                    for change in write.changes
                ]
                leave_epoch(pipeline, self._keys, self._fence.next(), self._fence.known, changes)
                found = Epoch.read((await pipeline.execute())[0])
        except FAILURES as error:
            await self._failed(batch, error)
            return False
        except Exception:
            self._refuse(batch)
            raise
        except asyncio.CancelledError:
            # The outcome is unknown; the writes can be repeated.
            self._queue.extendleft(reversed(batch))
            raise
        self.latency.add(perf_counter() - began)
        self._compare(found)
        self._is_there()
        for write in batch:
            if write.token is not None:
                self._listener.written(write.token, True)
        return True

    def _head(self) -> list[Write]:
        """Take the first writes out of the queue, up to the changes that fit in one transaction.

        A single write is never split; many writes are, so that other tasks need not wait for all of
        them.
        """
        batch: list[Write] = []
        room = BATCH
        while self._queue and (not batch or len(self._queue[0].changes) <= room):
            batch.append(self._queue.popleft())
            room -= len(batch[-1].changes)
        return batch

    async def _confirm(self) -> None:
        """Check that this component owns the records below its prefix; if not, switch to another.

        Raises Foreign where the operator has chosen the prefix.
        """
        try:
            await self._ownership.confirm()
        except Foreign:
            if not self._ownership.may_move():
                raise
            await self._ownership.confirm()
            self._follower.begin(None)
            self._report("prefix-taken", prefix=self._keys.prefix)
            self.needs_rewrite = self._leads

    def _compare(self, found: Epoch) -> None:
        """Compare the epoch that a transaction found with the epochs this process has written."""
        verdict = self._fence.compare(found)
        if self.needs_rewrite:
            return
        self._fence.written()
        # Also without a link: no later comparison finds the loss that this write has covered up.
        self._superseded |= verdict == "superseded"
        if verdict == "lost":
            self.needs_rewrite = True
            self._report("memory-lost", "warning")
        elif self._superseded and self._leads:
            self._superseded = False
            self._report("superseded", "warning")
            self._listener.superseded()

    async def _rewrite(self) -> bool:
        """Rewrite everything from the snapshot; changes made meanwhile are queued after it."""
        self.needs_rewrite = False
        try:
            await self._confirm()
            users = await rewrite(self._redis, self._keys, self._listener.snapshot, self._fence)
        except FAILURES as error:
            self.needs_rewrite = True
            waiting = list(self._queue)
            self._queue.clear()
            await self._failed(waiting, error)
            return False
        self._fence.written()
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
        if not self.needs_rewrite:
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
