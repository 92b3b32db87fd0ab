"""Whether a user shares presence with a channel (XEP-0404, preference 'Presence').

Set in the join, or later by an iq between client and channel, of which the tap gives a
copy (tap protocol T9). A requested preference takes effect with the channel's result; the
client sees a refusal by itself. The channel's answer can only restrict it: "share" in answer
to "not share" is ignored.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from component.core.context import Context
from component.core.effects import PutMembership
from component.core.presence.announce import Presence
from component.core.roster.access import Rosters
from schemas.jid import Jid
from schemas.preferences import agreed, shares_presence
from schemas.stanza import Stanza

_LONG_ID = 64
"""Characters of an id that is kept as it is: as long as what stands for a longer one."""


class Preferences:
    """Watches users change their preferences."""

    def __init__(self, context: Context, rosters: Rosters, presence: Presence) -> None:
        self._context = context
        self._rosters = rosters
        self._presence = presence
        self._wishes: OrderedDict[tuple[Jid, Jid, str], bool] = OrderedDict()

    def asked(self, stanza: Stanza) -> None:
        """Note what a client asks of a channel."""
        wish = shares_presence(stanza.element)
        if stanza.type != "set" or wish is None or not stanza.id:
            return
        self._wishes[_key(stanza.sender, stanza.to, stanza.id)] = wish
        while len(self._wishes) > self._context.limits.wishes:
            self._wishes.popitem(last=False)

    def answered(self, stanza: Stanza) -> None:
        """Follow what the channel has granted."""
        wish = self._wishes.pop(_key(stanza.to, stanza.sender, stanza.id or ""), None)
        if wish is None or stanza.type != "result":
            return
        shares = agreed(wish, shares_presence(stanza.element))
        if self.share(stanza.to.bare, stanza.sender.bare, shares=shares):
            subscription = "from" if shares else "none"
            self._rosters.set(stanza.to.bare, stanza.sender.bare, subscription, _no_matter)

    def forget(self, user: Jid) -> None:
        """Forget what an account has asked that is no more: the next of its name has not."""
        for key in [key for key in self._wishes if key[0].bare == user]:
            del self._wishes[key]

    def share(self, user: Jid, channel: Jid, *, shares: bool) -> bool:
        """Begin or stop to share presence with a channel; False if that is so already."""
        membership = self._context.mirror.membership(user, channel)
        if membership is None or membership.shares_presence == shares:
            return False
        changed = membership._replace(shares_presence=shares)
        self._context.mirror.join(user, changed)
        self._context.write(PutMembership(str(user), changed.record()))
        self._presence.sharing_changed(user, channel, membership)
        return True


def _key(user: Jid, channel: Jid, id_: str) -> tuple[Jid, Jid, str]:
    """Make the key of a requested preference; a long id is replaced by its hash."""
    if len(id_) > _LONG_ID:
        id_ = hashlib.sha256(id_.encode("utf-8", "surrogatepass")).hexdigest()
    return user, channel, id_


def _no_matter(_: object) -> None:
    """Take an outcome that changes nothing: the roster is only the copy here."""
