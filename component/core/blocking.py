"""Changes of users' blocking lists (XEP-0191, tap protocol "What a user has blocked").

The server has the lists, and the tap applies them to stanzas from and to channels. The component
does the rest. At a block it sends the channel unavailable presence of the user's devices and
answers requests that wait for the channel. At an unblock it sends the devices' presence, asks
the channel for its participants' presence, and checks whether the user still participates.
"""

from __future__ import annotations

from component.core.checks.participant_audit import RollCall
from component.core.context import Context
from component.core.membership.memberships import Memberships
from component.core.presence.announce import Presence
from component.core.presence.participants import Participants
from component.core.services import Services
from component.core.users.mirror import Membership, Row
from schemas import jid
from schemas.jid import Jid


class Blocking:
    """Follows the users' lists."""

    def __init__(
        self,
        context: Context,
        *,
        memberships: Memberships,
        services: Services,
        presence: Presence,
        participants: Participants,
        roll_call: RollCall,
    ) -> None:
        self._context = context
        self._memberships = memberships
        self._services = services
        self._presence = presence
        self._participants = participants
        self._roll_call = roll_call

    def blocked(self, user: Jid, address: Jid) -> None:
        """Withdraw the devices from blocked channels, and forget their participants' presence.

        After a block of one participant (`id#channel@…`) only presence is forgotten: devices
        were announced to the channel, which is not blocked.
        """
        for channel in self._memberships.asked_of(user):
            if covers(address, channel):
                self._memberships.blocked(user, channel)
        if address.local is None and address.resource is None:
            self._services.blocked(user, address.domain)
        row = self._context.mirror.find(user)
        if row is None:
            return
        for membership in row.channels.all():
            if covers(address, membership.channel):
                self._presence.blocked(row, membership)
            if covers(address, membership.channel) or _is_in(address, membership.channel):
                self._participants.doubt(row, membership.channel.key)

    def unblocked(self, user: Jid, address: Jid | None) -> None:
        """Announce the devices again, and ask the channels for presence; None is all channels.

        The tap drops stanzas that another entry of the list still covers.
        """
        for channel in self._memberships.asked_of(user):
            if address is None or covers(address, channel):
                self._memberships.unblocked(user, channel)
        row = self._context.mirror.find(user)
        if row is None:
            return
        for membership in row.channels.all():
            if address is None or covers(address, membership.channel):
                self._presence.began(row, membership)
                self._tell_again(row, membership)
            elif _is_in(address, membership.channel):
                self._tell_again(row, membership)
        self._participants.ask_again(row)

    def _tell_again(self, row: Row, membership: Membership) -> None:
        """Doubt all that is known: a kick, too, may have been kept back."""
        self._participants.doubt(row, membership.channel.key)
        self._roll_call.ask_about(row.jid, membership.channel)


def covers(entry: Jid, address: Jid) -> bool:
    """Tell whether an entry of a blocking list is about an address (XEP-0191 §5)."""
    return (
        entry.domain == address.domain
        and entry.local in {None, address.local}
        and entry.resource in {None, address.resource}
    )


def _is_in(entry: Jid, channel: Jid) -> bool:
    """Tell whether an entry is about one of a channel's participants, or their sessions."""
    return entry.bare == channel or jid.split_encoded(entry)[1] == channel
