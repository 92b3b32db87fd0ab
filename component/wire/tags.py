"""What tags look like in the bytes of a stream (XML 1.0 §3.1), and what is no stream.

Names and values have no longest length, and tags no most attributes: what a parser takes is
a tag here too. What starts and ends in one piece is read by these expressions at once; for
what does not, there is `component.wire.ending`.
"""

from __future__ import annotations

import re

SPACE = b" \t\r\n"
S = rb"[ \t\r\n]"
INITIAL = rb"[^\s/>'\"=<!?&;.0-9-]"
LETTER = rb"[^\s/>'\"=<!?&;]"
NAME = INITIAL + LETTER + b"*+"
VALUE = rb"(?:'[^'<]*+'|\"[^\"<]*+\")"


def _named(name: bytes) -> bytes:
    return name + S + b"*+=" + S + rb"*+(?:'([^'<]*+)'|\"([^\"<]*+)\")"


# A group with a choice in it is not repeated possessively: up to Python 3.11.4, Debian 12's
# among them, that loses its place. There is one way only to read a tag, so it costs little.

ONE_ATTRIBUTE = S + b"++" + NAME + S + b"*+=" + S + b"*+" + VALUE

# Groups: 1 name, 2 attributes, 3 and 4 the value of `to` in either quotes, 5 and 6 of
# `from`, 7 and 8 of `type`, 9 the slash of an empty element. Reading the addresses while
# the tag is matched costs a third of looking for them afterwards.
START_TAG = re.compile(
    b"<(" + NAME + b")"
    b"((?:" + S + b"++(?:" + _named(b"to") + b"|" + _named(b"from") + b"|" + _named(b"type")
    + b"|" + NAME + S + b"*+=" + S + b"*+" + VALUE + b"))*)" + S + b"*+(/?)>"
)  # fmt: skip
EMPTY = 9
"""The group of START_TAG that is not empty if the element is."""

ATTRIBUTE = re.compile(
    S + b"(" + NAME + b")" + S + b"*+=" + S + rb"*+(?:'([^'<]*+)'|\"([^\"<]*+)\")"
)


class FramingError(ValueError):
    """The input is no XMPP stream; `condition` is the stream error for it (RFC 6120 §4.9.3)."""

    def __init__(self, condition: str, text: str) -> None:
        super().__init__(text)
        self.condition = condition


def not_a_tag(what: str = "a start tag") -> FramingError:
    """Tell of bytes that are no tag."""
    return FramingError("not-well-formed", f"not {what}")


def restricted() -> FramingError:
    """Tell of what XML has and XMPP forbids; no server passes that on (RFC 6120 §11.1)."""
    return FramingError("restricted-xml", "comments, instructions and DTDs are forbidden")
