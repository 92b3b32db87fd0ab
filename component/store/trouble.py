"""Failures of Redis: how an error is recognized, and what an operator can do about it.

The text of an error is never logged: it may quote the command that failed, with addresses of
users and channels, or the URL with its password. Its class, its first word and known phrases
select one of the sentences here.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as NoAnswer

from schemas import jid

OLDEST = (6, 0)
"""The first version with ACL users, which restrict commands. Tested: 7.0 and 8.0."""


class TooOld(RedisError):  # noqa: N818 - what is wrong, as redis-py names its own
    """This Redis is older than `OLDEST`; the text is mixpam's own."""


class Foreign(RedisError):  # noqa: N818 - likewise
    """The records below the prefix are another component's: `owner` is its JID."""

    def __init__(self, prefix: str, owner: str) -> None:
        super().__init__("another component's")
        self.prefix = prefix
        self.owner = owner


FAILURES = (RedisError, OSError, ValueError, RuntimeError)
"""Raised by any call to Redis. ValueError: the peer is not Redis. RuntimeError: uvloop's, for
a transport that was closed before the write."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A kind of failure (a value of metrics and log), its reason, and its remedy."""

    kind: str
    reason: str
    remedy: str


_ELSEWHERE = "Correct host and port in MIXPAM_REDIS_URL."

_PASSWORD = Trouble(
    "password",
    "Redis does not take our user name and password",
    "Correct MIXPAM_REDIS_URL: redis://user:password@host:6379/0 (percent-encode special"
    " characters).",
)

_LOADING = Trouble(
    "loading",
    "Redis has just started and reads its data",
    "Wait; mixpam goes on by itself when Redis is done.",
)

_FULL = Trouble(
    "full",
    "Redis is full: it takes no more writes",
    "Give Redis more memory (CONFIG SET maxmemory), or take from it what is not mixpam's.",
)

_READ_ONLY = Trouble(
    "read-only",
    "Redis is a replica that takes no writes",
    "Have MIXPAM_REDIS_URL lead to the primary; a name or proxy that follows a failover is"
    " followed without a restart.",
)

_SILENT = Trouble(
    "silent",
    "Redis does not answer within MIXPAM_REDIS_TIMEOUT",
    "See what keeps Redis busy (its SLOWLOG), or whether something else listens where"
    " MIXPAM_REDIS_URL says; a Redis without TLS never answers rediss://.",
)

_NOT_REDIS = Trouble(
    "not-redis", "what answers where MIXPAM_REDIS_URL says is not Redis", _ELSEWHERE
)

_CLUSTER = Trouble(
    "cluster",
    "Redis is a cluster, whose nodes have a part of the keys each",
    "Give mixpam a Redis that is not in cluster mode (cluster-enabled no), with a replica if"
    " it is to survive a machine.",
)

_REFUSED = Trouble(
    "refused", "Redis refuses what is asked of it", "See the log of Redis, and `mixpam check`."
)

_CLIENTS = Trouble(
    "clients",
    "Redis has as many connections as it takes (maxclients)",
    "Find out who has so many (CLIENT LIST), or allow more: CONFIG SET maxclients.",
)

_FILES = Trouble(
    "files",
    "mixpam has no descriptor left to connect to Redis with",
    "Raise the limit of open files (systemd: LimitNOFILE=65536), and see who holds so many"
    " connections to mixpam.",
)

_TLS = Trouble(
    "tls",
    "no encryption was agreed on with Redis",
    "rediss:// is for a Redis with tls-port and a certificate that this machine trusts for the"
    " host's name; redis:// for one without.",
)

_CLUSTER_DOWN = Trouble("cluster", "Redis is a cluster, and is down", _CLUSTER.remedy)

_NO_PRIMARY = Trouble(
    "no-primary", "Redis is a replica that has lost its primary", _READ_ONLY.remedy
)

