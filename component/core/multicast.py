"""One stanza on the link for many users and devices (tap protocol T10 and C6, XEP-0033).

The server's side of the link is what fan-out costs most, so a channel's message comes with
the addresses of all local participants in it, and leaves with those of all their devices.
Each address is decided on as if it had come alone; whoever is not simply joined (a join is
under way, or was never) gets a stanza of their own, for the control lane.

What comes is believed only at an address that nobody but the tap knows: else a stranger's
channel could go round the archive and the user's blocking list.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from component.core.departures import may_be_kick
from component.core.fanout import (
    channel_of,
    copies,
    core_named,
    others_among,
    others_of,
    translated,
)
from component.core.mirror import Mirror
from component.core.sessions import Copies
from component.framing import START_TAG, Frame
from schemas.namespaces import ADDRESSES, STANZA_ID

LARGEST = 500
"""Addresses in one stanza."""
LARGEST_BYTES = 65_536
"""Bytes of addresses in one stanza, whose sum with a message every server must accept."""

_VALUE = rb"(?:'([^'<]*+)'|\"([^\"<]*+)\")"
# Groups: 1 and 2 the value of `jid` in either quotes, 3 and 4 of `id`.
_ADDRESS = re.compile(
    rb"<address(?:\s++(?:jid\s*+=\s*+" + _VALUE + rb"|id\s*+=\s*+" + _VALUE
    + rb"|[^\s=/>]++\s*+=\s*+(?:'[^'<]*+'|\"[^\"<]*+\")))*\s*+/?>"
)  # fmt: skip
_OPEN = f"<addresses xmlns='{ADDRESSES}'>".encode()
_CLOSE = b"</addresses>"
_TO = b"<address type='to' jid='"
_ID = b"' id='"
_END = b"'/>"
# Addresses are kept in pieces until all are there; joining once is half the work.
_PIECES = 3


@dataclass(slots=True)
class Spread:
    """What became of a stanza for many: what to write, to how many devices that goes.

    `others` are the stanzas of those who are not simply joined.
    """

    written: list[bytes]
    deliveries: int
    others: list[Frame]


class Multicast:
    """Knows which taps take several addresses at once, and makes use of it."""

    def __init__(self, own: str, new_id: Callable[[], str], *, wanted: bool) -> None:
        self._own = own
        self._new_id = new_id
        self._wanted = wanted
        self._domains: set[bytes] = set()
        self.gathering: bytes | None = None

    def begin(self, domain: str) -> str | None:
        """Use it with the tap of a domain; give the address for what that gathers.

        None if the operator does not want it.
        """
        if not self._wanted:
            return None
        if self.gathering is None:
            self.gathering = f"{self._own}/{self._new_id()}".encode()
        self._domains.add(domain.encode())
        return self.gathering.decode()

    def link_lost(self) -> None:
        """Forget the taps, and the address that they were told."""
        self._domains.clear()
        self.gathering = None

    def copies(self, targets: Copies, frame: Frame) -> list[bytes]:
        """Address a stanza for one user to that user's devices, as one stanza if possible."""
        if len(targets.every) < 2 or len(frame.data) == frame.tag_end:  # noqa: PLR2004
            return copies(targets, frame)
        domain = frame.to.rpartition(b"@")[2]
        if domain not in self._domains:
            return copies(targets, frame)
        old, others = others_of(targets, frame)
        return _addressed(
            frame,
            domain,
            old,
            [
                piece
                for target in targets.every
                if target not in others
                for piece in (_TO, target, _END)
            ],
            [piece for target in others for piece in (_TO, target, _END)],
        )

    def spread(self, mirror: Mirror, frame: Frame) -> Spread:
        """Decide on a stanza for many users, address by address."""
        taken = _read(frame)
        if taken is None:
            return Spread([], 0, [frame])
        users, plain = taken
        if may_be_kick(plain):
            # Each of them must be looked at.
            return Spread([], 0, [_alone(plain, user, id_) for user, id_ in users])
        rows, named = mirror.rows, core_named(plain)
        sender = plain.sender.partition(b"/")[0]
        same: list[bytes] = []
        apart: list[bytes] = []
        others: list[Frame] = []
        old: int | None = None
        for user, id_ in users:
            row = rows.get(user)
            if (
                row is None
                # Its channel is found once for all, unless the address is a participant's.
                or (not row.has_joined(sender) and channel_of(row, plain) is None)
                or row.holding
            ):
                others.append(_alone(plain, user, id_))
                continue
            targets = row.copies
            end = _ID + id_ + _END if id_ else _END
            which, unlike = others_among(targets, named)
            if unlike:
                old = which
                for target in targets.every:
                    (apart if target in unlike else same).extend((_TO, target, end))
            else:
                for target in targets.every:
                    same += (_TO, target, end)
        domain = users[0][0].rpartition(b"@")[2] if users else b""
        written = _addressed(plain, domain, old, same, apart)
        return Spread(written, (len(same) + len(apart)) // _PIECES, others)


def _read(frame: Frame) -> tuple[list[tuple[bytes, bytes]], Frame] | None:
    """Take the addresses, each with its archive id, out of a stanza; None if it has none.

    Values stay as on the wire.
    """
    data = frame.data
    tag = START_TAG.match(data, frame.tag_end)
    end = -1 if tag is None or tag[1] != b"addresses" else data.find(b"</addresses", tag.end())
    if tag is None or end < 0:
        return None
    users = [
        (jid or too, id_ or id_too.replace(b"'", b"&apos;"))
        for jid, too, id_, id_too in _ADDRESS.findall(data, tag.end(), end)
    ]
    return users, frame.without(frame.tag_end, data.find(b">", end) + 1)


def _alone(plain: Frame, user: bytes, id_: bytes) -> Frame:
    """Give the stanza as it would have come for one user (tap protocol T1)."""
    data = plain.readdressed(user)
    if id_:
        end = data.rindex(b"</")
        data = (
            data[:end]
            + b"<stanza-id xmlns='%b' by='%b' id='%b'/>" % (STANZA_ID.encode(), user, id_)
            + data[end:]
        )
    return Frame(data)


def _addressed(
    frame: Frame, domain: bytes, old: int | None, same: list[bytes], apart: list[bytes]
) -> list[bytes]:
    """Write the stanza for these addresses, and the one in the other core namespace."""
    written = _several(frame, domain, same)
    if apart and old is not None:
        written += _several(translated(frame, old), domain, apart)
    return written


def _several(frame: Frame, domain: bytes, pieces: list[bytes]) -> list[bytes]:
    data = frame.data
    head = data[: frame.to_start] + domain + data[frame.to_end : frame.tag_end] + _OPEN
    tail = _CLOSE + data[frame.tag_end :]
    return [
        b"".join((head, part, tail))
        for first in range(0, len(pieces), LARGEST * _PIECES)
        for part in _fitting(pieces[first : first + LARGEST * _PIECES])
    ]


def _fitting(pieces: list[bytes]) -> list[bytes]:
    """Join addresses, in as many parts as their size wants."""
    joined = b"".join(pieces)
    if len(joined) <= LARGEST_BYTES or len(pieces) <= _PIECES:
        return [joined]
    half = len(pieces) // _PIECES // 2 * _PIECES
    return [*_fitting(pieces[:half]), *_fitting(pieces[half:])]
