"""A TCP forwarder whose target can be changed, as a proxy or a name in front of a failover."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Self

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """A listener in Redis's place; `peer` handles each connection."""

    def __init__(self, ip: str, port: int, peer: Peer) -> None:
        self._ip = ip
        self._port = port
        self._peer = peer
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Return the address in the form of MIXPAM_REDIS_URL."""
        return f"redis://{self._ip}:{self._port}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._ip, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # asyncio reports a cancelled task that serves a connection as an error.
            with contextlib.suppress(asyncio.CancelledError):
                await self._peer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()


def forwarder(target: Callable[[], tuple[str, int]]) -> Peer:
    """Return a peer that forwards each new connection to the current result of `target`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection(*target())
        try:
            await asyncio.gather(pump(reader, onward_writer), pump(onward_reader, writer))
        except ConnectionError:
            pass
        finally:
            onward_writer.close()

    return peer
