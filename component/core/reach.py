"""How many domains are addressed in a second by what nobody waits for.

For each domain that it is not connected to a server looks up names, opens connections and, where
there is nobody, sends the stanza back: a millisecond or two, in which a server of one thread does
nothing else. Anybody may be in thousands of channels, each in a domain of its own that has gone.
So what one event sets off in many domains has a budget here, of each user and of all. A domain
that is connected, or was addressed a moment ago, costs nothing, until the server has lost it.
"""

from __future__ import annotations

from component.core.rates import Buckets, TokenBucket

RATE = 10.0
"""Domains a second that are addressed for one user …"""

BURST = 20.0
"""… after so many at once."""

TOTAL_RATE = 40.0
"""Domains a second that are addressed for all users: some five hundredths of a processor …"""

TOTAL_BURST = 40.0
"""… after so many at once."""

PATIENCE = 1.0
"""Seconds until one who is held up by others tries again."""

SHORTEST = 0.05
"""Seconds of the shortest pause: what is left of one by rounding would be no pause at all."""

FRESH = 15.0
"""Seconds for which a domain that has been addressed costs nothing more."""

MOST_UP = 10_000
"""Domains that are kept as connected; then the oldest costs something again."""


class Reach:
    """The budget. A user is a bare JID in bytes, as rows have it."""

    def __init__(self) -> None:
        self._users: Buckets[bytes] = Buckets(RATE, BURST)
        self._all = TokenBucket()
        # Domains that have been addressed, and when, oldest first.
        self._fresh: dict[str, float] = {}
        self._up: dict[str, None] = {}

    def pause(self, user: bytes, domain: str, now: float) -> float:
        """Take what it costs to address a domain; gives 0, or seconds until the next try."""
        if domain in self._up or self._fresh.get(domain, float("-inf")) > now - FRESH:
            return 0.0
        if not self._all.has(now, TOTAL_RATE, TOTAL_BURST):
            return PATIENCE
        seconds = self._users.take(user, now)
        if seconds:
            return max(seconds, SHORTEST)
        self._all.take()
        self._forget_old(now)
        self._fresh.pop(domain, None)
        self._fresh[domain] = now
        return 0.0

    def found(self, domain: str) -> None:
        """Note that the server has a connection to a domain: it costs nothing until it is lost."""
        self._up[domain] = None
        if len(self._up) > MOST_UP:
            del self._up[next(iter(self._up))]

    def lost(self, domain: str) -> None:
        """Note that the server has no connection to a domain, or got none."""
        self._up.pop(domain, None)
        self._fresh.pop(domain, None)

    def _forget_old(self, now: float) -> None:
        while self._fresh:
            domain, moment = next(iter(self._fresh.items()))
            if moment > now - FRESH:
                return
            del self._fresh[domain]
