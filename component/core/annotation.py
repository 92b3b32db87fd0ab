"""Annotated rosters on their way to a session (XEP-0405 §5.9, tap protocol T4).

A roster may have thousands of items, and while it is edited nothing else moves. So one
that looks as rosters of servers do is edited as bytes, in one pass that leaves all else
as it is; one with anything unusual in it goes the long way through a tree.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from component.core.mirror import Mirror, Row
from component.framing import ATTRIBUTE, Frame
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


def annotated(mirror: Mirror, frame: Frame) -> bytes | None:
    """Annotate a roster result or push as bytes; None if it is not one, or an unusual one."""
    if frame.name != b"iq" or frame.data.find(_MARK_START, frame.tag_end, _HEAD) < 0:
        return None
    user, slash, _ = frame.get(b"to").partition(b"/")
    if not slash or user != frame.get(b"from"):
        return None
    data, marks = _MARK.subn(b"", frame.data, count=1)
    if not marks or _NAMESPACE in data or not _USUAL.issuperset(_TAG_NAME.findall(data)):
        return None
    row = mirror.rows.get(user)
    if row is None or not row.channels:
        return data
    return _ITEM.sub(lambda found: _annotate_item(row, found), data)


def _annotate_item(row: Row, found: re.Match[bytes]) -> bytes:
    channel, removed = b"", False
    for name, single, double in ATTRIBUTE.findall(found[1]):
        if name == b"jid":
            channel = single or double
        elif name == b"subscription":
            removed = (single or double) == b"remove"
    membership = row.membership(channel)
    if membership is None and (not channel.isascii() or channel != channel.lower()):
        spelling = _canonical(channel.decode(errors="replace"))
        membership = row.membership(str(spelling).encode())
    if membership is None or removed:
        return found[0]
    participant_id = codec.escape(membership.participant_id).encode()
    mark = b"<channel xmlns='%b' participant-id='%b'/>" % (_NAMESPACE, participant_id)
    if found[2]:
        return b"<item%b>%b</item>" % (found[1], mark)
    return found[0] + mark


def annotate_tree(mirror: Mirror, stanza: Stanza) -> None:
    """Annotate a roster result or push as a tree, in place.

    The server's mark goes, and so does a `<channel/>` that somebody else put there.
    """
    query = stanza.element.find(roster.QUERY_TAG)
    if query is None:
        return
    row = mirror.find(stanza.to.bare)
    for mark in query.findall(roster.ANNOTATE_TAG):
        query.remove(mark)
    for item in query.iterfind(roster.ITEM_TAG):
        for forged in item.findall(roster.CHANNEL_TAG):
            item.remove(forged)
        channel = _canonical(item.get("jid", ""))
        if row is None or channel is None or item.get("subscription") == "remove":
            continue
        membership = row.membership(str(channel).encode())
        if membership is not None:
            ET.SubElement(item, roster.CHANNEL_TAG, {"participant-id": membership.participant_id})


def _canonical(text: str) -> Jid | None:
    try:
        return jid.parse(text)
    except ValueError:
        return None
