"""White space behind what is written, so that no parser waits for more than there is.

From 2.6 on, and where distributions have mended older ones, expat looks at a tag that came in
pieces again only when twice as much is there as at its last look, or its buffer is full. On a
link that falls silent that is never: a tag of 9,000 bytes kept it, and all that came behind
it, until the next stanza but many. XMPP allows white space between stanzas (RFC 6120 §4.6.1).
"""

from __future__ import annotations

import re

ONE_READ = 2_048
"""Bytes that a server reads in one piece; a tag within them is never looked at twice."""

USUAL = 1_024
"""Bytes of the longest tag that is not searched for."""

_NEAR = USUAL // 2
_TAG = re.compile(rb"<[^'\"<>]*+(?:'[^'<]*+'[^'\"<>]*+|\"[^\"<]*+\"[^'\"<>]*+)*+>")


def padding(data: bytes) -> bytes:
    """Give as much white space as a parser may want behind some whole stanzas."""
    return b"" if len(data) <= ONE_READ else b" " * max(USUAL, _missing(data))


def _missing(data: bytes) -> int:
    """Tell how many bytes more than there are behind it some long tag has itself.

    Such a tag reaches from somewhere to twice that distance from the end, or further. So one
    of the few places whose distances are powers of two is inside.
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
