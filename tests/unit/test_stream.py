"""One XEP-0114 stream against a transport that only notes what happens to it."""

import asyncio
from collections.abc import Callable

import pytest

from component.link.stream import ADDRESSES_BYTES, HEADER_BYTES, Stream
from component.wire.framing import Frame, LeftOut

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept'"
    b" xmlns:stream='http://etherx.jabber.org/streams' from='mixpam.example.org' id='3BF96D32'>"
)
# XEP-0114 §3.
HANDSHAKE = b"<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>"


class Transport(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.given_up = asyncio.Event()
        self.paused = False
        self.waiting = 0

    def get_write_buffer_size(self) -> int:
        """Give how much the server has not taken yet."""
        return self.waiting

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note what is written."""
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take the limits."""

    def close(self) -> None:
        """Note the end."""
        self.closed = True

    def abort(self) -> None:
        """Note the sudden end."""
        self.given_up.set()

    @property
    def aborted(self) -> bool:
        """Tell whether the sudden end was noted."""
        return self.given_up.is_set()

    def is_closing(self) -> bool:
        """Tell whether the end was noted."""
        return self.closed

    def pause_reading(self) -> None:
        """Note the pause."""
        self.paused = True

    def resume_reading(self) -> None:
        """Note the end of the pause."""
        self.paused = False

    def said(self) -> bytes:
        """Give what was written since the last time."""
        written, self.written = self.written, b""
        return written


_CARRIED = b"<message>carried</message>"


class Lanes:
    """Takes frames."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.reads = 0
        self.left_out: list[LeftOut] = []
        self.write: Callable[[bytes], None] | None = None
        self.crowded: Callable[[bool], None] = lambda _: None

    def up(self, write: Callable[[bytes], None], crowded: Callable[[bool], None]) -> None:
        """Begin."""
        self.write = write
        self.crowded = crowded

    def carry(self, data: bytes, position: int) -> int:
        """Take one kind of stanza without a frame."""
        while data.startswith(_CARRIED, position):
            self.frames.append(_CARRIED)
            position += len(_CARRIED)
        return position

    def receive(self, frame: Frame) -> None:
        """Take a stanza."""
        self.frames.append(frame.data)

    def read_ended(self) -> None:
        """Count the reads."""
        self.reads += 1

    def leave_out(self, left: LeftOut) -> None:
        """Take what was too large."""
        self.left_out.append(left)


class Link:
    """A stream, its transport and its lanes."""

    def __init__(self, *, keepalive: float = 1_000) -> None:
        self.lanes = Lanes()
        self.transport = Transport()
        self.stream = Stream(
            "mixpam.example.org", "test", "example.org", self.lanes,
            max_bytes=10_000, keepalive=keepalive,
        )  # fmt: skip
        self.stream.connection_made(self.transport)

    def is_up(self) -> None:
        """Come as far as the server's handshake."""
        self.stream.data_received(HEADER + b"<handshake/>")
        assert self.lanes.write is not None
        self.transport.said()

    def ends(self) -> str:
        """Let the connection end; give the reason."""
        self.stream.connection_lost(None)
        return self.stream.ended.result()


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_the_handshake_is_that_of_xep_0114(size: int) -> None:
    link = Link()
    assert link.transport.said() == (
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept'"
        b" xmlns:stream='http://etherx.jabber.org/streams' to='mixpam.example.org'>"
    )
    data = HEADER + b"<handshake/><message/>"
    for start in range(0, len(data), size):
        link.stream.data_received(data[start : start + size])
    assert link.transport.said() == HANDSHAKE
    assert link.stream.was_up
    assert link.lanes.frames == [b"<message/>"]
    assert link.ends() == "closed"


async def test_what_one_read_brings_is_dealt_with_at_once_and_in_order() -> None:
    link = Link()
    link.is_up()
    link.lanes.reads = 0
    link.stream.data_received(b"<message/> <presence/><iq/><me")
    link.stream.data_received(b"ssage>x</message>")
    assert link.lanes.frames == [b"<message/>", b"<presence/>", b"<iq/>", b"<message>x</message>"]
    assert link.lanes.reads == 2
    link.ends()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            b"<stream:error><not-authorized xmlns='x'/></stream:error></stream:stream>",
            "not-authorized",
        ),
        (b"<stream:error><conflict xmlns='x'/></stream:error>", "conflict"),
        (b"<stream:error/>", "undefined-condition"),
        (b"<stream:error><x></y></stream:error>", "undefined-condition"),
        (b"</stream:stream>", "closed"),
        (b"<!-- x -->", "restricted-xml"),
        (b"<message/><!-- x -->", "invalid-xml"),
        (b"x", "not-well-formed"),
    ],
)
async def test_the_end_has_a_reason(data: bytes, reason: str) -> None:
    link = Link()
    link.stream.data_received(HEADER)
    link.stream.data_received(data)
    assert link.ends() == reason
    assert not link.stream.was_up


