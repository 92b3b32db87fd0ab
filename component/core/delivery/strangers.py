"""What channels send that the hot lane has not settled (XEP-0405 §5.2, RFC 6121 §8.5.2).

It waits for a join's end, or it is from a stranger: a message is refused as by an
account without that sender's blessing, everything else is dropped.
"""

from __future__ import annotations

from collections.abc import Callable

from component.core.context import Context
from component.core.effects import Copy
from component.core.errors import Refusal
from component.core.users.mirror import Row
from component.wire.framing import Frame
from schemas import jid
from schemas import stanza as stanzas
from schemas.stanza import Stanza


class Traffic:
    """Settles messages and presence that come from MIX domains to a user.

    `admit` tells whether a presence may be passed on now.
    """

    def __init__(self, context: Context, admit: Callable[[Row, bytes, Frame], bool]) -> None:
        self._context = context
        self._admit = admit

    def receive(self, stanza: Stanza, frame: Frame) -> None:
        """Copy, keep back or refuse.

        Raises Refusal (service-unavailable) for a message from a channel that the user is
        not in; nobody learns from it whether the account exists.
        """
        found = self.find(stanza)
        if found is None:
            return
        row, key = found
        if key in row.holding:
            row.holding[key].take(frame)
        elif stanza.kind != stanzas.PRESENCE or self._admit(row, key, frame):
            # Only the spelling of its address kept it off the hot lane.
            self._context.effects.append(Copy(frame, row, key))

    def find(self, stanza: Stanza) -> tuple[Row, bytes] | None:
        """Find the channel that a stanza speaks for, if the user is, or may soon be, in it.

        None for what is dropped. Raises Refusal as `receive` does.
        """
        if stanza.type == "error":
            self._context.drop("channel-error")
            return None
        row = self._context.mirror.find(stanza.to)
        for channel in () if row is None else self._channels(stanza):
            key = channel.key
            if row is not None and (key in row.holding or row.has_joined(key)):
                return row, key
        if stanza.kind == stanzas.MESSAGE:
            raise Refusal("cancel", "service-unavailable")
        self._context.drop("channel-not-joined")
        return None

    def _channels(self, stanza: Stanza) -> list[jid.Jid]:
        """Give the channels a stanza may speak for: itself, or that of a participant."""
        plain = stanza.sender.bare
        participant_id, channel = jid.split_encoded(stanza.sender)
        if participant_id is None or stanza.type == "groupchat":
            return [plain]
        return [plain, channel]
