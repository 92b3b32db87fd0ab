"""Takes what a store gives at a start, and can give it on."""

from collections.abc import Iterable

from component.store.reading import Learner
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord


class Taken:
    """A `component.store.reading.Learner` of plain lists."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Forget everything."""
        self.memberships: list[tuple[str, MembershipRecord]] = []
        self.journal: list[tuple[str, JournalRecord]] = []
        self.capabilities: list[tuple[str, CapabilityRecord]] = []
        self.shown: list[tuple[str, str, str]] = []

    def load_memberships(self, user: str, records: Iterable[MembershipRecord]) -> None:
        """Take all memberships of a user."""
        self.memberships += [(user, record) for record in records]

    def load_journal(self, user: str, record: JournalRecord) -> None:
        """Take an unfinished change."""
        self.journal.append((user, record))

    def load_capability(self, key: str, record: CapabilityRecord) -> None:
        """Take a verified capabilities hash."""
        self.capabilities.append((key, record))

    def load_shown(self, user: str, resource: str, digest: str) -> None:
        """Take what the channels were shown of a device."""
        self.shown.append((user, resource, digest))

    def give(self, learner: Learner) -> None:
        """Give everything on, as a store would."""
        for user, membership in self.memberships:
            learner.load_memberships(user, [membership])
        for user, entry in self.journal:
            learner.load_journal(user, entry)
        for user, resource, digest in self.shown:
            learner.load_shown(user, resource, digest)
        for key, capability in self.capabilities:
            learner.load_capability(key, capability)

    def ordered(self) -> list[list[str]]:
        """Return everything, in an order that does not depend on Redis."""
        kinds = (self.memberships, self.journal, self.capabilities, self.shown)
        return [sorted(map(repr, kind)) for kind in kinds]
