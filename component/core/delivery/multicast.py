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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from component.core.delivery.fanout import (
    copies,
    names,
    others_of,
    translated,
)
from component.core.delivery.passage import code_of, may_be_kick, of_routes
from component.core.stanza_size import ADDRESSES as LARGEST_BYTES
from component.core.stanza_size import Largest
from component.core.users.mirror import Mirror
from component.core.users.packed import OFF
from component.core.users.routes import EITHER, MIXED, NOT_UNDERSTOOD, NUMBER, ONLY_0, ONLY_1
from component.core.users.sessions import Copies
from component.wire.framing import START_TAG, Frame, LeftOut
from schemas.namespaces import ADDRESSES, STANZA_ID

LARGEST = 500
"""Addresses in one stanza."""

_VALUE = rb"(?:'([^'<]*+)'|\"([^\"<]*+)\")"
# Groups: 1 and 2 the value of `jid` in either quotes, 3 and 4 of `id`.
_ADDRESS = re.compile(
    rb"<address(?:\s++(?:jid\s*+=\s*+" + _VALUE + rb"|id\s*+=\s*+" + _VALUE
    + rb"|[^\s=/>]++\s*+=\s*+(?:'[^'<]*+'|\"[^\"<]*+\")))*\s*+/?>"
)  # fmt: skip
_OPEN = f"<addresses xmlns='{ADDRESSES}'>".encode()
_CLOSE = b"</addresses>"
_TO = b"<address type='to' jid='"
_END = b"'/>"
# How an address begins that stands behind another, and the names around its values.
_NEXT = b"/><address type="
_NAMES: Mapping[int, Mapping[int, bytes]] = {
    4: {2: b" jid=", 4: _NEXT},
    6: {2: b" jid=", 4: b" id=", 6: _NEXT},
}
_WITH_IDS = 6


@dataclass(slots=True)
class Spread:
    """Result of a T10 stanza: bytes to write, and the number of deliveries.

    `others` are single stanzas for users who need the control lane.
    """

    written: list[bytes]
    deliveries: int
    others: list[Frame]


class Multicast:
    """Knows which taps take several addresses at once, and makes use of it."""

    def __init__(
        self, own: str, new_id: Callable[[], str], largest: Largest, *, wanted: bool
    ) -> None:
        self._own = own
        self._new_id = new_id
        self._largest = largest
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

    @property
    def in_use(self) -> bool:
        """Whether any tap takes several addresses at once."""
        return bool(self._domains)

    def link_lost(self) -> None:
        """Forget the taps, and the batch address that they have."""
        self._domains.clear()
        self.gathering = None

    def copies(self, targets: Copies, frame: Frame) -> list[bytes]:
        """Address a stanza for one user to that user's devices, as one stanza if possible."""
        if len(targets.every) < 2 or len(frame.data) == frame.tag_end:  # noqa: PLR2004
            return copies(targets, frame)
        if len(frame.data) > self._largest.addressed:
            return copies(targets, frame)  # an address more may be one too many
        domain = frame.to.rpartition(b"@")[2]
        if domain not in self._domains:
            return copies(targets, frame)
        old, others = others_of(targets, frame)
        same = [target for target in targets.every if target not in others]
        several = self._several
        written = several(frame, domain, _listed(same, _END), len(same)) if same else []
        if others:
            listed = _listed(others, _END)
            written += several(translated(frame, old), domain, listed, len(others))
        return written

    def spread(self, mirror: Mirror, frame: Frame) -> Spread:
        """Decide on a stanza for many users, address by address."""
        taken = _read(frame)
        if taken is None:
            return Spread([], 0, [frame])
        users, plain = taken
        if may_be_kick(plain):
            # Each of them must be looked at.
            return Spread([], 0, [_alone(plain, user, id_) for user, id_ in users])
        listed, strangers = _sorted(mirror, plain, users)
        as_is = listed.pop(EITHER)
        spoken = [(plain, as_is)]
        for kind, some in listed.items():
            old = NOT_UNDERSTOOD[kind]
            if some and names(plain.data, old, plain.tag_end):
                spoken.append((translated(plain, old), some))
            else:
                as_is += some
        spread = Spread([], 0, [_alone(plain, user, id_) for user, id_ in strangers])
        domain = users[0][0].rpartition(b"@")[2] if users else b""
        for stanza, some in spoken:
            if some:
                joined = b"".join(some)
                # Each address begins with one of these; inside there are none.
                number = joined.count(b"<")
                spread.written += self._several(stanza, domain, joined, number)
                spread.deliveries += number
        return spread

    def _several(self, frame: Frame, domain: bytes, listed: bytes, number: int) -> list[bytes]:
        """Write a stanza for a list of so many addresses, or several for parts of the list."""
        data = frame.data
        head = data[: frame.to_start] + domain + data[frame.to_end : frame.tag_end] + _OPEN
        tail = _CLOSE + data[frame.tag_end :]
        room = LARGEST_BYTES
        if len(data) > self._largest.addressed:
            room = max(0, min(room, self._largest.stanza - len(head) - len(tail)))
        if number <= LARGEST and len(listed) <= room:
            return [b"".join((head, listed, tail))]
        return [b"".join((head, part, tail)) for part in _parts(listed, room)]


