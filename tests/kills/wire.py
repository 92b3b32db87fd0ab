"""A proxy on one wire: it knows where stanzas or commands end, and can sever the wire.

The component reaches its server and its Redis through one each.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol

from harness.loopback import Place
from harness.stream import Slicer

from kills.steps import Steps

NO_LINGER: Final = struct.pack("ii", 1, 0)
"""With this a closed socket says RST, not FIN."""


class Splitter(Protocol):
    """Cuts one direction of a connection into units; nothing gets lost or changed."""

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take bytes; return the complete units, and bytes that need no counting."""


class Stanzas:
    """Cuts an XML stream: the header needs no counting, each stanza is a unit."""

    def __init__(self) -> None:
        self._slicer = Slicer()

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take bytes; return the stanzas they complete."""
        slicer = self._slicer
        known = slicer._buffer + data
        texts = slicer.feed(data)
        left = b"" if slicer.ended else slicer._buffer
        done = known[: len(known) - len(left)]
        units, at = [], 0
        for text in texts:
            raw = text.encode()
            end = done.index(raw, at) + len(raw)
            units.append(done[at:end])
            at = end
        if slicer.ended:
            slicer._buffer = b""
        return units, done[at:]


class Commands:
    """Cuts a client's commands to Redis: arrays of bulk strings (RESP)."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take bytes; return the commands they complete."""
        self._buffer += data
        units = []
        while (end := self._end()) is not None:
            units.append(self._buffer[:end])
            self._buffer = self._buffer[end:]
        return units, b""

    def _end(self) -> int | None:
        """Return where the first command ends, None if it is not complete."""
        line, newline, _ = self._buffer.partition(b"\r\n")
        if not newline:
            return None
        at = len(line) + 2
        for _ in range(int(line[1:])):
            stop = self._buffer.find(b"\r\n", at)
            if stop < 0:
                return None
            at = stop + 2 + int(self._buffer[at + 1 : stop]) + 2
        return at if at <= len(self._buffer) else None


class Pieces:
    """Treats everything read at once as a unit."""

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take bytes and return them."""
        return [data], b""


class _Connection:
    """One connection through the proxy."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near, self.far = near, far
        self.severed = False

    def sever(self, *, reset: bool = False) -> None:
        """Let nothing more through and close both ends."""
        if self.severed:
            return
        self.severed = True
        for writer in (self.near, self.far):
            if reset:
                found = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                writer.transport.abort()
            else:
                writer.close()


class Wire:
    """Listens at `place` and carries to `target`; `open` False lets newcomers wait."""

    def __init__(
        self,
        name: str,
        steps: Steps,
        place: Place,
        target: Place,
        port: int,
        *,
        there: Callable[[], Splitter],
        back: Callable[[], Splitter],
    ) -> None:
        self.place, self.port = place, port
        self._name, self._steps, self._target = name, steps, target
        self._there, self._back = there, back
        self._open = asyncio.Event()
        self._open.set()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, self.place.ip, self.port)

    async def stop(self) -> None:
        """Stop listening and sever what is open."""
        if self._server is not None:
            self._server.close()
        self.sever()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def sever(self, *, reset: bool = False) -> None:
        """Break every connection, with RST if `reset`."""
        for connection in list(self._connections):
            connection.sever(reset=reset)

    def shut(self) -> None:
        """Let newcomers wait."""
        self._open.clear()

    def reopen(self) -> None:
        """Let those who wait through."""
        self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._open.wait()
            try:
                far_reader, far = await asyncio.open_connection(self._target.ip, self.port)
            except OSError:
                near.close()
                return
            connection = _Connection(near, far)
            self._connections.add(connection)
            try:
                await asyncio.gather(
                    self._pump(connection, f"{self._name}>", reader, far, self._there()),
                    self._pump(connection, f"{self._name}<", far_reader, near, self._back()),
                )
            finally:
                connection.sever()
                self._connections.discard(connection)
        except asyncio.CancelledError:
            near.close()
        finally:
            self._tasks.discard(task)

    async def _pump(
        self,
        connection: _Connection,
        name: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        splitter: Splitter,
    ) -> None:
        def forward(data: bytes) -> None:
            if not connection.severed:
                writer.write(data)

        with contextlib.suppress(OSError):
            while not connection.severed and (data := await reader.read(65536)):
                units, rest = splitter.feed(data)
                for unit in units:
                    self._steps.carry(name, unit, forward)
                if rest:
                    forward(rest)
        connection.sever()
