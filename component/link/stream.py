"""One XEP-0114 stream: header, handshake, frames, keepalive, backpressure, end.

An asyncio.Protocol and no more. Bytes are framed and handed on in the call that brings them;
the answers to one read are written in one piece. Reading pauses while the server does not read
what is written, so that memory stays bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from enum import Enum
from typing import Protocol, cast

from component.link.padding import padding
from component.wire.framing import OVERSIZED, Frame, Framer, LeftOut
from component.wire.tags import START_TAG, FramingError
from schemas import codec
from schemas.namespaces import COMPONENT, STREAMS

WRITE_BUFFER = 1_048_576
"""Bytes in the write buffer beyond which reading pauses."""

ADDRESSES_BYTES = 65_536
"""Bytes of addresses allowed beyond the limit in a batch, a stanza for many users (T10)."""

HEADER_BYTES = 8_192
"""Maximum bytes of the stream header."""

_CLOSE = b"</stream:stream>"


class State(Enum):
    """The state of a stream."""

    HEADER = 1
    HANDSHAKE = 2
    UP = 3
    CLOSED = 4


class Lanes(Protocol):
    """Takes the stanzas of a stream that is up, in their order."""

    def up(self, write: Callable[[bytes], None], crowded: Callable[[bool], None]) -> None:
        """Begin; `write` sends bytes, `crowded` pauses reading (True) or resumes it."""

    def carry(self, data: bytes, position: int) -> int:
        """Take simple messages from unframed bytes (framing.Carry)."""

    def receive(self, frame: Frame) -> None:
        """Take one stanza."""

    def read_ended(self) -> None:
        """Write the answers to all stanzas of one read."""

    def leave_out(self, left: LeftOut) -> None:
        """Take the start tag's data of a stanza that was too large."""


