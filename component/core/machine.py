"""The core as the shell sees it: inputs in, effects out.

`receive` takes what the hot lane left over, sorts it by address and hands it to the part
that knows. A fault in one stanza never reaches another: whatever goes wrong ends in an
error for its sender or in a counted drop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from component import __version__
from component.core.about import Identity
from component.core.blocking import Blocking
from component.core.checks.participant_audit import RollCall
from component.core.checks.reconcile import Reconcile
from component.core.checks.reread import Rereading
from component.core.checks.roster_audit import Audit
from component.core.commands import Command, Commands
from component.core.context import ROWS_AT_ONCE, Context, Copy
from component.core.delivery.delivery import Delivery, Inspector
from component.core.delivery.multicast import Multicast
from component.core.delivery.passage import may_be_kick
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
from component.core.left_out import LeftOuts
from component.core.limits import Limits
from component.core.membership.endings import Departures
from component.core.membership.join_rate import JoinRate
from component.core.membership.memberships import Memberships
from component.core.membership.requests import read
from component.core.presence.announce import Presence
from component.core.presence.capability import Capability
from component.core.presence.devices import Devices
from component.core.presence.participants import Participants
from component.core.presence.preferences import Preferences
from component.core.roster.access import Rosters
from component.core.roster.annotate import annotated, annotated_tree, on_its_way
from component.core.services import Services
from component.core.snapshot import Remembered
from component.core.taps import Taps, address, own_user
from component.core.users.mirror import Mirror, Row
from component.core.users.sessions import Device
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
        self._capability = Capability(self.context, self._device_learned)
        self._devices = Devices(self.context, self._device_seen, self._device_gone)
        self._services = Services(self.context)
        self._rosters = Rosters(self.context)
        self._presence = Presence(self.context)
        self._participants = Participants(self.context)
        self._join_rate = JoinRate(self.context)
        self._memberships = Memberships(
            self.context, self._rosters, self._services, self._presence, self._participants
        )
        self._preferences = Preferences(self.context, self._rosters, self._presence)
        self._departures = Departures(self.context, self._memberships, self._preferences)
        self._audit = Audit(
            self.context,
            rosters=self._rosters,
            services=self._services,
            memberships=self._memberships,
        )
        self._roll_call = RollCall(self.context, self._memberships)
        self._blocking = Blocking(
            self.context,
            memberships=self._memberships,
            services=self._services,
            presence=self._presence,
            participants=self._participants,
            roll_call=self._roll_call,
        )
        self.delivery = Delivery(
            self.context,
            self.multicast,
            Inspector(admits=self._participants.admit, passed=self._inspect),
        )
        self._rereading = Rereading(self.context, self._rosters, self._departures)
        self._left_outs = LeftOuts(
            self.context,
            self.multicast,
            devices=self._devices,
            delivery=self.delivery,
            presence=self._presence,
            rereading=self._rereading,
            roll_call=self._roll_call,
        )
        self._taps = Taps(self.context, self._heard)
        self.reconcile = Reconcile(
            self.context,
            memberships=self._memberships,
            rosters=self._rosters,
            services=self._services,
            presence=self._presence,
            preferences=self._preferences,
        )
        # The steps that are left of forgetting a lost link's sessions.
        self._forgetting: Iterator[None] = iter(())
        self.remembered = Remembered(self.mirror, self._memberships.journal, self._capability)
        # Last, for the commands may look at all of this.
        self._commands = Commands(
            self.context, frozenset(jid.parse(admin) for admin in admins), commands(self)
        )
        self._identity = Identity(self.context, __version__, contacts, self._commands.is_admin)

    # -- stored state --------------------------------------------------------------------

    def load_memberships(self, user: str, records: Iterable[MembershipRecord]) -> None:
        """Take over a user's memberships from the store, before the link is up."""
        self._end_forgetting()
        self._memberships.load(jid.parse(user), records)

    def load_journal(self, user: str, record: JournalRecord) -> None:
        """Take over an unfinished change from the store, before the link is up."""
        self._end_forgetting()
        self._memberships.journal.load(jid.parse(user), record)

    def load_capability(self, key: str, record: CapabilityRecord) -> None:
        """Take over a verified capabilities hash from the store."""
        self._capability.load(key, record)

    def load_shown(self, user: str, resource: str, digest: str) -> None:
        """Take over what the channels were shown of a device; memberships come first."""
        self._end_forgetting()
        self._presence.load(jid.parse(user), resource, digest)

    def forget(self, gone: Drop) -> None:
        """Follow the store in what it no longer holds; only before a link's first stanza."""
        self._end_forgetting()
        match gone:
            case DropMembership(user, channel):
                self.mirror.part(jid.parse(user), jid.parse(channel))
            case DropJournal(user, channel):
                self._memberships.journal.forget(jid.parse(user), jid.parse(channel))
            case DropShown(user, resource):
                self._presence.forget(jid.parse(user), resource)
            case DropCapability(key):  # pragma: no branch - there is no other
                self._capability.forget(key)

    def start_over(self) -> None:
        """Forget all stored state, to take it over anew; only before a link's first stanza."""
        self._end_forgetting()
        self.mirror.clear()
        self._memberships.journal.clear()

    # -- inputs --------------------------------------------------------------------------

    def take(self, frame: Frame, now: float) -> list[Effect]:
        """Deal with a stanza as it is read: it is delivered, or queued for its turn."""
        self._end_forgetting()
        self.context.now = now
        if not self.context.attempt(self.delivery.take, frame):
            self.context.attempt(self._left_outs.failed, frame)
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
            self.context.attempt(self._left_outs.failed, frame)
        return self._effects()

    def left_out(self, left: LeftOut, now: float) -> list[Effect]:
        """Do what the kind of a stanza demands of which nothing but that is known."""
        self.context.now = now
        self.context.attempt(self._left_outs.take, left)
        return self._effects()

    def operate(self, action: Callable[[], None], now: float) -> list[Effect]:
        """Do something at the operator's wish, on `reconcile` or by `leave`."""
        self.context.now = now
        self.context.attempt(action)
        return self._effects()

    def leave(self, user: Jid, channel: Jid) -> bool:
        """Take a user out of a channel, at the operator's wish; False if it is busy."""
        row = self.mirror.find(user)
        if row is None or row.is_pending(channel.key):
            return False
        self._memberships.depart(user, channel)
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
        """Forget what only the link told: all but the sessions, which `forget_sessions` does."""
        self.context.now = now
        for part in (
            self.context.no_more_answers,
            self.context.taps.clear,
            self.multicast.link_lost,
            self.largest.link_lost,
            self._capability.forget_waiting,
            self._services.forget_asked,
            self._memberships.link_lost,
            self._audit.link_lost,
            self._rereading.link_lost,
            self._roll_call.link_lost,
            self._participants.link_lost,
            self._presence.no_link,
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
            self._presence.link_lost(row)
            self.mirror.link_lost(row)
            if number % ROWS_AT_ONCE == 0:
                yield

    @property
    def next_deadline(self) -> float | None:
        """When `tick` is due next."""
        return self.context.deadlines.next

    def _effects(self) -> list[Effect]:
        """Take what came of an input, with copies made of what waited for them."""
        effects: list[Effect] = []
        for effect in self.context.taken():
            if isinstance(effect, Copy):
                self.context.attempt(self.delivery.deliver_after_all, effect)
                effects += self._effects()
            else:
                effects.append(effect)
        return effects

    def _inspect(self, row: Row, channel: bytes, frame: Frame) -> None:
        """Look at a channel's presence, or what may be a kick, that was passed on."""
        if frame.name == b"presence":
            self._participants.remember(row, channel, frame)
        elif may_be_kick(frame):  # pragma: no branch - nothing else is overheard
            try:
                self._departures.overheard(frame)
            except codec.MalformedStanza as error:
                self._left_outs.take(LeftOut.of(frame, MALFORMED), str(error))

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
            self._left_outs.take(LeftOut.of(frame, MALFORMED), str(error), frame)
            return
        try:
            self._sort(stanza, frame)
        except Refusal as refusal:
            context.refuse(stanza, refusal)
        except codec.MalformedStanza as error:
            self._left_outs.take(LeftOut.of(frame, MALFORMED), str(error), frame)
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
            self._preferences.asked(stanza)
        elif stanza.kind == stanzas.IQ and context.is_local(stanza.to):
            self._preferences.answered(stanza)
        elif stanza.to.key == self.multicast.gathering:
            # Written otherwise than by the tap. An answer would tell a stranger of that address.
            self._left_outs.take(LeftOut.of(frame, MALFORMED), "its addresses cannot be read")
        elif stanza.to.domain == context.own.domain:
            raise Refusal("cancel", "service-unavailable")  # nobody lives here but us
        else:
            context.drop("stray")

    def _to_us(self, stanza: Stanza, frame: Frame) -> None:
        if stanza.kind == stanzas.PRESENCE:
            self._devices.presence(stanza, frame)
        elif stanza.kind == stanzas.MESSAGE:
            self._taps.event(stanza)
        elif stanza.type in {"result", "error"}:
            self._answered(stanza)
        elif _is_roster_push(self.context, stanza):
            self._departures.roster_changed(stanza)
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
                self._presence.probed(stanza)
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
            self._join_rate.admit(request.user)
            self._memberships.request(request)

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
            self._services.announce(domain, gathering)
            self._memberships.recover(domain)
        elif isinstance(event, tap.Replayed):
            self._presence.correct(domain)
            self._audit.begin(domain)
            self._roll_call.begin(domain)
            self.context.report("ready", domain=domain)
        elif isinstance(event, tap.UserRemoved):
            self._departures.account_removed(own_user(domain, event.jid))
        elif isinstance(event, tap.Blocked):
            self._blocking.blocked(own_user(domain, event.jid), address(event.address))
        elif isinstance(event, tap.Unblocked):
            entry = None if event.address is None else address(event.address)
            self._blocking.unblocked(own_user(domain, event.jid), entry)
        elif isinstance(event, tap.Hibernated | tap.Resumed):
            asleep = isinstance(event, tap.Hibernated)
            self._devices.hibernated(own_user(domain, event.jid), asleep=asleep)

    # -- devices -------------------------------------------------------------------------

    def _device_seen(self, row: Row, device: Device, presence: Stanza) -> None:
        known = device.is_mix
        if presence.unread and device.caps is not None:
            # Of what it can do this says nothing new.
            self._presence.show(row, device)
            return
        self._capability.seen(row, device, presence.element)
        if known:
            self._presence.show(row, device)

    def _device_learned(self, row: Row, device: Device) -> None:
        """Show a device that turned out to speak MIX, and show it the others."""
        self._presence.show(row, device)
        if device.is_mix:
            self._participants.greet(row, device)

    def _device_gone(self, row: Row, device: Device, unavailable: bytes) -> None:
        self._presence.hide(row, device.jid, unavailable)


def _is_roster_push(context: Context, stanza: Stanza) -> bool:
    payload = stanza.payload
    return (
        payload is not None
        and payload.tag == roster.QUERY_TAG
        and stanza.sender.resource is None
        and context.is_local(stanza.sender)
    )
