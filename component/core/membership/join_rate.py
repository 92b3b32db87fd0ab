"""How often a user may join and leave: whoever does so all day keeps channels busy."""

from __future__ import annotations

import math

from component.core.context import Context
from component.core.errors import wait
from component.core.rates import Buckets
from schemas.jid import Jid


class JoinRate:
    """Counts the joins and leaves that each user asks for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        limits = context.limits
        self._buckets: Buckets[Jid] = Buckets(limits.join_rate, limits.join_burst)

    def admit(self, user: Jid) -> None:
        """Let one more be asked for. Raises Refusal if it is too soon."""
        seconds = self._buckets.take(user, self._context.now)
        if seconds:
            text = f"too many joins and leaves; try again in {math.ceil(seconds)} s"
            raise wait("policy-violation", text)
