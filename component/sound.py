"""Finds what a server passes on though it takes it from nobody.

Servers write anew what they have read: `<xml:x/>`, which is well-formed, becomes
`<x xmlns='http://www.w3.org/XML/1998/namespace'/>`, which is not (Namespaces in XML §3). Passed on
as it came, it would end the link. Whether that is in a stanza at all is asked of each read at
once, by one character first; only where it is, a parser reads the stanza.
"""

from __future__ import annotations

from xml.parsers import expat

from schemas.namespaces import STREAMS

_RARE = ord("X")
_RESERVED = b"/XML/1998/namespace"

_ROOT_OPEN = f"<r xmlns:stream='{STREAMS}'>".encode()
_ROOT_CLOSE = b"</r>"


def is_suspect(data: bytes) -> bool:
    """Tell whether there may be something in some stanzas that a server does not take."""
    return _RARE in data and _RESERVED in data


def is_sound(data: bytes) -> bool:
    """Tell whether a server takes a stanza that is well-formed but for its namespaces."""
    if not is_suspect(data):
        return True
    # No namespace has that separator in it.
    parser = expat.ParserCreate(namespace_separator="\x01")
    try:
        parser.Parse(_ROOT_OPEN + data + _ROOT_CLOSE, True)
    except expat.ExpatError:
        return False
    return True
