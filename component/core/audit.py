"""Looks for memberships that ended while nobody watched.

The roster is the record of membership (XEP-0405 §5.8), and a change of it while no
component was connected is never reported: a channel that the user has removed, an
account that was deleted, perhaps registered again by somebody else, who must inherit
nothing. So after every new link each member's roster is read once, those online first, a
few at a time.

A server whose roster storage is broken may say that rosters are empty. When that seems so,
nothing is ended and the operator is told.
"""

from __future__ import annotations

from collections import deque

from component.core import results
from component.core.candidates import channel_like
from component.core.context import Context
from component.core.departures import Departures
from component.core.membership import Memberships
from component.core.rosters import Rosters
from schemas import roster
from schemas.jid import Jid
from schemas.stanza import Stanza

AT_ONCE = 20
"""Rosters that are read at the same time."""

FEW = 5
LARGE_SHARE = 0.2
"""More users than a few, and than this share of those looked at, do not lose channels by
themselves."""


class Audit:
    """Compares memory with the rosters, once a link."""

    def __init__(
        self, context: Context, rosters: Rosters, memberships: Memberships, departures: Departures
    ) -> None:
        self._context = context
        self._rosters = rosters
        self._memberships = memberships
        self._departures = departures
        self._to_ask: deque[Jid] = deque()
        self._asking = 0
        self._looked_at = 0
        self._with_losses = 0

    def begin(self, domain: str) -> None:
        """Look at all members of a domain whose sessions have been replayed."""
        rows = [
            row
            for row in self._context.mirror.rows.values()
            if row.jid.domain == domain and row.channels
        ]
        rows.sort(key=lambda row: not row.devices)
        self._to_ask.extend(row.jid for row in rows)
        while self._to_ask and self._asking < AT_ONCE:
            self._ask_next()

    def link_lost(self) -> None:
        """Forget whom to ask: the next link begins anew."""
        self._to_ask.clear()
        self._asking = self._looked_at = self._with_losses = 0

    def _ask_next(self) -> None:
        user = self._to_ask.popleft()
        self._asking += 1
        self._rosters.read(user, lambda reply: self._told(user, reply))

    def _told(self, user: Jid, reply: Stanza | None) -> None:
        self._asking -= 1
        query = None if reply is None else reply.element.find(roster.QUERY_TAG)
        is_gone = reply is not None and results.has_condition(reply, "item-not-found")
        if is_gone:
            self._seen(user, self._channels(user), is_gone=True)
        elif reply is not None and reply.type == "result" and query is not None:
            rostered = {channel for channel, _ in channel_like(query)}
            self._seen(user, self._channels(user) - rostered, is_gone=False)
        if self._to_ask:
            self._ask_next()

    def _channels(self, user: Jid) -> set[Jid]:
        """List a user's channels, but for those just being joined or left."""
        row = self._context.mirror.find(user)
        if row is None:
            return set()
        return {each.channel for key, each in row.channels.items() if key not in row.busy}

    def _seen(self, user: Jid, missing: set[Jid], *, is_gone: bool) -> None:
        self._looked_at += 1
        if not missing:
            return
        self._with_losses += 1
        if self._with_losses > max(FEW, self._looked_at * LARGE_SHARE):
            self._context.report("audit-stopped", "error", users=self._with_losses)
            self._to_ask.clear()
            return
        for channel in missing:
            self._context.report("membership-gone", user=str(user), channel=str(channel))
        if is_gone:
            self._departures.account_removed(user)
            return
        for channel in missing:
            self._memberships.depart(user, channel)
