"""Finds plain groupchat messages: the form in which nearly all that a channel says comes.

A plain one is written as servers write it: attributes that are expected, in single quotes,
nothing inside that `component.framing` would have to look at twice. Then splitting the
start tag at its quotes tells all there is to know, in half the time of a regular
expression. What is not plain is left to the framer; what both take they take alike, as
tests/unit/test_plain.py shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

Plain = tuple[bytes, bytes, bytes, bytes, int]
"""One plain message: `to` and `from`, the stanza before and behind the value of `to`, and
where in the data it ends."""

_OPEN = b"<message"
_CLOSE = b"</message>"
_TO = b" to='"
_ATTRIBUTES = frozenset({b" to=", b" from=", b" type=", b" id=", b" xml:lang="})

_SMALL = 2_048
_LARGE = 65_536
"""Bytes that are cut at their end tags in one go: few at first, there may be nothing plain."""

_EXCLAMATION, _QUESTION = b"!?"


def plain_messages(data: bytes, position: int, max_bytes: int) -> Iterator[Plain]:
    """Give the plain messages that stand one behind the other from a position on.

    Ends at the first stanza that is not plain, not whole or larger than `max_bytes`.
    """
    size = _SMALL
    names: list[bytes] = []
    at_to, at_from, at_type = 0, 0, 0
    while data.startswith(_OPEN, position):
        *stanzas, _ = data[position : position + size].split(_CLOSE)
        for stanza in stanzas:
            tag, _, inside = stanza.partition(b">")
            words = tag.split(b"'")
            if names != words[::2]:
                names = words[::2]
                at_to, at_from, at_type = _places(b"'".join(names))
            if (
                not at_to
                or words[at_type] != b"groupchat"
                or tag.rfind(b"<")
                # A tag of that name, or, which does no harm, a word.
                or inside.find(b"message") >= 0
                # A number is found several times as fast as two characters, and rarely there.
                or (_EXCLAMATION in inside and b"<!" in inside)
                or (_QUESTION in inside and b"<?" in inside)
                or len(stanza) + len(_CLOSE) > max_bytes
            ):
                return
            to = words[at_to]
            cut = stanza.find(_TO) + len(_TO)
            position += len(stanza) + len(_CLOSE)
            yield to, words[at_from], stanza[:cut], stanza[cut + len(to) :] + _CLOSE, position
        if not stanzas and (size == _LARGE or position + size >= len(data)):
            return
        size = _LARGE


# There are a few hundred orders of some of the attributes; what strangers invent goes again.
@lru_cache(maxsize=1_000)
def _places(names: bytes) -> tuple[int, int, int]:
    """Tell where among a tag's words to, from and type are, by its names; zeros if not plain."""
    first, *words = names.removeprefix(_OPEN).split(b"'")
    # What is behind the last quote is nothing, or that quote is one that opens.
    if not words or words.pop():
        return 0, 0, 0
    words.insert(0, first)
    if not _ATTRIBUTES.issuperset(words) or len(set(words)) < len(words):
        return 0, 0, 0
    try:
        to, sender, type_ = (1 + 2 * words.index(name) for name in (b" to=", b" from=", b" type="))
    except ValueError:
        return 0, 0, 0
    return to, sender, type_