_BY_CLASS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Trouble], ...] = (
    ((AuthenticationError, AuthenticationWrongNumberOfArgsError), _PASSWORD),
    (BusyLoadingError, _LOADING),
    (OutOfMemoryError, _FULL),
    (ReadOnlyError, _READ_ONLY),
    (MasterDownError, _NO_PRIMARY),
    (ClusterDownError, _CLUSTER_DOWN),
    ((MovedError, ClusterCrossSlotError, TryAgainError), _CLUSTER),
    ((NoAnswer, asyncio.TimeoutError), _SILENT),
    ((InvalidResponse, ValueError), _NOT_REDIS),
)

_BY_CODE = {
    "ASK": _CLUSTER,
    "BUSY": Trouble(
        "busy",
        "Redis is busy with a script of somebody else",
        "Stop the script: SCRIPT KILL (or FUNCTION KILL), and find out whose it is.",
    ),
    "CLUSTERDOWN": _CLUSTER_DOWN,
    "CROSSSLOT": _CLUSTER,
    "DENIED": Trouble(
        "protected",
        "Redis answers only its own machine (protected mode)",
        "Give it a user and password for us, as deploy/SECURITY.md has it, and protected-mode no.",
    ),
    "LOADING": _LOADING,
    "MASTERDOWN": _NO_PRIMARY,
    "MISCONF": Trouble(
        "disk",
        "Redis takes no writes, because it cannot save what it has",
        "Give its disk room, or its folder back to it (dir, and whose it is): the log of Redis says"
        " which. It takes writes again by itself.",
    ),
    "MOVED": _CLUSTER,
    "NOAUTH": _PASSWORD,
    "NOREPLICAS": Trouble(
        "no-replicas",
        "Redis takes no writes without its replicas (min-replicas-to-write)",
        "Bring its replicas back, or CONFIG SET min-replicas-to-write 0.",
    ),
    "OOM": _FULL,
    "READONLY": _READ_ONLY,
    "TRYAGAIN": _CLUSTER,
    "UNBLOCKED": _REFUSED,
    "WRONGPASS": _PASSWORD,
    "WRONGTYPE": Trouble(
        "another-type",
        "a key of mixpam's is of another type: somebody else writes below MIXPAM_REDIS_PREFIX",
        "Find out who does, and give mixpam a prefix or database of its own; the event"
        " `record-unusable` names the key at the next start.",
    ),
}
"""Failures by the first word of Redis's error."""

_BY_PHRASE: tuple[tuple[tuple[str, ...], Trouble], ...] = (
    (("max number of clients",), _CLIENTS),
    (
        ("db index is out of range", "invalid database", "not allowed in cluster mode"),
        Trouble(
            "database",
            "Redis has no database of the number at the end of MIXPAM_REDIS_URL",
            "Correct the number, or raise `databases` in Redis; a cluster has only 0.",
        ),
    ),
    (
        ("unknown command",),
        Trouble(
            "unknown-command",
            "Redis does not know a command that mixpam uses",
            "Use Redis 6.0 or newer, without rename-command for SCAN, HSET, HDEL, HGETALL, XADD,"
            " XRANGE, XREVRANGE, MULTI and EXEC.",
        ),
    ),
    (("too many open files", "error 24 ", "error 23 "), _FILES),
    (("[ssl", "ssl:", "certificate"), _TLS),
)
"""Failures by phrases that Redis, or the machine, uses in all versions."""

_ENDED = (
    "closed by", "connection lost", "reset by peer", "broken pipe",
    # From uvloop, for a transport that was closed before the write.
    "is closed", "while writing to", "while reading from",
)  # fmt: skip
"""Phrases in errors about a connection that existed."""

_ANNOTATION = " of pipeline caused error: "
"""redis-py's words between the command and its error, for a command in a transaction."""

_CODE = re.compile(r"[A-Z]{3,20}\b")
_REFUSED_COMMAND = re.compile(r"the '([a-z]{1,20}(?:\|[a-z]{1,20})?)' command")


