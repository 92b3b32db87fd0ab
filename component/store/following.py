"""Follows what another process writes, so that the memory of a standby is current.

Every transaction of a process leaves an entry in a stream: its mark, the mark that was
known before it, and what it changed (`component.store.writing`). A follower that still
finds the entry it stands at has missed none behind it: none was trimmed away, and Redis was
neither flushed nor set back. If each entry names a mark before it that the follower has
seen, and the last one's mark is the one Redis has, then nobody has written without an entry
either. Else all is to be read again; that is also what a whole writing anew asks for.

What an entry says is what a field holds now, so it does no harm to apply it twice: the
place is taken before everything is read, and what came meanwhile follows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import TypeAdapter

from component.store.keys import Keys
from component.store.mark import NOTHING, Mark, Marks
from component.store.reading import Learner, Reader
from component.store.writing import BEFORE, CHANGES, Held, leave_mark

_CHANGES = TypeAdapter(list[Held])


class Place(NamedTuple):
    """An entry of the stream, and the mark that it left."""

    entry: str
    mark: Mark


class Follower:
    """Reads the stream of one Redis from a place on; without a place it follows nothing."""

    def __init__(self, redis: Any, keys: Keys, reader: Reader) -> None:  # noqa: ANN401 - see `client`
        self._redis = redis
        self._keys = keys
        self._reader = reader
        self.place: Place | None = None
        # Changes that were followed since the place was taken.
        self.changes = 0

    async def find(self) -> Place | None:
        """Find the end of the stream; None if what Redis holds has none that leads to it."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(self._keys.mark)
            pipeline.xrevrange(self._keys.changes, count=1)
            found, last = await pipeline.execute(raise_on_error=False)
        if not (isinstance(found, dict) and isinstance(last, list) and last):
            return None
        entry, fields = last[0]
        mark = Mark.read(fields)
        return Place(entry, mark) if mark == Mark.read(found) != NOTHING else None

    def begin(self, place: Place | None) -> None:
        """Follow from a place on, or not at all."""
        self.place = place
        self.changes = 0

    async def follow(self, learner: Learner) -> bool:
        """Give what came since; False if some of it may be missing."""
        if self.place is None:
            return False
        async with self._redis.pipeline(transaction=True) as pipeline:
            self._read(pipeline, self.place)
            found, entries = await pipeline.execute()
        return await self._take(learner, self.place, Mark.read(found), entries)

    async def take_over(self, learner: Learner, marks: Marks) -> bool:
        """Give the last of what came, and leave a mark behind it, in one transaction.

        Whoever wrote until now, and may not know that it is over, can write nothing between
        the two, and finds that mark before the next thing it writes.
        """
        if not await self.follow(learner) or self.place is None:
            return False
        marks.begin(self.place.mark)
        async with self._redis.pipeline(transaction=True) as pipeline:
            self._read(pipeline, self.place)
            leave_mark(pipeline, self._keys, marks.next(), marks.known, [])
            found, entries, *_ = await pipeline.execute()
        if Mark.read(found).process != self.place.mark.process:
            return False
        if not await self._take(learner, self.place, Mark.read(found), entries):
            return False
        marks.written()
        return True

    def _read(self, pipeline: Any, place: Place) -> None:  # noqa: ANN401 - see `client`
        pipeline.hgetall(self._keys.mark)
        pipeline.xrange(self._keys.changes, min=place.entry)

    async def _take(
        self,
        learner: Learner,
        place: Place,
        found: Mark,
        entries: list[tuple[str, dict[str, str]]],
    ) -> bool:
        """Give what the entries behind a place say, if they lead to the mark that was found."""
        if not entries or entries[0][0] != place.entry:
            return False
        latest: dict[tuple[str, str], str | None] = {}
        count = 0
        for entry, fields in entries[1:]:
            try:
                changes = _CHANGES.validate_json(fields.get(CHANGES, ""))
            except ValueError:
                return False
            if not NOTHING < Mark.parse(fields.get(BEFORE, "")) <= place.mark:
                return False
            place = Place(entry, Mark.read(fields))
            count += len(changes)
            latest.update(((key, field), value) for key, field, value in changes)
        if place.mark != found:
            return False
        for (key, field), value in latest.items():
            await self._reader.learn(learner, key, field, value)
        self.place = place
        self.changes += count
        return True
