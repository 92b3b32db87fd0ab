"""Takes the records that a store loads at a start, and can pass them on."""

from collections.abc import Iterable

from component.core.effects import (
    Drop,
    DropCapability,
    DropJournal,
    DropMembership,
    DropShown,
)
from component.store.reading import Replica
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord


class Taken:
    """A `component.store.reading.Replica` that only records."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Forget everything."""
        self._memberships: dict[tuple[str, str], MembershipRecord] = {}
        self._journal: dict[tuple[str, str], JournalRecord] = {}
        self._capabilities: dict[str, CapabilityRecord] = {}
        self._shown: dict[tuple[str, str], str] = {}

    def load_memberships(self, user: str, records: Iterable[MembershipRecord]) -> None:
        """Take all memberships of a user."""
        self._memberships |= {(user, record.channel): record for record in records}

    def load_journal(self, user: str, record: JournalRecord) -> None:
        """Take an unfinished change."""
        self._journal[user, record.channel] = record

    def load_capability(self, key: str, record: CapabilityRecord) -> None:
        """Take a verified capabilities hash."""
        self._capabilities[key] = record

    def load_shown(self, user: str, resource: str, digest: str) -> None:
        """Take the digest of a device announced to channels."""
        self._shown[user, resource] = digest

    def forget(self, gone: Drop) -> None:
        """Forget a removed record."""
        match gone:
            case DropMembership(user, channel):
                self._memberships.pop((user, channel), None)
            case DropJournal(user, channel):
                self._journal.pop((user, channel), None)
            case DropShown(user, resource):
                self._shown.pop((user, resource), None)
            case DropCapability(key):
                self._capabilities.pop(key, None)

    @property
    def memberships(self) -> list[tuple[str, MembershipRecord]]:
        """The memberships with their users."""
        return [(user, record) for (user, _), record in self._memberships.items()]

    @property
    def shown(self) -> list[tuple[str, str, str]]:
        """User, resource and digest of each announced device."""
        return [(*whose, digest) for whose, digest in self._shown.items()]

    def give(self, replica: Replica) -> None:
        """Pass everything on, as a store would."""
        for user, membership in self.memberships:
            replica.load_memberships(user, [membership])
        for (user, _), entry in self._journal.items():
            replica.load_journal(user, entry)
        for user, resource, digest in self.shown:
            replica.load_shown(user, resource, digest)
        for key, capability in self._capabilities.items():
            replica.load_capability(key, capability)

    def ordered(self) -> list[list[str]]:
        """Return everything, in an order that does not depend on Redis."""
        kinds = (self._memberships, self._journal, self._capabilities, self._shown)
        return [sorted(map(repr, kind.items())) for kind in kinds]
