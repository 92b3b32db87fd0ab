"""The connection to Redis of the component and of `mixpam check`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import ResponseError

from component.store.trouble import Trouble, explain
from schemas.settings import PREFIX, Settings, SettingsError

LISTEN = 1.0
"""Seconds to wait for the error that a Redis sends before it refuses a connection."""


def connect(settings: Settings, *, named: bool) -> Any:  # noqa: ANN401 - see below
    """Make a client, which connects when it is used; a `named` one sets its name in Redis.

    Raises SettingsError if MIXPAM_REDIS_URL has options that the client does not know.
    """
    # Any: redis-py's types know only the client that does not decode.
    made = Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        decode_responses=True,
        # Bytes below the prefix that are not UTF-8 are set aside like any other bad record.
        encoding_errors="surrogateescape",
        # With RESP 3 a Redis that is too old could not be distinguished from no Redis at all.
        protocol=2,
        # Once, because Redis may have restarted since the last command, and all commands used here
        # can be repeated. The store decides what else is tried again.
        retry=Retry(NoBackoff(), 1, supported_errors=(NoConnection,)),
        redis_connect_func=partial(_introduce, client_name(settings)) if named else None,
    )
    try:
        make: Callable[[], Any] = made.connection_pool.make_connection
        make()
    except (TypeError, ValueError):
        # The name of an option is unknown, or unknown for this kind of connection.
        raise SettingsError(
            [f"{PREFIX}REDIS_URL: the options behind its ? are not those of this client"]
        ) from None
    return made


def client_name(settings: Settings) -> str:
    """Give the name of a component's connections in Redis (CLIENT LIST)."""
    return f"mixpam:{settings.component_jid}"


async def _introduce(name: str, connection: Any) -> None:  # noqa: ANN401 - as above
    """Set the name of a new connection, by which `mixpam check` sees a running component.

    An operator's ACL may forbid that; the connection then has no name.
    """
    await connection.on_connect()
    await connection.send_command("CLIENT", "SETNAME", name)
    with contextlib.suppress(ResponseError):
        await connection.read_response()


async def diagnose(redis: Any, error: Exception) -> Trouble:  # noqa: ANN401 - as above
    """Find out what is wrong with Redis; reconnect if it closed the connection, and read why.

    A Redis with too many connections, or in protected mode, sends an error and closes the
    connection at once. A client that was writing at that moment does not see the error.
    """
    trouble = explain(error)
    if trouble.kind != "closed":
        return trouble
    place = redis.connection_pool.connection_kwargs
    writer = None
    try:
        async with asyncio.timeout(LISTEN):
            if path := place.get("path"):
                reader, writer = await asyncio.open_unix_connection(path)
            else:
                host, port = place.get("host", "localhost"), place.get("port", 6379)
                reader, writer = await asyncio.open_connection(host, port)
            said = await reader.read(512)
    except (OSError, TimeoutError):
        return trouble
    finally:
        if writer is not None:
            writer.close()
    text = said.decode(errors="replace").removeprefix("-").removeprefix("ERR ")
    heard = explain(NoConnection(text)) if said.startswith(b"-") else trouble
    return trouble if heard.kind == "unreachable" else heard