class Stream(asyncio.Protocol):
    """The client side of one stream; `ended` gets the reason of its end.

    The reason is the condition of a stream error, or "closed", "silent" or "unreachable"
    if there was none.
    """

    def __init__(
        self,
        jid: str,
        secret: str,
        peer: str,
        lanes: Lanes,
        *,
        max_bytes: int,
        keepalive: float,
    ) -> None:
        self._jid = jid
        self._gathering = f"{jid}/".encode()
        self._secret = secret
        self._peer = peer
        self._lanes = lanes
        self._keepalive = keepalive
        self._max_bytes = max_bytes
        self._framer = Framer(max_bytes + ADDRESSES_BYTES, self._leave_out)
        self._state = State.HEADER
        self._header = b""
        self._was_read = True
        self._paused = False
        self._lanes_crowded = False
        self._backlog = 0
        self._pinged = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._reason = "closed"
        self.was_up = False
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    # -- asyncio.Protocol ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the stream."""
        # uvloop's transports are no subclasses of asyncio's, though they do the same.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._write(
            f"<?xml version='1.0'?><stream:stream xmlns='{COMPONENT}'"
            f" xmlns:stream='{STREAMS}' to='{codec.escape(self._jid)}'>".encode()
        )
        self._check_alive()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the server."""
        self._was_read = True
        self._pinged = False
        try:
            if self._state is State.HEADER:
                data = self._read_header(data)
            if self._state in {State.HANDSHAKE, State.UP}:
                self._read_frames(data)
        except FramingError as error:
            self.fail(error.condition)

    def pause_writing(self) -> None:
        """Pause reading: the server does not read fast enough."""
        self._paused = True
        if self._transport is not None:
            self._backlog = self._transport.get_write_buffer_size()
            self._read_or_wait()

    def resume_writing(self) -> None:
        """Resume reading."""
        self._paused = False
        self._read_or_wait()

    def connection_lost(self, _: Exception | None) -> None:
        """Report the end of the stream."""
        self._state = State.CLOSED
        if self._timer is not None:
            self._timer.cancel()
        if not self.ended.done():
            self.ended.set_result(self._reason)

    # -- for the service -----------------------------------------------------------------

    def close(self) -> None:
        """Close the stream; what was written is still sent."""
        self._end(_CLOSE)

    def fail(self, condition: str) -> None:
        """End the stream with a stream error, because of invalid data from the server."""
        self._reason = condition
        error = f"<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
        self._end(f"<stream:error>{error}</stream:error>".encode() + _CLOSE)

    # -- inside --------------------------------------------------------------------------

    def _crowded(self, crowded: bool) -> None:
        """Pause reading because the lanes are full, or resume it."""
        self._lanes_crowded = crowded
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._paused or self._lanes_crowded:
            self._transport.pause_reading()
        else:
            self._was_read = True
            self._transport.resume_reading()

    def _end(self, last_words: bytes) -> None:
        if self._state is State.CLOSED or self._transport is None:
            return
        self._state = State.CLOSED
        self._write(last_words)
        self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            space = padding(data)
            if space:
                # Not joined to the data: copying that costs more than a second call.
                self._transport.write(space)

    def _read_header(self, data: bytes) -> bytes:
        """Read the server's stream header; give the bytes after it."""
        self._header += data
        start = self._header.find(b"<stream:stream")
        match = START_TAG.match(self._header, start) if start >= 0 else None
        if match is None:
            if len(self._header) > HEADER_BYTES:
                raise FramingError("not-well-formed", "no stream header")
            return b""
        stream_id = Frame(match[0]).get(b"id")
        digest = hashlib.sha1(stream_id + self._secret.encode(), usedforsecurity=False)
        self._write(f"<handshake>{digest.hexdigest()}</handshake>".encode())
        self._state = State.HANDSHAKE
        return self._header[match.end() :]

    def _read_frames(self, data: bytes) -> None:
        try:
            for frame in self._framer.feed(data, self._carry):
                self._take(frame)
        finally:
            if self._state is State.UP:
                self._lanes.read_ended()
        if self._framer.closed:
            self._end(_CLOSE)

    def _carry(self, data: bytes, position: int) -> int:
        """Offer unframed bytes to the lanes, once the stream is up."""
        return self._lanes.carry(data, position) if self._state is State.UP else position

    def _take(self, frame: Frame) -> None:
        if len(frame.data) > self._max_bytes and not frame.to.startswith(self._gathering):
            self._leave_out(LeftOut.of(frame, OVERSIZED))
        elif frame.name == b"stream:error":
            self._reason = _condition(frame.data)
        elif self._state is State.HANDSHAKE:
            if frame.name != b"handshake":
                raise FramingError("invalid-xml", "no handshake")
            self._state = State.UP
            self.was_up = True
            self._lanes.up(self._write, self._crowded)
        elif self._state is State.UP and not _is_pong(frame):
            self._lanes.receive(frame)

    def _leave_out(self, left: LeftOut) -> None:
        if self._state is State.UP:
            self._lanes.leave_out(left)

    def _drains(self) -> bool:
        """Tell whether the server is alive though nothing is read from it.

        While reading pauses, the only sign of life is that the write buffer shrinks.
        """
        if self._lanes_crowded:
            return True  # reading has paused because of us
        if not self._paused or self._transport is None:
            return False
        before, self._backlog = self._backlog, self._transport.get_write_buffer_size()
        return self._backlog < before

    def _check_alive(self) -> None:
        """Ping a server that was silent for `keepalive` seconds; end the link the second time."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._keepalive, self._check_alive)
        if self._was_read or self._drains():
            self._was_read = self._pinged = False
            return
        if self._pinged or self._state is not State.UP:
            self._reason = "silent"
            if self._transport is not None:
                self._transport.abort()
            return
        self._pinged = True
        self._write(
            f"<iq type='get' from='{codec.escape(self._jid)}' to='{codec.escape(self._peer)}'"
            f" id='{_PING_ID.decode()}'><ping xmlns='urn:xmpp:ping'/></iq>".encode()
        )


_PING_ID = b"mixpam-keepalive"


def _is_pong(frame: Frame) -> bool:
    """Tell whether a stanza is the answer to the ping, and not another stanza with its id."""
    # The id is read last: parsing attributes is slow, and few stanzas get that far.
    return (
        frame.name == b"iq" and frame.type in {b"result", b"error"} and frame.get(b"id") == _PING_ID
    )


def _condition(data: bytes) -> str:
    """Read the condition of a stream error."""
    try:
        element = codec.read(data)
    except codec.MalformedStanza:
        return "undefined-condition"
    first = next(iter(element), None)
    return "undefined-condition" if first is None else first.tag.partition("}")[2]
