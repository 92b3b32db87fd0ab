"""Joins and leaves that wait for their turn.

A client may send a hundred joins at once. MIXPAM_MAX_PENDING of a user's changes are under way at
the same time; further requests wait here, in order, and one for a channel with a change under way
waits for the end of that change. Bounded in number, bytes and time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from component.core.context import Context
from component.core.errors import wait
from component.core.membership.requests import Request
from schemas import codec
from schemas.jid import Jid

_TOO_MANY = "too many joins and leaves at the same time"


@dataclass(slots=True, eq=False)
class _Waiting:
    request: Request
    size: int
    deadline: int


class Turns:
    """Keeps each user's requests whose turn has not come."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: dict[Jid, list[_Waiting]] = {}

    def add(self, request: Request) -> None:
        """Have a request wait.

        Raises Refusal if too many of the user's do, or too large ones. One that waits for
        too long is refused.
        """
        limits, waiting = self._context.limits, self._waiting.get(request.user, [])
        size = len(codec.write(request.inner)) + len(request.id.encode())
        if (
            len(waiting) >= limits.join_burst
            or sum(each.size for each in waiting) + size > limits.waiting_bytes
        ):
            raise wait("resource-constraint", _TOO_MANY)
        entry = _Waiting(request, size, 0)
        entry.deadline = self._context.after(limits.waiting_time, lambda: self._late(entry))
        self._waiting.setdefault(request.user, waiting).append(entry)

    def next(self, user: Jid, may_begin: Callable[[Request], bool]) -> Request | None:
        """Take the first request out that may begin; none before another for its channel."""
        if user not in self._waiting:
            return None
        before: set[Jid] = set()
        for entry in self._waiting[user]:
            channel = entry.request.channel
            if channel not in before and may_begin(entry.request):
                self._context.deadlines.off(entry.deadline)
                self._remove(entry)
                return entry.request
            before.add(channel)
        return None

    def count(self, user: Jid, channel: Jid) -> int:
        """Tell how many wait for a channel."""
        waiting = self._waiting.get(user)
        return sum(each.request.channel == channel for each in waiting) if waiting else 0

    def drop(self, user: Jid) -> None:
        """Drop a user's requests: no client waits for their answers."""
        for entry in self._waiting.pop(user, []):
            self._context.deadlines.off(entry.deadline)

    def clear(self) -> None:
        """Drop all requests: the link is gone, and the tap answers the clients that wait."""
        for user in list(self._waiting):
            self.drop(user)

    def _remove(self, entry: _Waiting) -> None:
        waiting = self._waiting[entry.request.user]
        waiting.remove(entry)
        if not waiting:
            del self._waiting[entry.request.user]

    def _late(self, entry: _Waiting) -> None:
        self._remove(entry)
        self._context.refuse(entry.request.stanza, wait("resource-constraint", _TOO_MANY))
