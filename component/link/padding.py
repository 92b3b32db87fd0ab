"""White space after large writes, so that expat parses them at once.

From 2.6 on, and with distributions' patches before, expat parses a tag that came in pieces
again only when there is twice as much of it as the last time, or its buffer is full. On a
silent link that never happens: a tag of 9,000 bytes held up itself and all stanzas behind it until
many more had come. XMPP allows white space between stanzas (RFC 6120 §4.6.1).
"""

from __future__ import annotations

import re

ONE_READ = 2_048
"""Bytes that a server reads in one piece; a tag within them is parsed at once."""

USUAL = 1_024
"""Bytes of white space in any case; only a longer tag needs to be searched for."""

_NEAR = USUAL // 2
_TAG = re.compile(rb"<[^'\"<>]*+(?:'[^'<]*+'[^'\"<>]*+|\"[^\"<]*+\"[^'\"<>]*+)*+>")


def padding(data: bytes) -> bytes:
    """Make the white space that expat may need after some whole stanzas."""
    return b"" if len(data) <= ONE_READ else b" " * max(USUAL, _missing(data))


def _missing(data: bytes) -> int:
    """Give the number of bytes by which a long tag exceeds what follows it.

    Such a tag spans from some distance before the end to at least twice that distance. So it
    contains one of the few positions whose distances from the end are powers of two.
    """
    missing = 0
    distance = _NEAR
    size = len(data)
    while distance < size:
        place = size - distance
        distance *= 2
        near = data.rfind(b"<", max(place - _NEAR, 0), place + 1)
        if near >= 0 and data.find(b"<", place + 1, place + _NEAR) >= 0:
            continue
        tag = _TAG.match(data, max(data.rfind(b"<", 0, place + 1), 0))
        if tag is not None and tag.end() > place:
            missing = max(missing, tag.end() - tag.start() - (size - tag.end()))
    return missing
