"""What channels send that the hot lane has not settled (XEP-0405 §5.2, RFC 6121 §8.5.2).

It waits for a join's end, or it is from a stranger: a message is refused as by an
account without that sender's blessing, everything else is dropped.
"""

from __future__ import annotations

from component.core.context import Context
from component.core.effects import Copy
from component.core.errors import Refusal
from component.framing import Frame
from schemas import jid
from schemas import stanza as stanzas
from schemas.stanza import Stanza


class Traffic:
    """Settles messages and presence that come from MIX domains to a user."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def receive(self, stanza: Stanza, frame: Frame) -> None:
        """Copy, keep back or refuse.

        Raises Refusal (service-unavailable) for a message from a channel that the user is
        not in; nobody learns from it whether the account exists.
        """
        if stanza.type == "error":
            self._context.drop("channel-error")
            return
        row = self._context.mirror.find(stanza.to)
        if row is not None:
            for channel in self._channels(stanza):
                key = str(channel).encode()
                if key in row.holding:
                    row.holding[key].take(frame)
                    return
                if row.has_joined(key):
                    # Only the spelling of its address kept it off the hot lane.
                    self._context.effects.append(Copy(frame, row, key))
                    return
        if stanza.kind == stanzas.MESSAGE:
            raise Refusal("cancel", "service-unavailable")
        self._context.drop("channel-not-joined")

    def _channels(self, stanza: Stanza) -> list[jid.Jid]:
        """Give the channels a stanza may speak for: itself, or that of a participant."""
        plain = stanza.sender.bare
        participant_id, channel = jid.split_encoded(stanza.sender)
        if participant_id is None or stanza.type == "groupchat":
            return [plain]
        return [plain, channel]
