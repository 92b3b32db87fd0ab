"""Which channels know that a user's devices are gone because the user has blocked them.

The tap says so again with each session that begins, and at the begin of each link: then a
channel that knows it is not told anything, or it would see when a user comes and goes whom it
may not see.
"""

from __future__ import annotations

from component.core.context import Context
from schemas.jid import Jid


class Hidden:
    """Remembers what was told, by user as the mirror names them; at most what is blocked."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # Channel -> when it was told: on this link, and on the one before, until the replay
        # has said what still is so.
        self._told: dict[bytes, dict[Jid, float]] = {}
        self._before: dict[bytes, dict[Jid, float]] = {}

    def begins(self, user: bytes, channel: Jid) -> bool:
        """Note that a channel is blocked; True if it has to be told."""
        told = self._told.setdefault(user, {})
        if channel in told:
            return False
        before = self._before.get(user, {}).get(channel)
        told[channel] = self._context.now if before is None else before
        return before is None

    def ends(self, user: bytes, channel: Jid) -> None:
        """Note that a channel may see the devices again."""
        for told in (self._told, self._before):
            told.get(user, {}).pop(channel, None)

    def has(self, user: bytes, channel: Jid) -> bool:
        """Tell whether a channel was told, and has seen no device since."""
        return channel in self._told.get(user, ()) or channel in self._before.get(user, ())

    def has_any(self, user: bytes) -> bool:
        """Tell whether a user has blocked a channel since this process began.

        One entry may be gone and another still be there.
        """
        return user in self._told

    def link_lost(self) -> None:
        """Doubt all that was told just now: the last of it may have been on the link."""
        latest = self._context.now - self._context.limits.link_timeout
        self._before = {
            user: {channel: at for channel, at in told.items() if at <= latest}
            for user, told in self._told.items()
        }
        self._told = {user: {} for user in self._told}

    def replayed(self, domain: str) -> None:
        """Forget the blocks that the replay of a domain did not repeat."""
        end = f"@{domain}".encode()
        self._before = {user: told for user, told in self._before.items() if not user.endswith(end)}
