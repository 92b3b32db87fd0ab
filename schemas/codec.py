"""Converts between bytes, element trees and XSOs.

Every control stanza is read by a parser of its own, which is discarded afterwards: a long-lived
parser, and lxml in general, keeps each name it ever saw, so a stranger who invents names would fill
its memory. Limits on depth and number of elements are checked while reading, if there are enough
tags to break them. Trees are xml.etree elements with `{namespace}name` tags; stanzas are always in
`jabber:client`, whatever the stream calls its default namespace.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar
from xml.parsers import expat

from aioxmpp.xso.model import Context

from schemas.namespaces import CLIENT, STREAMS, XML

MAX_DEPTH = 100
"""Levels of nesting in one control stanza; the deepest legitimate ones have some 15."""

MAX_NAMESPACE = 256
"""Maximum bytes of a namespace in one control stanza; XMPP's longest have some 60. A tree has it
once in each name, and its text has it once at each declaration."""

MAX_ELEMENTS = 50_000
"""Elements in one control stanza; a roster of 10,000 items has some 30,000."""

_TOO_MUCH = f"nested deeper than {MAX_DEPTH} levels, or of more than {MAX_ELEMENTS:,} elements"

_ROOT_OPEN = f"<r xmlns='{CLIENT}' xmlns:stream='{STREAMS}'>".encode()
_ROOT_CLOSE = b"</r>"

_SYNTAX_ERROR = expat.errors.codes[expat.errors.XML_ERROR_SYNTAX]

X = TypeVar("X")


class MalformedStanza(ValueError):  # noqa: N818 - a fact about the stanza, named as one
    """A stanza that cannot be read or written; the text says why."""


class TooLarge(MalformedStanza):
    """A tree whose text is larger than allowed."""


class _Reader:
    """Builds one tree and refuses XML that XMPP forbids (RFC 6120 §11.1)."""

    def __init__(self) -> None:
        self.builder = ET.TreeBuilder()
        # The element that `read` puts around the stanza does not count.
        self.depth = -1
        self.elements = -1
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.ordered_attributes = False
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.builder.data
        parser.StartDoctypeDeclHandler = self.refuse
        parser.ProcessingInstructionHandler = self.refuse
        parser.CommentHandler = self.refuse
        self.parser = parser

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        self.elements += 1
        if self.depth > MAX_DEPTH or self.elements > MAX_ELEMENTS:
            raise MalformedStanza(_TOO_MUCH)
        self.builder.start(_clark(name), {_clark(key): value for key, value in attributes.items()})

    def end(self, name: str) -> None:
        self.depth -= 1
        self.builder.end(_clark(name))

    def refuse(self, *_: object) -> None:
        raise MalformedStanza("document types, comments and instructions are not XMPP")


def _clark(name: str) -> str:
    return "{" + name if "}" in name else name


def read(data: bytes) -> ET.Element:
    """Read one stanza as it was cut from the stream.

    Raises MalformedStanza for anything but one well-formed, harmless element.
    """
    # Usually nothing is declared so far from the end.
    if data.find(b"xmlns", 0, -MAX_NAMESPACE) >= 0 and _LONG_NAMESPACE.search(data) is not None:
        raise MalformedStanza("a namespace is too long")
    whole = _ROOT_OPEN + data + _ROOT_CLOSE
    try:
        if _is_harmless(data):
            parser = ET.XMLParser()  # what `ET.fromstring` does, but for what it looks at
            parser.feed(whole)
            root = parser.close()
        else:
            root = _watched(whole)
    except (ET.ParseError, expat.ExpatError) as error:
        # The only input that servers let pass and expat reports with this code: a brace in a
        # namespace, as a brace is the separator behind namespaces here.
        hint = "; a brace in a namespace?" if error.code == _SYNTAX_ERROR else ""
        raise MalformedStanza(f"not well-formed: {error}{hint}") from None
    if len(root) != 1:
        raise MalformedStanza("not one element")
    return root[0]


def _is_harmless(data: bytes) -> bool:
    """Tell quickly whether a stanza can be read without checks.

    Raises MalformedStanza if there is too much: reading it takes 0.1 s, in which everybody waits.
    """
    # Searching for one character is several times as fast as for two, and usually there is none.
    if (b"!" in data and b"<!" in data) or (b"?" in data and b"<?" in data):
        return False
    # Without these two it has nothing forbidden, and each "<" begins a tag.
    tags = data.count(b"<")
    if tags <= MAX_DEPTH:
        return True
    ends = data.count(b"</")
    if tags - ends > MAX_ELEMENTS:
        raise MalformedStanza(_TOO_MUCH)
    # With so few end tags it cannot be nested deeply.
    return ends <= MAX_DEPTH


_LONG_NAMESPACE = re.compile(
    rb"xmlns[^\s=<>'\"]*+\s*+=\s*+(?:'[^'<]{%d}|\"[^\"<]{%d})" % (2 * (MAX_NAMESPACE + 1,))
)


def _watched(data: bytes) -> ET.Element:
    reader = _Reader()
    reader.parser.Parse(data, True)
    return reader.builder.close()


def write(element: ET.Element, most: int = sys.maxsize) -> bytes:
    """Write a tree for a stream whose default namespace stands for `jabber:client`.

    Namespaces are declared as defaults where they begin, never by invented prefixes,
    because some peers compare names as text.
    Raises MalformedStanza for characters that XML cannot carry, TooLarge beyond `most` bytes:
    writing out a namespace for each use of its prefix can make the text far larger than the
    original.
    """
    pieces: list[str] = []
    _write(element, CLIENT, pieces, most)
    data = _joined(pieces, most).encode()
    if len(data) > most:
        raise TooLarge(f"more than {most} bytes")
    return data


_PIECES = 500
"""Number of pieces between two checks of their size: most are some tens of characters."""


def _joined(pieces: list[str], most: int) -> str:
    """Join the pieces. Raises TooLarge if they are too much, in characters."""
    text = "".join(pieces)
    if len(text) > most:
        raise TooLarge(f"more than {most} bytes")
    return text


def _write(element: ET.Element, inherited: str, out: list[str], most: int) -> None:
    tag = element.tag
    # Long tags are not cached: strangers can invent them.
    tags = _tags if len(tag) < _LONG_TAG else _tags.__wrapped__
    namespace, begin, end = tags(tag, inherited)
    out.append(begin)
    for index, (key, value) in enumerate(element.items()):
        # The same check as in `escape`: most values have nothing to escape.
        written = value if _SPECIAL.search(value) is None else escape(value)
        if key[:1] != "{":
            out.append(f" {key}='{written}'")
            continue
        space, local = _split(key)
        if space == XML:
            out.append(f" xml:{local}='{written}'")
        else:
            out.append(f" xmlns:a{index}='{escape(space)}' a{index}:{local}='{written}'")
    text = element.text
    if not text and not len(element):
        out.append("/>")
        return
    out.append(">")
    if text:
        out.append(escape_text(text))
    for child in element:
        if len(out) > _PIECES:
            out[:] = [_joined(out, most)]
        _write(child, namespace, out, most)
        if child.tail:
            out.append(escape_text(child.tail))
    out.append(end)


_LONG_TAG = 200


@lru_cache(maxsize=500)
def _tags(tag: str, inherited: str) -> tuple[str, str, str]:
    """Give an element's namespace, the beginning of its start tag, and its end tag."""
    namespace, name = _split(tag)
    if namespace == XML:
        raise MalformedStanza("an element in the namespace that is for XML's own attributes")
    declared = "" if namespace == inherited else f" xmlns='{escape(namespace)}'"
    return namespace, f"<{name}{declared}", f"</{name}>"


