"""Counts of the stanzas of each lane: plain integers, so that the hot lane only adds.

`component.http.metrics` makes metrics of these numbers when somebody asks.
"""

from __future__ import annotations

_CONTROL = (b"message", b"presence", b"iq")
_OTHER = b"other"


class LaneCounts:
    """How many stanzas came by each lane, by kind, and how many copies went out."""

    __slots__ = ("control", "copies", "hot")

    def __init__(self) -> None:
        self.hot: dict[bytes, int] = {b"message": 0, b"presence": 0}
        self.control: dict[bytes, int] = dict.fromkeys((*_CONTROL, _OTHER), 0)
        self.copies = 0

    def controlled(self, name: bytes) -> None:
        """Count a stanza of the control lane; names nobody foresaw share one number."""
        self.control[name if name in self.control else _OTHER] += 1
