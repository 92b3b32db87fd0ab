"""Redis: loaded whole at the start, written behind the core's back in batches.

The hot lane never waits for Redis. Writes go out in order, many in one transaction.
When Redis is away, a write somebody waits for fails at once and that client is told; a
write nobody waits for is kept and done first when Redis is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as NoConnection

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
    Write,
)
from component.store.keys import Keys
from component.tally import Timings
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord
from schemas.settings import Settings

BATCH = 500
"""Writes in one transaction at most."""

KEPT_WRITES = 10_000
"""Writes nobody waits for that are kept while Redis is away."""

SCAN_COUNT = 1_000

FIRST_WAIT = 0.5
LONGEST_WAIT = 10.0

R = TypeVar("R", bound=BaseModel)


@dataclass(slots=True)
class Loaded:
    """All that Redis knew at the start; users are canonical bare JIDs."""

    memberships: list[tuple[str, MembershipRecord]] = field(default_factory=list)
    journal: list[tuple[str, JournalRecord]] = field(default_factory=list)
    capabilities: list[tuple[str, CapabilityRecord]] = field(default_factory=list)
    shown: list[tuple[str, str, str]] = field(default_factory=list)
    set_aside: int = 0


class Store:
    """The connection to Redis and the queue before it.

    `written` gets each token and whether its write was done.
    """

    def __init__(
        self,
        settings: Settings,
        report: Callable[..., None],
        written: Callable[[int, bool], None],
    ) -> None:
        # Any: redis-py's types know only the client that does not decode.
        self._redis: Any = Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=settings.redis_timeout,
            socket_connect_timeout=settings.redis_timeout,
            decode_responses=True,
            # What is no UTF-8 must come in, to be set aside under the name it has.
            encoding_errors="surrogateescape",
            # Redis may have been restarted since the last write; all of ours may be repeated.
            retry=Retry(NoBackoff(), 1, supported_errors=(NoConnection,)),
            redis_connect_func=partial(_introduce, client_name(settings)),
        )
        self._keys = Keys(settings.redis_prefix)
        self._report = report
        self._written = written
        self._queue: deque[Write] = deque()
        self._wake = asyncio.Event()
        self._away = False
        self.latency = Timings()

    @property
    def waiting(self) -> int:
        """Writes that wait."""
        return len(self._queue)

    # -- start and end -------------------------------------------------------------------

    async def load(self) -> Loaded:
        """Read everything, waiting for Redis however long it takes and saying what is wrong.

        What does not validate is set aside, counted and reported.
        """
        wait = FIRST_WAIT
        while True:
            try:
                return await self._load()
            except (RedisError, OSError) as error:
                self._report("redis-away", "error", reason=_explain(error), retry_in=round(wait, 1))
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    async def _load(self) -> Loaded:
        loaded = Loaded()
        cursor = 0
        while True:
            cursor, names = await self._redis.scan(
                cursor, match=self._keys.all_users, count=SCAN_COUNT
            )
            await self._load_users(loaded, names)
            if not cursor:
                break
        capabilities = self._keys.capabilities
        (fields,) = await self._hashes([capabilities])
        if fields is None:
            self._not_ours(loaded, capabilities, "not a hash")
        else:
            await self._read_records(
                loaded, capabilities, fields, CapabilityRecord,
                lambda name, record: loaded.capabilities.append((name, record)),
            )  # fmt: skip
        return loaded

    async def _hashes(self, names: list[str]) -> list[dict[str, str] | None]:
        """Read many hashes at once; None for what is of another type."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(name)
            answers = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                raise answer
        return [answer if isinstance(answer, dict) else None for answer in answers]

    async def _load_users(self, loaded: Loaded, names: list[str]) -> None:
        known = [(name, read) for name in names if (read := self._keys.read(name))]
        hashes = await self._hashes([name for name, _ in known])
        for (name, (user, kind)), fields in zip(known, hashes, strict=True):
            if fields is None:
                self._not_ours(loaded, name, "not a hash")
            elif not self._keys.is_ours(name, user):
                self._not_ours(loaded, name, "not the address of a user")
            else:
                await self._load_user(loaded, name, user, kind, fields)

    def _not_ours(self, loaded: Loaded, key: str, reason: str) -> None:
        """Leave a key below our prefix where it is: somebody else has put it there."""
        loaded.set_aside += 1
        self._report("record-unusable", "error", key=_printable(key), reason=reason)

    async def memberships(self, user: str) -> dict[str, MembershipRecord] | None:
        """Read what Redis has of one user's memberships; None if it does not answer.

        A record that does not validate is left out: the next start sets it aside.
        """
        try:
            fields = await self._redis.hgetall(self._keys.channels(user))
        except (RedisError, OSError):
            return None
        found: dict[str, MembershipRecord] = {}
        for channel, text in fields.items():
            with contextlib.suppress(ValidationError):
                found[channel] = MembershipRecord.model_validate_json(text)
        return found

    async def close(self) -> None:
        """Write what still waits, once, and let go."""
        if self._queue:
            await self._write_batch()
        await self._redis.aclose()

    async def _load_user(
        self, loaded: Loaded, name: str, user: str, kind: str, fields: dict[str, str]
    ) -> None:
        if kind == "shown":
            loaded.shown += [(user, resource, digest) for resource, digest in fields.items()]
        elif kind == "channels":
            await self._read_records(
                loaded, name, fields, MembershipRecord,
                lambda _, record: loaded.memberships.append((user, record)),
            )  # fmt: skip
        else:
            await self._read_records(
                loaded, name, fields, JournalRecord,
                lambda _, record: loaded.journal.append((user, record)),
            )  # fmt: skip

    async def _read_records(
        self,
        loaded: Loaded,
        key: str,
        fields: dict[str, str],
        kind: type[R],
        take: Callable[[str, R], None],
    ) -> None:
        for name, text in fields.items():
            try:
                record = kind.model_validate_json(text)
                if getattr(record, "channel", name) != name:
                    raise ValueError("the record is of another channel")  # noqa: TRY301
            except ValueError as error:
                loaded.set_aside += 1
                reason = "not a record" if isinstance(error, ValidationError) else str(error)
                field_ = _printable(name)
                self._report("record-unusable", "error", key=key, field=field_, reason=reason)
                # Where Redis takes no more, the record stays and is met again.
                with contextlib.suppress(ResponseError):
                    await self._redis.hset(self._keys.set_aside, f"{key} {name}", text)
                    await self._redis.hdel(key, name)
            else:
                take(name, record)

    # -- writing -------------------------------------------------------------------------

    def put(self, write: Write) -> None:
        """Queue a write."""
        self._queue.append(write)
        self._wake.set()

    async def run(self) -> None:
        """Write what is queued, until cancelled."""
        wait = FIRST_WAIT
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                if await self._write_batch():
                    wait = FIRST_WAIT
                    continue
                await self._pause(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    async def _pause(self, seconds: float) -> None:
        """Wait before the next try, or until there is a write that somebody waits for."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _write_batch(self) -> bool:
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        began = perf_counter()
        try:
            async with self._redis.pipeline(transaction=True) as pipeline:
                for write in batch:
                    for change in write.changes:
                        self._add(pipeline, change)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            self._failed(batch, error)
            return False
        self.latency.add(perf_counter() - began)
        self._is_there()
        for write in batch:
            if write.token is not None:
                self._written(write.token, True)
        return True

    def _failed(self, batch: list[Write], error: Exception) -> None:
        self._is_away(error)
        kept = [write for write in batch if write.token is None]
        self._queue.extendleft(reversed(kept))
        lost = len(self._queue) - KEPT_WRITES
        if lost > 0:
            self._report("writes-lost", "error", writes=lost)
            for _ in range(lost):
                self._queue.popleft()
        for write in batch:
            if write.token is not None:
                self._written(write.token, False)

    async def ping(self) -> None:
        """Find out whether Redis is there; its absence is reported, never raised."""
        began = perf_counter()
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            self._is_away(error)
        else:
            self.latency.add(perf_counter() - began)
            self._is_there()

    def _is_there(self) -> None:
        if self._away:
            self._away = False
            self._report("redis-back")
            self._wake.set()

    def _is_away(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            self._report("redis-away", "error", reason=_explain(error))

    def _add(self, pipeline: Any, change: Change) -> None:  # noqa: ANN401 - as above
        keys = self._keys
        match change:
            case PutMembership(user, record):
                pipeline.hset(keys.channels(user), record.channel, record.model_dump_json())
            case DropMembership(user, channel):
                pipeline.hdel(keys.channels(user), channel)
            case PutJournal(user, entry):
                pipeline.hset(keys.journal(user), entry.channel, entry.model_dump_json())
            case DropJournal(user, channel):
                pipeline.hdel(keys.journal(user), channel)
            case PutShown(user, resource, digest):
                pipeline.hset(keys.shown(user), resource, digest)
            case DropShown(user, resource):
                pipeline.hdel(keys.shown(user), resource)
            case PutCapability(key, capability):
                pipeline.hset(keys.capabilities, key, capability.model_dump_json())
            case DropCapability(key):
                pipeline.hdel(keys.capabilities, key)


def client_name(settings: Settings) -> str:
    """Give the name by which a component's connections to Redis are known there."""
    return f"mixpam:{settings.component_jid}"


async def _introduce(name: str, connection: Any) -> None:  # noqa: ANN401 - as above
    """Give a new connection its name, by which `mixpam check` sees that we are running.

    Where the operator's ACL does not allow that, it has to do without.
    """
    await connection.on_connect()
    await connection.send_command("CLIENT", "SETNAME", name)
    with contextlib.suppress(ResponseError):
        await connection.read_response()


def _printable(name: str) -> str:
    """Show what is no UTF-8 as escapes."""
    return name.encode(errors="backslashreplace").decode()


def _explain(error: Exception) -> str:
    """Say what is wrong with Redis, without the URL: it may hold a password."""
    if isinstance(error, AuthenticationError):
        return "Redis wants another password: see MIXPAM_REDIS_URL"
    if isinstance(error, ResponseError):
        return f"Redis refuses: {str(error)[:200]}"
    return (
        "Redis does not answer: is it running where MIXPAM_REDIS_URL says?"
        f" ({type(error).__name__})"
    )
