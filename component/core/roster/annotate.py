"""Annotated rosters on their way to a session (XEP-0405 §5.9, tap protocol T4).

A roster may have thousands of items, and while it is edited nothing else moves. So one
that looks as rosters of servers do is edited as bytes, in one pass that leaves all else
as it is; one with anything unusual in it goes the long way through a tree.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from component.core.users.mirror import Mirror, Row
from component.wire.framing import ATTRIBUTE, Frame
from schemas import codec, jid, roster
from schemas.jid import Jid
from schemas.namespaces import MIX_ROSTER
from schemas.stanza import Stanza

_NAMESPACE = MIX_ROSTER.encode()
_MARK = re.compile(rb"<annotate\s[^<>]*?(?:/>|>\s*</annotate\s*>)")
_MARK_START = b"<annotate"
_HEAD = 1_000
"""The server's mark is the first thing in the query: bytes within which it must begin."""

_TAG_NAME = re.compile(rb"<([^\s/>]+)")
_USUAL = frozenset({b"iq", b"query", b"item", b"group"})
_ITEM = re.compile(rb"<item((?:\s+[^\s=<>/]+\s*=\s*(?:'[^'<]*'|\"[^\"<]*\"))*)\s*(/?)>")


def on_its_way(frame: Frame) -> bytes | None:
    """Tell to which user's session a roster result or push is on its way; None for all else."""
    if frame.name != b"iq" or frame.data.find(_MARK_START, frame.tag_end, _HEAD) < 0:
        return None
    user, slash, _ = frame.get(b"to").partition(b"/")
    return user if slash and user == frame.get(b"from") else None


def original(frame: Frame) -> bytes:
    """Give a roster without the server's mark, and nothing else changed."""
    return _MARK.sub(b"", frame.data, count=1)


def annotated(mirror: Mirror, frame: Frame, limit: int) -> bytes | None:
    """Annotate a roster result or push as bytes; None if it is not one, or an unusual one.

    Items are not annotated any more once there are `limit` bytes.
    """
    user = on_its_way(frame)
    if user is None:
        return None
    data, marks = _MARK.subn(b"", frame.data, count=1)
    if not marks or _NAMESPACE in data or not _USUAL.issuperset(_TAG_NAME.findall(data)):
        return None
    row = mirror.rows.get(user)
    if row is None or not row.channels:
        return data
    return _ITEM.sub(_Marks(row, limit - len(data)).annotate, data)


class _Marks:
    """Annotates the items of one roster, up to so many bytes."""

    def __init__(self, row: Row, room: int) -> None:
        self._row = row
        self._room = room
        # All of them, in one walk: for each item it would be a walk of its own.
        self._ids: dict[bytes, str] = {}

    def id_in(self, channel: bytes) -> str | None:
        """Give the user's participant id in a channel (bare JID); None if there is none."""
        if not self._row.has_joined(channel):
            return None
        self._ids = self._ids or self._row.participant_ids()
        return self._ids[channel]

    def annotate(self, found: re.Match[bytes]) -> bytes:
        """Annotate an item of a joined channel, if there is room for it."""
        channel, removed = b"", False
        for name, single, double in ATTRIBUTE.findall(found[1]):
            if name == b"jid":
                channel = single or double
            elif name == b"subscription":
                removed = (single or double) == b"remove"
        id_ = self.id_in(channel)
        if id_ is None and (not channel.isascii() or channel != channel.lower()):
            id_ = self.id_in(str(_canonical(channel.decode(errors="replace"))).encode())
        if id_ is None or removed:
            return found[0]
        mark = b"<channel xmlns='%b' participant-id='%b'/>" % (
            _NAMESPACE, codec.escape(id_).encode()
        )  # fmt: skip
        self._room -= len(mark) + (len(b"</item>") if found[2] else 0)
        if self._room < 0:
            return found[0]
        return b"<item%b>%b</item>" % (found[1], mark) if found[2] else found[0] + mark


def annotated_tree(mirror: Mirror, stanza: Stanza, frame: Frame, limit: int) -> bytes:
    """Annotate a roster result or push as a tree.

    The tap's mark and any foreign `<channel/>` are removed. A stanza that would exceed `limit`
    bytes is not annotated.
    """
    query = stanza.element.find(roster.QUERY_TAG)
    if query is None:  # pragma: no cover - only what has one comes here
        return frame.data
    row = mirror.find(stanza.to.bare)
    marks = None if row is None else _Marks(row, 0)
    for mark in query.findall(roster.ANNOTATE_TAG):
        query.remove(mark)
    for item in query.iterfind(roster.ITEM_TAG):
        for forged in item.findall(roster.CHANNEL_TAG):
            item.remove(forged)
        channel = _canonical(item.get("jid", ""))
        if marks is None or channel is None or item.get("subscription") == "remove":
            continue
        id_ = marks.id_in(channel.key)
        if id_ is not None:
            ET.SubElement(item, roster.CHANNEL_TAG, {"participant-id": id_})
    try:
        return codec.write(stanza.element, limit)
    except codec.MalformedStanza:
        return original(frame)


def _canonical(text: str) -> Jid | None:
    try:
        return jid.parse(text)
    except ValueError:
        return None
