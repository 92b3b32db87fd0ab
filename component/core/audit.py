"""Looks for memberships that ended while nobody watched.

The roster is the record of membership (XEP-0405 §5.8), and a change of it while no
component was connected is never reported: a channel that the user has removed, an
account that was deleted, perhaps registered again by somebody else, who must inherit
nothing. So after every new link each member's roster is read once, those online first, a
few at a time.

Where memory knows no membership at all, the rosters of those online are searched for
channels: if there are any, memory was lost, and only the operator can bring it back.

A server whose roster storage is broken may say that rosters are empty. When that seems so,
no more is ended and the operator is told. That is judged when all rosters have been read, for
the channels of each service, and for each way in which rosters lack them, by itself: accounts
that have all left, or are made to look so, keep the leaving of as few others as can be from
being seen.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import islice
from typing import NamedTuple

from component.core import results
from component.core.candidates import channel_like
from component.core.context import Context
from component.core.errors import Refusal
from component.core.membership import Memberships
from component.core.mirror import Row
from component.core.rosters import Rosters
from component.core.services import Services
from schemas import jid, roster
from schemas.jid import Jid
from schemas.stanza import Stanza

AT_ONCE = 20
"""Rosters that are read at the same time."""

FEW = 5
LARGE_SHARE = 0.2
"""More users than a few, and than this share of those looked at, do not lose channels by
themselves."""

ENDED_AT_ONCE = 20
"""Memberships that are ended in one go."""

DOMAINS = 20
"""Domains in one user's roster that are asked whether they are MIX services."""


class _Way(Enum):
    """How a roster lacks a channel: the account is gone, or there is nothing in it, or other."""

    GONE = 0
    EMPTY = 1
    OTHER = 2


class _Lost(NamedTuple):
    """A membership that a roster lacks."""

    user: Jid
    channel: Jid
    participant_id: str
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
        # Who has lost what, until that is judged.
        self._missing: list[_Lost] = []
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
        """Forget whom to ask: the next link begins anew."""
        self._forget()
        self._searched.clear()
        self._of_services.clear()
        self._missing.clear()
        self._asking = 0

    def _forget(self) -> None:
        self._online.clear()
        self._offline.clear()

    def _ask_next(self) -> None:
        user = jid.parse((self._online or self._offline).popleft().decode())
        self._asking += 1
        self._rosters.read(user, lambda reply: self._told(user, reply))

    def _told(self, user: Jid, reply: Stanza | None) -> None:
        self._asking -= 1
        query = None if reply is None else reply.element.find(roster.QUERY_TAG)
        is_gone = reply is not None and results.has_condition(reply, "item-not-found")
        if is_gone:
            self._seen(user, self._channels(user), _Way.GONE)
        elif reply is not None and reply.type == "result" and query is not None:
            rostered = {channel for channel, _ in channel_like(query)}
            if self._is_empty:
                self._search(user, rostered)
            way = _Way.OTHER if len(query) else _Way.EMPTY
            self._seen(user, self._channels(user) - rostered, way)
        if self._online or self._offline:
            self._ask_next()
        elif not self._asking:
            self._judge()

    def _search(self, user: Jid, rostered: set[Jid]) -> None:
        """Find out whether there are channels in the roster of somebody who is in none."""
        domains = {address.domain: address for address in sorted(rostered)}
        for domain, address in islice(domains.items(), DOMAINS):
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
        return {jid.parse(key.decode()) for key in row.channels if key not in row.busy}

    def _seen(self, user: Jid, missing: set[Jid], way: _Way) -> None:
        for domain in {channel.domain for channel in self._channels(user)}:
            self._of_services.setdefault(domain, _Service()).looked_at += 1
        for domain in {channel.domain for channel in missing}:
            self._of_services[domain].lost[way] += 1
        for channel in sorted(missing):
            membership = self._context.mirror.membership(user, channel)
            if membership is None:
                continue
            lost = _Lost(user, channel, membership.participant_id, way)
            if self._of_services[channel.domain].lost[way] <= FEW:
                self._end(lost)
            else:
                self._missing.append(lost)

    def _judge(self) -> None:
        """End what was lost, but where too many seem to have lost it."""
        services, self._of_services = self._of_services, {}
        missing, self._missing = self._missing, []
        for domain, service in services.items():
            users = sum(lost for way, lost in service.lost.items() if not service.believes(way))
            if users:
                self._context.report("audit-stopped", "error", service=domain, users=users)
        self._context.each(
            [lost for lost in missing if services[lost.channel.domain].believes(lost.way)],
            self._end,
            at_once=ENDED_AT_ONCE,
        )

    def _end(self, lost: _Lost) -> None:
        """End a membership that a roster lacks, if it still is the same."""
        user, channel = lost.user, lost.channel
        membership = self._context.mirror.membership(user, channel)
        if membership is not None and membership.participant_id == lost.participant_id:
            self._context.report("membership-gone", user=str(user), channel=str(channel))
            self._memberships.depart(user, channel)
