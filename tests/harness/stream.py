"""An XMPP stream by hand: bytes in, stanzas out, nothing hidden.

Tests need the exact bytes that a server sent and must send exactly the bytes they wrote, which no
client library allows.
"""

import asyncio
import contextlib
import itertools
import traceback
from xml.parsers import expat

from harness import ns
from harness.inbox import Inbox, Matcher
from harness.stanza import Stanza, match

LARGE = 2_048
"""Bytes of a stanza that a server certainly reads in one piece."""

_numbers = itertools.count(1)


def fresh(prefix: str = "t") -> str:
    """Return a name that this run has not used before."""
    return f"{prefix}{next(_numbers)}"


class Slicer:
    """Cut a stream of bytes into the texts of its first-level elements.

    Each time all remaining bytes go into a fresh parser: expat from 2.6 on, and older ones that
    Debian has patched, may hold a complete stanza back until more comes.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self.header: dict[str, str] | None = None
        self.ended = False

    def feed(self, data: bytes) -> list[str]:
        """Take bytes, return the elements they completed."""
        self._buffer += data
        if self.header is None and not self._read_header():
            return []
        look = _Look(self._buffer)
        self.ended = look.ended
        done = [self._buffer[start:end].decode() for start, end in look.elements]
        if look.elements:
            self._buffer = self._buffer[look.elements[-1][1] :]
        return done

    def _read_header(self) -> bool:
        """Read the stream's start tag once it is complete."""
        attributes: list[dict[str, str]] = []
        starts: list[int] = []
        parser = expat.ParserCreate()

        def opened(_name: str, found: dict[str, str]) -> None:
            attributes.append(found)
            starts.append(parser.CurrentByteIndex)

        parser.StartElementHandler = opened
        parser.Parse(self._buffer)
        if not attributes:
            return False
        self.header = attributes[0]
        self._buffer = self._buffer[_tag_end(self._buffer, starts[0]) :]
        return True


class _Look:
    """One parse of the bytes after a stream's header: which elements are complete."""

    ROOT = b"<stream:stream>"

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._depth = 0
        self._start = 0
        self.elements: list[tuple[int, int]] = []
        self.ended = False
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._opened
        self._parser.EndElementHandler = self._closed
        self._parser.Parse(self.ROOT + data)

    def _here(self) -> int:
        return self._parser.CurrentByteIndex - len(self.ROOT)

    def _opened(self, _name: str, _attributes: dict[str, str]) -> None:
        if self._depth == 1:
            self._start = self._here()
        self._depth += 1

    def _closed(self, _name: str) -> None:
        self._depth -= 1
        if self._depth == 1:
            # For <a/> expat's index is at or behind the element, for </a> before its end tag.
            end = _tag_end(self._data, self._start)
            if self._data[end - 2 : end] != b"/>":
                end = _tag_end(self._data, self._here())
            self.elements.append((self._start, end))
        elif self._depth == 0:
            self.ended = True


def _tag_end(data: bytes, start: int) -> int:
    """Return the end of the tag that begins at `start`, with regard to quotes."""
    quote = None
    for place in range(start, len(data)):
        char = data[place : place + 1]
        if quote is None and char == b">":
            return place + 1
        if quote is None and char in (b"'", b'"'):
            quote = char
        elif char == quote:
            quote = None
    raise AssertionError("the tag has no end")


class Stream:
    """One connection: subclasses define how it is opened and to which peer."""

    content = ns.CLIENT

    def __init__(self, label: str) -> None:
        self.label = label
        self.inbox = Inbox(label)
        self.received = b""
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._slicer = Slicer()
        self._opened = asyncio.Event()

    async def _connect(self, ip: str, port: int) -> None:
        self.inbox.closed = None
        self._reader, self._writer = await asyncio.open_connection(ip, port)
        self._slicer = Slicer()
        self._opened.clear()
        self._task = asyncio.create_task(self._read())

    async def _open(self, to: str) -> dict[str, str]:
        """Send a stream header and return the attributes of the server's."""
        self._slicer = Slicer()
        self._opened.clear()
        version = "" if self.content == ns.COMPONENT else " version='1.0'"
        self.write(
            f"<?xml version='1.0'?><stream:stream to='{to}' xmlns='{self.content}' "
            f"xmlns:stream='{ns.STREAM}'{version}>"
        )
        await asyncio.wait_for(self._opened.wait(), 10)
        return self._slicer.header or {}

    async def _read(self) -> None:
        assert self._reader is not None
        reason = "the connection was closed"
        try:
            while data := await self._reader.read(65536):
                self.received += data
                slicer = self._slicer
                for raw in slicer.feed(data):
                    self.arrived(Stanza.of(raw))
                if slicer.header is not None:
                    self._opened.set()
                if slicer.ended:
                    break
        except (OSError, expat.ExpatError) as error:
            reason = f"the connection broke: {error}"
        except Exception:  # noqa: BLE001
            # An error in the test's own script must show up where a stanza is expected.
            reason = f"the script failed: {traceback.format_exc()}"
        self.inbox.close(reason)

    def arrived(self, stanza: Stanza) -> None:
        """Take a stanza from the wire."""
        self.inbox.put(stanza)

    @property
    def connected(self) -> bool:
        """Tell whether the connection is open."""
        return self._writer is not None and self.inbox.closed is None

    def write(self, data: str | bytes) -> None:
        """Write bytes to the wire unchanged."""
        assert self._writer is not None
        self._writer.write(data.encode() if isinstance(data, str) else data)

    def send(self, xml: str) -> None:
        """Send a stanza unchanged, and white space after a large one.

        The server's parser reparses a tag that came in pieces only once twice as much is there.
        """
        self.write(xml + " " * len(xml) if len(xml) > LARGE else xml)

    async def iq(self, xml: str, within: float = 10.0) -> Stanza:
        """Send an `<iq/>`, with an id unless it has one, and return what answers it."""
        head, _, _ = xml.partition(">")
        if " id=" in head:
            id_ = head.split(" id=")[1].lstrip("'\"").split("'")[0].split('"')[0]
        else:
            id_ = fresh("iq")
            xml = xml.replace("<iq", f"<iq id='{id_}'", 1)
        self.send(xml)
        return await self.expect(
            match("iq", id=id_, test=lambda s: s["type"] in ("result", "error")), within
        )

    async def expect(self, matcher: Matcher, within: float = 5.0) -> Stanza:
        """Return the first matching stanza not yet expected; see `Inbox.expect`."""
        return await self.inbox.expect(matcher, within)

    def count(self, matcher: Matcher) -> int:
        """Return how many stanzas ever received match."""
        return self.inbox.count(matcher)

    def none(self, matcher: Matcher) -> None:
        """Assert that nothing received matches. Ask for a fence first."""
        self.inbox.none(matcher)

    async def close(self) -> None:
        """Close the stream in order."""
        if self._writer is None:
            return
        with contextlib.suppress(OSError):
            self.write("</stream:stream>")
            await self._writer.drain()
            # The server's closing tag shows that it has seen the end.
            if self._task is not None:
                await asyncio.wait({self._task}, timeout=3)
        await self.cut()

    async def cut(self) -> None:
        """Break the connection without closing the stream."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=3)
            self._task = None
        self.inbox.close("the test closed the connection")
