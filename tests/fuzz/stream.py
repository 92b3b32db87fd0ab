"""The bytes of the link: cut as a parser would cut them, in whatever chunks they come."""

import asyncio
from typing import cast

from xmlgen import Slicer

from component.framing import Frame, Framer, FramingError, LeftOut
from component.link.stream import Stream
from component.plain import CLOSE, OPEN, plain_messages
from fuzz import reference, sessions

LIMIT = 100_000
_HEADER = b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' id='1'>"
_loop = asyncio.new_event_loop()


def seeds() -> list[bytes]:
    """Give streams, whole ones among them."""
    shaken_hands = _HEADER + b"<handshake/>"
    return [
        *(b"\x07" + session for session in sessions.recorded()),
        *(b"\x83" + shaken_hands + session[:2_000] for session in sessions.recorded()),
        b"\x01<m a='>'><m><![CDATA[</m>]]></m ><m/></m\n> <a/>",
        b"\x82" + shaken_hands + b"<stream:error><conflict/></stream:error></stream:stream>",
    ]


def check(data: bytes) -> None:
    """Check a stream; the first byte tells how it is cut, and whether it has a header."""
    if not data:
        return
    size, stream = 1 + data[0] % 128, data[1:]
    if data[0] >= 128:
        _whole(stream, size)
        return
    found, failed = _frames([stream])
    chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
    in_chunks, _ = _frames(chunks)
    assert in_chunks == found, "the size of the chunks matters"
    expected = reference.read(stream)
    if expected is None:
        return
    if expected.forbidden:
        assert failed
        return
    assert not failed
    assert found == expected.stanzas
    for stanza, attributes in zip(found, expected.attributes, strict=True):
        _frame(Frame(stanza), attributes)


def _frames(chunks: list[bytes]) -> tuple[list[bytes], bool]:
    framer, found = Framer(LIMIT), []
    try:
        for chunk in chunks:
            for frame in framer.feed(chunk):
                found.append(frame.data)  # noqa: PERF401 - what came before an error counts
    except FramingError:
        return found, True
    return found, False


def _frame(frame: Frame, attributes: dict[str, str]) -> None:
    """Hold what is read of a start tag to what the parser read."""
    raw = frame.attributes
    assert {key.decode() for key in raw} == set(attributes)
    for name, value in (("to", frame.to), ("from", frame.sender), ("type", frame.type)):
        assert value == frame.get(name.encode())
        if b"&" in value or set(value) & set(b"\t\r\n"):
            assert Slicer.attribute_value(value) == attributes[name]
        else:
            assert value.decode() == attributes.get(name, "")
    if "to" in attributes:
        other = Frame(frame.readdressed(b"c@d/e"))
        assert other.to == b"c@d/e"
        assert {**other.attributes, b"to": b""} == {**raw, b"to": b""}
        assert other.data[other.tag_end :] == frame.data[frame.tag_end :]


class _Transport:
    """Takes what the component says and forgets it."""

    def __init__(self) -> None:
        self.closing = False

    def write(self, _: bytes) -> None:
        assert not self.closing

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def set_write_buffer_limits(self, **_: int) -> None:
        """Take any."""


class _Lanes:
    """Checks that frames come only in between, and are stanzas."""

    def __init__(self) -> None:
        self.is_up = False

    def up(self, _: object, __: object) -> None:
        assert not self.is_up
        self.is_up = True

    def carry(self, data: bytes, position: int) -> int:
        assert self.is_up
        found = plain_messages(data, position, LIMIT)
        return position + sum(len(OPEN) + len(stanza) + len(CLOSE) for _, _, stanza in found)

    def receive(self, _: Frame) -> None:
        assert self.is_up

    def read_ended(self) -> None:
        assert self.is_up

    def leave_out(self, _: LeftOut) -> None:
        assert self.is_up


def _whole(stream: bytes, size: int) -> None:
    """Play a connection from its header on; nothing but its own end may come of it."""

    async def connect() -> None:
        transport = _Transport()
        link = Stream("own.example", "secret", "example", _Lanes(), max_bytes=LIMIT, keepalive=60)
        link.connection_made(cast("asyncio.Transport", transport))
        for start in range(0, len(stream), size):
            if transport.closing:
                break
            link.data_received(stream[start : start + size])
        link.connection_lost(None)
        assert link.ended.done()

    _loop.run_until_complete(connect())
