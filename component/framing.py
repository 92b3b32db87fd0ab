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
from collections.abc import Iterator
from functools import lru_cache

_SPACE = b" \t\r\n"
_S = rb"[ \t\r\n]"
_NAME = rb"[^\s/>'\"=<!?&;.0-9-][^\s/>'\"=<!?&;]*+"
_VALUE = rb"(?:'[^'<]*+'|\"[^\"<]*+\")"
_ATTRIBUTE = _S + b"++" + _NAME + _S + b"*+=" + _S + b"*+" + _VALUE
START_TAG = re.compile(b"<(" + _NAME + b")((?:" + _ATTRIBUTE + b")*+)" + _S + b"*+(/?)>")
ATTRIBUTE = re.compile(
    _S + b"(" + _NAME + b")" + _S + b"*+=" + _S + rb"*+(?:'([^'<]*+)'|\"([^\"<]*+)\")"
)
_OPEN_VALUE = rb"(?:'[^'<]*+|\"[^\"<]*+)"
# What a start tag may look like when the rest of it has not arrived.
_START_TAG_SO_FAR = re.compile(
    b"<(?:" + _NAME + b"(?:" + _ATTRIBUTE + b")*+"
    b"(?:" + _S + b"*+/?|"
    + _S + b"++" + _NAME + _S + b"*+(?:=" + _S + b"*+" + _OPEN_VALUE + rb"?)?)?)?\Z"
)  # fmt: skip
_END_TAG = re.compile(b"</" + _NAME + _S + b"*+>")
_END_TAG_SO_FAR = re.compile(b"</(?:" + _NAME + _S + rb"*+)?\Z")
# What a start tag can end with, or a value begin with, outside of any value.
_TAG_MARK = re.compile(rb"['\"<>]")
_CDATA_START = b"<![CDATA["
_CDATA_END = b"]]>"


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

    __slots__ = ("attributes", "data", "name", "tag_end", "to_end", "to_start")

    def __init__(self, data: bytes, match: re.Match[bytes] | None = None) -> None:
        match = match or START_TAG.match(data)
        if match is None:
            raise _no_start_tag()
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
        """Give the stanza with another `to`, already escaped; all else byte for byte.

        Raises ValueError for a stanza without `to`.
        """
        if self.to_start < 0:
            raise ValueError("there is no address to change")
        return self.data[: self.to_start] + target + self.data[self.to_end :]


class Framer:
    """Takes chunks of the stream after its header, gives frames.

    Memory is bounded by the size limit of one stanza and one chunk.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The beginning of an element whose end has not come, and the search for it.
        self._rest = bytearray()
        self._search = _Search()
        self.closed = False

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Take a chunk; give each frame that is complete.

        What comes after the stream's end is ignored.
        Raises FramingError when the stream cannot go on.
        """
        if self.closed:
            return
        data, end = chunk, -1
        if self._rest:
            self._rest += chunk
            end = self._search.go_on(self._rest, 0)
            if end < 0:
                self._check_size(len(self._rest))
                return
            data = bytes(self._rest)
        position, length = 0, len(data)
        try:
            while True:
                if end < 0:
                    while position < length and data[position] in _SPACE:
                        position += 1
                    if position == length:
                        return
                    end = self._find_end(data, position)
                    if end < 0:
                        break
                self._check_size(end - position)
                # Move on first: whoever takes the frame may raise.
                start, position, end = position, end, -1
                if data.startswith(b"</", start):
                    self.closed = True
                    position = length
                    return
                yield Frame(data[start:position], START_TAG.match(data, start))
        finally:
            self._rest = bytearray(data[position:])
            if end < 0 and not self._rest:
                self._search = _Search()
        self._check_size(len(self._rest))
