"""The mirror: memberships and online devices in memory, for look-ups only.

The hot lane decides with one dictionary look-up per stanza, keyed by the bytes that stand
on the wire; the control lane uses the same rows. The mirror grows with the memberships of
all users and the devices of online ones. Each row is packed (component.core.users.packed);
objects are views of it, or made when they are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, Never

from component.core.users import packed
from component.core.users.activity import (
    Activity,
    Change,
    Greeting,
    ParticipantPresence,
    Tells,
    Waiting,
)
from component.core.users.packed import CODE, OFF, Parts
from component.core.users.routes import keep, line, targets_of
from component.core.users.sessions import Common, Copies, Sessions
from schemas import jid
from schemas.jid import Jid
from schemas.records import CoreVersion, MembershipRecord


class Membership(NamedTuple):
    """A user's participation in one channel."""

    channel: Jid
    participant_id: str
    nick: str | None
    nodes: tuple[str, ...]
    core: CoreVersion
    shares_presence: bool

    def record(self) -> MembershipRecord:
        """Give what the store is to hold."""
        return MembershipRecord(
            channel=self.channel.text,
            participant_id=self.participant_id,
            nick=self.nick,
            nodes=list(self.nodes),
            core=self.core,
            shares_presence=self.shares_presence,
        )

    @classmethod
    def unpacked(cls, member: packed.Member) -> Membership:
        """Make one of what a row holds."""
        return cls(jid.parse(member.channel.decode()), *member[1:])

    def packed(self) -> packed.Member:
        """Give what a row is to hold."""
        return packed.Member(
            self.channel.key,
            self.participant_id,
            self.nick,
            self.nodes,
            self.core,
            self.shares_presence,
        )


_NONE: Mapping[bytes, Never] = MappingProxyType({})
"""Stands for the parts of no activity."""


class Row(Sessions):
    """One user's memberships, devices and activity; the user may be in no channel yet.

    `greeting` tells whether the channels have been asked for presence on this link.
    """

    __slots__ = ("_activity", "greeting")

    def __init__(self, user: Jid, common: Common) -> None:
        super().__init__(user, common)
        self._activity: Activity | None = None
        self.greeting = Greeting.NOT_YET

    # -- channels ------------------------------------------------------------------------

    def has_joined(self, channel: bytes) -> bool:
        """Tell whether the user is in a channel; the same work however many there are."""
        code = self.common.channels.codes.get(channel)
        # Of bytes, `find` is twice as fast as `in`. Behind the codes may be anything.
        return code is not None and 0 <= self._packed.find(code) < self._packed.find(OFF)

    @property
    def line(self) -> bytes | None:
        """The route of the hot lane (see `routes`); None while a channel is held back."""
        known = self.common.lines.get(self.key)
        if known is None and not self.holding:
            made = line(Parts.of(self._packed).codes, self._targets())
            known = keep(self.common.lines, self.key, made)
        return known

    @property
    def targets(self) -> Copies:
        """The MIX devices as targets, as `copies` has them, in a third of the time."""
        known = self.line
        return self.copies if known is None else Copies.routed(targets_of(known))

    @property
    def channels(self) -> Channels:
        """The memberships by channel (bare JID); has_joined is the fast way to ask for one."""
        codes, details, _ = Parts.of(self._packed)
        return Channels(self.common, codes, details)

    @property
    def membership_bytes(self) -> int:
        """How large ids, nicks and nodes of all memberships are."""
        return sum(
            len(each.participant_id) + len(each.nick or "") + sum(map(len, each.nodes))
            for each in self._members()
        )

    def membership(self, channel: bytes) -> Membership | None:
        """Give the membership in a channel."""
        if self.has_joined(channel):
            for each in self._members():  # pragma: no branch - it is among them
                if each.channel == channel:
                    return Membership.unpacked(each)
        return None

    def participant_ids(self) -> dict[bytes, str]:
        """Give the participant ids in all channels, in one walk."""
        return {each.channel: each.participant_id for each in self._members()}

    def enter(self, members: Iterable[packed.Member]) -> None:
        """Enter memberships, in place of older ones in the same channels."""
        news = {each.channel: each for each in members}
        stay = [each for each in self._members() if each.channel not in news]
        self._pack([*stay, *news.values()])

    def among(self, channels: Collection[bytes]) -> list[Membership]:
        """Give the memberships in some channels, in one walk."""
        return [Membership.unpacked(x) for x in self._members() if x.channel in channels]

    def leave(self, *channels: bytes) -> None:
        """Remove the memberships in channels, where there are some; packed once."""
        left = {channel for channel in channels if self.has_joined(channel)}
        if left:
            self._pack([each for each in self._members() if each.channel not in left])

    def _members(self) -> Iterator[packed.Member]:
        codes, details, _ = Parts.of(self._packed)
        return self.common.unpack(codes, details)

    def _pack(self, members: list[packed.Member]) -> None:
        codes, details, sessions = Parts.of(self._packed)
        self._repack(Parts(*self.common.pack(members), sessions))
        self.common.release(codes, details)

    # -- transient state ----------------------------------------------------------------

    @property
    def changes(self) -> Mapping[bytes, Change]:
        """The changes under way; begin one in `activity`."""
        return _NONE if self._activity is None else self._activity.changes

    def is_pending(self, channel: bytes) -> bool:
        """Tell whether a change or an inquiry of a channel is under way."""
        each = self._activity
        return each is not None and (channel in each.changes or channel in each.inquiries)

    @property
    def holding(self) -> Mapping[bytes, Waiting]:
        """The buffers of the channels that are held back."""
        return _NONE if self._activity is None else self._activity.holding

    def hold(self, channel: bytes, waiting: Waiting) -> None:
        """Hold a channel's stanzas back."""
        self.activity.holding[channel] = waiting
        self.common.lines.pop(self.key, None)

    def let_go(self, channel: bytes) -> None:
        """Stop holding a channel's stanzas back."""
        del self.activity.holding[channel]
        self.drop_idle()

    @property
    def participants(self) -> Mapping[bytes, ParticipantPresence | Tells]:
        """The participants' presence by channel; add some in `activity`."""
        return _NONE if self._activity is None else self._activity.participants

    @property
    def activity(self) -> Activity:
        """The transient state, to be changed."""
        if self._activity is None:
            self._activity = Activity()
        return self._activity

    def drop_activity(self) -> None:
        """Drop the transient state."""
        self._activity = None

    def drop_idle(self) -> None:
        """Drop a transient state in which nothing is left."""
        each = self._activity
        if each is not None and not (
            each.changes or each.inquiries or each.holding or each.participants
        ):
            self._activity = None

    # -- ends ----------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether nothing is known of the user any more."""
        if self._packed.startswith(OFF):  # no channel
            each = self._activity
            waits = each is not None and (each.changes or each.inquiries or each.holding)
            return not (waits or self.is_online)
        return False

    def release_shared(self) -> None:
        """Release the values shared with other rows, before the row itself is dropped."""
        self._pack([])
        self.forget_sessions()


