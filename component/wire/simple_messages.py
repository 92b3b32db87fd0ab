"""Finds plain groupchat messages: the form of nearly all messages of channels.

A plain one is written as servers write it: attributes that are expected, in single quotes,
nothing inside that `component.wire.framing` would have to look at twice. Then splitting the
start tag at its quotes tells all there is to know, in half the time of a regular
expression. What is not plain is left to the framer; what both take they take alike, as
tests/unit/test_plain.py shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

Plain = tuple[bytes, bytes, bytes]
"""One plain message: `to`, `from`, and all that stands between OPEN and CLOSE."""

OPEN = b"<message"
CLOSE = b"</message>"
BETWEEN = CLOSE + OPEN
TO = b" to='"

_ATTRIBUTES = frozenset({TO[:-1], b" from=", b" type=", b" id=", b" xml:lang="})

_SMALL = 2_048
_LARGE = 24_576
"""Bytes that are cut into messages in one go: few at first, there may be nothing plain. In 30,000
and more, Python searches for what stands between two messages in another way, a slower one."""

_EXCLAMATION, _QUESTION = b"!?"


def plain_messages(data: bytes, position: int, max_bytes: int) -> Iterator[Plain]:
    """Give the plain messages that stand one behind the other from a position on.

    Ends at the first stanza that is not plain, not whole or larger than `max_bytes`.
    """
    largest = min(_LARGE, max_bytes)
    size = min(_SMALL, largest)
    names: list[bytes] = []
    at_to, at_from, at_type = 0, 0, 0
    while data.startswith(OPEN, position):
        end = data.rfind(CLOSE, position, position + size)
        if end < 0 and size < largest:
            end = data.rfind(CLOSE, position, position + largest)
        if end < 0:
            return
        for stanza in data[position + len(OPEN) : end].split(BETWEEN):
            inside = stanza.find(b"<")
            words = stanza[:inside].split(b"'")
            if names != words[::2]:
                names = words[::2]
                written = b"'".join(names)
                places = _places if len(written) <= _LONGEST_NAMES else _places.__wrapped__
                at_to, at_from, at_type = places(written)
            # A tag of that name, or, which does no harm, a word.
            again = stanza.find(b"message", inside)
            if again >= 0:
                if not stanza.startswith(CLOSE, again - 2):
                    return
                # Something else than a message comes behind it, which is not a part of it.
                stanza = stanza[: again - 2]  # noqa: PLW2901 - the loop ends with it
            if (
                not at_to
                or words[at_type] != b"groupchat"
                # A number is found several times as fast as two characters, and rarely there.
                or (_EXCLAMATION in stanza and b"<!" in stanza)
                or (_QUESTION in stanza and b"<?" in stanza)
            ):
                return
            yield words[at_to], words[at_from], stanza
            if again >= 0:
                return
        position = end + len(CLOSE)
        size = largest


_LONGEST_NAMES = 64
"""Bytes of the names that a plain tag may have, each once; longer ones are not remembered."""


# There are a few hundred orders of some of the attributes; what strangers invent goes again.
@lru_cache(maxsize=500)
def _places(names: bytes) -> tuple[int, int, int]:
    """Tell where among a tag's words to, from and type are, by its names; zeros if not plain."""
    *words, end = names.split(b"'")
    # The last value must be followed by the end of a start tag, not of an empty element.
    if end != b">" or not _ATTRIBUTES.issuperset(words) or len(set(words)) < len(words):
        return 0, 0, 0
    try:
        to, sender, type_ = (1 + 2 * words.index(name) for name in (b" to=", b" from=", b" type="))
    except ValueError:
        return 0, 0, 0
    return to, sender, type_
