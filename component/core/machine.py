"""The core as the shell sees it: inputs in, effects out.

`receive` takes what the hot lane left over, sorts it by address and hands it to the part
that knows. A fault in one stanza never reaches another: whatever goes wrong ends in an
error for its sender or in a counted drop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from component import __version__
from component.core.about import Identity
from component.core.commands import Command, Commands
from component.core.context import ROWS_AT_ONCE, Context, Copy
from component.core.delivery.multicast import Multicast
from component.core.effects import (
    Drop,
    DropCapability,
    DropJournal,
    DropMembership,
    DropShown,
    Effect,
    Send,
)
from component.core.errors import Refusal
from component.core.limits import Limits
from component.core.membership.requests import read
from component.core.outgoing import Outgoing
from component.core.parts import Parts
from component.core.roster.annotate import annotated, annotated_tree, on_its_way
from component.core.taps import Taps, address, own_user
from component.core.users.mirror import Mirror
from component.wire.framing import MALFORMED, Frame, LeftOut
from schemas import codec, jid, roster, tap
from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.namespaces import MIX_PAM
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord
from schemas.stanza import Stanza


class Core:
    """All of mixpam's rules. Give the time with each input, take the effects after it.

    `admins` (bare JIDs) may run the ad-hoc `commands`, which are made for this core.
    """

    def __init__(
        self,
        own: Jid,
        domains: tuple[str, ...],
        limits: Limits,
        new_id: Callable[[], str],
        contacts: tuple[str, ...] = (),
        *,
        multicast: bool = True,
        admins: tuple[str, ...] = (),
        commands: Callable[[Core], tuple[Command, ...]] = lambda _: (),
    ) -> None:
        self.context = Context(own, frozenset(domains), limits, new_id)
        self.largest = self.context.largest
        self.multicast = Multicast(str(own), new_id, self.largest, wanted=multicast)
        self.mirror: Mirror = self.context.mirror
        self.parts = Parts(self.context, self.multicast)
        self.delivery = self.parts.delivery
        self.reconcile = self.parts.reconcile
        self.remembered = self.parts.remembered
        self.outgoing = Outgoing(self.context)
        self._taps = Taps(self.context, self._heard)
        # The steps that are left of forgetting a lost link's sessions.
        self._forgetting: Iterator[None] = iter(())
        # Last, for the commands may look at all of this.
        self._commands = Commands(
            self.context, frozenset(jid.parse(admin) for admin in admins), commands(self)
        )
        self._identity = Identity(self.context, __version__, contacts, self._commands.is_admin)

    # -- stored state --------------------------------------------------------------------

    def load_memberships(self, user: str, records: Iterable[MembershipRecord]) -> None:
        """Take over a user's memberships from the store, before the link is up."""
        self._end_forgetting()
        self.parts.memberships.load(jid.parse(user), records)

    def load_journal(self, user: str, record: JournalRecord) -> None:
        """Take over an unfinished change from the store, before the link is up."""
        self._end_forgetting()
        self.parts.memberships.journal.load(jid.parse(user), record)

    def load_capability(self, key: str, record: CapabilityRecord) -> None:
        """Take over a verified capabilities hash from the store."""
        self.parts.capability.load(key, record)

    def load_shown(self, user: str, resource: str, digest: str) -> None:
        """Load the digest of a device's announcement; memberships come first."""
        self._end_forgetting()
        self.parts.presence.load(jid.parse(user), resource, digest)

    def forget(self, gone: Drop) -> None:
        """Follow the store in what it no longer holds; only before a link's first stanza."""
        self._end_forgetting()
        match gone:
            case DropMembership(user, channel):
                self.mirror.part(jid.parse(user), jid.parse(channel))
            case DropJournal(user, channel):
                self.parts.memberships.journal.forget(jid.parse(user), jid.parse(channel))
            case DropShown(user, resource):
                self.parts.presence.forget(jid.parse(user), resource)
            case DropCapability(key):  # pragma: no branch - there is no other
                self.parts.capability.forget(key)

    def start_over(self) -> None:
        """Forget all stored state, to load it again; only before a link's first stanza."""
        self._end_forgetting()
        self.mirror.clear()
        self.parts.memberships.journal.clear()

    # -- inputs --------------------------------------------------------------------------

    def take(self, frame: Frame, now: float) -> list[Effect]:
        """Deal with a stanza as it is read: it is delivered, or queued for its turn."""
        self._end_forgetting()
        self.context.now = now
        if not self.context.attempt(self.delivery.take, frame):
            self.context.attempt(self.parts.left_outs.failed, frame)
        return self._effects()

    def take_left_out(self, left: LeftOut, now: float) -> list[Effect]:
        """Have a stanza dealt with in its turn of which nothing but its kind is known."""
        self.context.now = now
        self.context.attempt(self.delivery.queue, left)
        return self._effects()

    def receive(self, frame: Frame, now: float) -> list[Effect]:
        """Deal with a stanza whose turn has come; never raises for what a peer sent."""
        self._end_forgetting()
        self.context.now = now
        if not self.context.attempt(self._receive, frame):
            self.context.attempt(self.parts.left_outs.failed, frame)
        return self._effects()

    def left_out(self, left: LeftOut, now: float) -> list[Effect]:
        """Do what the kind of a stanza demands of which nothing but that is known."""
        self.context.now = now
        self.context.attempt(self.parts.left_outs.take, left)
        return self._effects()

    def operate(self, action: Callable[[], None], now: float) -> list[Effect]:
        """Run an operator's action, on `reconcile` or by `leave`."""
        self.context.now = now
        self.context.attempt(action)
        return self._effects()

    def leave(self, user: Jid, channel: Jid) -> bool:
        """Make a user leave a channel, for the operator; False if a change is under way."""
        row = self.mirror.find(user)
        if row is None or row.is_pending(channel.key):
            return False
        self.parts.memberships.depart(user, channel)
        return True

    def link_up(self, now: float) -> None:
        """Note that a link is up, and that its stanzas come here."""
        self._end_forgetting()
        self.context.now = now
        self._taps.link_up()

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        self.context.now = now
        for action in self.context.deadlines.due(now):
            self.context.attempt(action)
        return self._effects()

    def written(self, token: int, now: float, *, done: bool) -> list[Effect]:
        """Take the outcome of a `Write`."""
        self.context.now = now
        self.context.attempt(self.context.written, token, done)
        return self._effects()

    def link_lost(self, now: float) -> list[Effect]:
        """Forget what is known by the link alone, except sessions (see `forget_sessions`)."""
        self.context.now = now
        for part in (
            self.context.no_more_answers,
            self.context.taps.clear,
            self.multicast.link_lost,
            self.largest.link_lost,
            self.parts.capability.forget_waiting,
            self.parts.services.forget_asked,
            self.parts.memberships.link_lost,
            self.parts.audit.link_lost,
            self.parts.rereading.link_lost,
            self.parts.roll_call.link_lost,
            self.parts.participants.link_lost,
            self.parts.presence.no_link,
            self.reconcile.link_lost,
        ):
            self.context.attempt(part)
        self._forgetting = self._forget_sessions()
        return self._effects()

    def forget_sessions(self) -> Iterator[None]:
        """Forget the sessions of the lost link in steps; between two, others may have their turn.

        A link, a stanza or a stored record that comes before the last step does all that is
        left of it first, at once.
        """
        return self._forgetting

    def _end_forgetting(self) -> None:
        for _ in self._forgetting:
            pass

    def _forget_sessions(self) -> Iterator[None]:
        """Forget row by row.

        The journal knows what is left to do of changes under way, and the tap answers the
        clients that wait.
        """
        for number, row in enumerate(list(self.mirror.rows.values())):
            self.parts.presence.link_lost(row)
            self.mirror.link_lost(row)
            if number % ROWS_AT_ONCE == 0:
                yield

    @property
    def next_deadline(self) -> float | None:
        """When `tick` is due next."""
        return self.context.deadlines.next

    def _effects(self) -> list[Effect]:
        """Take what came of an input: stanzas are judged, and copies made that had to wait."""
        effects: list[Effect] = []
        for effect in self.context.taken():
            if isinstance(effect, Send):
                effects += self.outgoing.judged(effect)
                effects += self._effects()
            elif isinstance(effect, Copy):
                self.context.attempt(self.delivery.deliver_after_all, effect)
                effects += self._effects()
            else:
                effects.append(effect)
        return effects

    # -- sorting -------------------------------------------------------------------------

    def _receive(self, frame: Frame) -> None:
        context = self.context
        if self.delivery.passes(frame):
            return
        self.delivery.counts.controlled(frame.name)
        user = on_its_way(frame)
        if user is not None:
            with_marks = annotated(self.mirror, frame, context.room())
            if with_marks is not None:
                context.effects.append(Send(with_marks))
                return
        try:
            stanza = stanzas.parse(frame.data)
        except codec.MalformedStanza as error:
            self.parts.left_outs.take(LeftOut.of(frame, MALFORMED), str(error), frame)
            return
        try:
            self._sort(stanza, frame)
        except Refusal as refusal:
            context.refuse(stanza, refusal)
        except codec.MalformedStanza as error:
            self.parts.left_outs.take(LeftOut.of(frame, MALFORMED), str(error), frame)
        to, sender = stanza.to.bare, stanza.sender.bare
        self.mirror.tidy(to)
        if sender != to:
            self.mirror.tidy(sender)

    def _sort(self, stanza: Stanza, frame: Frame) -> None:
        context = self.context
        if stanza.to == context.own:
            self._to_us(stanza, frame)
        elif context.is_local(stanza.to) and stanza.to.resource is None:
            self._to_user(stanza, frame)
        elif context.is_local(stanza.to) and stanza.sender == stanza.to.bare:
            self._to_session(stanza, frame)
        elif stanza.kind == stanzas.IQ and context.is_local(stanza.sender):
            self.parts.preferences.asked(stanza)
        elif stanza.kind == stanzas.IQ and context.is_local(stanza.to):
            self.parts.preferences.answered(stanza)
        elif stanza.to.key == self.multicast.gathering:
            # Not written by the tap. An answer would reveal that address to a stranger.
            self.parts.left_outs.take(LeftOut.of(frame, MALFORMED), "its addresses cannot be read")
        elif stanza.to.domain == context.own.domain:
            raise Refusal("cancel", "service-unavailable")  # nobody lives here but us
        else:
            context.drop("stray")

    def _to_us(self, stanza: Stanza, frame: Frame) -> None:
        if stanza.kind == stanzas.PRESENCE:
            self.parts.devices.presence(stanza, frame)
        elif stanza.kind == stanzas.MESSAGE:
            self._taps.event(stanza)
        elif stanza.type in {"result", "error"}:
            self._answered(stanza)
        elif _is_roster_push(self.context, stanza):
            self.parts.departures.roster_changed(stanza)
        elif self._commands.takes(stanza):
            self._commands.request(stanza)
        else:
            self._identity.request(stanza)

    def _to_user(self, stanza: Stanza, frame: Frame) -> None:
        if stanza.kind == stanzas.MESSAGE:
            self.delivery.settle(stanza, frame)
        elif stanza.kind == stanzas.PRESENCE:
            if stanza.type in {"available", "unavailable"}:
                self.delivery.settle(stanza, frame)
            elif stanza.type == "probe":
                self.parts.presence.probed(stanza)
            else:
                self.context.drop("presence-type")
        elif stanza.type in {"result", "error"}:
            self._answered(stanza)
        else:
            payload = stanza.payload
            if payload is None or payload.tag[1:].partition("}")[0] not in MIX_PAM:
                self.context.drop("stray")
                return
            request = read(self.context, stanza)
            self.parts.join_rate.admit(request.user)
            self.parts.memberships.request(request)

    def _to_session(self, stanza: Stanza, frame: Frame) -> None:
        if stanza.kind == stanzas.IQ and stanza.element.find(roster.QUERY_TAG) is not None:
            room = self.context.room()
            data = annotated_tree(self.mirror, stanza, frame, room)
            self.context.effects.append(Send(data))
        else:
            self.context.drop("stray")

    def _answered(self, stanza: Stanza) -> None:
        if not self.context.answered(stanza):
            self.context.drop("unasked-answer")

    # -- events of the taps ---------------------------------------------------------------

    def _heard(self, domain: str, event: tap.Event) -> None:
        if isinstance(event, tap.Hello):
            if not self.largest.lower(event.limit):
                self.context.report(
                    "server-limit",
                    "error",
                    domain=domain,
                    limit=event.limit,
                    wanted=self.largest.wanted,
                )
            gathering = self.multicast.begin(domain) if event.multicast else None
            self.parts.services.announce(domain, gathering)
            self.parts.memberships.recover(domain)
        elif isinstance(event, tap.Replayed):
            self.parts.presence.correct(domain)
            self.parts.audit.begin(domain)
            self.parts.roll_call.begin(domain)
            self.context.report("ready", domain=domain)
        elif isinstance(event, tap.S2S):
            note = self.context.reach.found if event.state == "up" else self.context.reach.lost
            note(event.domain)
        elif isinstance(event, tap.UserRemoved):
            self.parts.departures.account_removed(own_user(domain, event.jid))
        elif isinstance(event, tap.Blocked):
            self.parts.blocking.blocked(own_user(domain, event.jid), address(event.address))
        elif isinstance(event, tap.Unblocked):
            entry = None if event.address is None else address(event.address)
            self.parts.blocking.unblocked(own_user(domain, event.jid), entry)
        else:
            asleep = isinstance(event, tap.Hibernated)
            self.parts.devices.hibernated(own_user(domain, event.jid), asleep=asleep)


def _is_roster_push(context: Context, stanza: Stanza) -> bool:
    payload = stanza.payload
    return (
        payload is not None
        and payload.tag == roster.QUERY_TAG
        and stanza.sender.resource is None
        and context.is_local(stanza.sender)
    )
