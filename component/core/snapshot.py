"""The records that the store must hold, made from memory: to rewrite a store after a loss."""

from __future__ import annotations

from component.core.effects import Change, PutJournal, PutMembership, PutShown
from component.core.membership.journal import Journal
from component.core.presence.announce import GONE, UNKNOWN
from component.core.presence.capability import Capability
from component.core.users.mirror import Mirror
from schemas import jid


class Remembered:
    """Tells of the users one by one: there may be many, and they change meanwhile."""

    def __init__(self, mirror: Mirror, journal: Journal, capability: Capability) -> None:
        self._mirror = mirror
        self._journal = journal
        self._capability = capability

    def users(self) -> list[str]:
        """List the users (canonical bare JIDs) of whom something is to be held."""
        rows = self._mirror.rows.items()
        users = {key.decode() for key, row in rows if row.channels or row.shown}
        return sorted(users | {str(user) for user in self._journal.users()})

    def of_user(self, user: str) -> list[Change]:
        """Give what is to be held of a user."""
        changes: list[Change] = [
            PutJournal(user, entry) for entry in self._journal.of_user(jid.parse(user))
        ]
        row = self._mirror.rows.get(user.encode())
        if row is not None:
            changes += [PutMembership(user, each.record()) for each in row.channels.all()]
            changes += [
                PutShown(user, resource, UNKNOWN if digest == GONE else digest)
                for resource, digest in row.shown.items()
            ]
        return changes

    def of_all(self) -> list[Change]:
        """Give what is to be held and is no user's."""
        return list(self._capability.remembered())
