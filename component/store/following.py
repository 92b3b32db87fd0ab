"""Follows the writes of another process, so that a standby's replica is current.

Each transaction appends an entry to a stream: its epoch, the epoch known before it, and its
changes (`component.store.writing`). A follower that still finds the entry of its position has
missed no later one: none was trimmed, and Redis was neither flushed nor restored from an old
copy. If each entry names an epoch before it that the follower has seen, and the last entry has
the epoch of Redis, then no write was made without an entry either. Otherwise everything must be
read again; a full rewrite trims the stream to force followers to do so.

An entry has the values after the transaction, so it can be applied twice. That is why the
position is taken before everything is read, and the entries since then are applied after it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import TypeAdapter

from component.store.epoch import NO_EPOCH, Epoch, Fence
from component.store.keys import Keys
from component.store.reading import Reader, Replica
from component.store.writing import BEFORE, CHANGES, Held, leave_epoch

_CHANGES = TypeAdapter(list[Held])


class Position(NamedTuple):
    """An entry of the stream (Redis's id), and its epoch."""

    entry: str
    epoch: Epoch


class Follower:
    """Reads the stream of changes from a position on.

    Without a position nothing can be followed: this process leads, or has not read everything.
    """

    def __init__(self, redis: Any, keys: Keys, reader: Reader) -> None:  # noqa: ANN401 - see `client`
        self._redis = redis
        self._keys = keys
        self._reader = reader
        self.position: Position | None = None
        # Changes applied since the position was taken.
        self.changes = 0

    async def find(self) -> Position | None:
        """Find the end of the stream; None if its last entry does not have Redis's epoch."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(self._keys.mark)
            pipeline.xrevrange(self._keys.changes, count=1)
            found, last = await pipeline.execute(raise_on_error=False)
        if not (isinstance(found, dict) and isinstance(last, list) and last):
            return None
        entry, fields = last[0]
        epoch = Epoch.read(fields)
        return Position(entry, epoch) if epoch == Epoch.read(found) != NO_EPOCH else None

    def begin(self, position: Position | None) -> None:
        """Follow from a position on; None stops following."""
        self.position = position
        self.changes = 0

    async def follow(self, replica: Replica) -> bool:
        """Apply the entries since the position; False if some may be missing."""
        if self.position is None:
            return False
        async with self._redis.pipeline(transaction=True) as pipeline:
            self._read(pipeline, self.position)
            found, entries = await pipeline.execute()
        return await self._take(replica, self.position, Epoch.read(found), entries)

    async def take_over(self, replica: Replica, fence: Fence) -> bool:
        """Apply the last entries and write an epoch of this process, in one transaction.

        The process that wrote until now may still run. It cannot write between the two, and finds
        the new epoch with its next write. False if some entries may be missing.
        """
        if not await self.follow(replica) or self.position is None:
            return False
        fence.begin(self.position.epoch)
        async with self._redis.pipeline(transaction=True) as pipeline:
            self._read(pipeline, self.position)
            leave_epoch(pipeline, self._keys, fence.next(), fence.known, [])
            found, entries, *_ = await pipeline.execute()
        if Epoch.read(found).process != self.position.epoch.process:
            return False
        if not await self._take(replica, self.position, Epoch.read(found), entries):
            return False
        fence.written()
        return True

    def _read(self, pipeline: Any, position: Position) -> None:  # noqa: ANN401 - see `client`
        pipeline.hgetall(self._keys.mark)
        pipeline.xrange(self._keys.changes, min=position.entry)

    async def _take(
        self,
        replica: Replica,
        position: Position,
        found: Epoch,
        entries: list[tuple[str, dict[str, str]]],
    ) -> bool:
        """Apply the entries after a position, if they lead to the epoch found in Redis."""
        if not entries or entries[0][0] != position.entry:
            return False
        latest: dict[tuple[str, str], str | None] = {}
        count = 0
        for entry, fields in entries[1:]:
            try:
                changes = _CHANGES.validate_json(fields.get(CHANGES, ""))
            except ValueError:
                return False
            if not NO_EPOCH < Epoch.parse(fields.get(BEFORE, "")) <= position.epoch:
                return False
            position = Position(entry, Epoch.read(fields))
            count += len(changes)
            latest.update(((key, field), value) for key, field, value in changes)
        if position.epoch != found:
            return False
        for (key, field), value in latest.items():
            await self._reader.apply(replica, key, field, value)
        self.position = position
        self.changes += count
        return True
