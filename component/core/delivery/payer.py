"""Whose turn a stanza takes in the control lane, and whose room.

A local user has a turn for what the user sends, and for what is about the user's own: the server's
words, and what comes from the user's channels. All else is the turn of the domain that it comes
from: a stranger has as many addresses as it likes, may write to as many users, and may name
anybody. So nobody takes another's turns, and no domain more than its own.
"""

from __future__ import annotations

import re

from component.core.delivery.passage import channel_of
from component.core.users.mirror import Mirror
from component.wire.framing import Frame, LeftOut

NOBODY = b""
"""Whose turn the tap's events about no user take."""

_STATE = re.compile(rb"<(?:hello|replayed)\b")
_TOLD_OF = re.compile(rb"\bjid\s*+=\s*+['\"]([^'\"<@]*+@[^'\"<]*+)")


def payer(mirror: Mirror, domains: frozenset[bytes], stanza: Frame | LeftOut) -> bytes:
    """Tell whose turn a stanza takes: a local user's (bare JID), a strange domain's or nobody's.

    `domains` are those of local users. An event of the tap is of the user of whom it tells.
    """
    to, sender = _bare(stanza.to), _bare(stanza.sender)
    domain = sender.rpartition(b"@")[2]
    if b"@" in to and to.rpartition(b"@")[2] in domains:
        return to if sender == to or _is_users_own(mirror, to, stanza) else domain
    if domain not in domains:
        return domain
    if b"@" in sender:
        return sender
    if isinstance(stanza, Frame) and stanza.name == b"message":
        told_of = _TOLD_OF.search(stanza.data, stanza.tag_end)
        if told_of is not None:
            return _bare(told_of[1])
    return NOBODY


def is_strange(payer: bytes) -> bool:
    """Tell whether it is a strange domain whose turn it is."""
    return payer != NOBODY and b"@" not in payer


def is_alone(payer: bytes, frame: Frame) -> bool:
    """Tell whether a stanza is an event of the tap that must neither overtake nor be overtaken.

    What it told of the sessions before has been looked at, and nothing that comes later.
    """
    return (
        payer == NOBODY
        and frame.name == b"message"
        and b"@" not in frame.sender
        and _STATE.match(frame.data, frame.tag_end) is not None
    )


def _is_users_own(mirror: Mirror, user: bytes, stanza: Frame | LeftOut) -> bool:
    """Tell whether a stanza comes from one of a user's channels, or one that is to become one.

    What else comes changes nothing of the user's, and need not wait for what does.
    """
    row = mirror.rows.get(user)
    if row is None:
        return False
    sender = _bare(stanza.sender)
    return (
        channel_of(row, stanza) is not None
        or row.is_pending(sender)
        or row.is_pending(sender.partition(b"#")[2])
    )


def _bare(address: bytes) -> bytes:
    return address.partition(b"/")[0]
