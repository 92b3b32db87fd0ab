"""Continuations of changes: a fault of ours in one ends that change, and nothing else.

What waits for an answer, a write or a moment has nobody above it who could tell the client, or
take the change off the desk. So each continuation of a change is given with what it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec

from component.core.context import Context
from component.core.ledger import Asked
from component.core.operation import Op
from schemas import codec
from schemas.stanza import Stanza

P = ParamSpec("P")


class Guarded:
    """Has what broke come to an end."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def _broke(self, broken: Op | Asked) -> None:
        """End a change, or a question that is late; given by component.core.membership."""
        raise NotImplementedError

    def _guarded(self, op: Op | Asked, action: Callable[P, None]) -> Callable[P, None]:
        """Give a continuation that ends what it belongs to if it fails."""

        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            malformed: list[codec.MalformedStanza] = []
            request = op.request if isinstance(op, Op) else None

            def act() -> None:
                try:
                    action(*args, **kwargs)
                except codec.MalformedStanza as error:
                    if all(not isinstance(each, Stanza) or each.unread for each in args):
                        raise
                    malformed.append(error)

            if not self._context.attempt(act):
                if isinstance(op, Op):
                    op.request = request  # what it was answered in there is not said
                self._broke(op)
            elif malformed:
                raise malformed[0]  # the peer's fault: the answer is given again, unread

        return guarded

    def _attempt(self, op: Op, action: Callable[[Op], None]) -> None:
        """Take a step of a change now; a fault ends it."""
        self._guarded(op, partial(action, op))()
