"""The parts of the core, and who calls whom back among them."""

from __future__ import annotations

from component.core.blocking import Blocking
from component.core.checks.participant_audit import RollCall
from component.core.checks.reconcile import Reconcile
from component.core.checks.reread import Rereading
from component.core.checks.roster_audit import Audit
from component.core.context import Context
from component.core.delivery.delivery import Delivery, Inspector
from component.core.delivery.multicast import Multicast
from component.core.delivery.passage import may_be_kick
from component.core.left_out import LeftOuts
from component.core.membership.endings import Departures
from component.core.membership.join_rate import JoinRate
from component.core.membership.memberships import Memberships
from component.core.presence.announce import Presence
from component.core.presence.capability import Capability
from component.core.presence.devices import Devices
from component.core.presence.participants import Participants
from component.core.presence.preferences import Preferences
from component.core.roster.access import Rosters
from component.core.services import Services
from component.core.snapshot import Remembered
from component.core.users.mirror import Row
from component.core.users.sessions import Device
from component.wire.framing import MALFORMED, Frame, LeftOut
from schemas import codec
from schemas.stanza import Stanza


class Parts:
    """All parts of one core, above its `context`: each is made from those before it."""

    def __init__(self, context: Context, multicast: Multicast) -> None:
        self.context = context
        self.capability = Capability(self.context, self._device_learned)
        self.devices = Devices(self.context, self._device_seen, self._device_gone)
        self.services = Services(self.context)
        self.rosters = Rosters(self.context)
        self.presence = Presence(self.context)
        self.participants = Participants(self.context)
        self.join_rate = JoinRate(self.context)
        self.memberships = Memberships(
            self.context, self.rosters, self.services, self.presence, self.participants
        )
        self.preferences = Preferences(self.context, self.rosters, self.presence)
        self.departures = Departures(self.context, self.memberships, self.preferences)
        self.audit = Audit(
            self.context,
            rosters=self.rosters,
            services=self.services,
            memberships=self.memberships,
        )
        self.roll_call = RollCall(self.context, self.memberships)
        self.blocking = Blocking(
            self.context,
            memberships=self.memberships,
            services=self.services,
            presence=self.presence,
            participants=self.participants,
            roll_call=self.roll_call,
        )
        self.delivery = Delivery(
            self.context,
            multicast,
            Inspector(admits=self.participants.admit, passed=self._inspect),
        )
        self.rereading = Rereading(self.context, self.rosters, self.departures)
        self.left_outs = LeftOuts(
            self.context,
            multicast,
            devices=self.devices,
            delivery=self.delivery,
            presence=self.presence,
            rereading=self.rereading,
            roll_call=self.roll_call,
        )
        self.reconcile = Reconcile(
            self.context,
            memberships=self.memberships,
            rosters=self.rosters,
            services=self.services,
            presence=self.presence,
            preferences=self.preferences,
        )
        self.remembered = Remembered(self.context.mirror, self.memberships.journal, self.capability)

    # -- what was delivered ------------------------------------------------------------------

    def _inspect(self, row: Row, channel: bytes, frame: Frame) -> None:
        """Look at a channel's presence, or what may be a kick, that was passed on."""
        if frame.name == b"presence":
            self.participants.remember(row, channel, frame)
        elif may_be_kick(frame):  # pragma: no branch - nothing else is overheard
            try:
                self.departures.overheard(frame)
            except codec.MalformedStanza as error:
                self.left_outs.take(LeftOut.of(frame, MALFORMED), str(error))

    # -- devices -------------------------------------------------------------------------

    def _device_seen(self, row: Row, device: Device, presence: Stanza) -> None:
        known = device.is_mix
        if presence.unread and device.caps is not None:
            # Its capabilities cannot have been read: they stay as they were.
            self.presence.show(row, device)
            return
        self.capability.seen(row, device, presence.element)
        if known:
            self.presence.show(row, device)

    def _device_learned(self, row: Row, device: Device) -> None:
        """Show a device that turned out to speak MIX, and show it the others."""
        self.presence.show(row, device)
        if device.is_mix:
            self.participants.greet(row, device)

    def _device_gone(self, row: Row, device: Device, unavailable: bytes) -> None:
        self.presence.hide(row, device.jid, unavailable)
