"""Finds memberships that ended while no component was connected.

The roster is the record of membership (XEP-0405 §5.8). Its changes are not reported later: the
user may have removed a channel; the account may have been deleted, and registered again by
another person, who must inherit nothing. So after every new link each member's roster is read
once, online users first, a few at a time.

If memory has no membership at all, the rosters of online users are searched for channels. If
there are any, the store was lost, and only the operator can restore it.

A server with broken roster storage may return empty rosters. If that seems so, no membership is
ended and the operator gets a report. This is judged when all rosters have been read, separately
for each service and for each way in which rosters lack its channels: accounts that all left, or
are made to look so, hide as few other ends as possible.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import NamedTuple

from component.core.context import Context
from component.core.errors import Refusal
from component.core.membership.memberships import Memberships
from component.core.rates import TokenBucket
from component.core.roster.access import Outcome, Rosters
from component.core.roster.candidates import channel_like
from component.core.services import Services
from component.core.users.mirror import Row
from schemas import jid, roster
from schemas.jid import Jid

AT_ONCE = 20
"""Rosters that are read at the same time."""

FEW = 5
LARGE_SHARE = 0.2
"""More users than a few, and than this share of those looked at, do not lose channels by
themselves."""

ENDED_AT_ONCE = 100
"""Memberships that are ended in one go, a few milliseconds; one more user costs …"""

A_USER = 5
"""… as much as so many: a row is packed again."""

RATE = 250.0
"""What may be ended in a second, of all users: each is a line in the log, two changes in Redis and
a leave to come, and server and Redis may share their processors with this …"""

BURST = 300.0
"""… after so many at once, …"""

PAUSE = 0.002
"""… and seconds from one go to the next: others have their turn in between."""

DOMAINS = 20
"""Domains in one user's roster that are asked whether they are MIX services."""


class _Way(Enum):
    """How a roster lacks a channel: the account is gone, or there is nothing in it, or other."""

    GONE = 0
    EMPTY = 1
    OTHER = 2


class _Lost(NamedTuple):
    """Memberships that a roster lacks: channel and participant id of each."""

    user: Jid
    channels: list[tuple[Jid, str]]
    way: _Way


@dataclass(slots=True)
class _Service:
    """What rosters say of the channels of one service.

    `looked_at` is how many users have such channels, `lost` how many rosters lack some.
    """

    looked_at: int = 0
    lost: Counter[_Way] = field(default_factory=Counter)

    def believes(self, way: _Way) -> bool:
        """Tell whether so many users may have lost channels by themselves."""
        return self.lost[way] <= max(FEW, self.looked_at * LARGE_SHARE)


@dataclass(slots=True)
class _Reading:
    """A roster that is being read.

    `unseen` are the user's channels that were not in it so far, `domains` has one item of each
    domain that may be a service.
    """

    user: Jid
    unseen: set[Jid]
    domains: dict[str, Jid] = field(default_factory=dict)
    has_items: bool = False


