"""Cuts the byte stream of a link into stanzas, without parsing them.

A stanza that is only passed on needs no tree: its start tag is read by one regular
expression, attribute by attribute (so that a `to='…'` inside another attribute's value
fools nobody), its end is found by searching. That is sound because in well-formed
XML without `<!` and `<?` a raw `<` is always markup, so `</name>` can only be an end
tag. CDATA, the one legal `<!`, is stepped over; all else with `<!` or `<?` is
forbidden in XMPP (RFC 6120 §11.1) and an error here. What has not arrived whole is
searched on from where the last chunk ended, so that the work follows the bytes however
small the chunks are. tests/unit/test_framing.py holds this to a real XML parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from functools import lru_cache
from typing import NamedTuple

_SPACE = b" \t\r\n"
_S = rb"[ \t\r\n]"
_NAME = rb"[^\s/>'\"=<!?&;.0-9-][^\s/>'\"=<!?&;]{0,255}+"
_VALUE = rb"(?:'[^'<]*+'|\"[^\"<]*+\")"
_ATTRIBUTE = _S + b"++" + _NAME + _S + b"*+=" + _S + b"*+" + _VALUE


def _named(name: bytes) -> bytes:
    return name + _S + b"*+=" + _S + rb"*+(?:'([^'<]*+)'|\"([^\"<]*+)\")"


# A group with a choice in it is not repeated possessively: up to Python 3.11.4, Debian 12's
# among them, that loses its place. There is one way only to read a tag, so it costs little.

# Groups: 1 name, 2 attributes, 3 and 4 the value of `to` in either quotes, 5 and 6 of
# `from`, 7 and 8 of `type`, 9 the slash of an empty element. Reading the addresses while
# the tag is matched costs a third of looking for them afterwards.
START_TAG = re.compile(
    b"<(" + _NAME + b")"
    b"((?:" + _S + b"++(?:" + _named(b"to") + b"|" + _named(b"from") + b"|" + _named(b"type")
    + b"|" + _NAME + _S + b"*+=" + _S + b"*+" + _VALUE + b"))*)" + _S + b"*+(/?)>"
)  # fmt: skip
EMPTY = 9
"""The group of START_TAG that is not empty if the element is."""

ATTRIBUTE = re.compile(
    _S + b"(" + _NAME + b")" + _S + b"*+=" + _S + rb"*+(?:'([^'<]*+)'|\"([^\"<]*+)\")"
)
_OPEN_VALUE = rb"(?:'[^'<]*+|\"[^\"<]*+)"
# What a start tag may look like when the rest of it has not arrived.
_START_TAG_SO_FAR = re.compile(
    b"<" + _NAME + b"(?:" + _ATTRIBUTE + b")*"
    b"(?:" + _S + b"*+/?|"
    + _S + b"++" + _NAME + _S + b"*+(?:=" + _S + b"*+" + _OPEN_VALUE + rb"?)?)\Z"
)  # fmt: skip
_END_TAG = re.compile(b"</" + _NAME + _S + b"*+>")
# Where a start tag ends, or a value in it begins or ends.
_TAG_MARK = re.compile(rb"['\"<>]")
_IN_QUOTES = {b"'": re.compile(rb"['<]"), b'"': re.compile(rb"[\"<]")}
_NO_SPACE = re.compile(rb"[^ \t\r\n]")
_CDATA_START = b"<![CDATA["
_CDATA_END = b"]]>"
_NOT_YET = -1


SKIPPED = 100
"""How many times the limit a stanza may be, to be left out without ending the stream."""


class FramingError(ValueError):
    """What came is no XMPP stream; `condition` is the stream error for it (RFC 6120 §4.9.3)."""

    def __init__(self, condition: str, text: str) -> None:
        super().__init__(text)
        self.condition = condition


def _no_start_tag() -> FramingError:
    return FramingError("not-well-formed", "not a start tag")


def _restricted() -> FramingError:
    return FramingError("restricted-xml", "comments, instructions and DTDs are forbidden")


class Frame:
    """One top-level element as it came: its bytes, name and raw attributes.

    Attribute values are as on the wire, character references included.
    """

    __slots__ = (
        "_attributes", "data", "name", "sender", "tag_end", "to", "to_end", "to_start", "type"
    )  # fmt: skip

    def __init__(self, data: bytes, match: re.Match[bytes] | None = None) -> None:
        match = match or START_TAG.match(data)
        if match is None:
            raise _no_start_tag()
        base, end = match.span()
        self.data = data
        self.tag_end = end - base
        self.name, to, to_too, sender, sender_too, type_, type_too = match.group(
            1, 3, 4, 5, 6, 7, 8
        )
        self.to: bytes = to or to_too or b""
        self.sender: bytes = sender or sender_too or b""
        self.type: bytes = type_ or type_too or b""
        to_start = match.start(3 if to is not None else 4)
        self.to_start = to_start = to_start - base if to_start >= 0 else to_start
        self.to_end = to_start + len(self.to)
        self._attributes: dict[bytes, bytes] | None = None

    @property
    def attributes(self) -> dict[bytes, bytes]:
        """All attributes with their raw values."""
        if self._attributes is None:
            self._attributes = {
                name: single or double
                for name, single, double in ATTRIBUTE.findall(self.data, 0, self.tag_end)
            }
        return self._attributes

    def get(self, name: bytes) -> bytes:
        """Give an attribute's raw value, empty if it is absent."""
        return self.attributes.get(name, b"")

    def with_data(self, data: bytes) -> Frame:
        """Give a frame of these bytes, which begin with this one's start tag."""
        frame = Frame.__new__(Frame)
        frame.data = data
        frame.tag_end, frame.name = self.tag_end, self.name
        frame.to, frame.to_start, frame.to_end = self.to, self.to_start, self.to_end
        frame.sender, frame.type = self.sender, self.type
        frame._attributes = self._attributes  # noqa: SLF001 - of its own class
        return frame

    def without(self, start: int, end: int) -> Frame:
        """Give the stanza without a part that lies after its start tag."""
        return self.with_data(self.data[:start] + self.data[end:])

    def readdressed(self, target: bytes) -> bytes:
        """Give the stanza with another `to`, already escaped; all else byte for byte.

        Raises ValueError for a stanza without `to`.
        """
        if self.to_start < 0:
            raise ValueError("there is no address to change")
        return self.data[: self.to_start] + target + self.data[self.to_end :]


