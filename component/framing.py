"""Cuts the byte stream of a link into stanzas, without parsing them.

A stanza that is only passed on needs no tree: its start tag is read by one regular
expression, attribute by attribute (so that a `to='…'` inside another attribute's value
fools nobody), its end is found by searching. That is sound because in well-formed
XML without `<!` and `<?` a raw `<` is always markup, so `</name>` can only be an end
tag. CDATA, the one legal `<!`, is masked while searching; all else with `<!` or `<?` is
forbidden in XMPP (RFC 6120 §11.1) and an error here. tests/unit/test_framing.py holds
this to a real XML parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SPACE = b" \t\r\n"
_NAME = rb"[^\s/>'\"=<!?&;]++"
_ATTRIBUTE = rb"\s++(?:" + _NAME + rb")\s*+=\s*+(?:'[^'<]*+'|\"[^\"<]*+\")"
START_TAG = re.compile(rb"<(" + _NAME + rb")((?:" + _ATTRIBUTE + rb")*+)\s*+(/?)>")
ATTRIBUTE = re.compile(rb"\s(" + _NAME + rb")\s*+=\s*+(?:'([^'<]*+)'|\"([^\"<]*+)\")")
# What a start tag may look like when the rest of it has not arrived.
_START_TAG_SO_FAR = re.compile(
    rb"<(?:" + _NAME + rb"(?:" + _ATTRIBUTE + rb")*+"
    rb"(?:\s*+/?|\s++" + _NAME + rb"\s*+(?:=\s*+(?:'[^'<]*+|\"[^\"<]*+)?)?)?)?\Z"
)
_CDATA = re.compile(rb"<!\[CDATA\[.*?\]\]>", re.DOTALL)
_CDATA_START = b"<![CDATA["


class FramingError(ValueError):
    """What came is no XMPP stream; `condition` is the stream error for it (RFC 6120 §4.9.3)."""

    def __init__(self, condition: str, text: str) -> None:
        super().__init__(text)
        self.condition = condition


class Frame:
    """One top-level element as it came: its bytes, name and raw attributes.

    Attribute values are as on the wire, character references included.
    """

    __slots__ = ("attributes", "data", "name", "tag_end", "to_end", "to_start")

    def __init__(self, data: bytes, match: re.Match[bytes] | None = None) -> None:
        match = match or START_TAG.match(data)
        if match is None:
            raise FramingError("not-well-formed", "no start tag")
        base = match.start()
        self.data = data
        self.name = match[1]
        self.tag_end = match.end() - base
        self.to_start = self.to_end = -1
        attributes = {}
        if match[2]:
            for found in ATTRIBUTE.finditer(match.string, match.start(2), match.end(2)):
                name, group = found[1], 2 if found[2] is not None else 3
                attributes[name] = found[group]
                if name == b"to":
                    self.to_start = found.start(group) - base
                    self.to_end = found.end(group) - base
        self.attributes = attributes

    def get(self, name: bytes) -> bytes:
        """Give an attribute's raw value, empty if it is absent."""
        return self.attributes.get(name, b"")

    def readdressed(self, target: bytes) -> bytes:
        """Give the stanza with another `to`, already escaped; all else byte for byte."""
        return self.data[: self.to_start] + target + self.data[self.to_end :]


class Framer:
    """Takes chunks of the stream after its header, gives frames.

    Memory is bounded by the size limit of one stanza and one chunk.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = b""
        # Where the search for an end tag goes on when more has come.
        self._resume = 0
        self.closed = False

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Take a chunk; give each frame that is complete.

        Raises FramingError when the stream cannot go on.
        """
        buffer = self._buffer + chunk if self._buffer else chunk
        position, length = 0, len(buffer)
        try:
            while True:
                while position < length and buffer[position] in _SPACE:
                    position += 1
                if position == length:
                    break
                match = START_TAG.match(buffer, position)
                if match is None:
                    self._check_beginning(buffer, position)
                    break
                end = match.end() if match[3] else self._find_end(buffer, match)
                if end < 0:
                    break
                if end - position > self._max_bytes:
                    raise FramingError("policy-violation", "stanza too large")
                # Move on first: whoever takes the frame may raise.
                start, position = position, end
                self._resume = 0
                yield Frame(buffer[start:end], match)
        finally:
            self._buffer = buffer[position:]
            self._resume = max(0, self._resume - position)
        if len(self._buffer) > self._max_bytes:
            raise FramingError("policy-violation", "stanza too large")

    def _check_beginning(self, buffer: bytes, position: int) -> None:
        """Tell an incomplete start tag, or the stream's end, from nonsense."""
        rest = buffer[position:]
        if rest.startswith(b"</"):
            if b">" in rest:
                self.closed = True
            return
        if rest.startswith((b"<!", b"<?")):
            raise FramingError("restricted-xml", "comments, instructions and DTDs are forbidden")
        if not _START_TAG_SO_FAR.match(rest):
            raise FramingError("not-well-formed", "not a start tag")

    def _find_end(self, buffer: bytes, match: re.Match[bytes]) -> int:
        """Find where the element that `match` begins ends; -1 if that has not come yet."""
        name, position = match[1], match.end()
        end_tag = b"</" + name
        end = buffer.find(end_tag + b">", max(position, self._resume))
        if end >= 0 and buffer.find(b"<" + name, position, end) < 0:
            # The common case: no element of the same name inside.
            stop = end + len(end_tag) + 1
            special = buffer.find(b"<!", position, stop), buffer.find(b"<?", position, stop)
            if special == (-1, -1):
                return stop
        elif end < 0:
            special = buffer.find(b"<!", position), buffer.find(b"<?", position)
            if special == (-1, -1) and not re.search(end_tag + rb"\s", buffer[position:]):
                self._resume = max(position, len(buffer) - len(end_tag) - 1)
                return -1
        return self._find_end_slowly(buffer, match)

    def _find_end_slowly(self, buffer: bytes, match: re.Match[bytes]) -> int:
        """Find the end with elements of the same name, CDATA and odd end tags in sight."""
        position = match.end()
        searched = _CDATA.sub(lambda found: b"x" * len(found[0]), buffer[position:])
        cdata_open = searched.find(_CDATA_START)
        if cdata_open >= 0:
            searched = searched[:cdata_open]
        depth = 1
        for tag in re.finditer(
            rb"<(?:(/)" + re.escape(match[1]) + rb"\s*+>|" + re.escape(match[1]) + rb"(?=[\s/>])"
            rb"|([!?]))",
            searched,
        ):
            if tag[2]:
                raise FramingError("restricted-xml", "comments and instructions are forbidden")
            if tag[1]:
                depth -= 1
                if not depth:
                    return position + tag.end()
                continue
            nested = START_TAG.match(searched, tag.start())
            if nested is None:
                return -1
            if not nested[3]:
                depth += 1
        return -1
