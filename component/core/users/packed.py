"""Rows of a hundred thousand users kept small: shared values, packed bytes.

Users have much in common: channels, the terms of membership, the presence of their clients.
Each such value is kept once, under a code of four bytes, for as long as it is in use. Values of
one user (participant ids, nicks, resources) are packed with the codes into one bytes object;
Python objects are made when they are asked for. It is
read and written by `Row` and `Sessions`; `delivery` looks up the codes of channels. A row is

    codes of the channels, newline, 4 bytes: length of the details, details, sessions

in which the details have for each channel the code of its `Terms`, or a zero for the same
as before, the participant id and, if that is its own, the nick; and the sessions, separated
by newlines, the code of a state and the resource each (component.core.users.sessions).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, Literal, NamedTuple, TypeVar

from schemas.records import CoreVersion, MembershipRecord

T = TypeVar("T", bound=Hashable)

CODE = 4
"""Bytes of a code."""

OFF = b"\n"
"""A byte that occurs neither in codes nor in resources (RFC 7622 §3.4)."""

_LENGTH = 4
EMPTY = OFF + bytes(_LENGTH)
"""A row of which nothing is known."""

_CODES = 1 << 24
_LONG = 255
_SAME = b"\0"


class Shared(Generic[T]):
    """Values under codes, counted by their uses; the last use takes a value with it.

    As in UTF-8, first bytes of codes differ from all others, so that a code is found in a
    row of codes only where one begins; and none has a newline in it. Numbers go round:
    `round_begins` is called before those that were given up are given out again.
    """

    def __init__(self, round_begins: Callable[[], None] = lambda: None) -> None:
        self.codes: dict[T, bytes] = {}
        self.values: dict[bytes, T] = {}
        self._uses: dict[bytes, int] = {}
        self._next = 0
        self._round_begins = round_begins

    def __len__(self) -> int:
        """Tell how many values are in use."""
        return len(self.values)

    def take(self, value: T) -> bytes:
        """Give the code of a value, which has one more use from now on."""
        code = self.codes.get(value)
        if code is None:
            code = self._free_code()
            self.codes[value] = code
            self.values[code] = value
            self._uses[code] = 1
        else:
            self._uses[code] += 1
        return code

    def again(self, code: bytes) -> None:
        """Add a use of a value that is in use."""
        self._uses[code] += 1

    def drop(self, code: bytes) -> None:
        """Take one use away."""
        uses = self._uses[code] - 1
        if uses:
            self._uses[code] = uses
        else:
            del self._uses[code], self.codes[self.values.pop(code)]

    def _free_code(self) -> bytes:
        if len(self.values) >= _CODES:
            raise OverflowError("more different values than there are codes")
        while True:
            number = self._next
            self._next = (number + 1) % _CODES
            if not self._next:
                self._round_begins()
            code = bytes(
                (0xC0 | number >> 18, *(0x80 | number >> shift & 0x3F for shift in (12, 6, 0)))
            )
            if code not in self.values:
                return code


class Terms(NamedTuple):
    """The values that many memberships share, and how id and nick are packed behind their code."""

    nodes: tuple[str, ...]
    core: CoreVersion
    shares_presence: bool
    id_is_hex: bool
    nick: Literal["none", "own", "first"]


class Member(NamedTuple):
    """One membership of a user, unpacked."""

    channel: bytes
    participant_id: str
    nick: str | None
    nodes: tuple[str, ...]
    core: CoreVersion
    shares_presence: bool

    @classmethod
    def of(cls, record: MembershipRecord) -> Member:
        """Make one of what the store holds, whose channel is canonical."""
        return cls(
            record.channel.encode(),
            record.participant_id,
            record.nick,
            tuple(record.nodes),
            record.core,
            record.shares_presence,
        )

    @property
    def domain(self) -> str:
        """The channel's service."""
        return self.channel.rpartition(b"@")[2].decode()


