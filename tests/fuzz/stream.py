"""The bytes of the link: cut as a parser would cut them, whatever the chunks."""

import asyncio
from typing import cast

from xmlgen import Slicer

from component.link.stream import Stream
from component.wire.ending import BOUNDS, LONGEST_NAME
from component.wire.framing import ADDRESSES_BYTES, OVERSIZED, Frame, Framer, FramingError, LeftOut
from component.wire.simple_messages import CLOSE, OPEN, plain_messages
from fuzz import reference, sessions

LIMIT = 100_000
SMALL_LIMIT = 60
"""A limit that many stanzas exceed, so that leaving out is tested."""

_AGAIN = b"\x01"
"""Repeats the byte before it, by a count in the byte behind it: so a few bytes make names, values,
spaces and texts as long as servers let through."""

_LARGEST = 400_000
_HEADER = b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' id='1'>"
_BYSTANDER = b"<bystander to='everybody'/>"
_loop = asyncio.new_event_loop()


def seeds() -> list[bytes]:
    """Give streams, whole ones among them."""
    shaken_hands = _HEADER + b"<handshake/>"
    return [
        *(b"\x07" + session for session in sessions.recorded()),
        *(b"\x83" + shaken_hands + session[:2_000] for session in sessions.recorded()),
        b"\x01<m a='>'><m><![CDATA[</m>]]></m ><m/></m\n> <a/>",
        b"\x82" + shaken_hands + b"<stream:error><conflict/></stream:error></stream:stream>",
        # Long ones: names of an attribute, an element, a prefix; values; spaces; texts.
        b"\x7f<m an\x01\xff='1' to='b'/><a/>",
        b"\x7f<m to='b'><m an\x01\xff='1'/><n\x01\xff/></m><a/>",
        b"\x7f<m xmlns:p\x01\xff='u\x01\xff'/><a/>",
        b"\x7f<m id='>\x01\xff' from='/>'>\x01\x20<m x=\"'\x01\xff\"/></m><a/>",
        b"\x7f<m \x01\xffto \x01\x80=\t\x01\x80'b'\n\x01\xff/><a/>",
        b"\x7f<m><m \x01\xff></m \x01\xff>\n\x01\xff<![CDATA[]\x01\xff]]></m \x01\xff><a/>",
        b"\xff" + shaken_hands + b"<m id='\x01\xff' to='b'>x\x01\xff</m><a/>",
    ]


def expanded(data: bytes) -> bytes:
    """Expand repetitions."""
    first, *rest = data.split(_AGAIN)
    pieces, size = [first], len(first)
    for piece in rest:
        times = min(2 * piece[0] ** 2, _LARGEST - size) if piece else 0
        pieces += [pieces[-1][-1:] * max(times, 0), piece[1:]]
        size = sum(map(len, pieces))
    return b"".join(pieces)


def check(data: bytes) -> None:
    """Check a stream; the first byte selects how it is cut, and whether it has a header."""
    if not data:
        return
    size, stream = 1 + data[0] % 128, expanded(data[1:])
    size *= 1 + len(stream) // 10_000
    if data[0] >= 128:
        _whole(stream, size)
        return
    chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
    expected = reference.read(stream)
    for limit in (LIMIT, SMALL_LIMIT):
        found, left_out, failed = _frames([stream], limit)
        in_chunks, left_out_too, _ = _frames(chunks, limit)
        assert in_chunks == found, "the size of the chunks matters"
        assert left_out_too[: len(left_out)] == left_out, "the size of the chunks matters"
        if expected is None:
            continue
        if expected.forbidden:
            assert failed
            continue
        assert not failed
        assert found == [stanza for stanza in expected.stanzas if len(stanza) <= limit]
        assert left_out == [
            LeftOut.of(Frame(stanza), OVERSIZED)
            for stanza in expected.stanzas
            if len(stanza) > limit
        ]
        bystander, *_ = _frames([*chunks, _BYSTANDER], limit)
        assert bystander == [*found, _BYSTANDER], "nobody else's stanza arrives any more"
    if expected is not None and not expected.forbidden:
        for stanza, attributes in zip(expected.stanzas, expected.attributes, strict=True):
            _frame(Frame(stanza), attributes)


def _frames(chunks: list[bytes], limit: int) -> tuple[list[bytes], list[LeftOut], bool]:
    found: list[bytes] = []
    left_out: list[LeftOut] = []
    framer = Framer(limit, left_out.append)
    try:
        for chunk in chunks:
            for frame in framer.feed(chunk):
                found.append(frame.data)  # noqa: PERF401 - frames before an error count
            assert kept(framer) <= limit + ADDRESSES_BYTES + sum(BOUNDS.values()) + LONGEST_NAME
    except FramingError:
        return found, left_out, True
    return found, left_out, False


def kept(framer: Framer) -> int:
    """Give the bytes that a framer keeps of an incomplete stanza, in all of its buffers."""
    begun = framer._begun
    if begun is None:
        return len(framer._unread)
    ending = begun._ending
    parts = [
        framer._unread, begun._kept, ending._tail, ending.name, ending._attribute or b"",
        ending._value or b"", *ending.values, *ending.values.values(),
        *(str(each) for each in begun._left or ()),
    ]  # fmt: skip
    return sum(len(each) for each in parts)


def _frame(frame: Frame, attributes: dict[str, str]) -> None:
    """Compare the start tag as read by the framer with the parser's."""
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
    """Takes the component's output and drops it."""

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
    """Checks that frames come only between begin and end, and are stanzas."""

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
    """Play a connection from its header on; it may only end by itself."""

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
