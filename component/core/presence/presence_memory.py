"""The participants' presence that is kept for all users: one text for all, a budget in bytes.

A channel tells all its local participants the same, so each text is kept once; a user has only
what refers to it. Bytes are counted as they are taken: those of texts and senders' names once,
what Python takes for them, and what each user's entry takes. Beyond the budget, a channel's
share or a user's share, nothing is kept: then the channel is asked when a device comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from component.core.users.activity import ParticipantPresence

CHANNEL_SHARE = 4
"""Of the whole budget, one channel may take a fourth …"""

USER_SHARE = 16
"""… and one user a sixteenth, counted as if the texts were that user's alone."""

_ENTRY = 100
"""Bytes of a user's entry: a place in a dictionary that has room for more."""

_TEXT = 260
"""Bytes around a text and a sender's name: two objects, a counter, and its place."""


@dataclass(slots=True)
class _Text:
    """A presence without its `to`, and the name of its sender."""

    sender: bytes
    text: bytes
    uses: int = 0

    @property
    def size(self) -> int:
        return len(self.sender) + len(self.text) + _TEXT


@dataclass(slots=True)
class _Channel:
    texts: dict[bytes, _Text] = field(default_factory=dict)
    bytes: int = 0


class Presences:
    """Keeps presences for users, as long as there is room."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._channels: dict[bytes, _Channel] = {}
        self._users: dict[bytes, int] = {}
        self.bytes = 0

    def keep(
        self, user: bytes, channel: bytes, memory: ParticipantPresence, sender: bytes, text: bytes
    ) -> bool:
        """Keep a presence in place of an older one of the same sender; False if there is no room.

        `text` is the stanza without its `to`.
        """
        before = memory.stanzas.get(sender)
        if before == text:
            return True
        if before is not None:
            self._release(user, channel, before)
        of_channel = self._channels.get(channel)
        known = None if of_channel is None else of_channel.texts.get(text)
        alone = _ENTRY + len(sender) + len(text)
        need = _ENTRY if known is not None else _ENTRY + _Text(sender, text).size
        if (
            self.bytes + need > self._budget
            or (0 if of_channel is None else of_channel.bytes) + need
            > self._budget // CHANNEL_SHARE
            or self._users.get(user, 0) + alone > self._budget // USER_SHARE
        ):
            memory.stanzas.pop(sender, None)
            return False
        if of_channel is None:
            of_channel = self._channels[channel] = _Channel()
        if known is None:
            known = of_channel.texts[text] = _Text(sender, text)
        known.uses += 1
        # In the place of the older one: participants keep their order.
        memory.stanzas[known.sender] = known.text
        of_channel.bytes += need
        self.bytes += need
        self._users[user] = self._users.get(user, 0) + alone
        return True

    def drop(self, user: bytes, channel: bytes, memory: ParticipantPresence, sender: bytes) -> None:
        """Drop a sender's presence, if there is one."""
        text = memory.stanzas.pop(sender, None)
        if text is not None:
            self._release(user, channel, text)

    def _release(self, user: bytes, channel: bytes, text: bytes) -> None:
        """Take one use of a text away."""
        of_channel = self._channels.get(channel)
        known = None if of_channel is None else of_channel.texts.get(text)
        if of_channel is None or known is None:  # pragma: no cover - all was forgotten meanwhile
            return
        freed = _ENTRY
        known.uses -= 1
        if not known.uses:
            del of_channel.texts[known.text]
            freed += known.size
        of_channel.bytes -= freed
        if not of_channel.texts:
            del self._channels[channel]
        self.bytes -= freed
        left = self._users[user] - (_ENTRY + len(known.sender) + len(known.text))
        if left:
            self._users[user] = left
        else:
            del self._users[user]

    def clear(self, user: bytes, channel: bytes, memory: ParticipantPresence) -> None:
        """Drop all presence of a channel for a user."""
        for sender in list(memory.stanzas):
            self.drop(user, channel, memory, sender)

    def forget(self) -> None:
        """Drop everything; references to it are not used any more."""
        self._channels.clear()
        self._users.clear()
        self.bytes = 0