def several(left: LeftOut) -> list[bytes]:
    """Give for whom a stanza for many was that is left out, as far as that is known."""
    tag = START_TAG.match(left.head)
    if tag is None or tag[1] != b"addresses":
        return []
    end = left.head.find(b"</addresses", tag.end())
    listed = left.head[tag.end() : end if end >= 0 else len(left.head)]
    return [jid or too for jid, too, _, _ in _ADDRESS.findall(listed)]


Users = list[tuple[bytes, bytes]]
"""Bare JIDs, each with the id that the user's archive gave the message, or nothing."""


def _sorted(mirror: Mirror, plain: Frame, users: Users) -> tuple[dict[int, list[bytes]], Users]:
    """Write the addresses of the devices by kind; give also who is not simply joined."""
    code, routed = code_of(mirror, plain.sender), of_routes(mirror)
    listed: dict[int, list[bytes]] = {EITHER: [], ONLY_0: [], ONLY_1: []}
    strangers: Users = []
    for user, id_ in users:
        route = routed(user, code)
        if route is None:
            strangers.append((user, id_))
            continue
        first, targets = route
        if first:
            end = b"' id='%b'/>" % id_ if id_ else _END
            kind = first & ~NUMBER
            if kind != MIXED:
                listed[kind] += (_TO, targets.replace(OFF, end + _TO), end)
            else:
                for target in targets.split(OFF):
                    listed[target[0]] += (_TO, target[1:], end)
    return listed, strangers


def _read(frame: Frame) -> tuple[Users, Frame] | None:
    """Take the addresses, each with its archive id, out of a stanza; None if it has none.

    Values stay as on the wire.
    """
    data = frame.data
    tag = START_TAG.match(data, frame.tag_end)
    end = -1 if tag is None or tag[1] != b"addresses" else data.find(b"</addresses", tag.end())
    if tag is None or end < 0:
        return None
    users = _addresses(data[tag.end() : end])
    return users, frame.without(frame.tag_end, data.find(b">", end) + 1)


def _addresses(listed: bytes) -> Users:
    """Read a list of addresses, each with its archive id or nothing.

    As taps write it, splitting it at its quotes tells all; in another form, a regular
    expression takes ten times as long.
    """
    words = listed.split(b"'")
    size = _WITH_IDS if words[4:5] == [b" id="] else _WITH_IDS - 2
    number = len(words) // size
    if (
        len(words) == number * size + 1
        and words[0] == _NEXT[2:]
        and words[-1] == b"/>"
        and listed.count(b"<") == number
        and all(
            words[at : -1 if at == size else None : size].count(name) == number - (at == size)
            for at, name in _NAMES[size].items()
        )
    ):
        ids = words[5::size] if size == _WITH_IDS else [b""] * number
        return list(zip(words[3::size], ids, strict=True))
    return [
        (jid or too, id_ or id_too.replace(b"'", b"&apos;"))
        for jid, too, id_, id_too in _ADDRESS.findall(listed)
    ]


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


def _listed(targets: Iterable[bytes], end: bytes) -> bytes:
    """Write addresses that end alike; there is at least one."""
    return _TO + (end + _TO).join(targets) + end


def _parts(listed: bytes, most: int) -> Iterator[bytes]:
    """Cut a list of addresses into such as one stanza may have, of so many bytes at most."""
    part: list[bytes] = []
    room = most
    for rest in listed.split(_TO)[1:]:
        room -= len(_TO) + len(rest)
        if part and (room < 0 or len(part) == LARGEST):
            yield b"".join(part)
            part, room = [], most - len(_TO) - len(rest)
        part += [_TO + rest]
    yield b"".join(part)
