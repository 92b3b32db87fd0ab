"""Writes changes, and rewrites everything from a snapshot.

Each transaction also appends its changes to a stream, which standbys follow
(`component.store.following`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
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
from component.store.epoch import FIELD, OWNER, Epoch, Fence
from component.store.keys import CAPABILITY, Keys
from component.store.reading import user_hashes

BATCH = 200
"""Changes in one transaction, unless a single write has more: encoding them as commands and reading
the answers blocks the event loop for some 10 ms."""

KEPT = 10_000
"""Entries in the stream of changes, about. A standby that reads everything must still find the
entry at which it began: that takes 15 s on a large server, and a busy one makes some 100
transactions a second. The margin is sixfold."""

BEFORE, CHANGES = "before", "changes"
"""Fields of an entry besides its epoch: the epoch known before it, and a JSON list of the
changes, each with key, field and value (null for a field that is removed)."""

Held = tuple[str, str, str | None]
"""Key, field and value of a change; None for a field that is removed."""


class Unwritable(Exception):  # noqa: N818 - what it is, not whose fault
    """A change that makes no valid record: a bug in mixpam; a ValueError is one of Redis."""


class Snapshot(Protocol):
    """All that Redis has to hold, as changes; read user by user, while other users may change."""

    def users(self) -> list[str]:
        """List the users (bare JIDs) who have records."""

    def of_user(self, user: str) -> list[Change]:
        """Give the records of a user."""

    def of_all(self) -> list[Change]:
        """Give the records that belong to no user."""


def add_change(pipeline: Any, keys: Keys, change: Change) -> Held:  # noqa: ANN401 - see `client`
    """Add a change to a transaction; give its key, field and value.

    Raises Unwritable for a bug in mixpam.
    """
    try:
        key, field, value = held = _held(keys, change)
    except (ValueError, RuntimeError) as error:
        raise Unwritable from error
    if value is None:
        pipeline.hdel(key, field)
    else:
        pipeline.hset(key, field, value)
    return held


def leave_epoch(
    pipeline: Any,  # noqa: ANN401 - see `client`
    keys: Keys,
    epoch: Epoch,
    before: Epoch,
    changes: list[Held],
    *,
    alone: bool = False,
) -> None:
    """Add an epoch to a transaction, and an entry with its changes to the stream.

    `alone` removes all older entries, so that followers read everything again.
    """
    pipeline.hset(keys.mark, mapping={FIELD: str(epoch), OWNER: keys.owner})
    entry = {FIELD: str(epoch), BEFORE: str(before), CHANGES: json.dumps(changes)}
    pipeline.xadd(keys.changes, entry, maxlen=1 if alone else KEPT, approximate=not alone)


def _held(keys: Keys, change: Change) -> Held:  # noqa: PLR0911 - one for each kind of change
    """Give key, field and value of a change; None for a field that is removed."""
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


async def rewrite(redis: Any, keys: Keys, snapshot: Snapshot, fence: Fence) -> int:  # noqa: ANN401
    """Make Redis hold the snapshot's records and no others; return the number of users.

    Changes since the start have to be written afterwards. The epoch is written last, so that
    an interrupted rewrite is noticed. Its entry is the only one left in the stream, because a
    rewrite cannot be followed.
    """
    users = snapshot.users()
    rest = _all(snapshot, users)
    while chunk := list(islice(rest, BATCH)):
        await _write(redis, keys, chunk)
    await _remove_others(redis, keys, snapshot)
    async with redis.pipeline(transaction=True) as pipeline:
        leave_epoch(pipeline, keys, fence.next(), fence.known, [], alone=True)
        await pipeline.execute()
    return len(users)


def _all(snapshot: Snapshot, users: list[str]) -> Iterator[Change]:
    for user in users:
        yield from snapshot.of_user(user)
    yield from snapshot.of_all()


async def _write(redis: Any, keys: Keys, changes: Iterable[Change]) -> None:  # noqa: ANN401
    async with redis.pipeline(transaction=True) as pipeline:
        for change in changes:
            add_change(pipeline, keys, change)
        await pipeline.execute()


async def _remove_others(redis: Any, keys: Keys, snapshot: Snapshot) -> None:  # noqa: ANN401
    """Remove records that an old copy brought back, above all memberships that have ended since.

    Records of users of other domains stay: the snapshot does not have them.
    """
    async for found in user_hashes(redis, keys):
        async with redis.pipeline(transaction=True) as pipeline:
            for each in found:
                if each.fields is None or not keys.is_ours(each.name, each.user):
                    continue
                if not keys.serves(each.user):
                    continue
                places = (_held(keys, change) for change in snapshot.of_user(each.user))
                wanted = {field for key, field, _ in places if key == each.name}
                for field in each.fields.keys() - wanted:
                    pipeline.hdel(each.name, field)
            await pipeline.execute()
