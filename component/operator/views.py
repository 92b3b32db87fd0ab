"""The state of the core, as plain data: for `mixpam show`, ad-hoc commands and the status page.

Nothing is changed or kept: each function walks the core as it is now and returns dataclasses, which
`dataclasses.asdict` turns into JSON.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

from component.core.context import ROWS_AT_ONCE
from component.core.machine import Core
from component.core.membership.change import ops_of
from component.core.presence.announce import GONE
from component.core.users.activity import Greeting
from component.core.users.mirror import Membership, Row
from component.core.users.sessions import Device, Speaks
from schemas.jid import Jid

Evidence = Literal["hash", "no-hash", "open", "silent", "unverified"]
"""The evidence for whether a device speaks MIX; `_WHY` has the sentences."""

_WHY: dict[tuple[bool, Evidence], str] = {
    (True, "hash"): "its verified capabilities hash lists MIX",
    (True, "no-hash"): "it sends no capabilities hash; asked, it listed MIX",
    (True, "unverified"): "its capabilities hash is not verified; asked, it listed MIX",
    (False, "hash"): "its verified capabilities hash does not list MIX",
    (False, "no-hash"): "it sends no capabilities hash; asked, it gave no list with MIX",
    (False, "unverified"): "its capabilities hash is not verified; asked, it gave no list with MIX",
    (False, "open"): "it has been asked what it can do; no answer yet",
    (False, "silent"): "it did not answer when asked what it can do",
}


@dataclass(frozen=True, slots=True)
class DeviceView:
    """An available session: whether channels' stanzas are copied to it, and why.

    `core` has the MIX core versions it speaks; `shown` tells whether it was announced to the
    channels with which presence is shared.
    """

    resource: str
    mix: bool
    evidence: Evidence
    why: str
    core: tuple[int, ...]
    psa: bool
    hibernated: bool
    shown: bool


@dataclass(frozen=True, slots=True)
class ChannelView:
    """One membership of a user, as granted by the channel.

    `participants` counts the participants whose presence is remembered; `complete` tells whether a
    device that comes online is served from that memory alone.
    """

    channel: str
    participant_id: str
    nick: str | None
    nodes: tuple[str, ...]
    core: int
    shares_presence: bool
    participants: int
    complete: bool


@dataclass(frozen=True, slots=True)
class OperationView:
    """A join or leave under way, or one left in the journal by a lost link.

    `step` is the journal's (None before anything was written), `device` the resource that asked
    (None if no client waits), `queued` the number of later requests for the same channel.
    """

    kind: Literal["join", "leave"]
    channel: str
    step: str | None
    device: str | None
    queued: int
    running: bool


@dataclass(frozen=True, slots=True)
class UserView:
    """All about one user. `local` tells whether mixpam serves the domain."""

    user: str
    local: bool
    devices: tuple[DeviceView, ...]
    channels: tuple[ChannelView, ...]
    operations: tuple[OperationView, ...]

    @property
    def known(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.devices or self.channels or self.operations)


@dataclass(frozen=True, slots=True)
class MemberView:
    """A local member of a channel, and how many of its devices get copies."""

    user: str
    participant_id: str
    nick: str | None
    nodes: tuple[str, ...]
    shares_presence: bool
    devices: int
    mix_devices: int


@dataclass(frozen=True, slots=True)
class ChannelMembers:
    """A channel as seen from this server: its local users, and those joining or leaving."""

    channel: str
    service_known: bool
    members: tuple[MemberView, ...]
    under_way: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DomainView:
    """A domain of users: whether its tap is connected on this link, and whether it archives."""

    domain: str
    tap: bool
    archive: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """How much there is of everything; numbers only, no addresses."""

    users_known: int
    users_online: int
    devices_online: int
    mix_devices: int
    undecided_devices: int
    hibernated_devices: int
    memberships: int
    channels: int
    services: int
    operations: int
    journal_entries: int
    mirror_rows: int
    remembered_presences: int
    presence_bytes: int
    capabilities: int
    open_questions: int


def describe_user(core: Core, user: Jid) -> UserView:
    """Describe a user, given by bare JID; an unknown one has empty lists."""
    user = user.bare
    row = core.mirror.find(user)
    return UserView(
        str(user),
        core.context.is_local(user),
        _devices(core, row),
        () if row is None else tuple(_channel(row, key, row.channels[key]) for key in row.channels),
        _operations(core, user, row),
    )


def describe_channel(core: Core, channel: Jid) -> ChannelMembers:
    """Describe a channel, given by bare JID, by the local users who are in it.

    Walks all rows: for operators' questions, not for each stanza.
    """
    key = channel.bare.key
    members: list[MemberView] = []
    under_way: list[str] = []
    for row in core.mirror.rows.values():
        if key in row.changes:
            under_way.append(str(row.jid))
        if row.has_joined(key):
            membership = row.channels[key]
            members.append(
                MemberView(
                    str(row.jid),
                    membership.participant_id,
                    membership.nick,
                    membership.nodes,
                    membership.shares_presence,
                    len(row.devices),
                    len(row.mix_devices),
                )
            )
    return ChannelMembers(
        str(channel.bare),
        channel.domain in core.mirror.services,
        tuple(sorted(members, key=lambda member: member.user)),
        tuple(sorted(under_way)),
    )


def describe_domains(core: Core) -> tuple[DomainView, ...]:
    """Describe the domains of users by their taps' reports on this link."""
    taps = core.context.taps
    return tuple(
        DomainView(domain, domain in taps, core.context.tap(domain).archive)
        for domain in sorted(core.context.domains)
    )


