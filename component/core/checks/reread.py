"""Reads rosters of which a change came that could not be read itself (tap protocol T8)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import deque

from component.core.context import Context
from component.core.membership.endings import Departures
from component.core.roster.access import Outcome, Rosters
from component.core.roster.candidates import channel_like
from schemas import jid
from schemas.jid import Jid

AT_ONCE = 4
"""Rosters that are read at the same time."""


class Rereading:
    """Ends memberships that a roster lacks, and follows its subscriptions."""

    def __init__(self, context: Context, rosters: Rosters, departures: Departures) -> None:
        self._context = context
        self._rosters = rosters
        self._departures = departures
        # Users whose rosters are to be read.
        self._waiting: deque[Jid] = deque()
        self._reading = 0

    def look_at(self, user: Jid) -> None:
        """Read a user's roster soon, if there are memberships to compare with."""
        row = self._context.mirror.find(user)
        if row is not None and row.channels and user not in self._waiting:
            self._waiting.append(user)
            self._read_more()

    def link_lost(self) -> None:
        """Forget whose roster to read: after a new link all are."""
        self._waiting.clear()
        self._reading = 0

    def _read_more(self) -> None:
        while self._waiting and self._reading < AT_ONCE:
            self._reading += 1
            self._read(self._waiting.popleft())

    def _read(self, user: Jid) -> None:
        row = self._context.mirror.find(user)
        # A channel that is joined meanwhile may be on a page already read.
        unseen = (
            set() if row is None else {each for each in row.channels if not row.is_pending(each)}
        )
        found: dict[Jid, str] = {}

        def take(query: ET.Element) -> bool:
            for channel, subscription in channel_like(query):
                key = channel.key
                if key in unseen:
                    unseen.remove(key)
                    found[channel] = subscription
            return not unseen

        def end(outcome: Outcome) -> None:
            self._reading -= 1
            if outcome == "no-account":
                self._departures.account_removed(user)
            elif outcome == "read":
                gone = [jid.parse(key.decode()) for key in unseen]
                self._departures.items_removed(user, gone)
                for channel, subscription in found.items():
                    self._departures.item_changed(user, channel, subscription)
            self._read_more()

        self._rosters.read(user, take, end)
