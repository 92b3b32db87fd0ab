"""The connection to Redis, as component and `mixpam check` make it."""

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
"""Seconds in which a Redis that turns everybody away has said why."""


def connect(settings: Settings, *, named: bool) -> Any:  # noqa: ANN401 - see below
    """Make a client, which connects when it is used; a `named` one tells Redis who it is.

    Raises SettingsError if MIXPAM_REDIS_URL asks for what the client cannot do.
    """
    # Any: redis-py's types know only the client that does not decode.
    made = Redis.from_url(
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
    try:
        make: Callable[[], Any] = made.connection_pool.make_connection
        make()
    except (TypeError, ValueError):
        # What the client does not know by name, or not of this kind of connection.
        raise SettingsError(
            [f"{PREFIX}REDIS_URL: the options behind its ? are not those of this client"]
        ) from None
    return made


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


async def diagnose(redis: Any, error: Exception) -> Trouble:  # noqa: ANN401 - as above
    """Say what is wrong with Redis; of one that hangs up, listen to why it does.

    One that has too many connections, or talks to its own machine only, says so at once
    and closes, and what it said is lost to those who were writing meanwhile.
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
