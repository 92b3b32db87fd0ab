"""The search for the end of an element that does not come in one piece, or is not simple.

It takes chunk after chunk and keeps none: of what has passed there is left how many elements
are open, in which part of a tag the last chunk ended, and of the element's own tag what tells
whom it concerns, cut to what that may be long. So an element of any size, with tags and values
of any size, costs the same memory, and work that follows its bytes.

Elements whose names begin like that of the element itself are counted, and no others: in
well-formed XML each of those that is opened is closed, so the count is right, and a name need
not be known to its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from component.wire.tags import (
    ATTRIBUTE,
    INITIAL,
    LETTER,
    ONE_ATTRIBUTE,
    SPACE,
    S,
    not_a_tag,
    restricted,
)

BOUNDS: Mapping[bytes, int] = {b"to": 20_000, b"from": 20_000, b"type": 100, b"id": 65_536}
"""Bytes of values that are remembered of a tag: of addresses as many as the longest has when
all of it is escaped (3,071 bytes, RFC 7622 §3.1), of an id as many as go into an answer."""

LONGEST_NAME = 100
"""Bytes of an element's name that are remembered."""

_PREFIX = 32
"""Bytes by which names are told apart: more than those of stanzas have."""

# States of the search in a tag, in the order in which a tag has them: what is passed over
# in a state is what its pattern matches, and the byte behind tells the next state.
_PASSED: Mapping[str, re.Pattern[bytes]] = {
    "initial": re.compile(b""),
    "name": re.compile(LETTER + b"*+"),
    # Not possessively: see component.wire.tags.
    "behind a value": re.compile(b"(?:" + ONE_ATTRIBUTE + b")*"),
    "gap": re.compile(S + b"*+"),
    "attribute": re.compile(LETTER + b"*+"),
    "equals": re.compile(S + b"*+"),
    "quote": re.compile(S + b"*+"),
    "single": re.compile(rb"[^'<]*+"),
    "double": re.compile(rb'[^"<]*+'),
    "slash": re.compile(b""),
    "end initial": re.compile(b""),
    "end name": re.compile(LETTER + b"*+"),
    "end gap": re.compile(S + b"*+"),
}
_INITIAL, _LETTER = re.compile(INITIAL), re.compile(LETTER)
_START, _EMPTY, _END = "start", "empty", "end"


def _behind(**states: str) -> dict[int, str]:
    """Tell the next states by the bytes that lead to them."""
    named = {"slash": b"/", "more": b">", "equals": b"=", "single": b"'", "double": b'"'}
    named["space"] = SPACE
    named["initial"] = bytes(byte for byte in range(256) if _INITIAL.match(bytes([byte])))
    return {byte: state for key, state in states.items() for byte in named[key]}


_NEXT: Mapping[str, Mapping[int, str]] = {
    "initial": _behind(initial="name"),
    "name": _behind(space="gap", slash="slash", more=_START),
    "behind a value": _behind(space="gap", slash="slash", more=_START),
    "gap": _behind(initial="attribute", slash="slash", more=_START),
    "attribute": _behind(space="equals", equals="quote"),
    "equals": _behind(equals="quote"),
    "quote": _behind(single="single", double="double"),
    "single": _behind(single="behind a value"),
    "double": _behind(double="behind a value"),
    "slash": _behind(more=_EMPTY),
    "end initial": _behind(initial="end name"),
    "end name": _behind(space="end gap", more=_END),
    "end gap": _behind(more=_END),
}
# The byte that leads there is the first of a name.
_STAYS = frozenset({"name", "attribute", "end name"})

_CDATA_START = b"[CDATA["
_CDATA_END = b"]]>"


