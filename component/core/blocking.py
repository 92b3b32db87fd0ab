"""What a user has blocked (XEP-0191, tap protocol "What a user has blocked").

The lists are the server's: the tap judges by them what goes to a channel in the user's name,
and what comes from it. Here is what the user's server owes the channel, and the user, when a
list changes: at a block the devices that the channel was shown are gone, and who waits for the
channel's answer is told; at an unblock they
are there again as they are now, and the channel tells anew who is there, and whether the user
still is a participant.
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
        """Take the devices back from what was blocked, and forget what it told.

        One participant (`id#channel@…`) is only forgotten: what was shown went to the
        channel, which is not blocked.
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
        """Show the devices again, and have the channels tell again; None is all of them.

        What another entry of the list still covers the tap keeps back.
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