def totals(core: Core) -> Totals:
    """Count everything, in one go."""
    counting = count(core)
    while True:
        try:
            next(counting)
        except StopIteration as done:
            sums: Totals = done.value
            return sums


def count(core: Core) -> Generator[None, None, Totals]:
    """Count everything, in one walk over all rows, in steps."""
    known = online = devices = mix = undecided = asleep = 0
    memberships = operations = presences = 0
    channels: set[bytes] = set()
    for number, row in enumerate(list(core.mirror.rows.values()), 1):
        there = [state for _, state in row.states() if state.presence is not None]
        known += bool(row.channels or there)
        online += bool(there)
        devices += len(there)
        for state in there:
            mix += state.is_mix
            undecided += state.speaks is None
            asleep += state.hibernated
        memberships += len(row.channels)
        channels.update(row.channels)
        operations += len(row.changes)
        presences += sum(len(memory.stanzas) for memory in row.participants.values())
        if number % ROWS_AT_ONCE == 0:
            yield
    return Totals(
        users_known=known,
        users_online=online,
        devices_online=devices,
        mix_devices=mix,
        undecided_devices=undecided,
        hibernated_devices=asleep,
        memberships=memberships,
        channels=len(channels),
        services=len(core.mirror.services),
        operations=operations,
        journal_entries=len(core.parts.memberships.journal),
        mirror_rows=len(core.mirror.rows),
        remembered_presences=presences,
        presence_bytes=core.parts.participants.presences.bytes,
        capabilities=len(core.parts.capability),
        open_questions=core.context.open_questions,
    )


def _devices(core: Core, row: Row | None) -> tuple[DeviceView, ...]:
    if row is None:
        return ()
    return tuple(_device(core, row, row.devices[resource]) for resource in sorted(row.devices))


def _device(core: Core, row: Row, device: Device) -> DeviceView:
    evidence = _evidence(core, device)
    mix = device.is_mix
    speaks = device.speaks or Speaks.NOTHING
    versions = ((0, Speaks.CORE_0), (1, Speaks.CORE_1))
    return DeviceView(
        device.resource,
        mix,
        evidence,
        _WHY[mix, evidence],
        tuple(number for number, bit in versions if speaks & bit),
        bool(speaks & Speaks.PSA),
        device.hibernated,
        row.shown.get(device.resource, GONE) != GONE,
    )


def _evidence(core: Core, device: Device) -> Evidence:
    """Give the evidence for whether a device speaks MIX."""
    if device.speaks is None:
        return "open"
    if device.caps and device.caps in core.parts.capability:
        return "hash"
    if not device.is_mix and core.context.is_asking(device.jid, core.context.own):
        # Timed out; an answer that still comes is accepted.
        return "silent"
    return "unverified" if device.caps else "no-hash"


def _channel(row: Row, key: bytes, membership: Membership) -> ChannelView:
    memory = row.participants.get(key)
    return ChannelView(
        str(membership.channel),
        membership.participant_id,
        membership.nick,
        membership.nodes,
        membership.core,
        membership.shares_presence,
        0 if memory is None else len(memory.stanzas),
        row.greeting is Greeting.DONE if memory is None else memory.complete,
    )


def _operations(core: Core, user: Jid, row: Row | None) -> tuple[OperationView, ...]:
    """Give the user's changes under way, and further ones that are still in the journal."""
    memberships, journal = core.parts.memberships, core.parts.memberships.journal
    found: dict[str, OperationView] = {}
    for op in () if row is None else ops_of(row):
        entry = journal.find(user, op.channel)
        found[str(op.channel)] = OperationView(
            op.kind,
            str(op.channel),
            None if entry is None else entry.step,
            None if op.request is None else op.request.device.resource,
            memberships.waiting(user, op.channel),
            running=True,
        )
    for entry in journal.of_user(user):
        channel = entry.channel
        if channel not in found:
            found[channel] = OperationView(entry.kind, channel, entry.step, None, 0, running=False)
    return tuple(found[channel] for channel in sorted(found))
