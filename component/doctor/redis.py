"""Checks Redis: reachability, permissions, durability, eviction, latency and clock.

Only commands that the component uses are needed; they are tried on a separate key below the prefix,
which `component.store.keys` ignores and which is removed afterwards.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import Any

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from component.doctor.result import Level, Result, ok, skipped
from component.store.client import client_name, connect, diagnose
from component.store.keys import Keys
from component.store.ownership import Ownership, make_keys
from component.store.trouble import FAILURES, OLDEST, Foreign, explain, version_of, version_text
from schemas.settings import Settings, SettingsError

PINGS = 20
SLOW = 0.02
"""Seconds of a median round trip that would slow joins noticeably."""

MAX_SKEW = 5.0
"""Seconds by which clocks may differ before logs and archives become confusing."""


class RedisCheck:
    """Checks one Redis. `running` tells afterwards whether a component is connected to it.

    It is None when Redis does not permit that question.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.running: bool | None = None

    async def results(self) -> AsyncIterator[Result]:
        """Yield the results, one by one."""
        try:
            redis = connect(self._settings, named=False)
        except SettingsError as error:
            yield _wrong("redis", error.lines[0], "Correct MIXPAM_REDIS_URL.")
            return
        try:
            problem = await _reach(redis)
            if problem is not None:
                yield problem
                return
            async for result in self._look(redis):
                yield result
        except FAILURES as error:
            trouble = explain(error)
            text = f"Redis went away while it was looked at: {trouble.reason}"
            yield _wrong("redis", text, trouble.remedy)
        finally:
            await redis.aclose()

    async def _look(self, redis: Any) -> AsyncIterator[Result]:  # noqa: ANN401 - as above
        keys = make_keys(self._settings)
        owner = await _owner(redis, keys, self._settings)
        yield owner
        if owner.level is not Level.WRONG:
            yield await _permissions(redis, f"{keys.prefix}:{{check}}:check")
        try:
            info: dict[str, Any] = await redis.info()
        except NoPermissionError:
            yield skipped(
                "redis-info",
                "Redis does not let us ask for its version, persistence and eviction policy",
                "Allow the user `+info` to have them looked at.",
            )
        else:
            yield _version(info)
            yield _persistence(info)
            yield _eviction(info)
        yield await _latency(redis)
        yield await _clock(redis)
        self.running = await self._is_running(redis)

    async def _is_running(self, redis: Any) -> bool | None:  # noqa: ANN401 - as above
        try:
            clients = await redis.client_list()
        except ResponseError:
            return None
        return any(client.get("name") == client_name(self._settings) for client in clients)


async def _reach(redis: Any) -> Result | None:  # noqa: ANN401 - as above
    """Check whether Redis answers; None if so."""
    try:
        await redis.ping()
    except FAILURES as error:
        trouble = await diagnose(redis, error)
        remedy = trouble.remedy
        allow = "+ping" if isinstance(error, NoPermissionError) else ""
        return _wrong("redis", _sentence(trouble.reason), "" if allow else remedy, redis=allow)
    return None


async def _owner(redis: Any, keys: Keys, settings: Settings) -> Result:  # noqa: ANN401 - as above
    """Check who owns the records below the prefix; nothing is written before that."""
    try:
        await Ownership(redis, keys, settings, _say_nothing).settle(bring_along=False)
    except Foreign as error:
        trouble = explain(error)
        return _wrong("redis-owner", _sentence(trouble.reason), trouble.remedy)
    except NoPermissionError:
        return skipped("redis-owner", "Redis does not let us see whose its records are")
    return ok("redis-owner", f"our records are below {keys.prefix}")


def _say_nothing(*_: object, **__: object) -> None:
    """Ignore a report: a check changes nothing that would need one."""


