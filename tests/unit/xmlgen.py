"""Random XML as XMPP streams may carry it, and a real parser that tells stanzas apart."""

import re
from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from hypothesis import strategies as st

_ROOT = b"<root xmlns='d' xmlns:x='u' xmlns:stream='s'>"

whitespace = st.text(" \t\r\n", max_size=3)
_space = st.text(" \t\r\n", min_size=1, max_size=3)

# Few letters, so that the interesting ones meet; and all of Unicode besides.
_letters = st.sampled_from([*"m/<>'\"=&;!?[]-CDATA \n\té€😀", "\U0010fffd", "]]", "</m>", "<m>"])
_any_letter = st.characters(
    blacklist_categories=["Cs"], blacklist_characters="\ufffe\uffff"
).filter(lambda letter: letter in "\t\n\r" or letter >= " ")
text = st.lists(_letters | _any_letter, max_size=12).map("".join)

names = st.sampled_from(["m", "mm", "message", "x:m", "m.m", "_", "é", "mé"])


def _escaped(value: str) -> str:
    value = value.replace("&", "&amp;").replace("<", "&lt;")
    # No text may have `]]>` in it, nor two texts that stand side by side.
    return re.sub(r"^>|(?<=\])>", "&gt;", value)


def _cdata(value: str) -> str:
    return f"<![CDATA[{re.sub(']>+', ']', value)}]]>"


def _quoted(value: str) -> str:
    return '"' + _escaped(value).replace('"', "&quot;") + '"'


def _single_quoted(value: str) -> str:
    return "'" + _escaped(value).replace("'", "&#39;") + "'"


_values = text.map(_quoted) | text.map(_single_quoted)
attributes = st.dictionaries(
    st.sampled_from(["a", "to", "from", "id", "type", "xml:lang", "x:to", "tö"]),
    _values,
    max_size=4,
)


@st.composite
def _tags(draw: st.DrawFn) -> tuple[str, str]:
    """Write a start tag without its end, and the end tag."""
    name = draw(names)
    written = "".join(
        f"{draw(_space)}{key}{draw(whitespace)}={draw(whitespace)}{value}"
        for key, value in draw(attributes).items()
    )
    return f"<{name}{written}{draw(whitespace)}", f"</{name}{draw(whitespace)}>"


@st.composite
def _elements(draw: st.DrawFn, children: st.SearchStrategy[str]) -> str:
    start, end = draw(_tags())
    return f"{start}>{''.join(draw(st.lists(children, max_size=3)))}{end}"


stanzas = st.recursive(
    _tags().map(lambda tags: f"{tags[0]}/>"),
    lambda inner: _elements(
        inner
        | text.map(_escaped)
        | text.map(_cdata)
        | st.sampled_from(["&lt;", "&#x1F600;", "&#10;", "&gt;/m>"])
    ),
    max_leaves=8,
)


def chunked(draw: Callable[[Any], Any], stream: bytes) -> list[bytes]:
    """Cut a stream anywhere."""
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


class Slicer:
    """Cuts a stream into stanzas the honest way: expat, one byte at a time."""

    def slices(self, stream: bytes) -> list[bytes]:
        """Give the bytes of each element of the stream.

        Each look is a parser of its own with everything up to one `>`: a parser that gets
        more and more may keep to itself what it has read (expat from 2.6 on).
        """
        found: list[bytes] = []
        begin = 0
        for position, byte in enumerate(stream):
            if byte == ord(">"):
                start = self._whole_element(stream[begin : position + 1])
                if start is not None:
                    found.append(stream[begin + start : position + 1])
                    begin = position + 1
        return found

    @staticmethod
    def _whole_element(data: bytes) -> int | None:
        """Tell where the one element begins with which the data ends; None if there is none."""
        parser = expat.ParserCreate()
        depth, start = 0, None
        ended = False

        def opened(_: str, __: dict[str, str]) -> None:
            nonlocal depth, start
            if depth == 1 and start is None:
                start = parser.CurrentByteIndex - len(_ROOT)
            depth += 1

        def closed(_: str) -> None:
            nonlocal depth, ended
            depth -= 1
            ended = depth == 1

        parser.StartElementHandler = opened
        parser.EndElementHandler = closed
        parser.Parse(_ROOT + data)
        return start if ended else None

    @staticmethod
    def attributes(element: bytes) -> dict[str, str]:
        """Give the attributes of one element."""
        found: dict[str, str] = {}
        parser = expat.ParserCreate()

        def start(name: str, attributes: dict[str, str]) -> None:
            if name != "root":
                found.update(attributes)

        parser.StartElementHandler = start
        parser.Parse(_ROOT + element + b"</root>", True)
        return found

    @classmethod
    def attribute_value(cls, raw: bytes) -> str:
        """Give what a value as it stands on the wire means."""
        quote = b'"' if b"'" in raw else b"'"
        return cls.attributes(b"<m a=" + quote + raw + quote + b"/>")["a"]
