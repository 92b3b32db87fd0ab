"""Cuts the byte stream of a link into stanzas, without parsing them.

A stanza that is only passed on needs no tree: its start tag is read by one regular
expression, attribute by attribute (so that a `to='…'` inside another attribute's value
fools nobody), its end is found by searching. That is sound because in well-formed
XML without `<!` and `<?` a raw `<` is always markup, so `</name>` can only be an end
tag. CDATA, the one legal `<!`, is stepped over; all else with `<!` or `<?` is
forbidden in XMPP (RFC 6120 §11.1), no server passes it on, and it is an error here. Whatever
else a parser takes is taken here, and left out if it is too large: nobody can end the stream
for everybody by how a stanza is made. tests/unit/test_framing.py holds this to a real parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from component.wire.ending import BOUNDS, LONGEST_NAME, Ending
from component.wire.tags import ATTRIBUTE, EMPTY, SPACE, START_TAG, FramingError, not_a_tag

__all__ = ["ATTRIBUTE", "START_TAG", "Frame", "Framer", "FramingError", "LeftOut", "only_frame"]

_NO_SPACE = re.compile(rb"[^ \t\r\n]")


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
            raise not_a_tag()
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

    Values are as on the wire; empty if absent, or longer than the bytes of `BOUNDS`. `reason`
    says what is wrong with it: "oversized" or "malformed". `head` is the beginning of what stands
    behind the start tag, at most `head_bytes`; it tells what kind of request this is, and of a
    stanza for many whom it is for, and nothing else may be believed of it.
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
        """Make one of a stanza whose start tag has come whole."""
        given = {
            name: value for name, most in BOUNDS.items() if len(value := frame.get(name)) <= most
        }
        head = frame.data[frame.tag_end : frame.tag_end + head_bytes(frame.data, frame.tag_end)]
        return cls.made(frame.name, given, reason, head)

    @classmethod
    def made(cls, name: bytes, given: dict[bytes, bytes], reason: str, head: bytes) -> LeftOut:
        """Make one of those values that are known."""
        to, sender, type_, id_ = (given.get(key, b"") for key in (b"to", b"from", b"type", b"id"))
        return cls(name[:LONGEST_NAME], to, sender, type_, id_, reason, head)


HEAD_BYTES = 1_024
"""Bytes of a left out stanza's content that are told of it …"""

ADDRESSES_BYTES = 65_536
"""… or of one for many users, whose addresses have no more than that (tap protocol T10)."""


def head_bytes(data: bytes | bytearray, content: int) -> int:
    """Tell how much of a stanza's content, which begins there, is to be told."""
    return ADDRESSES_BYTES if data.startswith(b"<addresses", content) else HEAD_BYTES


OVERSIZED = "oversized"
"""Why a stanza is left out that is larger than MIXPAM_MAX_STANZA_BYTES."""

MALFORMED = "malformed"
"""Why one is left out that cannot be read."""

CROWDED = "crowded"
"""Why a stanza is left out for whose user too much waits."""

Carry = Callable[[bytes, int], int]
"""Takes stanzas that stand at a position in some data, as many as it likes, without frames;
gives where the rest begins."""


def _nothing(_: bytes, position: int) -> int:
    return position


