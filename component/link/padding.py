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

_USUAL = 512
"""Bytes of the longest tag that is not searched for."""

_STEP = 2_048
_TAG = re.compile(rb"<[^'\"<>]*+(?:'[^'<]*+'[^'\"<>]*+|\"[^\"<]*+\"[^'\"<>]*+)*+>")


def padded(data: bytes) -> bytes:
    """Give some whole stanzas with as much white space behind them as a parser may want."""
    if len(data) <= ONE_READ:
        return data
    return data + b" " * max(_USUAL, longest_tag(data))


def longest_tag(data: bytes) -> int:
    """Return the bytes of the longest tag, 0 if there is none of two steps or more.

    Between two samples that see no `<` there is one tag, or text.
    """
    longest = position = 0
    while position < len(data):
        if data.find(b"<", position, position + _STEP) >= 0:
            position += _STEP
            continue
        tag = _TAG.match(data, max(data.rfind(b"<", 0, position), 0))
        if tag is None or tag.end() <= position:
            position = data.find(b"<", position)
            if position < 0:
                break
            continue
        longest = max(longest, tag.end() - tag.start())
        position = tag.end()
    return longest