def _split(tag: str) -> tuple[str, str]:
    if tag[:1] != "{":
        return "", tag
    namespace, _, name = tag[1:].partition("}")
    return namespace, name


_ESCAPES: Mapping[int, str] = {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord("'"): "&apos;",
    ord('"'): "&quot;",
    # A parser would turn these into spaces inside an attribute.
    ord("\t"): "&#9;",
    ord("\n"): "&#10;",
    ord("\r"): "&#13;",
}
_ILLEGAL = frozenset([*range(9), 11, 12, *range(14, 32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF])
_REPLACED: Mapping[int, str] = dict.fromkeys(_ILLEGAL, "\ufffd")
_ILLEGAL_CHARACTERS = frozenset(map(chr, _ILLEGAL))
_SPECIAL = re.compile(f"[{re.escape(''.join(map(chr, sorted({*_ESCAPES, *_ILLEGAL}))))}]")


def escape(text: str) -> str:
    """Escape a text for use within any quotes.

    Raises MalformedStanza if it holds a character XML 1.0 forbids.
    """
    if _SPECIAL.search(text) is None:
        return text
    if not _ILLEGAL_CHARACTERS.isdisjoint(text):
        raise MalformedStanza("a character that XML cannot carry")
    return text.translate(_ESCAPES)


def legal(text: str) -> str:
    """Replace the characters of a text that XML cannot carry."""
    return text.translate(_REPLACED)


_ESCAPES_IN_TEXT: Mapping[int, str] = {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    # A parser would turn it into a line feed.
    ord("\r"): "&#13;",
}
_SPECIAL_IN_TEXT = re.compile(
    f"[{re.escape(''.join(map(chr, sorted({*_ESCAPES_IN_TEXT, *_ILLEGAL}))))}]"
)


def escape_text(text: str) -> str:
    """Escape a text for use as character data, with no more escapes than needed.

    Raises MalformedStanza if it holds a character XML 1.0 forbids.
    """
    if _SPECIAL_IN_TEXT.search(text) is None:
        return text
    if not _ILLEGAL_CHARACTERS.isdisjoint(text):
        raise MalformedStanza("a character that XML cannot carry")
    return text.translate(_ESCAPES_IN_TEXT)


def to_xso(element: ET.Element, kind: type[X]) -> X:
    """Read a tree as an XSO of the class `kind`.

    Children unknown to the class are dropped, as XSOs do: use the tree itself for stanzas that are
    passed on. Raises MalformedStanza if it does not fit the class.
    """
    events = _events(element)
    _, *start = next(events)
    generator = kind.parse_events(start, Context())  # type: ignore[attr-defined]
    try:
        next(generator)
        for event in events:
            generator.send(event)
    except StopIteration as done:
        result: X = done.value
        return result
    except Exception as error:  # noqa: BLE001 - aioxmpp lets errors of any class out
        raise MalformedStanza(f"{_split(element.tag)[1]}: {error}") from None
    raise MalformedStanza("unfinished element")  # pragma: no cover - trees are balanced


def refuse_text(element: ET.Element) -> None:
    """Raise MalformedStanza if an element that takes no text has some, as an XSO would."""
    texts = [element.text, *[child.tail for child in element]]
    if any(texts) and any(text and text.strip() for text in texts):
        raise MalformedStanza(f"{_split(element.tag)[1]}: there is a text where none may be")


def _events(element: ET.Element) -> Iterator[tuple[Any, ...]]:
    namespace, name = _split(element.tag)
    attributes = {
        (space or None, local): value
        for (space, local), value in ((_split(key), v) for key, v in element.attrib.items())
    }
    yield "start", namespace, name, attributes
    if element.text:
        yield "text", element.text
    for child in element:
        yield from _events(child)
        if child.tail:
            yield "text", child.tail
    yield ("end",)


class _TreeSink:
    """The part of a SAX handler that XSOs write to."""

    def __init__(self) -> None:
        self.builder = ET.TreeBuilder()

    def startElementNS(  # noqa: N802 - SAX's name
        self, name: tuple[str, str], _: object, attributes: dict[tuple[str | None, str], str]
    ) -> None:
        self.builder.start(
            f"{{{name[0]}}}{name[1]}",
            {local if not space else f"{{{space}}}{local}": value
             for (space, local), value in attributes.items()},
        )  # fmt: skip

    def endElementNS(self, name: tuple[str, str], _: object) -> None:  # noqa: N802 - likewise
        self.builder.end(f"{{{name[0]}}}{name[1]}")

    def characters(self, text: str) -> None:
        self.builder.data(text)

    def startPrefixMapping(self, *_: object) -> None:  # noqa: N802 - likewise
        """Ignore the prefix that an XSO proposes: `write` uses none."""

    endPrefixMapping = startPrefixMapping  # noqa: N815 - likewise


def from_xso(xso: object) -> ET.Element:
    """Write an XSO as a tree."""
    sink = _TreeSink()
    xso.xso_serialise_to_sax(sink)  # type: ignore[attr-defined]
    return sink.builder.close()
