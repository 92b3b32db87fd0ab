"""Plays server, channels, clients and store around the core, one step at a time.

`says` puts one stanza onto the link, `hears` takes the next one that the component wrote
and compares it as XML: `*` stands for any value or content, and ids that the
component invented are told by the element that comes back. `silence` says that nothing
else was written. Time passes by `waits` only. The store works at once, fails or sleeps.
"""

import xml.etree.ElementTree as ET
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from itertools import count

from component.core.delivery.shortcut import Shortcut
from component.core.effects import (
    Count,
    Deliver,
    DropCapability,
    DropJournal,
    DropMembership,
    DropShown,
    Effect,
    Fault,
    PutCapability,
    PutJournal,
    PutMembership,
    PutShown,
    Queue,
    Report,
    Send,
    Write,
)
from component.core.lane_counts import LaneCounts
from component.core.limits import Limits
from component.core.machine import Core
from component.operator.admin_commands import admin_commands
from component.wire.framing import OVERSIZED, Frame, LeftOut
from schemas import codec, jid
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord

OWN = "mixpam.example.org"
SERVER = "example.org"
ANNA = "anna@example.org"
PHONE = f"{ANNA}/phone"
LAPTOP = f"{ANNA}/laptop"
BEN = "ben@example.org"
MIX = "mix.example"
COVEN = f"coven@{MIX}"
CORE_0, CORE_1 = "urn:xmpp:mix:core:0", "urn:xmpp:mix:core:1"
PAM_0, PAM_1, PAM_2 = (f"urn:xmpp:mix:pam:{version}" for version in range(3))
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
DISCO = "http://jabber.org/protocol/disco#info"


class Stored:
    """What the store holds; it outlives the process."""

    def __init__(self) -> None:
        self.memberships: dict[tuple[str, str], MembershipRecord] = {}
        self.journal: dict[tuple[str, str], JournalRecord] = {}
        self.shown: dict[tuple[str, str], str] = {}
        self.capabilities: dict[str, CapabilityRecord] = {}

    def change(self, write: Write) -> None:
        """Carry a write out."""
        for change in write.changes:
            match change:
                case PutMembership(user, record):
                    self.memberships[user, record.channel] = record
                case DropMembership(user, channel):
                    self.memberships.pop((user, channel), None)
                case PutJournal(user, entry):
                    self.journal[user, entry.channel] = entry
                case DropJournal(user, channel):
                    self.journal.pop((user, channel), None)
                case PutShown(user, resource, digest):
                    self.shown[user, resource] = digest
                case DropShown(user, resource):
                    self.shown.pop((user, resource), None)
                case PutCapability(key, capability):
                    self.capabilities[key] = capability
                case DropCapability(key):
                    self.capabilities.pop(key, None)


