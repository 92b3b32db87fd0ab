"""What can be wrong with Redis: how it is told, and what an operator does about it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as NotConnected,
)
from redis.exceptions import TimeoutError as NoAnswer

OLDEST = (6, 0)
"""The tests have run on 7.0 and 8.0; 6.0 is the first with all that is used (users of
Redis that may do only what is needed)."""


class TooOld(RedisError):  # noqa: N818 - what is wrong, as redis-py names its own
    """This Redis is older than `OLDEST`."""


FAILURES = (RedisError, OSError, ValueError, RuntimeError)
"""What talking to Redis may raise; ValueError for bytes of something that is not Redis,
RuntimeError by uvloop for a transport that was closed before we wrote."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One of the kinds of trouble, what is wrong, and what to do."""

    kind: str
    reason: str
    remedy: str


_ELSEWHERE = "Correct host and port in MIXPAM_REDIS_URL."

_ENDED = (
    "closed by", "connection lost", "reset by peer", "broken pipe",
    # uvloop, of a transport that was closed before we wrote.
    "is closed", "while writing to", "while reading from",
)  # fmt: skip
"""What an error says of a connection that there was."""

_KNOWN: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Trouble], ...] = (
    (
        AuthenticationError,
        Trouble(
            "password",
            "Redis does not take our user name and password",
            "Correct MIXPAM_REDIS_URL: redis://user:password@host:6379/0 (percent-encode"
            " special characters).",
        ),
    ),
    (
        BusyLoadingError,
        Trouble(
            "loading",
            "Redis has just started and reads its data",
            "Wait; mixpam goes on by itself when Redis is done.",
        ),
    ),
    (
        OutOfMemoryError,
        Trouble(
            "full",
            "Redis is full: it takes no more writes",
            "Give Redis more memory (CONFIG SET maxmemory), or take from it what is not"
            " mixpam's.",
        ),
    ),
    (
        ReadOnlyError,
        Trouble(
            "read-only",
            "Redis is a replica that takes no writes",
            "Have MIXPAM_REDIS_URL lead to the primary; a name or proxy that follows a failover"
            " is followed without a restart.",
        ),
    ),
    (
        (NoAnswer, asyncio.TimeoutError),
        Trouble(
            "silent",
            "Redis does not answer within MIXPAM_REDIS_TIMEOUT",
            "See what keeps Redis busy (its SLOWLOG), or whether something else listens where"
            " MIXPAM_REDIS_URL says.",
        ),
    ),
    (
        (InvalidResponse, ValueError),
        Trouble(
            "not-redis", "what answers where MIXPAM_REDIS_URL says is not Redis", _ELSEWHERE
        ),
    ),
)  # fmt: skip


def explain(error: Exception) -> Trouble:
    """Say what is wrong with Redis, without the URL: it may hold a password."""
    for kinds, trouble in _KNOWN:
        if isinstance(error, kinds):
            return trouble
    text = str(error)[:200]
    if isinstance(error, TooOld):
        return Trouble("too-old", text, "Upgrade Redis.")
    if isinstance(error, NoPermissionError):
        remedy = "Give our user of Redis what `mixpam check` says."
        return Trouble("permission", f"Redis refuses: {text}", remedy)
    if isinstance(error, ResponseError):
        return Trouble("refused", f"Redis refuses: {text}", "See the log of Redis.")
    if isinstance(error, NotConnected | RuntimeError) and any(
        word in text.lower() for word in _ENDED
    ):
        reason = "what listens where MIXPAM_REDIS_URL says closes the connection"
        return Trouble("closed", reason, f"See the log of Redis. {_ELSEWHERE}")
    return Trouble(
        "unreachable",
        f"Redis does not answer: is it running where MIXPAM_REDIS_URL says?"
        f" ({type(error).__name__})",
        f"Start Redis. {_ELSEWHERE}",
    )


async def check_version(redis: Any) -> None:  # noqa: ANN401 - see `component.store.client`
    """Raise TooOld for a Redis that is; one that does not tell is taken as it is."""
    try:
        info: dict[str, Any] = await redis.info("server")
    except NoPermissionError:
        return
    found = version_of(info)
    if found < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise TooOld(
            f"Redis {info.get('redis_version', '?')} is too old: {wanted} or newer is needed"
        )


def version_of(info: dict[str, Any]) -> tuple[int, ...]:
    """Read the version in what INFO says; nothing for none."""
    text = str(info.get("redis_version", ""))
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
