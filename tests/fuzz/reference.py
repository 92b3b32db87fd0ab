"""A real XML parser's result for a stream, to compare with the component's."""

from dataclasses import dataclass, field
from xml.parsers import expat

_OPEN = b"<r xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
_CLOSE = b"</r>"


def is_well_formed(data: bytes) -> bool:
    """Tell whether stanzas are well-formed within a stream, with all prefixes declared."""
    parser = expat.ParserCreate(namespace_separator="}")
    try:
        parser.Parse(_OPEN + data + _CLOSE, True)
    except expat.ExpatError:
        return False
    return True


@dataclass
class Stream:
    """The stanzas of a stream, and whether it has anything that XMPP forbids."""

    stanzas: list[bytes] = field(default_factory=list)
    attributes: list[dict[str, str]] = field(default_factory=list)
    forbidden: bool = False


class _Reader:
    """Cuts at the ends of the elements below the root."""

    def __init__(self, data: bytes) -> None:
        self.stream = Stream()
        self._data = _OPEN + data + _CLOSE
        self._depth = 0
        self._start = 0
        self._empty = False
        parser = self._parser = expat.ParserCreate()
        parser.StartElementHandler = self._opened
        parser.EndElementHandler = self._closed
        parser.CharacterDataHandler = self._text
        parser.CommentHandler = self._forbidden
        parser.ProcessingInstructionHandler = self._forbidden
        parser.StartCdataSectionHandler = self._cdata
        try:
            parser.Parse(self._data, True)
        finally:
            # Its handlers refer to this reader: the cycle would leave 400 kB to the garbage
            # collector.
            del self._parser

    def _opened(self, _: str, attributes: dict[str, str]) -> None:
        if self._depth == 1:
            self._start = self._parser.CurrentByteIndex
            self.stream.attributes.append(attributes)
        self._depth += 1
        self._empty = True

    def _closed(self, _: str) -> None:
        self._depth -= 1
        if self._depth == 1:
            end = self._parser.CurrentByteIndex
            if not (self._empty and self._data[end - 2 : end] == b"/>"):
                end = self._data.index(b">", end) + 1
            self.stream.stanzas.append(self._data[self._start : end])
        self._empty = False

    def _text(self, text: str) -> None:
        self._empty = False
        # Between stanzas even a character reference to white space does not count as white space.
        start = self._parser.CurrentByteIndex
        if self._depth == 1 and (text.strip(" \t\r\n") or self._data[start : start + 1] == b"&"):
            self._forbidden()

    def _cdata(self) -> None:
        if self._depth == 1:
            self._forbidden()

    def _forbidden(self, *_: object) -> None:
        self.stream.forbidden = True


def read(data: bytes) -> Stream | None:
    """Read the content between a stream's two tags; None if it is not well-formed."""
    try:
        return _Reader(data).stream
    except expat.ExpatError:
        return None
