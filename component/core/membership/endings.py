"""Memberships that end, or change, without a client-leave.

A kick or ban (the channel retracts the user's participant id), a removal from the roster
by the user, which is a leave because the roster is the record of membership (XEP-0405
§5.8), and the end of the account.
"""

from __future__ import annotations

from collections.abc import Iterable

from component.core.context import Context
from component.core.membership.memberships import Memberships
from component.core.presence.preferences import Preferences
from component.wire.framing import Frame
from schemas import jid, roster
from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.namespaces import MIX_NODES, PUBSUB_EVENT
from schemas.stanza import Stanza

_ITEMS = f"{{{PUBSUB_EVENT}}}event/{{{PUBSUB_EVENT}}}items"
_RETRACT = f"{{{PUBSUB_EVENT}}}retract"
_PARTICIPANTS = f"{MIX_NODES}participants"


class Departures:
    """Sees memberships end and has the rest follow."""

    def __init__(
        self, context: Context, memberships: Memberships, preferences: Preferences
    ) -> None:
        self._context = context
        self._memberships = memberships
        self._preferences = preferences

    def overheard(self, frame: Frame) -> None:
        """Look for a kick in a channel's message that was just passed on.

        Raises MalformedStanza if it cannot be read.
        """
        stanza = stanzas.parse(frame.data)
        # Only the channel itself may retract, and only the id that it gave this user.
        membership = self._context.mirror.membership(stanza.to, stanza.sender)
        items = stanza.element.find(_ITEMS)
        if membership is None or items is None or items.get("node") != _PARTICIPANTS:
            return
        if any(
            retract.get("id") == membership.participant_id for retract in items.iterfind(_RETRACT)
        ):
            self._context.report("kicked", user=str(stanza.to), channel=str(stanza.sender))
            self._memberships.forget(stanza.to, stanza.sender)

    def roster_changed(self, stanza: Stanza) -> None:
        """Follow a change of a channel's roster item, whoever made it (tap protocol T8)."""
        query = stanza.payload
        user = stanza.sender
        for item in () if query is None else query.iterfind(roster.ITEM_TAG):
            try:
                channel = jid.parse(item.get("jid", ""))
            except ValueError:
                continue
            self.item_changed(user, channel, item.get("subscription", "none"))

    def item_changed(self, user: Jid, channel: Jid, subscription: str) -> None:
        """Follow a change of a channel's roster item."""
        if self._context.mirror.membership(user, channel) is None:
            return
        if subscription == "remove":
            self._memberships.depart(user, channel)
        else:
            # The roster is truthful: the user, or we, have changed what is shared.
            self._preferences.share(user, channel, shares=subscription in {"from", "both"})

    def items_removed(self, user: Jid, channels: Iterable[Jid]) -> None:
        """Follow a roster that has no items of these channels any more."""
        self._memberships.depart_all(user, channels)

    def account_removed(self, user: Jid) -> None:
        """Leave every channel of an account that is no more; nothing may be inherited."""
        self._preferences.forget(user)
        self._memberships.account_removed(user)
