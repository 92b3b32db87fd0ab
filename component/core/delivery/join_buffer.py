"""Keeps back what a channel sends while a join is under way (requirement J10).

The client must see: roster push, join result, then the channel's traffic. What waited is
released in order. Groupchat among it that the server has not archived (the roster item
came later) goes back to the server for that and returns (tap protocol C4); until then
everything behind it goes on waiting, so that order holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from component.core.context import Context, Copy
from component.core.effects import Send
from component.core.users.mirror import Row
from component.wire.framing import Frame
from schemas import codec
from schemas.namespaces import STANZA_ID

_STANZA_ID = f"{{{STANZA_ID}}}stanza-id"


def _nothing() -> None:
    """Do nothing."""


class Holding:
    """The waiting room of one user and channel; bounded, the newest are turned away."""

    def __init__(self, context: Context, row: Row, channel: bytes) -> None:
        self._context = context
        self._row = row
        self._channel = channel
        self._waiting: deque[Frame] = deque()
        self._bytes = 0
        # Ids of the messages that are at the server for archiving, in order.
        self._returning: deque[bytes] = deque()
        self._closed = False
        self._over: Callable[[], None] = _nothing

    def take(self, frame: Frame) -> None:
        """Keep a stanza back, or let it pass if it is the one that was to return."""
        if self._returning and self._is_returned(frame):
            self._returning.popleft()
            self._copy(frame)
            if not self._returning:
                self._flush()
            return
        limits = self._context.limits
        if (
            len(self._waiting) >= limits.held_stanzas
            or self._bytes + len(frame.data) > limits.held_bytes
        ):
            # Groupchat that the server archived is not lost to the user even so.
            self._context.drop("held-too-much")
            return
        self._waiting.append(frame)
        self._bytes += len(frame.data)

    def discard(self) -> None:
        """Drop everything: the join has failed."""
        self._waiting.clear()
        self._closed = True

    def release(self, over: Callable[[], None]) -> None:
        """Let everything go, in order, and call `over` when nothing waits any more."""
        self._over = over
        self._flush()
        if not self._closed:
            self._context.after(self._context.limits.archive_timeout, self._give_up)

    def _flush(self) -> None:
        """Release up to and including a run of messages that have to be archived first."""
        while self._waiting:
            frame = self._waiting[0]
            if self._needs_archive(frame):
                break
            self._waiting.popleft()
            self._copy(frame)
        while self._waiting and self._needs_archive(self._waiting[0]):
            frame = self._waiting.popleft()
            self._returning.append(frame.get(b"id"))
            self._context.effects.append(Send(frame.data))
        if not self._waiting and not self._returning:
            self._close()

    def _give_up(self) -> None:
        """Stop waiting for the server: what has not returned is in the archive or blocked."""
        if self._closed:
            return
        self._returning.clear()
        while self._waiting:
            self._copy(self._waiting.popleft())
        self._close()

    def _close(self) -> None:
        self._closed = True
        # `over` refers to the change that holds this: no cycle is left to the collector.
        over, self._over = self._over, _nothing
        over()

    def _copy(self, frame: Frame) -> None:
        self._context.effects.append(Copy(frame, self._row, self._channel))

    def _is_returned(self, frame: Frame) -> bool:
        return (
            frame.type == b"groupchat"
            and frame.get(b"id") == self._returning[0]
            and frame.sender.partition(b"/")[0] == self._channel
        )

    def _needs_archive(self, frame: Frame) -> bool:
        """Tell whether a message has not been archived; the tap has removed forged ids."""
        if frame.name != b"message" or frame.type != b"groupchat":
            return False
        if not self._context.tap(self._row.jid.domain).archive:
            return False
        try:
            message = codec.read(frame.data)
        except codec.MalformedStanza:  # pragma: no cover - it was read when it came
            return False
        user = str(self._row.jid)
        return all(each.get("by") != user for each in message.iterfind(_STANZA_ID))
