"""The connection to Redis, as component and `mixpam check` make it."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import ResponseError

from schemas.settings import Settings


def connect(settings: Settings, *, named: bool) -> Any:  # noqa: ANN401 - see below
    """Make a client, which connects when it is used; a `named` one tells Redis who it is."""
    # Any: redis-py's types know only the client that does not decode.
    return Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        decode_responses=True,
        # Somebody else's bytes below our prefix are set aside like any record that is none.
        encoding_errors="surrogateescape",
        # A Redis that is too old for more can then still be told from none.
        protocol=2,
        # Redis may have been restarted since the last write; all of ours may be repeated.
        # What else fails is tried again by the store, which knows what is still wanted.
        retry=Retry(NoBackoff(), 1, supported_errors=(NoConnection,)),
        redis_connect_func=partial(_introduce, client_name(settings)) if named else None,
    )


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