class Play:
    """One process of the component, and everybody it talks to."""

    def __init__(
        self, stored: Stored | None = None, *, admins: tuple[str, ...] = (), **limits: float
    ) -> None:
        self.stored = stored or Stored()
        self.now = 1_000.0
        self.reports: list[Report] = []
        # Faults of the component's own; a play that does not mean them fails.
        self.may_fail = False
        self.faults: list[Exception] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        # "works", "fails" or "sleeps"; a sleeping one wakes by `store_wakes`.
        self.store = "works"
        self._asleep: deque[Write] = deque()
        self._written: deque[bytes] = deque()
        numbers = count(1)
        own, domains = jid.parse(OWN), (SERVER, "example.net")
        self.core = Core(
            own,
            domains,
            Limits(**limits),  # type: ignore[arg-type]
            lambda: f"own-{next(numbers)}",
            ("mailto:admin@example.org",),
            admins=admins,
            commands=admin_commands if admins else lambda _: (),
        )
        of_users: defaultdict[str, list[MembershipRecord]] = defaultdict(list)
        for (user, _), membership in self.stored.memberships.items():
            of_users[user].append(membership)
        for user, memberships in of_users.items():
            self.core.load_memberships(user, memberships)
        for (user, _), entry in self.stored.journal.items():
            self.core.load_journal(user, entry)
        for (user, resource), digest in self.stored.shown.items():
            self.core.load_shown(user, resource, digest)
        for key, capability in self.stored.capabilities.items():
            self.core.load_capability(key, capability)

    # -- steps ---------------------------------------------------------------------------

    def says(self, xml: str) -> None:
        """Put one stanza onto the component's link, as the tap would."""
        self.passes_on(Frame(xml.encode()))

    def leaves_out(self, start_tag: str, head: str = "") -> None:
        """Have a stanza be too large of which this is the start tag, and what follows it."""
        frame = Frame(f"{start_tag}{head}".encode())
        self._carry_out(self.core.take_left_out(LeftOut.of(frame, OVERSIZED), self.now))

    def passes_on(self, frame: Frame) -> None:
        """Put what was cut from the link before both lanes, as component.engine does.

        By the short cut it would have gone the same way, or none.
        """
        core, short = self.core, list[bytes]()
        shortcut = Shortcut(
            core.mirror, core.multicast, core.context.limits, core.largest, LaneCounts()
        )
        carried = shortcut.carry(frame.data, 0, short)
        effects = self.core.take(frame, self.now)
        if carried:
            made = [effect.copies for effect in effects if isinstance(effect, Deliver)]
            copies = [each for copies in made for each in copies]
            assert b"".join(short) == b"".join(copies)
            assert not any(isinstance(effect, Queue) for effect in effects)
        self._carry_out(effects)

    def hears(self, xml: str) -> ET.Element:
        """Take the next stanza that the component wrote, which must be this one."""
        assert self._written, f"nothing was written where this should be: {xml}"
        raw = self._written.popleft()
        got, wanted = codec.read(raw), codec.read(xml.encode())
        assert _facts(got, wanted) == _facts(wanted, wanted), raw.decode()
        return got

    def hears_anything(self) -> ET.Element:
        """Take the next stanza that the component wrote, whatever it is."""
        return codec.read(self._written.popleft())

    def hears_all(self) -> list[bytes]:
        """Take all that the component wrote."""
        written, self._written = [*self._written], deque()
        return written

    @property
    def has_written(self) -> bool:
        """Tell whether something was written and not heard."""
        return bool(self._written)

    def silence(self) -> None:
        """Check that nothing else was written."""
        assert not self._written, [data.decode() for data in self._written]

    def waits(self, seconds: float) -> None:
        """Let time pass; what falls due meanwhile happens at its moment."""
        end = self.now + seconds
        while (due := self.core.next_deadline) is not None and due <= end:
            self.now = max(self.now, due)
            self._carry_out(self.core.tick(self.now))
        self.now = end
        self._carry_out(self.core.tick(self.now))

    def store_wakes(self, *, works: bool = True) -> None:
        """Let the sleeping store do, or fail, what waits for it."""
        self.store = "works" if works else "fails"
        while self._asleep:
            self._write(self._asleep.popleft())

    def link_is_cut(self) -> None:
        """Lose the link; what was written and not heard is lost with it."""
        self._carry_out(self.core.link_lost(self.now))
        for _ in self.core.forget_sessions():
            pass
        self._written.clear()

    def dies(self, **limits: float) -> "Play":
        """End the process; give the next one, with what the store holds."""
        return Play(self.stored, **limits)  # type: ignore[arg-type]

    # -- what it has come to -----------------------------------------------------------------

    def reported(self, event: str) -> bool:
        """Tell whether the operator was told of an event."""
        return any(report.event == event for report in self.reports)

    def dropped(self, reason: str) -> int:
        """Tell how many stanzas were dropped for a reason."""
        return self.counts["dropped", reason]

    def members(self, user: str = ANNA) -> dict[str, str]:
        """Give a user's channels and participant ids, which store and mirror must agree on."""
        row = self.core.mirror.find(jid.parse(user))
        known = {} if row is None else row.channels
        mirrored = {key.decode(): member.participant_id for key, member in known.items()}
        stored = {
            channel: record.participant_id
            for (owner, channel), record in self.stored.memberships.items()
            if owner == user
        }
        assert mirrored == stored
        return mirrored

    # -- effects, as component.engine carries them out ----------------------------------------

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        writes: list[Write] = []
        for effect in effects:
            match effect:
                case Send(data):
                    self._written.append(data)
                case Deliver(copies):
                    self._written += copies
                case Queue(stanza):
                    self._has_its_turn(stanza)
                case Write():
                    writes.append(effect)
                case _:
                    self._note(effect)
        for write in writes:
            self._write(write)

    def _has_its_turn(self, stanza: Frame | LeftOut) -> None:
        if isinstance(stanza, Frame):
            self._carry_out(self.core.receive(stanza, self.now))
        else:
            self._carry_out(self.core.left_out(stanza, self.now))

    def _note(self, effect: Report | Fault | Count) -> None:
        match effect:
            case Report():
                self.reports.append(effect)
            case Fault(error):
                self._failed(error)
            case Count(what, reason):
                self.counts[what, reason] += 1
                if what == "outgoing-refused":
                    self._refused(reason)

    def _failed(self, error: Exception) -> None:
        self.faults.append(error)
        if not self.may_fail:
            raise error

    def _refused(self, reason: str) -> None:
        """Note that the outgoing rule has kept a stanza back: the core is at fault."""
        raise AssertionError(reason)

    def _write(self, write: Write) -> None:
        if self.store == "sleeps":
            self._asleep.append(write)
            return
        done = self.store == "works"
        if done or write.token is None:
            # What nobody waits for is kept until the store is back.
            self.stored.change(write)
        if write.token is not None:
            self._carry_out(self.core.written(write.token, self.now, done=done))


def _facts(element: ET.Element, wanted: ET.Element) -> tuple[object, ...]:
    """Give what a tree says; where `*` is wanted, anything is it."""
    attributes = {
        name: "*" if wanted.get(name) == "*" else value for name, value in element.items()
    }
    if wanted.text == "*":
        return (element.tag, attributes)
    pairs = list(zip(element, wanted, strict=False))
    return (
        element.tag,
        attributes,
        element.text or "",
        [_facts(child, other) for child, other in pairs],
        [child.tag for child in element[len(pairs) :]],
    )
