"""Tells whether a stanza is from a joined channel of its user, and may pass now.

That is asked of everything that comes from outside, and answered here only; this is also the
outgoing rule for copies, for nothing else comes out of `delivery` than what passes here.
`of_frame` has the whole answer. `of_routes` gives the same from what is kept ready for a user,
where that tells it: one with a join under way has no route, and then a frame is looked at.
"""

from __future__ import annotations

from collections.abc import Callable

from component.core.users.mirror import Mirror, Row
from component.core.users.packed import OFF
from component.wire.framing import Frame, LeftOut
from schemas.namespaces import MIX_NODES

_KINDS = frozenset({b"message", b"presence"})
_NOT_COPIED = frozenset(
    {b"error", b"probe", b"subscribe", b"subscribed", b"unsubscribe", b"unsubscribed"}
)
_RETRACT = b"retract"
_PARTICIPANTS = f"{MIX_NODES}participants".encode()
NO_CODE = b"?"
"""A code that no channel has."""


def of_frame(mirror: Mirror, frame: Frame) -> tuple[Row, bytes] | None:
    """Give the user to whom, and the joined channel from which, a stanza may pass now.

    None if it has to be thought about, or waits for what is.
    """
    row = mirror.rows.get(frame.to)
    if row is None or frame.name not in _KINDS or frame.type in _NOT_COPIED:
        return None
    if frame.to in mirror.waiting:
        return None
    channel = channel_of(row, frame)
    if channel is None or channel in row.holding:
        return None
    return row, channel


Routed = Callable[[bytes, bytes], tuple[int, bytes] | None]
"""Gets a user (bare JID) and a channel's code."""


def of_routes(mirror: Mirror) -> Routed:
    """Give what tells the first byte and the targets of a user's route, if all may pass now.

    See `routes` for those; the code is `code_of` the channel.
    """
    # Asked millions of times: what it looks into is at hand.
    lines, line, waiting = mirror.lines, mirror.line, mirror.waiting

    def routed(user: bytes, code: bytes) -> tuple[int, bytes] | None:
        route = lines.get(user) or line(user)
        if route is None or user in waiting:
            return None
        # Of bytes, `find` is twice as fast as `in`.
        off = route.find(OFF)
        return (route[0], route[off + 1 :]) if 0 < route.find(code) < off else None

    return routed


def code_of(mirror: Mirror, sender: bytes) -> bytes:
    """Give the code of the sending channel; a code that no route has if no user is in it."""
    return mirror.common.channels.codes.get(sender.partition(b"/")[0], NO_CODE)


def channel_of(row: Row, frame: Frame | LeftOut) -> bytes | None:
    """Give the joined channel that a stanza comes from, if any.

    Participants' encoded JIDs (`X#channel@…`) are their channel's, except in groupchat
    messages: those come from the channel itself (XEP-0369 §7.1).
    """
    sender = frame.sender.partition(b"/")[0]
    if row.has_joined(sender):
        return sender
    if frame.type == b"groupchat":
        return None
    channel = sender.partition(b"#")[2]
    return channel if row.has_joined(channel) else None


def must_be_inspected(frame: Frame) -> bool:
    """Tell whether the core must look at a stanza that was passed on."""
    return frame.name == b"presence" or may_be_kick(frame)


def may_be_kick(frame: Frame) -> bool:
    """Tell quickly whether a message might retract a participant.

    Participants write groupchat messages; node events have other types (XEP-0369 §7.1.5).
    """
    return frame.type != b"groupchat" and _RETRACT in frame.data and _PARTICIPANTS in frame.data
