"""Changes that nobody waits for, when there are many: a few at a time.

A roster, or an account, that lost all its channels ends as many memberships at once, of which
each costs a leave, an answer and a roster item, and towards a dead domain a look for it. So
they wait here for their turn: users take turns, and with each the services of that user. Each
keeps its place for a second, whether it is over by then or not: so many begin in a second, dead
domains hold nobody up, and the server has time for others. The memberships have ended already.

What waits is in the journal already, so that a cut loses nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from component.core.context import Context
from schemas.jid import Jid

AT_ONCE = 20
"""Changes that are under way at the same time, of all users; as many rosters are read."""

HELD = 1.0
"""Seconds for which a change keeps its place, however quickly it is over or however long it
takes: 20 a second. The attempt to reach a dead domain costs a server more than its timeout."""


@dataclass(slots=True, eq=False)
class _Place:
    """A change that has begun, and what will take its place away."""

    deadline: int = 0


class Ends:
    """Has what waits begin in its turn; the link's end forgets it, the journal does not."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: dict[tuple[Jid, Jid], Callable[[], None]] = {}
        # Channels that wait, by user and service, in the order of turns.
        self._lines: dict[Jid, dict[str, deque[Jid]]] = {}
        self._places: set[_Place] = set()
        self._by_key: dict[tuple[Jid, Jid], _Place] = {}

    @property
    def has_room(self) -> bool:
        """Whether one more may begin at once."""
        return not self._lines and len(self._places) < AT_ONCE

    def waits(self, user: Jid, channel: Jid) -> bool:
        """Tell whether a change of a membership has not begun."""
        return (user, channel) in self._waiting

    def keep(self, user: Jid, channel: Jid, begin: Callable[[], None]) -> None:
        """Have a change wait that is not ready; `begin` is for one who cannot wait for that."""
        self._waiting[user, channel] = begin

    def ready(self, user: Jid, channel: Jid, begin: Callable[[], None]) -> None:
        """Have a change that waits begin in its turn."""
        if (user, channel) in self._waiting:
            self._waiting[user, channel] = begin
            services = self._lines.setdefault(user, {})
            services.setdefault(channel.domain, deque()).append(channel)
            self._go_on()

    def hurry(self, user: Jid, channel: Jid) -> None:
        """Begin a change that waits now: somebody waits for it."""
        if (user, channel) in self._waiting:
            self._begin(user, channel)

    def taken(self, user: Jid, channel: Jid) -> None:
        """Note that a change has begun."""
        place = _Place()
        self._places.add(place)
        self._by_key[user, channel] = place
        place.deadline = self._context.after(HELD, lambda: self._free(place))

    def over(self, user: Jid, channel: Jid) -> None:
        """Note that a change is over, whichever it was."""
        place = self._by_key.get((user, channel))
        if place is not None and not self._lines:
            # Nobody waits for it: a single change leaves nothing behind.
            self._context.deadlines.off(place.deadline)
            self._free(place)

    def clear(self) -> None:
        """Forget all: the link is gone."""
        for place in self._places:
            self._context.deadlines.off(place.deadline)
        self._waiting.clear()
        self._lines.clear()
        self._places.clear()
        self._by_key.clear()

    def _free(self, place: _Place) -> None:
        self._places.discard(place)
        self._by_key = {key: each for key, each in self._by_key.items() if each is not place}
        self._go_on()

    def _go_on(self) -> None:
        while len(self._places) < AT_ONCE and (following := self._next()) is not None:
            self._begin(*following)

    def _next(self) -> tuple[Jid, Jid] | None:
        """Take out the next of the user, and of the service, whose turn it is."""
        while self._lines:
            user = next(iter(self._lines))
            services = self._lines.pop(user)
            domain = next(iter(services))
            channels = services.pop(domain)
            channel = channels.popleft()
            if channels:
                services[domain] = channels
            if services:
                self._lines[user] = services
            if (user, channel) in self._waiting:
                return user, channel
        return None

    def _begin(self, user: Jid, channel: Jid) -> None:
        begin = self._waiting.pop((user, channel))
        self.taken(user, channel)
        self._context.attempt(begin)
