"""The account to which a stanza's turn and bytes in the control lane are charged.

A local user is charged for stanzas that the user sends, for the server's stanzas about the user,
and for stanzas from the user's channels. All others are charged to the sending domain: a stranger
has any number of addresses, may write to any number of users, and may name anybody. So no user
takes another's turns, and no domain more than its own.
"""

from __future__ import annotations

import re

from component.core.delivery.passage import channel_of
from component.core.users.mirror import Mirror
from component.wire.framing import Frame, LeftOut

NOBODY = b""
"""The payer of the tap's events that concern no user."""

_STATE = re.compile(rb"<(?:hello|replayed)\b")
_TOLD_OF = re.compile(rb"\bjid\s*+=\s*+['\"]([^'\"<@]*+@[^'\"<]*+)")


def payer(mirror: Mirror, domains: frozenset[bytes], stanza: Frame | LeftOut) -> bytes:
    """Give the payer of a stanza: a local user (bare JID), a foreign domain, or `NOBODY`.

    `domains` are those of local users. The payer of a tap's event is the user that it concerns.
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
    """Tell whether a payer is a foreign domain."""
    return payer != NOBODY and b"@" not in payer


def is_alone(payer: bytes, frame: Frame) -> bool:
    """Tell whether a stanza is an event of the tap that must neither overtake nor be overtaken.

    All earlier events about sessions must have been handled, and no later one.
    """
    return (
        payer == NOBODY
        and frame.name == b"message"
        and b"@" not in frame.sender
        and _STATE.match(frame.data, frame.tag_end) is not None
    )


def _is_users_own(mirror: Mirror, user: bytes, stanza: Frame | LeftOut) -> bool:
    """Tell whether a stanza comes from one of a user's channels, or one that is to become one.

    Other stanzas change nothing for the user, and need not wait in the user's turn.
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
