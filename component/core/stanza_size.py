"""How large a stanza the server takes, and what is said in place of one that is larger.

A server that is given more ends the link, which is everybody's. So the size is looked at on the
only ways out (`Context.send`, `Outgoing.judged` and the copies), and what is too large is
replaced by the least that still has the effect its kind demands: an answer by an error with
its id, an error by its condition alone, a presence by one without children. Nothing stands in
for a request or a message: who asked is told, and a message is in the archive.

Copies are looked at only if what came is so large that they could be: a copy is the channel's
bytes with other addresses, and those have a longest length.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable

from component.wire.framing import START_TAG, Frame
from schemas import codec
from schemas import stanza as stanzas
from schemas.namespaces import STANZAS

SLACK = 1_024
"""Bytes of the server's limit that are not made use of: what it counts is not quite known."""

ADDRESSES = 65_536
"""Bytes of the addresses in one stanza for many (tap protocol T10 and C6)."""

GROWTH = ADDRESSES + 20_480
"""Bytes by which a copy may be longer than what came: a list of addresses, and one of the
longest there is (3,071 bytes, RFC 7622 §3.1) with all of it escaped in place of the shortest."""

LONGEST_ID = 65_536
"""Bytes of an id that an error in place of a stanza still has; a longer one is none's."""

_TOO_LARGE = "this is larger than the server takes"


class Largest:
    """Knows the limit of a stanza and of a tag in it, in bytes.

    Up to `copied` bytes all copies of a stanza fit anyway; up to `addressed` a list of addresses
    fits with it.
    """

    def __init__(self, server_stanza_bytes: int, max_stanza_bytes: int) -> None:
        self._configured = server_stanza_bytes
        self.wanted = max_stanza_bytes + ADDRESSES + GROWTH + SLACK
        """The limit with which all that is accepted can be passed on, too."""
        self.stanza = self.tag = self.copied = self.addressed = 0
        self._is(server_stanza_bytes)

    def _is(self, limit: int) -> None:
        self.stanza = max(0, limit - SLACK)
        self.addressed = max(0, self.stanza - GROWTH)
        # A server's parser may look at a tag that came in pieces when twice as much is there,
        # and not before; until then what is behind it counts as the same stanza.
        self.tag = self.stanza // 2
        self.copied = max(0, self.tag - GROWTH)
        self._long_tag = re.compile(rb"<[^<]{%d}" % self.tag)

    def lower(self, limit: int | None) -> bool:
        """Take a server's limit from its tap; False if it is lower than the configured one."""
        if limit is not None and limit - SLACK < self.stanza:
            self._is(limit)
            return limit >= self.wanted
        return True

    def link_lost(self) -> None:
        """Forget what the taps have said."""
        self._is(self._configured)

    def fitting(self, written: Iterable[bytes]) -> list[bytes]:
        """Give whole stanzas that are to be written, each or what stands in for it."""
        found = (data if self.fits(data) else self._in_place(data) for data in written)
        return [data for data in found if data is not None]

    def fits(self, data: bytes) -> bool:
        """Tell whether the server takes a stanza."""
        if len(data) <= self.tag:
            return True
        return len(data) <= self.stanza and not any(
            # It may be a text, which is taken as it comes.
            (tag := START_TAG.match(data, found.start())) is None or len(tag[0]) > self.tag
            for found in self._long_tag.finditer(data)
        )

    def _in_place(self, data: bytes) -> bytes | None:
        frame = Frame(data)
        tag = data[: frame.tag_end]
        alone = tag if tag.endswith(b"/>") else tag[:-1] + b"/>"
        try:
            return self.instead(codec.read(alone))
        except codec.MalformedStanza:
            return None

    def instead(self, element: ET.Element) -> bytes | None:
        """Write what is said in place of a stanza, of which children may be missing; or None."""
        type_ = element.get("type")
        error: list[ET.Element] = []
        if type_ == "error":
            error = [_condition_alone(element.find(stanzas.ERROR))]
        elif element.tag == stanzas.IQ and type_ == "result":
            type_ = "error"
            error = [stanzas.error("cancel", "policy-violation", _TOO_LARGE)]
        elif element.tag != stanzas.PRESENCE:
            return None
        small = ET.Element(element.tag)
        for key, value in (
            ("type", type_), *((key, element.get(key)) for key in ("from", "to", "id"))
        ):  # fmt: skip
            if value is not None and len(value) <= LONGEST_ID:
                small.set(key, value)
        if small.tag == stanzas.IQ and small.get("id") is None:
            return None  # nobody could tell what it answers
        small.extend(error)
        try:
            return codec.write(small, self.stanza)
        except codec.MalformedStanza:
            return None


def _condition_alone(error: ET.Element | None) -> ET.Element:
    """Give an error with nothing in it but its type and its defined condition."""
    names = () if error is None else (child.tag[1:].partition("}") for child in error)
    condition = next((name for space, _, name in names if space == STANZAS and name != "text"), "")
    type_ = "cancel" if error is None else error.get("type", "")
    return stanzas.error(
        type_ if type_ in _TYPES else "cancel",
        condition if 0 < len(condition) <= _LONGEST_CONDITION else "undefined-condition",
    )


_TYPES = frozenset({"auth", "cancel", "continue", "modify", "wait"})
_LONGEST_CONDITION = 40
"""Letters; the longest of RFC 6120 §8.3.3 has 24."""
