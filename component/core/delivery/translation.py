"""Translates a stanza's own MIX elements to another core namespace, by a parser.

That is needed if the stanza contains a forwarded stanza, which must not change, if it declares a
prefix, and with CDATA. The parser gives the elements and their offsets. Only the values of
declarations are replaced and all other bytes are kept: a tree that is serialised again may become
several times as long.
"""

from __future__ import annotations

import re
from xml.parsers import expat

from component.wire.framing import ATTRIBUTE, START_TAG
from schemas import codec
from schemas.namespaces import FORWARD

FORWARDED = FORWARD.encode()

MOST_PREFIXES = 100
"""Declarations in force at one place, and …"""

MOST_ELEMENTS = 5_000
"""… elements in a stanza that is translated; one with more stays as it is."""

GROWTH = 4_096
"""Bytes by which a translation may be longer, through declarations that are repeated."""

_FORWARDED_NAME = "forwarded"
Scope = dict[bytes, bytes]
Declared = dict[bytes, tuple[bytes, int, int]]
"""Namespaces by prefix, and the offsets of their declarations."""


class _TooMuch(Exception):  # noqa: N818 - a fact about the stanza
    """Whoever sends that is not understood everywhere."""


def in_other_namespace(data: bytes, old: bytes, new: bytes) -> bytes:
    """Change the namespace of the elements outside of what is forwarded.

    A stanza that is malformed, too deep or too large stays as it is.
    """
    translation = _Translation(data, old, new)
    try:
        return translation.made()
    except (expat.ExpatError, _TooMuch):
        return data


class _Translation:
    """One stanza on its way."""

    def __init__(self, data: bytes, old: bytes, new: bytes) -> None:
        self._data = data
        self._old = old
        self._new = new
        self._pieces: list[bytes] = []
        self._done = 0
        self._size = 0
        self._elements = 0
        # Namespaces by prefix for each open element, as written; b"" is the default namespace.
        self._scopes: list[Scope] = [{}]
        # Levels of forwarded elements.
        self._forwarded: list[int] = []
        parser = self._parser = expat.ParserCreate()
        parser.StartElementHandler = self._opened
        parser.EndElementHandler = self._closed

    def made(self) -> bytes:
        """Give the stanza."""
        self._parser.Parse(self._data, True)
        return b"".join([*self._pieces, self._data[self._done :]])

    def _opened(self, name: str, __: dict[str, str]) -> None:
        self._elements += 1
        if len(self._scopes) > codec.MAX_DEPTH or self._elements > MOST_ELEMENTS:
            raise _TooMuch
        start = self._parser.CurrentByteIndex
        tag = START_TAG.match(self._data, start)
        if tag is None:
            raise _TooMuch
        scope = self._scopes[-1]
        declared = _declared(self._data, tag) if b"xmlns" in tag[2] else {}
        if declared:
            scope = {**scope, **{prefix: each[0] for prefix, each in declared.items()}}
            if len(scope) > MOST_PREFIXES:
                raise _TooMuch
        self._scopes.append(scope)
        prefix, _, local = name.rpartition(":")
        is_forwarded = local == _FORWARDED_NAME and scope.get(prefix.encode()) == FORWARDED
        if is_forwarded and not self._forwarded:
            self._keep_inside(tag, scope, declared)
        if is_forwarded:
            self._forwarded.append(len(self._scopes))
        if not self._forwarded:
            for namespace, start, end in declared.values():
                if namespace == self._old:
                    self._put(start, end, self._new)

    def _closed(self, _: str) -> None:
        if self._forwarded and self._forwarded[-1] == len(self._scopes):
            self._forwarded.pop()
        self._scopes.pop()

    def _keep_inside(self, tag: re.Match[bytes], scope: Scope, declared: Declared) -> None:
        """Have the prefixes stand for what they did, from an element on."""
        for prefix, namespace in scope.items():
            name = b"xmlns:" + prefix if prefix else b"xmlns"
            if namespace == self._old and prefix not in declared:
                self._put(tag.end(1), tag.end(1), b" %b='%b'" % (name, namespace))

    def _put(self, start: int, end: int, what: bytes) -> None:
        self._size += len(what) - (end - start)
        if self._size > GROWTH:
            raise _TooMuch
        self._pieces += [self._data[self._done : start], what]
        self._done = end


def _declared(data: bytes, tag: re.Match[bytes]) -> Declared:
    """Read the declarations of a tag."""
    declared: Declared = {}
    for found in ATTRIBUTE.finditer(data, tag.start(2), tag.end(2)):
        name, _, prefix = found[1].partition(b":")
        if name == b"xmlns":
            group = 2 if found[2] is not None else 3
            declared[prefix] = found[group], found.start(group), found.end(group)
    return declared