class Ending:
    """Finds where one element ends, or the stream itself.

    `content` is where the element's content begins, counted from its first byte, or -1;
    `values` has what is remembered of its attributes, those too long left out; `is_over` tells
    that the end was found.
    """

    def __init__(self) -> None:
        self.content = -1
        self.name = b""
        self.values: dict[bytes, bytes] = {}
        self.ends_stream = False
        # A function, not a method of this: that would refer to itself.
        self._step: Callable[[Ending, bytes, int], int] = Ending._open
        self.is_over = False
        self._depth = 0
        self._seen = 0  # bytes of earlier chunks
        self._origin = 0
        # The last bytes of a chunk may be the beginning of what the next one tells.
        self._tail = b""
        self._state = ""
        self._attribute: bytearray | None = None
        self._value: bytearray | None = None

    @classmethod
    def behind(cls, name: bytes, length: int, *, empty: bool) -> Ending:
        """Begin behind a start tag of that length; give the rest to `go_on`."""
        ending = cls()
        ending.name = name[:LONGEST_NAME]
        ending._seen = length
        ending._began(length, empty=empty)
        return ending

    def go_on(self, data: bytes, at: int = 0) -> int:
        """Search on in what has come, from a position on.

        Gives where the element ends, or -1 for "not yet". Raises FramingError.
        """
        shift = len(self._tail)
        length = len(data) - at
        if shift:
            data, at = self._tail + data[at:], 0
            self._tail = b""
        self._origin = self._seen - shift - at
        while at < len(data):
            at = self._step(self, data, at)
            if self.is_over:
                return at - shift
        self._seen += length
        return -1

    # -- steps: each takes some of the data and tells what is next ------------------------

    def _open(self, data: bytes, at: int) -> int:
        if data[at] != ord("<"):
            raise not_a_tag()
        self._step = Ending._opened
        return at + 1

    def _opened(self, data: bytes, at: int) -> int:
        if data[at] in b"!?":
            raise restricted()
        if data[at] == ord("/"):
            self.ends_stream = True
            self._in_tag("end initial")
            return at + 1
        self._in_tag("initial")
        return at

    def _in_tag(self, state: str) -> None:
        self._step, self._state = Ending._tag, state

    def _tag(self, data: bytes, at: int) -> int:
        state = self._state
        passed = _PASSED[state].match(data, at)
        end = at if passed is None else passed.end()
        if self.content < 0:
            self._remember(state, data, at, end)
        if end == len(data):
            # An attribute that is not whole is passed over by its parts.
            return end
        following = _NEXT[state].get(data[end])
        if following is None:
            raise not_a_tag("an end tag" if state.startswith("end") else "a start tag")
        self._state = following
        if following in {_START, _EMPTY}:
            self._began(self._origin + end + 1, empty=following == _EMPTY)
        elif following == _END:
            self._closed()
        elif following in _STAYS:
            return end
        return end + 1

    def _remember(self, state: str, data: bytes, at: int, end: int) -> None:
        """Keep what tells whom the element concerns, from its own tag."""
        match state:
            case "name":
                self.name += data[at : min(end, at + LONGEST_NAME - len(self.name))]
            case "behind a value":
                for each in ATTRIBUTE.finditer(data, at, end):
                    self._found(each[1], each[2] or each[3] or b"")
            case "attribute":
                self._attribute = self._attribute or bytearray()
                _add(self._attribute, data, at, end, LONGEST_NAME)
            case "single" | "double":
                name = bytes(self._attribute or b"")
                self._value = self._value or bytearray()
                most = BOUNDS.get(name, 0)
                _add(self._value, data, at, end, most)
                if end < len(data):
                    self._found(name, bytes(self._value))
                    self._attribute = self._value = None

    def _found(self, name: bytes, value: bytes) -> None:
        # The last of the same name counts, as for `Frame`; no parser takes two.
        self.values.pop(name, None)
        if len(value) <= BOUNDS.get(name, -1):
            self.values[name] = value

    def _began(self, content: int, *, empty: bool) -> None:
        if self.content < 0:
            self.content = content
            self.is_over = empty
        self._depth += not empty
        self._step = Ending._inside

    def _closed(self) -> None:
        self._depth -= 1
        self._step = Ending._inside
        self.is_over = self._depth <= 0

    def _inside(self, data: bytes, at: int) -> int:
        prefix = self.name[:_PREFIX]
        for mark in _marks(prefix).finditer(data, at):
            at = mark.end()
            match mark.lastindex:
                case 1:
                    if mark[1] == b"?":
                        raise restricted()
                    self._step, self._state = Ending._cdata_start, ""
                    return at
                case 2:
                    self._depth -= 1
                    if not self._depth:
                        self.is_over = True
                        return at
                case 3:
                    self._depth += not mark[3]
                case _:
                    self._in_tag("end name" if mark[4] else "name")
                    return at
        begun = data.rfind(b"<", max(at, len(data) - len(prefix) - 1))
        if begun >= 0:
            self._tail = data[begun:]
        return len(data)

    def _cdata_start(self, data: bytes, at: int) -> int:
        """Read on in what `<!` has begun; only one thing may follow in a stream."""
        self._state += chr(data[at])
        if not _CDATA_START.startswith(self._state.encode("latin-1")):
            raise restricted()
        if len(self._state) == len(_CDATA_START):
            self._step = Ending._cdata
        return at + 1

    def _cdata(self, data: bytes, at: int) -> int:
        end = data.find(_CDATA_END, at)
        if end >= 0:
            self._step = Ending._inside
            return end + len(_CDATA_END)
        self._tail = data[max(at, len(data) - len(_CDATA_END) + 1) :]
        return len(data)


def _add(kept: bytearray, data: bytes, at: int, end: int, most: int) -> None:
    """Keep some more bytes, one more than may be: so it is seen that there were more."""
    room = most + 1 - len(kept)
    if room > 0:
        kept += data[at : min(end, at + room)]


@lru_cache(maxsize=16)
def _marks(prefix: bytes) -> re.Pattern[bytes]:
    """Match what matters inside an element.

    Groups: 1 what is no tag; 2 the slash of an end tag; 3 a start tag's end; 4 what a tag begins
    with that is not whole.
    """
    name = re.escape(prefix) + LETTER + b"*+"
    return re.compile(
        b"<(?:([!?])|(/)" + name + S + b"*+>"
        + b"|" + name + b"(?:" + ONE_ATTRIBUTE + b")*" + S + b"*+(/?)>"
        + b"|(/?)" + re.escape(prefix) + b")"
    )  # fmt: skip
