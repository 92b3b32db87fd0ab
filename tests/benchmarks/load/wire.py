"""A connection that is used by hand during set-up: send this, wait for that.

During the measurement another protocol takes the socket over (`tally.Tally`).
"""

import asyncio
import re
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds to wait for any one answer during set-up."""


class RefusedError(RuntimeError):
    """The server answered something other than expected."""


class Wire(asyncio.Protocol):
    """One TCP connection; `overhear` sees all that arrives and may answer."""

    def __init__(self, overhear: Callable[["Wire", bytes], None] | None = None) -> None:
        self._buffer = b""
        self.overhear = overhear
        self._wanted: re.Pattern[bytes] | None = None
        self._found: asyncio.Future[re.Match[bytes]] | None = None
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment] # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Look for the expected data."""
        if self.overhear is not None:
            self.overhear(self, data)
        self._buffer += data
        self._look()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the pending wait."""
        if not self.lost.done():
            self.lost.set_result(None)
        if self._found is not None and not self._found.done():
            self._found.set_exception(
                RefusedError(f"connection lost: {error} {self._buffer[-300:]!r}")
            )

    def _look(self) -> None:
        if self._found is None or self._found.done() or self._wanted is None:
            return
        match = self._wanted.search(self._buffer)
        if match is not None:
            self._buffer = self._buffer[match.end() :]
            self._found.set_result(match)

    def write(self, data: str | bytes) -> None:
        """Send something."""
        assert self.transport is not None
        if data:
            self.transport.write(data.encode() if isinstance(data, str) else data)

    async def ask(self, text: str | bytes, wanted: bytes) -> re.Match[bytes]:
        """Send `text` and wait for data that matches `wanted`; earlier data is dropped.

        Raises RefusedError when it does not come.
        """
        self._wanted = re.compile(wanted, re.DOTALL)
        self._found = asyncio.get_running_loop().create_future()
        self.write(text)
        self._look()
        try:
            return await asyncio.wait_for(self._found, PATIENCE)
        except TimeoutError:
            raise RefusedError(
                f"no {wanted!r} after {text[:200]!r}, but {self._buffer[-600:]!r}"
            ) from None

    def close(self) -> None:
        """End the stream."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"</stream:stream>")
            self.transport.close()


async def connect(
    ip: str, port: int, overhear: Callable[[Wire, bytes], None] | None = None
) -> Wire:
    """Open a connection."""
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: Wire(overhear), ip, port)
    return wire


def open_stream(to: str, content: str) -> str:
    """Return a stream header."""
    version = " version='1.0'" if content == "jabber:client" else ""
    return (
        f"<?xml version='1.0'?><stream:stream xmlns='{content}'"
        f" xmlns:stream='http://etherx.jabber.org/streams' to='{to}'{version}>"
    )