class Framer:
    """Takes chunks of the stream after its header, gives frames.

    Memory is bounded by the size limit of one stanza and one chunk. What is larger is left
    out, however large it is, so that nobody can end the stream by one large stanza.
    """

    def __init__(
        self, max_bytes: int, leave_out: Callable[[LeftOut], None] = lambda _: None
    ) -> None:
        self._max_bytes = max_bytes
        # Gets what is too large, in order with the frames.
        self._leave_out = leave_out
        # The bytes so far of an element that is not complete.
        self._begun: _Begun | None = None
        # Bytes not searched yet, because the consumer stopped at the last frame.
        self._unread = b""
        # Why the stream cannot go on. Not the error itself: its traceback refers to this.
        self._failed: tuple[str, str] | None = None
        self.closed = False

    def feed(  # noqa: C901, PLR0912 - one loop: a call for each stanza costs what it does
        self, chunk: bytes, carry: Carry = _nothing
    ) -> Iterator[Frame]:
        """Take a chunk; give each frame that is complete and not too large.

        `carry` is asked first; what it takes is in order with the frames if each of those is
        dealt with before the next is asked for. What comes after the stream's end is ignored.
        Raises FramingError when the stream cannot go on.
        """
        if self._failed is not None:
            raise FramingError(*self._failed)
        if self.closed:
            return
        data = self._unread + chunk if self._unread else chunk
        position, length = 0, len(data)
        try:
            if self._begun is not None and data:
                position, frame = self._go_on(self._begun, data, 0)
                if frame is not None:
                    yield frame
            while position < length:
                if data[position] in SPACE:
                    position = _behind_space(data, position)
                position = carry(data, position)
                if position == length or data[position] in SPACE:
                    continue
                match = START_TAG.match(data, position)
                end = -1 if match is None else _find_plain_end(data, match)
                # Move on first: whoever takes the frame may raise.
                start, position = position, end
                if match is None or end < 0:
                    self._begun = _Begun(self._max_bytes, match)
                    position, frame = self._go_on(self._begun, data, start)
                    if frame is not None:
                        yield frame
                elif end - start > self._max_bytes:
                    most = head_bytes(data, match.end())
                    head = data[start : min(end, match.end() + most)]
                    self._leave_out(LeftOut.of(Frame(head), OVERSIZED))
                else:
                    yield Frame(data[start:end], match)
        except FramingError as error:
            self._failed = error.condition, str(error)
            raise
        finally:
            self._unread = data[position:]

    def _go_on(self, begun: _Begun, data: bytes, position: int) -> tuple[int, Frame | None]:
        """Search on in an element that has begun; give where that leads, and its frame.

        There is none as long as the end has not come, and if it is too large.
        """
        end = begun.go_on(data, position)
        if end < 0:
            return len(data), None
        self._begun = None
        self.closed = begun.ends_stream
        if self.closed:
            return len(data), None
        left = begun.left_out()
        if left is None:
            return end, Frame(begun.kept())
        self._leave_out(left)
        return end, None


def _behind_space(data: bytes, position: int) -> int:
    found = _NO_SPACE.search(data, position)
    return len(data) if found is None else found.start()


class _Begun:
    """An element whose end was not found at once: the search for that, and what it is kept of.

    That is all of it, or how it begins once it is too large.
    """

    def __init__(self, max_bytes: int, match: re.Match[bytes] | None) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._kept = bytearray()
        # Where what is kept begins in the element.
        self._kept_from = 0
        self._left: LeftOut | None = None
        self._tag = 0 if match is None else match.end() - match.start()
        self._ending = (
            Ending()
            if match is None
            else Ending.behind(match[1], self._tag, empty=bool(match[EMPTY]))
        )

    @property
    def ends_stream(self) -> bool:
        """Whether it was no element, but the end of the stream's."""
        return self._ending.ends_stream

    def go_on(self, data: bytes, at: int) -> int:
        """Take what has come, from a position on; give where the element ends, or -1."""
        ending, behind_tag = self._ending, at + self._tag
        self._tag = 0
        end = behind_tag if ending.is_over else ending.go_on(data, behind_tag)
        self._keep(data, at, len(data) if end < 0 else end)
        return end

    def _keep(self, data: bytes, at: int, end: int) -> None:
        self._size += end - at
        if self._size <= self._max_bytes:
            self._kept += data[at:end]
            return
        content = self._ending.content
        if content < 0:  # not even the tag is kept
            self._kept.clear()
            self._kept_from = self._size
            return
        # How much is told shows only now; what comes behind that is taken off again.
        room = content + ADDRESSES_BYTES - self._kept_from - len(self._kept)
        if room > 0:
            self._kept += data[at : min(end, at + room)]
        most = head_bytes(self._kept, content - self._kept_from)
        if self._left is None and not self._kept_from:
            # The whole tag is there, and tells more than the search has remembered.
            self._left = LeftOut.of(Frame(bytes(self._kept[:content])), OVERSIZED)
        gone = content - self._kept_from
        if gone > 0:
            del self._kept[:gone]
            self._kept_from = content
        del self._kept[most:]

    def kept(self) -> bytes:
        """Give the element, which is not too large."""
        return bytes(self._kept)

    def left_out(self) -> LeftOut | None:
        """Tell of the element, if it is too large."""
        if self._size <= self._max_bytes:
            return None
        ending, head = self._ending, bytes(self._kept)
        if self._left is None:
            return LeftOut.made(ending.name, ending.values, OVERSIZED, head)
        return self._left._replace(head=head)


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
