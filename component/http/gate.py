"""Limits on connections to the HTTP port: how many, and how long without a request.

The port serves operators; the link and Redis must never lack a file descriptor because of
it. So connections are limited, overall and per address, far below the process's own limit.
At the limit, the connection that has been open longest without a complete request is closed: a new
one is served even while a thousand others send nothing. Time and bytes are limited for a request,
for its body and for reading the answer.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

MOST = 128
"""Maximum connections: operators' browsers, `mixpam`'s commands, Prometheus and probes."""

MOST_OF_ONE = 64
"""Maximum connections of one address, which may be a proxy with all of these behind it."""

SHARE = 4
"""The port uses at most one in this many of the process's descriptors."""

REQUEST_SECONDS = 10.0
"""Seconds from a connection, or an answer, to the end of the next request's head."""

STALL_SECONDS = 20.0
"""Seconds after which a peer that reads nothing of its answer is disconnected."""

TURN_BYTES = 65_536
"""Bytes of a request with all its headers, and of further ones sent before it is answered."""

QUIET = 60.0
"""Seconds between two reports (event `http-crowded`) of closed connections."""


def descriptors() -> int:
    """Give the process's limit of file descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


class Gate:
    """Makes the protocol of each connection: that of `make`, within the limits."""

    def __init__(self, make: Callable[[], asyncio.Protocol], report: Callable[..., None]) -> None:
        self.make = make
        self._report = report
        self._most = max(4, min(MOST, descriptors() // SHARE))
        self._most_of_one = max(3, min(MOST_OF_ONE, self._most * 3 // 4))
        self._of: Counter[str] = Counter()
        self._inside: dict[asyncio.BaseProtocol, Visitor] = {}
        # Connections without a request, the one that waits longest first.
        self._idle: dict[Visitor, None] = {}
        self._quiet_until = 0.0

    def __call__(self) -> Visitor:
        """Make a connection's protocol."""
        return Visitor(self)

    @contextmanager
    def serving(self, protocol: asyncio.BaseProtocol) -> Iterator[None]:
        """Keep the connection of a request while it is handled."""
        visitor = self._inside.get(protocol)
        if visitor is None:
            yield
            return
        self._idle.pop(visitor, None)
        visitor.turn_began()
        try:
            yield
        finally:
            visitor.turn_ended()
            if protocol in self._inside:
                self._idle[visitor] = None

    def enter(self, visitor: Visitor) -> bool:
        """Make room for one more connection; False if there is none."""
        crowded = len(self._inside) >= self._most
        too_many = self._of[visitor.address] >= self._most_of_one
        if (crowded or too_many) and not self._make_room(visitor.address if too_many else None):
            return False
        self._inside[visitor.inner] = visitor
        self._of[visitor.address] += 1
        self._idle[visitor] = None
        return True

    def leave(self, visitor: Visitor) -> None:
        """Note the end of a connection."""
        if self._inside.pop(visitor.inner, None) is None:
            return
        self._idle.pop(visitor, None)
        self._of[visitor.address] -= 1
        if not self._of[visitor.address]:
            del self._of[visitor.address]

    def _make_room(self, address: str | None) -> bool:
        """Close the connection that waits longest, of one address or of all."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            self._report("http-crowded", "warning", connections=len(self._inside))
        for visitor in self._idle:
            if address in {None, visitor.address}:
                self.leave(visitor)
                visitor.abort()
                return True
        return False


class Visitor(asyncio.Protocol):
    """One connection: passes all on to the inner protocol, and closes if that takes too long."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.inner = gate.make()
        self.address = ""
        self._transport: asyncio.Transport | None = None
        self._admitted = False
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register with the gate, or close the connection at the limit."""
        # uvloop's transports do not subclass asyncio's, though they behave alike.
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self._admitted = self._gate.enter(self)
        if not self._admitted:
            self.abort()
            return
        self.inner.connection_made(transport)
        self.turn_ended()

    def data_received(self, data: bytes) -> None:
        """Pass data on, within the limits."""
        if not self._admitted:
            return
        self._received += len(data)
        if self._received > TURN_BYTES:
            self.abort()
        else:
            self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass the end on."""
        return self.inner.eof_received() if self._admitted else None

    def pause_writing(self) -> None:
        """Give the peer some time to read its answer."""
        self._stall = asyncio.get_running_loop().call_later(STALL_SECONDS, self.abort)
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Stop the timer: the peer is reading again."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self.inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Unregister from the gate."""
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        self._gate.leave(self)
        if self._admitted:
            self.inner.connection_lost(error)

    def turn_began(self) -> None:
        """Stop the timer: there is a request."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._received = 0

    def turn_ended(self) -> None:
        """Start the timer: a request must come in time."""
        self.turn_began()
        if self._transport is not None and not self._transport.is_closing():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(REQUEST_SECONDS, self._waited)

    def _waited(self) -> None:
        """Close a connection without a request, unless the peer is still reading an answer."""
        if self._stall is None:
            self.abort()
        else:
            self.turn_ended()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()