class LeftOut(NamedTuple):
    """A stanza that is not dealt with, though what it asks for must have its effect.

    Attribute values are as on the wire, empty if absent. `reason` says what is wrong with it:
    "oversized" or "malformed". `head` is the beginning of what stands behind the start tag, at
    most HEAD_BYTES; it tells what kind of request this is, and nothing else may be believed of it.
    """

    name: bytes
    to: bytes
    sender: bytes
    type: bytes
    id: bytes
    reason: str
    head: bytes = b""

    @classmethod
    def of(cls, frame: Frame, reason: str) -> LeftOut:
        """Make one of a stanza that has come whole."""
        head = frame.data[frame.tag_end : frame.tag_end + HEAD_BYTES]
        return cls(frame.name, frame.to, frame.sender, frame.type, frame.get(b"id"), reason, head)


HEAD_BYTES = 1_024
"""Bytes of a left out stanza's content that are told of it."""

OVERSIZED = "oversized"
"""Why a stanza is left out that is larger than MIXPAM_MAX_STANZA_BYTES."""

Carry = Callable[[bytes, int], int]
"""Takes stanzas that stand at a position in some data, as many as it likes, without frames;
gives where the rest begins."""


def _nothing(_: bytes, position: int) -> int:
    return position


class Framer:
    """Takes chunks of the stream after its header, gives frames.

    Memory is bounded by the size limit of one stanza and one chunk. What is larger is left
    out, so that nobody can end the stream by one large stanza.
    """

    def __init__(
        self, max_bytes: int, leave_out: Callable[[LeftOut], None] = lambda _: None
    ) -> None:
        self._max_bytes = max_bytes
        # Gets what is too large, in order with the frames.
        self._leave_out = leave_out
        # An element whose end has not come, and the search for that.
        self._rest = bytearray()
        self._search: _Search | None = None
        # Bytes of that element that are not kept, because it is too large.
        self._skipped = 0
        self.closed = False

    def feed(self, chunk: bytes, carry: Carry = _nothing) -> Iterator[Frame]:
        """Take a chunk; give each frame that is complete and not too large.

        `carry` is asked first; what it takes is in order with the frames if each of those is
        dealt with before the next is asked for. What comes after the stream's end is ignored.
        Raises FramingError when the stream cannot go on.
        """
        if self.closed:
            return
        data = self._with_rest(chunk) if self._rest or self._skipped else chunk
        if not data:
            return
        position, length = 0, len(data)
        try:
            while True:
                while position < length and data[position] in _SPACE:
                    position += 1
                position = carry(data, position)
                if position == length:
                    break
                match = START_TAG.match(data, position)
                end = -1 if match is None else _find_plain_end(data, match)
                if end < 0:
                    self._search = _Search()
                    end = self._search.go_on(data, position)
                    if end < 0:
                        break
                    self._search = None
                # Move on first: whoever takes the frame may raise.
                start, position = position, end
                if match is None:
                    self.closed, position = True, length
                    break
                if end - start > self._max_bytes:
                    self._leave_out(LeftOut.of(Frame(data[start:end], match), OVERSIZED))
                    continue
                yield Frame(data[start:end], match)
        finally:
            self._rest = bytearray(data[position:])
        self._skip()

    def _with_rest(self, chunk: bytes) -> bytes:
        """Search on in an element that has begun; give it and all behind it, once it ends.

        One that was too large is not there any more. Nothing: the end has not come.
        """
        self._rest += chunk
        self._search = self._search or _Search()
        end = self._search.go_on(self._rest, -self._skipped)
        if end < 0:
            self._skip()
            return b""
        data = bytes(self._rest[end:] if self._skipped else self._rest)
        self._rest, self._search, self._skipped = bytearray(), None, 0
        return data

    def _skip(self) -> None:
        """Let go of what has come of an element that is too large; search on for its end.

        Raises FramingError if its start tag alone is.
        """
        if self._skipped + len(self._rest) <= self._max_bytes or self._search is None:
            return
        if not self._skipped:
            tag = START_TAG.match(self._rest)
            if tag is None:
                raise FramingError("policy-violation", "start tag too large")
            head = bytes(self._rest[: len(tag[0]) + HEAD_BYTES])
            self._leave_out(LeftOut.of(Frame(head), OVERSIZED))
        gone = self._search.settled - self._skipped
        del self._rest[:gone]
        self._skipped += gone
        if len(self._rest) > self._max_bytes or self._skipped > SKIPPED * self._max_bytes:
            raise FramingError("policy-violation", "far too large")