def explain(error: Exception) -> Trouble:
    """Find the failure that an error indicates."""
    if isinstance(error, TooOld):
        return Trouble("too-old", str(error), "Upgrade Redis.")
    if isinstance(error, Foreign):
        return _foreign(error)
    said = _said(error)
    return _by_words(error, said) or _by_class(error, said) or _unreachable(error, said)


def _foreign(error: Foreign) -> Trouble:
    try:
        owner = str(jid.parse(error.owner))[:255]
    except ValueError:
        owner = "one whose JID cannot be read"
    return Trouble(
        "foreign",
        f"the records in Redis below {error.prefix} are another component's: {owner}",
        "Give this component a MIXPAM_REDIS_PREFIX, or a database (the number at the end of"
        " MIXPAM_REDIS_URL), of its own. If it is that component under a new name:"
        f" redis-cli HDEL {error.prefix}:mark component",
    )


def _said(error: Exception) -> str:
    """Extract Redis's own text, without the command that redis-py puts before it."""
    return str(error).rpartition(_ANNOTATION)[2].lstrip("('\"")


def _by_words(error: Exception, said: str) -> Trouble | None:
    if any(each.errno in {errno.EMFILE, errno.ENFILE} for each in _causes(error)):
        return _FILES
    if not isinstance(error, RedisError | OSError):
        return None
    code = _CODE.match(said)
    if code is not None and code[0] in _BY_CODE:
        return _BY_CODE[code[0]]
    lower = said.lower()
    for phrases, trouble in _BY_PHRASE:
        if any(phrase in lower for phrase in phrases):
            return trouble
    return None


def _by_class(error: Exception, said: str) -> Trouble | None:
    for kinds, trouble in _BY_CLASS:
        if isinstance(error, kinds):
            return trouble
    if isinstance(error, NoPermissionError) or said.startswith("NOPERM"):
        return _permission(said)
    return _REFUSED if isinstance(error, ResponseError) else None


def _unreachable(error: Exception, said: str) -> Trouble:
    if any(word in said.lower() for word in _ENDED):
        reason = "what listens where MIXPAM_REDIS_URL says closes the connection"
        return Trouble("closed", reason, f"See the log of Redis. {_ELSEWHERE}")
    return Trouble(
        "unreachable",
        f"Redis does not answer: is it running where MIXPAM_REDIS_URL says?"
        f" ({type(error).__name__})",
        f"Start Redis. {_ELSEWHERE}",
    )


def _causes(error: BaseException) -> Iterator[OSError]:
    """Give the operating system's errors that caused an error."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError):
            yield found
        found = found.__cause__ or found.__context__


def _permission(said: str) -> Trouble:
    """Name the command that the ACL forbids, if Redis does."""
    command = _REFUSED_COMMAND.search(said)
    what = f"the command {command[1]}" if command else "a command or key that it uses"
    reason = f"Redis does not let mixpam use {what}"
    return Trouble("permission", reason, "Give our user of Redis what `mixpam check` says.")


async def check_version(redis: Any) -> None:  # noqa: ANN401 - see `component.store.client`
    """Raise TooOld for a Redis older than `OLDEST`; one that hides its version passes."""
    try:
        info: dict[str, Any] = await redis.info("server")
    except NoPermissionError:
        return
    found = version_of(info)
    if found < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise TooOld(f"Redis {version_text(info)} is too old: {wanted} or newer is needed")


def version_of(info: dict[str, Any]) -> tuple[int, ...]:
    """Read the version from INFO; empty if there is none."""
    text = str(info.get("redis_version", ""))
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def version_text(info: dict[str, Any]) -> str:
    """Give the version as text; only numbers are repeated."""
    found = re.match(r"\d{1,4}(\.\d{1,4}){0,3}", str(info.get("redis_version", "")))
    return found[0] if found else "of an unknown version"
