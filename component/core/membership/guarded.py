"""Continuations of changes: an exception in one ends that change, and nothing else.

A continuation that waits for an answer, a write or a deadline has no caller that could answer the
client or end the change. So each one is bound to its change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVarTuple, Unpack

from component.core.context import Context
from component.core.membership.change import Op
from component.core.membership.ledger import Asked
from component.core.membership.requests import Request
from schemas import codec
from schemas.stanza import Stanza

Ts = TypeVarTuple("Ts")


class Guarded:
    """Has what broke come to an end."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def _broke(self, broken: Op | Asked) -> None:
        """End a change, or a question that is late; given by `memberships`."""
        raise NotImplementedError  # pragma: no cover - never this one

    def _guarded(
        self, op: Op | Asked, action: Callable[[Unpack[Ts]], None]
    ) -> Callable[[Unpack[Ts]], None]:
        """Give a continuation that ends what it belongs to if it fails."""
        context = self._context

        def guarded(*args: *Ts) -> None:
            before = len(context.effects)
            request = op.request if isinstance(op, Op) else None
            try:
                action(*args)
            except Exception as error:
                if isinstance(error, codec.MalformedStanza) and any(map(_is_read, args)):
                    raise  # the peer's fault: the answer is given again, unread
                self._failed(op, request, before, error)

        return guarded

    def _attempt(self, op: Op, *steps: Callable[[Op], None]) -> None:
        """Take steps of a change now; a fault ends it."""
        before, request = len(self._context.effects), op.request
        try:
            for step in steps:
                step(op)
        except Exception as error:  # noqa: BLE001 - it ends this change, and nothing else
            self._failed(op, request, before, error)

    def _failed(
        self, op: Op | Asked, request: Request | None, before: int, error: Exception
    ) -> None:
        """End what has failed. `request` is whose answer is taken back with all that was said."""
        self._context.failed(before, error)
        if isinstance(op, Op):
            op.request = request
        self._broke(op)


def _is_read(given: object) -> bool:
    """Tell whether this is a stanza whose content somebody may stumble over."""
    return isinstance(given, Stanza) and not given.unread