def only_frame(data: bytes) -> Frame | None:
    """Read an element that has nothing before or behind it; None if it is not one."""
    match = START_TAG.match(data)
    if match is not None and _find_plain_end(data, match) == len(data):
        return Frame(data, match)
    try:
        frames = list(Framer(len(data)).feed(data))
    except FramingError:
        return None
    return frames[0] if len(frames) == 1 and frames[0].data == data else None


def _find_plain_end(data: bytes, match: re.Match[bytes]) -> int:
    """Find the end of an element without any of what makes `_Search` necessary, else -1.

    That is nearly every stanza: whole, no CDATA, no element of the same name inside.
    """
    start = match.end()
    name, empty = match.group(1, EMPTY)
    if empty:
        return start
    end = data.find(b"</" + name, start)
    stop = end + len(name) + 3
    if (
        end < 0
        or data[stop - 1 : stop] != b">"
        or data.find(b"<" + name, start, end) >= 0
        # One character is found several times as fast as two, and mostly there is none.
        or (data.find(b"!", start, end) >= 0 and data.find(b"<!", start, end) >= 0)
        or (data.find(b"?", start, end) >= 0 and data.find(b"<?", start, end) >= 0)
    ):
        return -1
    return stop


class _Search:
    """The search for the end of one element, which goes on where it stopped.

    Positions are relative to the element's first byte.
    """

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._base = 0
        # Up to here nobody looks back.
        self.settled = 0
        self._steps = self._run()

    def go_on(self, data: bytes | bytearray, base: int) -> int:
        """Search on in what has come of the element, which begins at `base`.

        That is below zero if its beginning, up to `settled`, is not kept any more.
        Gives where it ends, or -1 for "not yet". Raises FramingError.
        """
        self._data, self._base = data, base
        return next(self._steps, _NOT_YET)

    def _run(self) -> Iterator[int]:
        while len(self._data) - self._base < len(b"<x"):
            if self._data[self._base :] != b"<":
                raise _no_start_tag()
            yield _NOT_YET
        head = bytes(self._data[self._base : self._base + 2])
        if head in {b"<!", b"<?"}:
            raise _restricted()
        if head == b"</":
            yield from self._stream_end()
            return
        tag = yield from self._start_tag(0)
        at = tag.end() - self._base
        if not tag[EMPTY]:
            at = yield from self._content_end(tag[1], at)
        yield self._base + at

    def _content_end(self, name: bytes, at: int) -> Generator[int, None, int]:
        """Search for the end tag that closes an element of this name."""
        marks, depth = _marks(name), 1
        while depth:
            mark = marks.search(self._data, self._base + at)
            if mark is None:
                # The last bytes may be the beginning of a mark.
                at = self.settled = max(at, len(self._data) - self._base - len(name) - len(b"</"))
                yield _NOT_YET
                continue
            start, at = mark.start() - self._base, mark.end() - self._base
            self.settled = start
            if mark[0] == b"<?":
                raise _restricted()
            if mark[0] == b"<!":
                at = yield from self._cdata_end(start)
            elif mark[0].startswith(b"</"):
                depth -= 1
                at = yield from self._end_tag(at)
            else:
                tag = yield from self._start_tag(start)
                at = tag.end() - self._base
                depth += not tag[EMPTY]
        return at

    def _start_tag(self, start: int) -> Generator[int, None, re.Match[bytes]]:
        """Search for the end of a start tag, and read it."""
        at, checked, quote = start + 1, 0, b""
        while True:
            data, base = self._data, self._base
            mark = (_IN_QUOTES[quote] if quote else _TAG_MARK).search(data, base + at)
            if mark is None:
                at, size = len(data) - base, len(data) - base - start
                if size >= 2 * checked:
                    # Nonsense is not waited for. Twice as much each time: never much work.
                    checked = size
                    if not _START_TAG_SO_FAR.match(data, base + start):
                        raise _no_start_tag()
                yield _NOT_YET
                continue
            at = mark.end() - base
            if mark[0] in {b"<", b">"}:
                tag = START_TAG.match(data, base + start)
                if tag is None or tag.end() != mark.end():
                    raise _no_start_tag()
                return tag
            quote = b"" if quote else mark[0]

    def _end_tag(self, at: int) -> Generator[int, None, int]:
        """Search for the `>` of an end tag, whose name has come."""
        while True:
            mark = _NO_SPACE.search(self._data, self._base + at)
            if mark is not None:
                if mark[0] != b">":
                    raise FramingError("not-well-formed", "not an end tag")
                return mark.end() - self._base
            at = self.settled = len(self._data) - self._base
            yield _NOT_YET

    def _stream_end(self) -> Iterator[int]:
        """Search for the end of the stream's own end tag."""
        at = len(b"</")
        while (end := self._data.find(b">", self._base + at)) < 0:
            at = len(self._data) - self._base
            yield _NOT_YET
        if _END_TAG.fullmatch(self._data, self._base, end + 1) is None:
            raise FramingError("not-well-formed", "not an end tag")
        yield end + 1

    def _cdata_end(self, start: int) -> Generator[int, None, int]:
        """Step over a CDATA section; raise for all else that begins with `<!`."""
        while True:
            head = bytes(self._data[self._base + start : self._base + start + len(_CDATA_START)])
            if head == _CDATA_START:
                break
            if not _CDATA_START.startswith(head):
                raise _restricted()
            yield _NOT_YET
        at = start + len(_CDATA_START)
        while (end := self._data.find(_CDATA_END, self._base + at)) < 0:
            at = self.settled = max(at, len(self._data) - self._base - len(_CDATA_END) + 1)
            yield _NOT_YET
        return end + len(_CDATA_END) - self._base


@lru_cache(maxsize=16)
def _marks(name: bytes) -> re.Pattern[bytes]:
    """Match what matters inside an element: tags of its own name, `<!` and `<?`."""
    escaped = re.escape(name)
    return re.compile(
        b"<(?:[!?]|" + escaped + rb"(?=[ \t\r\n/>])|/" + escaped + rb"(?=[ \t\r\n>]))"
    )