class Channels(Mapping[bytes, Membership]):
    """A user's memberships by channel, as they were when asked for; made one by one."""

    __slots__ = ("_codes", "_common", "_details")

    def __init__(self, common: Common, codes: bytes, details: bytes) -> None:
        self._common = common
        self._codes = codes
        self._details = details

    def __contains__(self, channel: object) -> bool:
        code = self._common.channels.codes.get(channel) if isinstance(channel, bytes) else None
        return code is not None and code in self._codes

    def __getitem__(self, channel: bytes) -> Membership:
        if channel in self:
            some = self._common.unpack(self._codes, self._details)
            return Membership.unpacked(next(each for each in some if each.channel == channel))
        raise KeyError(channel)

    def __iter__(self) -> Iterator[bytes]:
        codes, values = self._codes, self._common.channels.values
        return (values[codes[at : at + CODE]] for at in range(0, len(codes), CODE))

    def __len__(self) -> int:
        return len(self._codes) // CODE

    def all(self) -> list[Membership]:
        """Give all memberships."""
        return [
            Membership.unpacked(each) for each in self._common.unpack(self._codes, self._details)
        ]


class Mirror:
    """All rows, and the MIX domains that follow from them."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Row] = {}
        self.common = Common()
        self.lines = self.common.lines
        self.services: set[str] = set()
        # Domains that are being asked whether they are MIX services.
        self.asked_domains: set[str] = set()
        # Users (bare JIDs) for whom a stanza waits in the control lane, and how many: nothing
        # may overtake it.
        self.waiting: dict[bytes, int] = {}

    def find(self, user: Jid) -> Row | None:
        """Look a user up by bare JID."""
        return self.rows.get(user.key)

    def line(self, user: bytes) -> bytes | None:
        """Give a user's line, made if need be; None of one for whom there can be none."""
        row = self.rows.get(user)
        return None if row is None else row.line

    def row(self, user: Jid) -> Row:
        """Look a user up by bare JID, making the row if need be."""
        key = user.key
        row = self.rows.get(key)
        if row is None:
            row = Row(user, self.common)
            # Its own key: the same bytes once, not twice.
            self.rows[row.key] = row
        return row

    def tidy(self, user: Jid) -> None:
        """Remove a row in which nothing is left."""
        row = self.rows.get(user.key)
        if row is not None:
            self._tidy(row)

    def _tidy(self, row: Row) -> None:
        row.drop_idle()
        if row.empty:
            row.release_shared()
            del self.rows[row.key]

    def membership(self, user: Jid, channel: Jid) -> Membership | None:
        """Look up one membership."""
        row = self.rows.get(user.key)
        return None if row is None else row.membership(channel.key)

    def join(self, user: Jid, membership: Membership) -> None:
        """Add or replace a membership."""
        self.enter(user, [membership])

    def enter(self, user: Jid, memberships: list[Membership]) -> None:
        """Add or replace several memberships of a user at once."""
        self.load(user, [each.packed() for each in memberships])

    def load(self, user: Jid, members: list[packed.Member]) -> None:
        """Add or replace several memberships of a user, given as a row has them."""
        self.row(user).enter(members)
        self.services.update([each.domain for each in members])

    def part(self, user: Jid, *channels: Jid) -> None:
        """Remove a user's memberships in channels, where there are some."""
        row = self.find(user)
        if row is not None:
            row.leave(*(channel.key for channel in channels))
            self.tidy(user)

    def link_lost(self, row: Row) -> None:
        """Forget what is known by the link alone: devices and transient state."""
        row.all_gone()
        # Presence that channels send without a link is missed: they are asked again.
        row.greeting = Greeting.NOT_YET
        row.drop_activity()
        self._tidy(row)

    def clear(self) -> None:
        """Forget everything."""
        for row in self.rows.values():
            row.release_shared()
        self.rows.clear()
        self.services.clear()
