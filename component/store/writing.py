"""How changes are written, and how everything is written anew from memory.

Each transaction also tells of itself in a stream, for those who stand by and follow
(`component.store.following`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any, Protocol

from component.core.effects import (
    Change,
    DropCapability,
    DropJournal,
    DropMembership,
    DropShown,
    PutCapability,
    PutJournal,
    PutMembership,
    PutShown,
)
from component.store.keys import CAPABILITY, Keys
from component.store.mark import FIELD, OWNER, Mark, Marks
from component.store.reading import user_hashes

BATCH = 500
"""Changes, or users, in one transaction at most."""

KEPT = 10_000
"""Transactions that the stream of changes has, about. A standby reads it every second,
but has to find there what came since it began to read all the rest, which takes a large
server's a quarter of a minute; a busy one has some hundred transactions a second."""

BEFORE, CHANGES = "before", "changes"
"""Fields of an entry, beside that of its mark: the mark known before, and key, field and
value (null for what is gone) of each change, as JSON."""

Held = tuple[str, str, str | None]
"""Key and field of a change, and the value, None where it is to go."""


class Unwritable(Exception):  # noqa: N818 - what it is, not whose fault
    """A change cannot be put as a record: no trouble with Redis, which a ValueError would be."""


class Memory(Protocol):
    """What the core remembers of all that a store is to hold."""

    def users(self) -> list[str]:
        """List the users of whom something is to be held."""

    def of_user(self, user: str) -> list[Change]:
        """Give what is to be held of a user."""

    def of_all(self) -> list[Change]:
        """Give what is to be held and is no user's."""


def add(pipeline: Any, keys: Keys, change: Change) -> Held:  # noqa: ANN401 - see `client`
    """Put a change into a transaction; give where it is made, and the value.

    Raises Unwritable for a fault of ours.
    """
    try:
        key, field, value = held = _place(keys, change)
    except (ValueError, RuntimeError) as error:
        raise Unwritable from error
    if value is None:
        pipeline.hdel(key, field)
    else:
        pipeline.hset(key, field, value)
    return held


def leave_mark(
    pipeline: Any,  # noqa: ANN401 - see `client`
    keys: Keys,
    mark: Mark,
    before: Mark,
    changes: list[Held],
    *,
    alone: bool = False,
) -> None:
    """Put the mark of a transaction into it, and an entry that tells what it changes.

    Left `alone` in the stream, it has whoever follows read everything again.
    """
    pipeline.hset(keys.mark, mapping={FIELD: str(mark), OWNER: keys.owner})
    entry = {FIELD: str(mark), BEFORE: str(before), CHANGES: json.dumps(changes)}
    pipeline.xadd(keys.changes, entry, maxlen=1 if alone else KEPT, approximate=not alone)


def _place(keys: Keys, change: Change) -> Held:  # noqa: PLR0911 - one for each kind of change
    """Give key and field of a change, and the value, None where it is to go."""
    match change:
        case PutMembership(user, record):
            return keys.channels(user), record.channel, record.model_dump_json()
        case DropMembership(user, channel):
            return keys.channels(user), channel, None
        case PutJournal(user, entry):
            return keys.journal(user), entry.channel, entry.model_dump_json()
        case DropJournal(user, channel):
            return keys.journal(user), channel, None
        case PutShown(user, resource, digest):
            return keys.shown(user), resource, digest
        case DropShown(user, resource):
            return keys.shown(user), resource, None
        case PutCapability(key, capability):
            return keys.capabilities, CAPABILITY + key, capability.model_dump_json()
        case DropCapability(key):
            return keys.capabilities, CAPABILITY + key, None


async def write_anew(redis: Any, keys: Keys, memory: Memory, marks: Marks) -> int:  # noqa: ANN401
    """Make Redis hold what memory does, and nothing else; give the number of users.

    What changes meanwhile has to be written afterwards. The mark is the last of it: as
    long as it is not there, this is not done. It is also all that is left of the stream of changes:
    nobody can follow this.
    """
    users = memory.users()
    rest = iter(users)
    while some := list(islice(rest, BATCH)):
        await _write(redis, keys, (change for user in some for change in memory.of_user(user)))
    others = iter(memory.of_all())
    while chunk := list(islice(others, BATCH)):
        await _write(redis, keys, chunk)
    await _remove_others(redis, keys, memory)
    async with redis.pipeline(transaction=True) as pipeline:
        leave_mark(pipeline, keys, marks.next(), marks.known, [], alone=True)
        await pipeline.execute()
    return len(users)


async def _write(redis: Any, keys: Keys, changes: Iterable[Change]) -> None:  # noqa: ANN401
    async with redis.pipeline(transaction=True) as pipeline:
        for change in changes:
            add(pipeline, keys, change)
        await pipeline.execute()


async def _remove_others(redis: Any, keys: Keys, memory: Memory) -> None:  # noqa: ANN401
    """Remove what an old copy brought back, memberships that were left since above all.

    Of users of other domains nothing is known here, so nothing is removed.
    """
    async for found in user_hashes(redis, keys):
        async with redis.pipeline(transaction=True) as pipeline:
            for each in found:
                if each.fields is None or not keys.is_ours(each.name, each.user):
                    continue
                if not keys.serves(each.user):
                    continue
                places = (_place(keys, change) for change in memory.of_user(each.user))
                wanted = {field for key, field, _ in places if key == each.name}
                for field in each.fields.keys() - wanted:
                    pipeline.hdel(each.name, field)
            await pipeline.execute()