class Parts(NamedTuple):
    """The parts of a row; see above."""

    codes: bytes
    details: bytes
    sessions: bytes

    @classmethod
    def of(cls, row: bytes) -> Parts:
        """Take a row apart."""
        codes, _, rest = row.partition(OFF)
        end = _LENGTH + int.from_bytes(rest[:_LENGTH], "big")
        return cls(codes, rest[_LENGTH:end], rest[end:])

    @staticmethod
    def sessions_of(row: bytes) -> bytes:
        """Take the sessions out of a row, and nothing else: that is asked for most often."""
        at = row.find(OFF) + len(OFF)
        return row[at + _LENGTH + int.from_bytes(row[at : at + _LENGTH], "big") :]

    def row(self) -> bytes:
        """Put a row together."""
        length = len(self.details).to_bytes(_LENGTH, "big")
        return b"".join((self.codes, OFF, length, self.details, self.sessions))


class Interned:
    """The channels (bare JIDs) and terms that the rows of one mirror share, each once."""

    def __init__(self) -> None:
        self.channels: Shared[bytes] = Shared()
        self._terms: Shared[Terms] = Shared()

    def pack(self, members: Iterable[Member]) -> tuple[bytes, bytes]:
        """Pack a user's memberships: the channels' codes, and the rest in the same order.

        The caller releases the bytes that these replace, afterwards (`release`).
        """
        codes, details = bytearray(), bytearray()
        first: str | None = None
        code, last = b"", None
        for channel, id_, nick, nodes, core, shares in members:
            written = _from_hex(id_)
            is_hex = written is not None
            kind: Literal["none", "own", "first"] = "none"
            if nick is not None:
                kind = "own" if first is None or nick != first else "first"
                first = nick if first is None else first
            codes += self.channels.take(channel)
            terms = Terms(nodes, core, shares, is_hex, kind)
            if terms == last:
                self._terms.again(code)
                details += _SAME
            else:
                code, last = self._terms.take(terms), terms
                details += code
            _put(details, id_.encode() if written is None else written)
            if nick is not None and kind == "own":
                _put(details, nick.encode())
        return bytes(codes), bytes(details)

    def unpack(self, codes: bytes, details: bytes) -> Iterator[Member]:
        """Unpack memberships, in order."""
        position, code = 0, b""
        first: str | None = None
        for start in range(0, len(codes), CODE):
            code, position = _terms_at(details, position, code)
            terms = self._terms.values[code]
            raw, position = _get(details, position)
            nick: str | None = None
            if terms.nick == "own":
                written, position = _get(details, position)
                nick = written.decode()
                first = nick if first is None else first
            elif terms.nick == "first":
                nick = first
            yield Member(
                self.channels.values[codes[start : start + CODE]],
                raw.hex() if terms.id_is_hex else raw.decode(),
                nick, terms.nodes, terms.core, terms.shares_presence,
            )  # fmt: skip

    def release(self, codes: bytes, details: bytes) -> None:
        """Take away the uses of packed memberships."""
        position, code = 0, b""
        uses: list[bytes] = []
        for start in range(0, len(codes), CODE):
            self.channels.drop(codes[start : start + CODE])
            code, position = _terms_at(details, position, code)
            uses.append(code)
            _, position = _get(details, position)
            if self._terms.values[code].nick == "own":
                _, position = _get(details, position)
        for code in uses:
            self._terms.drop(code)


def _terms_at(details: bytes, position: int, last: bytes) -> tuple[bytes, int]:
    """Read the code of a membership's terms, and where its id begins."""
    if details[position] == _SAME[0]:
        return last, position + len(_SAME)
    return details[position : position + CODE], position + CODE


def _from_hex(text: str) -> bytes | None:
    """Give the bytes that exactly this text is the hexadecimal form of."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    return raw if raw.hex() == text else None


def _put(out: bytearray, data: bytes) -> None:
    if len(data) < _LONG:
        out.append(len(data))
    else:
        out.append(_LONG)
        out += len(data).to_bytes(4, "big")
    out += data


def _get(data: bytes, position: int) -> tuple[bytes, int]:
    size = data[position]
    position += 1
    if size == _LONG:
        size = int.from_bytes(data[position : position + 4], "big")
        position += 4
    return data[position : position + size], position + size
