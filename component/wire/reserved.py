"""Names reserved by XML that servers write all the same.

The prefix `xml` stands for a namespace that no other prefix may stand for, and that may not be
the default (Namespaces in XML 1.0 §3). A server that reads `<xml:x/>` and writes out what
prefixes stand for writes what no parser takes, neither its own, which would end the link, nor a
client's. Whatever leaves has another namespace in its place. XMPP has no such elements, and the
attributes that there are (`xml:lang`) are written with their own prefix.
"""

from __future__ import annotations

from component.wire.framing import ATTRIBUTE, START_TAG
from schemas.namespaces import XML

_RESERVED = XML.encode()
_ANOTHER = b"urn:example:reserved"


def without_reserved(data: bytes) -> bytes:
    """Give stanzas as they may be written: nearly always as they are."""
    # A long word is found twenty times as fast as one that is read at all.
    at = data.find(_RESERVED)
    if at < 0:
        return data
    pieces: list[bytes] = []
    done = 0
    while at >= 0:
        begin = data.rfind(b"<", done, at)
        tag = START_TAG.match(data, begin) if begin >= 0 else None
        end = at + len(_RESERVED)
        if tag is not None and tag.end() > at:
            end = tag.end()
            for found in ATTRIBUTE.finditer(data, begin, end):
                value = 2 if found[2] is not None else 3
                name, _, prefix = found[1].partition(b":")
                if name == b"xmlns" and found[value] == _RESERVED and prefix != b"xml":
                    pieces += (data[done : found.start(value)], _ANOTHER)
                    done = found.end(value)
        at = data.find(_RESERVED, end)
    return b"".join([*pieces, data[done:]])
