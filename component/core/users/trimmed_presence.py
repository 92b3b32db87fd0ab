"""A presence without what is large in it: kept for long, or told to many, it must be small.

What clients put into a presence takes some hundred bytes; whoever puts in more is told of
without that.
"""

from __future__ import annotations

from component.wire.framing import Frame
from schemas import codec

LARGEST = 8_192
"""Bytes of a presence that is kept, or told to channels."""


def shortened(presence: bytes) -> bytes:
    """Give a presence as it is, or without its largest children until it is small.

    Its start tag stays; if that alone is too large, nothing does but its kind.
    """
    if len(presence) <= LARGEST:
        return presence
    try:
        element = codec.read(presence)
    except codec.MalformedStanza:
        return _bare(presence)
    sizes = [(len(codec.write(child)), number) for number, child in enumerate(element)]
    children = list(element)
    total = len(presence)
    for size, number in sorted(sizes, reverse=True):
        if total <= LARGEST:
            break
        element.remove(children[number])
        total -= size
    element.text = None
    for child in element:
        child.tail = None
    written = codec.write(element)
    return written if len(written) <= LARGEST else _bare(presence)


def _bare(presence: bytes) -> bytes:
    """Give nothing but a presence's kind and addresses."""
    frame = Frame(presence)
    named = ((b"type", frame.type), (b"from", frame.sender), (b"to", frame.to))
    attributes = b"".join(b" %b='%b'" % each for each in named if each[1])
    return b"<presence%b/>" % attributes