async def _permissions(redis: Any, key: str) -> Result:  # noqa: ANN401 - as above
    """Run every command that the component uses, on a separate key."""
    tries: dict[str, Callable[[], Awaitable[Any]]] = {
        "scan": lambda: redis.scan(0, match=key, count=10),
        "hset": lambda: redis.hset(key, "probe", "1"),
        "hgetall": lambda: redis.hgetall(key),
        "multi exec": lambda: _transaction(redis, key),
        "hdel": lambda: redis.hdel(key, "probe"),
        "xadd": lambda: _append(redis, key),
        "xrange": lambda: redis.xrange(key, count=1),
        "xrevrange": lambda: redis.xrevrange(key, count=1),
    }
    refused: list[str] = []
    for name, command in tries.items():
        try:
            await command()
        except NoPermissionError:
            refused.append(name)
        except ResponseError as error:
            with contextlib.suppress(RedisError):
                await redis.hdel(key, "probe")
            trouble = explain(error)
            text = f"Redis does not let us write: {trouble.reason}"
            return _wrong("redis-permissions", text, trouble.remedy)
    if refused:
        commands = " ".join(f"+{each}" for name in refused for each in name.split())
        return _wrong(
            "redis-permissions",
            f"Redis does not let us use: {', '.join(refused)} (on keys {key.partition(':')[0]}:*)",
            "Give our user these commands, and the keys below MIXPAM_REDIS_PREFIX.",
            redis=f"ACL SETUSER mixpam ~{key.partition(':')[0]}:* {commands}",
        )
    return ok("redis-permissions", "every command that is used is allowed")


async def _transaction(redis: Any, key: str) -> None:  # noqa: ANN401 - as above
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(key, "probe", "2")
        await pipeline.execute()


async def _append(redis: Any, key: str) -> None:  # noqa: ANN401 - as above
    """Append an entry that no stream accepts: Redis checks permissions before it finds that out."""
    try:
        await redis.xadd(key, {"probe": "1"}, id="0-0")
    except ResponseError as error:
        if "greater than 0-0" not in str(error):
            raise


def _version(info: dict[str, Any]) -> Result:
    text = version_text(info)
    name = str(info.get("server_name", "Redis")).capitalize()
    if version_of(info) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return _wrong("redis-version", f"{name} {text} is too old", f"Use {wanted} or newer.")
    return ok("redis-version", f"{name} {text}")


def _persistence(info: dict[str, Any]) -> Result:
    if not info.get("aof_enabled"):
        return Result(
            "redis-persistence",
            Level.WARNING,
            "Redis keeps no append-only file: after a crash the last joins and leaves are lost",
            "Turn it on (at once: CONFIG SET appendonly yes).",
            redis="appendonly yes",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return _wrong(
            "redis-persistence",
            "Redis cannot write its append-only file",
            "See the log of Redis; its disk may be full.",
        )
    return ok("redis-persistence", "the append-only file is on")


def _eviction(info: dict[str, Any]) -> Result:
    policy = str(info.get("maxmemory_policy", "?"))
    if policy != "noeviction":
        level = Level.WRONG if int(info.get("maxmemory", 0)) else Level.WARNING
        return Result(
            "redis-eviction",
            level,
            f"Redis may throw memberships away when its memory is full (policy {policy})",
            "Have it refuse writes instead (at once: CONFIG SET maxmemory-policy noeviction).",
            redis="maxmemory-policy noeviction",
        )
    return ok("redis-eviction", "nothing is evicted when memory is full")


async def _latency(redis: Any) -> Result:  # noqa: ANN401 - as above
    took: list[float] = []
    for _ in range(PINGS):
        before = time.perf_counter()
        await redis.ping()
        took.append(time.perf_counter() - before)
    typical = median(took)
    text = f"Redis answers in {typical * 1000:.1f} ms"
    if typical > SLOW:
        return Result(
            "redis-latency",
            Level.WARNING,
            f"{text}; every join and leave waits for it twice",
            "Run Redis near the component, and see its SLOWLOG.",
        )
    return ok("redis-latency", text)


async def _clock(redis: Any) -> Result:  # noqa: ANN401 - as above
    try:
        seconds, micro = await redis.time()
    except NoPermissionError:
        return skipped(
            "redis-clock", "Redis does not let us ask for its time", "Allow the user `+time`."
        )
    return clock("redis-clock", "Redis", float(seconds) + float(micro) / 1e6 - time.time())


def clock(check: str, whose: str, ahead: float) -> Result:
    """Rate the seconds by which Redis's clock is ahead of this machine's."""
    if abs(ahead) > MAX_SKEW:
        direction = "ahead of" if ahead > 0 else "behind"
        return Result(
            check,
            Level.WARNING,
            f"the clock of {whose} is {abs(ahead):.0f} s {direction} ours",
            "Have both machines set their clocks by NTP.",
        )
    return ok(check, f"the clock of {whose} agrees with ours")


def _wrong(check: str, text: str, remedy: str = "", redis: str = "") -> Result:
    return Result(check, Level.WRONG, text, remedy, redis=redis)


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:]