class Audit:
    """Compares memory with the rosters, once a link."""

    def __init__(
        self,
        context: Context,
        *,
        rosters: Rosters,
        services: Services,
        memberships: Memberships,
    ) -> None:
        self._context = context
        self._rosters = rosters
        self._services = services
        self._memberships = memberships
        self._online: deque[bytes] = deque()
        self._offline: deque[bytes] = deque()
        self._asking = 0
        self._of_services: dict[str, _Service] = {}
        # Users and the channels that their rosters lack, until that is judged.
        self._missing: list[_Lost] = []
        # What is to be ended; users take turns.
        self._ending: deque[_Lost] = deque()
        self._is_planned = False
        self._budget = TokenBucket()
        self._is_empty = False
        self._searched: set[str] = set()

    def begin(self, domain: str) -> None:
        """Look at all members of a domain whose sessions have been replayed."""
        end = f"@{domain}".encode()
        rows = self._context.mirror.rows.values()
        self._is_empty = not any(row.channels for row in rows)

        def look(row: Row) -> None:
            if row.key.endswith(end) and (row.channels or self._is_empty):
                (self._online if row.is_online else self._offline).append(row.key)

        def begin() -> None:
            while (self._online or self._offline) and self._asking < AT_ONCE:
                self._ask_next()

        self._context.each_row(look, then=begin)

    def link_lost(self) -> None:
        """Forget all questions: the next link starts from the beginning."""
        self._forget()
        self._searched.clear()
        self._of_services.clear()
        self._missing.clear()
        self._ending.clear()
        self._is_planned = False
        self._asking = 0

    def _forget(self) -> None:
        self._online.clear()
        self._offline.clear()

    def _ask_next(self) -> None:
        user = jid.parse((self._online or self._offline).popleft().decode())
        # A channel that is joined meanwhile may be on a page already read.
        reading = _Reading(user, self._channels(user))
        self._asking += 1

        def take(query: ET.Element) -> bool:
            for channel, _ in channel_like(query):
                reading.unseen.discard(channel)
                if self._is_empty and len(reading.domains) < DOMAINS:
                    reading.domains.setdefault(channel.domain, channel)
            reading.has_items = reading.has_items or query.find(roster.ITEM_TAG) is not None
            return not (reading.unseen or self._is_empty)

        self._rosters.read(user, take, lambda outcome: self._told(reading, outcome))

    def _told(self, reading: _Reading, outcome: Outcome) -> None:
        self._asking -= 1
        user = reading.user
        if outcome == "no-account":
            self._seen(user, self._channels(user), _Way.GONE)
        elif outcome == "read":
            if self._is_empty:
                self._search(user, reading.domains)
            way = _Way.OTHER if reading.has_items else _Way.EMPTY
            self._seen(user, self._channels(user) & reading.unseen, way)
        if self._online or self._offline:
            self._ask_next()
        elif not self._asking:
            self._judge()

    def _search(self, user: Jid, domains: dict[str, Jid]) -> None:
        """Find out whether there are channels in the roster of somebody who is in none."""
        for domain, address in domains.items():
            if domain in self._searched or domain in self._context.domains:
                continue
            self._searched.add(domain)
            self._services.check(domain, user, partial(self._searched_one, user, address))

    def _searched_one(self, user: Jid, channel: Jid, refused: Refusal | ET.Element | None) -> None:
        row = self._context.mirror.find(user)
        has_joined = row is not None and row.channels
        if refused is None and self._is_empty and not has_joined:
            self._is_empty = False
            self._forget()
            self._context.report("memory-empty", "error", channel=str(channel))

    def _channels(self, user: Jid) -> set[Jid]:
        """List a user's channels, but for those just being joined or left."""
        row = self._context.mirror.find(user)
        if row is None:
            return set()
        return {jid.parse(key.decode()) for key in row.channels if not row.is_pending(key)}

    def _seen(self, user: Jid, missing: set[Jid], way: _Way) -> None:
        for domain in {channel.domain for channel in self._channels(user)}:
            self._of_services.setdefault(domain, _Service()).looked_at += 1
        for domain in {channel.domain for channel in missing}:
            self._of_services[domain].lost[way] += 1
        ids = self._ids(user)
        now, later = _Lost(user, [], way), _Lost(user, [], way)
        for channel in sorted(missing, key=lambda channel: channel.key):
            lost = now if self._of_services[channel.domain].lost[way] <= FEW else later
            lost.channels.append((channel, ids[channel.key]))
        self._end([now])
        if later.channels:
            self._missing.append(later)

    def _ids(self, user: Jid) -> dict[bytes, str]:
        row = self._context.mirror.find(user)
        return {} if row is None else row.participant_ids()

    def _judge(self) -> None:
        """End what was lost, but where too many seem to have lost it."""
        services, self._of_services = self._of_services, {}
        missing, self._missing = self._missing, []
        for domain, service in services.items():
            users = sum(lost for way, lost in service.lost.items() if not service.believes(way))
            if users:
                self._context.report("audit-stopped", "error", service=domain, users=users)
        believed = []
        for user, channels, way in missing:
            kept = [each for each in channels if services[each[0].domain].believes(way)]
            believed.append(_Lost(user, kept, way))
        self._end(believed)

    def _end(self, all_lost: list[_Lost]) -> None:
        """End memberships that rosters lack, some at a time, as fast as the budget allows."""
        self._ending.extend(lost for lost in all_lost if lost.channels)
        if not self._is_planned:
            self._end_next()

    def _end_next(self) -> None:
        """End what the next have lost, or a part of it, and plan the rest."""
        self._is_planned = False
        room = ENDED_AT_ONCE + A_USER
        while self._ending and self._budget.has(self._context.now, RATE, BURST):
            user, channels, way = self._ending[0]
            some, rest = channels[:ENDED_AT_ONCE], channels[ENDED_AT_ONCE:]
            cost = A_USER + len(some)
            if cost > room:
                break
            room -= cost
            self._ending.popleft()
            if rest:
                self._ending.append(_Lost(user, rest, way))
            self._budget.take(cost)
            self._context.attempt(self._end_some, _Lost(user, some, way))
        if self._ending:
            self._is_planned = True
            self._context.while_linked(max(PAUSE, self._budget.wait(RATE)), self._end_next)

    def _end_some(self, lost: _Lost) -> None:
        """End those that still are the same."""
        ids = self._ids(lost.user)
        gone = [channel for channel, id_ in lost.channels if ids.get(channel.key) == id_]
        for channel in gone:
            self._context.report("membership-gone", user=str(lost.user), channel=str(channel))
        self._memberships.depart_all(lost.user, gone)