@pytest.mark.abuse(11)
async def test_an_error_of_the_server_is_told_and_nothing_is_heard_after_it() -> None:
    link = Link()
    link.is_up()
    link.stream.data_received(b"<!-- x -->")
    assert link.transport.said() == (
        b"<stream:error><restricted-xml xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
        b"</stream:error></stream:stream>"
    )
    assert link.transport.closed
    link.stream.data_received(b"<message/>")
    assert link.lanes.frames == []
    assert link.ends() == "restricted-xml"


@pytest.mark.abuse(11)
async def test_a_header_that_never_ends_is_refused() -> None:
    link = Link()
    for _ in range(HEADER_BYTES // 100 + 1):
        link.stream.data_received(b" " * 100)
    assert link.ends() == "not-well-formed"


async def test_closing_is_said_once() -> None:
    link = Link()
    link.is_up()
    link.stream.close()
    link.stream.close()
    assert link.transport.said() == b"</stream:stream>"
    link.stream.data_received(b"</stream:stream>")
    assert link.transport.said() == b""
    assert link.ends() == "closed"


async def test_the_servers_end_is_answered() -> None:
    link = Link()
    link.is_up()
    link.stream.data_received(b"<message/></stream:stream>")
    assert link.lanes.frames == [b"<message/>"]
    assert link.transport.said() == b"</stream:stream>"
    assert link.transport.closed
    link.ends()


@pytest.mark.abuse(22)
async def test_a_server_that_does_not_read_is_not_read_from() -> None:
    link = Link()
    link.is_up()
    link.stream.pause_writing()
    assert link.transport.paused
    link.stream.resume_writing()
    assert not link.transport.paused
    link.ends()


PING = (
    b"<iq type='get' from='mixpam.example.org' to='example.org' id='mixpam-keepalive'>"
    b"<ping xmlns='urn:xmpp:ping'/></iq>"
)


async def silent(link: Link) -> None:
    """Let the time come at which the stream looks whether it was heard."""
    link.stream._check_alive()


@pytest.mark.abuse(25)
async def test_a_silent_link_is_asked_and_then_given_up() -> None:
    link = Link()
    link.is_up()
    await silent(link)
    assert link.transport.said() == b""
    await silent(link)
    assert link.transport.said() == PING
    assert not link.transport.aborted
    await silent(link)
    assert link.transport.aborted
    assert link.ends() == "silent"


@pytest.mark.abuse(25)
@pytest.mark.parametrize("type_", [b"result", b"error"])
async def test_a_link_that_answers_lives(type_: bytes) -> None:
    link = Link()
    link.is_up()
    for _ in range(5):
        await silent(link)
        await silent(link)
        assert link.transport.said() == PING
        link.stream.data_received(b"<iq type='" + type_ + b"' id='mixpam-keepalive'/>")
    assert not link.transport.aborted
    assert link.lanes.frames == []
    link.ends()


@pytest.mark.abuse(22, 25)
async def test_while_reading_pauses_a_server_that_takes_what_waits_lives() -> None:
    link = Link()
    link.is_up()
    await silent(link)
    link.transport.waiting = 1000
    link.stream.pause_writing()
    for left in (900, 500, 10):
        link.transport.waiting = left
        await silent(link)
    assert link.transport.said() == b""
    # Now it takes nothing any more.
    await silent(link)
    await silent(link)
    assert link.transport.aborted
    assert link.ends() == "silent"


@pytest.mark.parametrize(
    "stanza",
    [
        b"<message id='mixpam-keepalive'/>",
        b"<iq type='get' id='mixpam-keepalive'/>",
        b"<iq type='set' id='mixpam-keepalive'/>",
        b"<presence type='error' id='mixpam-keepalive'/>",
    ],
)
async def test_a_stanza_with_the_pings_id_is_not_swallowed(stanza: bytes) -> None:
    link = Link()
    link.is_up()
    link.stream.data_received(stanza)
    assert link.lanes.frames == [stanza]
    link.ends()


@pytest.mark.abuse(25)
async def test_a_server_that_never_answers_is_given_up() -> None:
    link = Link()
    await silent(link)
    assert link.transport.aborted
    assert link.ends() == "silent"


async def test_the_clock_runs_by_itself() -> None:
    link = Link(keepalive=0.01)
    link.is_up()
    async with asyncio.timeout(5):
        await link.transport.given_up.wait()
    assert PING in link.transport.said()
    link.ends()


async def test_addresses_may_make_a_stanza_for_many_longer() -> None:
    link = Link()
    link.stream.data_received(HEADER + b"<handshake/>")
    body = b"<x>" + b"x" * 20_000 + b"</x></message>"
    link.stream.data_received(b"<message to='mixpam.example.org/secret'>" + body)
    assert len(link.lanes.frames) == 1
    assert link.lanes.left_out == []
    link.stream.data_received(b"<message to='mixpam.example.org'>" + body + b"<iq/>")
    assert [frame.to for frame in link.lanes.left_out] == [b"mixpam.example.org"]
    assert link.lanes.frames[1:] == [b"<iq/>"]


@pytest.mark.abuse(11)
@pytest.mark.parametrize("size", [100, 65_536, 10_000_000])
async def test_a_tag_of_any_size_ends_nothing(size: int) -> None:
    link = Link()
    link.is_up()
    tag = b"<message " + b"x='x' " * (20_000 + ADDRESSES_BYTES) + b" from='a@b' id='1' type='chat'"
    stream = tag + b" to='c@d'><x/></message><iq/>"
    for start in range(0, len(stream), size):
        link.stream.data_received(stream[start : start + size])
    assert link.lanes.left_out == [
        LeftOut(b"message", b"c@d", b"a@b", b"chat", b"1", "oversized", b"<x/></message>")
    ]
    assert link.lanes.frames == [b"<iq/>"]


async def test_what_is_too_large_is_left_out_and_told_of_once() -> None:
    link = Link()
    link.is_up()
    link.stream.data_received(b"<message from='a@b'>")
    for _ in range(20):
        link.stream.data_received(b"x" * 10_000)
    link.stream.data_received(b"</message><iq/>")
    assert [frame.sender for frame in link.lanes.left_out] == [b"a@b"]
    assert link.lanes.frames == [b"<iq/>"]


async def test_reading_stops_while_the_lanes_are_crowded() -> None:
    link = Link()
    link.is_up()
    link.lanes.crowded(True)
    assert link.transport.paused
    link.stream.pause_writing()
    link.stream.resume_writing()
    assert link.transport.paused
    link.lanes.crowded(False)
    assert not link.transport.paused


async def test_what_needs_no_frame_is_in_order_with_the_rest() -> None:
    link = Link()
    link.stream.data_received(HEADER + b"<handshake/>" + _CARRIED + b"<iq/> " + 2 * _CARRIED)
    assert link.lanes.frames == [_CARRIED, b"<iq/>", _CARRIED, _CARRIED]
