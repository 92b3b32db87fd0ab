"""Whether a user shares presence with a channel (XEP-0404, preference 'Presence').

Set in the join, or later by an iq between client and channel, of which the tap gives a
copy (tap protocol T9). Only the channel's result counts; where it does not repeat the
value, the one that was asked for does.
"""

from __future__ import annotations

from collections import OrderedDict

from component.core.context import Context
from component.core.membership import Memberships
from component.core.sharing import shares_presence
from schemas.jid import Jid
from schemas.stanza import Stanza

WISHES = 10_000
"""Wishes remembered until the channel answers; the oldest make room."""


class Preferences:
    """Watches users change their preferences."""

    def __init__(self, context: Context, memberships: Memberships) -> None:
        self._context = context
        self._memberships = memberships
        self._wishes: OrderedDict[tuple[Jid, Jid, str], bool] = OrderedDict()

    def asked(self, stanza: Stanza) -> None:
        """Note what a client asks of a channel."""
        wish = shares_presence(stanza.element)
        if stanza.type != "set" or wish is None or not stanza.id:
            return
        self._wishes[stanza.sender, stanza.to, stanza.id] = wish
        while len(self._wishes) > WISHES:
            self._wishes.popitem(last=False)

    def answered(self, stanza: Stanza) -> None:
        """Follow what the channel has granted."""
        wish = self._wishes.pop((stanza.to, stanza.sender, stanza.id or ""), None)
        if wish is None or stanza.type != "result":
            return
        granted = shares_presence(stanza.element)
        shares = wish if granted is None else granted
        self._memberships.share(
            stanza.to.bare, stanza.sender.bare, shares=shares, roster_knows=False
        )
