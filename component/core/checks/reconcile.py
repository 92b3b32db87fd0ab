"""Compares the three views of a user's memberships, and repairs them.

Memory (the mirror, and what the store has of it), the user's roster, and the channel's
participants node, which is read in the user's name. The channel decides who participates;
memory and roster follow it. If the channel does not answer, nothing is changed and the finding
says so. After a loss of Redis this restores memberships: the roster, the record of membership
(XEP-0405 §5.8), has the channels to ask.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from component.core.checks.findings import Finding, UserFindings, Verdict
from component.core.context import Context
from component.core.effects import DropMembership, PutMembership
from component.core.errors import Refusal
from component.core.membership.memberships import Memberships
from component.core.presence.announce import Presence
from component.core.presence.preferences import Preferences
from component.core.roster.access import Outcome, Rosters
from component.core.roster.candidates import channel_like, is_silent
from component.core.services import Services
from component.core.users.mirror import Membership
from schemas import disco, jid, participants
from schemas.jid import Jid
from schemas.namespaces import MIX_NODES
from schemas.participants import Participant, ParticipantList
from schemas.records import MembershipRecord
from schemas.stanza import Stanza, has_condition

AT_ONCE = 8
"""Channels of one user that are asked at the same time."""

ASSUMED_NODES = tuple(f"{MIX_NODES}{name}" for name in ("messages", "presence", "participants"))
"""Nodes of a restored membership: a channel does not tell what was subscribed to, and
here they only decide whether presence is asked for."""

NO_SERVICE_FOR = 600.0
"""Seconds for which a domain that is no MIX service is not asked again …"""

MOST_NO_SERVICE = 10_000
"""… if it is one of so many."""


@dataclass(slots=True)
class _Round:
    """One user being looked at. `stored` is None when the store was not read."""

    user: Jid
    repair: bool
    stored: dict[str, MembershipRecord] | None
    then: Callable[[UserFindings], None]
    rostered: dict[Jid, str] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    to_ask: deque[Jid] = field(default_factory=deque)
    asking: set[Jid] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


class Reconcile:
    """Compares users one by one, at the operator's request."""

    def __init__(
        self,
        context: Context,
        *,
        memberships: Memberships,
        rosters: Rosters,
        services: Services,
        presence: Presence,
        preferences: Preferences,
    ) -> None:
        self._context = context
        self._memberships = memberships
        self._rosters = rosters
        self._services = services
        self._presence = presence
        self._preferences = preferences
        self._rounds: list[_Round] = []
        self._no_service: dict[str, float] = {}

    def user(
        self,
        user: Jid,
        then: Callable[[UserFindings], None],
        *,
        repair: bool,
        stored: dict[str, MembershipRecord] | None = None,
    ) -> None:
        """Compare, and with `repair` correct, all memberships of a user; `then` gets the result.

        Without `repair`, only questions are sent, and the tap learns MIX domains that it did
        not know: it would not pass their answers on.
        """
        round_ = _Round(user, repair, stored, then)
        if not self._context.is_local(user) or user.resource is not None:
            self._cancel(round_, "this is not an account of a domain in MIXPAM_DOMAINS")
        elif user.domain not in self._context.taps:
            self._cancel(round_, "the server is not connected")
        else:
            self._rounds.append(round_)
            self._rosters.read(
                user,
                lambda query: round_.rostered.update(channel_like(query)) or False,
                lambda outcome: self._with_roster(round_, outcome),
            )

    def link_lost(self) -> None:
        """End all comparisons: no more answers will come."""
        rounds, self._rounds = self._rounds, []
        for round_ in rounds:
            self._cancel(round_, "the connection to the server was lost meanwhile")

    def _cancel(self, round_: _Round, why: str) -> None:
        if round_ in self._rounds:
            self._rounds.remove(round_)
        round_.then(UserFindings(str(round_.user), round_.repair, why=why))

    # -- which channels -------------------------------------------------------------------

    def _with_roster(self, round_: _Round, outcome: Outcome) -> None:
        if outcome == "no-account":
            self._account_gone(round_)
        elif outcome == "unreadable":
            self._cancel(round_, "the server does not give the roster")
        else:
            self._find_channels(round_)

    def _account_gone(self, round_: _Round) -> None:
        """Leave the channels of an account that was deleted while no component was connected."""
        row = self._context.mirror.find(round_.user)
        left = [] if row is None else row.channels.all()
        repairs = ("leave the channel and forget the membership: the account is gone",)
        for each in left:
            name, id_ = str(each.channel), each.participant_id
            rostered = round_.rostered.get(each.channel)
            round_.findings.append(Finding(name, "differ", id_, rostered, None, repairs=repairs))
        if round_.repair:
            self._memberships.depart_all(round_.user, [each.channel for each in left])
        self._ask_more(round_)

    def _find_channels(self, round_: _Round) -> None:
        """Sort out which roster items are channels, by what their domains are."""
        row = self._context.mirror.find(round_.user)
        channels = set() if row is None else {each.channel for each in row.channels.all()}
        channels |= round_.rostered.keys() | {jid.parse(each) for each in round_.stored or {}}
        by_domain: dict[str, list[Jid]] = {}
        for channel in sorted(channels):
            if self._may_be_service(channel.domain):
                by_domain.setdefault(channel.domain, []).append(channel)
        waiting = len(by_domain)

        def judged(domain: str, refused: Refusal | ET.Element | None) -> None:
            nonlocal waiting
            waiting -= 1
            if refused is None:
                round_.to_ask.extend(by_domain[domain])
            elif is_silent(refused):
                round_.silent.append(domain)
            else:
                self._note_no_service(domain)
            if not waiting:
                self._ask_more(round_)

        for domain in by_domain:
            self._services.check(domain, round_.user, partial(judged, domain))
        if not by_domain:
            self._ask_more(round_)

    def _note_no_service(self, domain: str) -> None:
        """Remember it for a while; rosters may name any number of domains."""
        now = self._context.now
        if len(self._no_service) >= MOST_NO_SERVICE:
            self._no_service = {each: end for each, end in self._no_service.items() if end > now}
        if len(self._no_service) < MOST_NO_SERVICE:
            self._no_service[domain] = now + NO_SERVICE_FOR

    def _may_be_service(self, domain: str) -> bool:
        if domain in self._context.domains or domain == self._context.own.domain:
            return False
        if self._no_service.get(domain, 0.0) > self._context.now:
            return False
        self._no_service.pop(domain, None)
        return True

    # -- asking the channels --------------------------------------------------------------

    def _ask_more(self, round_: _Round) -> None:
        while round_.to_ask and len(round_.asking) < AT_ONCE:
            channel = round_.to_ask.popleft()
            row = self._context.mirror.row(round_.user)
            key = channel.key
            if row.is_pending(key) or self._memberships.is_ending(round_.user, channel):
                found = self._finding(round_, channel, "busy", None)
                why = "a change is under way and will settle it"
                round_.findings.append(replace(found, why=why))
                continue
            if not row.has_joined(key):
                # The outgoing rule lets a user speak only to the own channels, and to these.
                row.activity.inquiries |= {key}
            round_.asking.add(channel)
            self._ask(round_, channel, participants.request(), self._told)
        if not round_.asking and round_ in self._rounds:
            self._rounds.remove(round_)
            self._context.mirror.tidy(round_.user)
            round_.findings.sort(key=lambda finding: finding.channel)
            round_.then(
                UserFindings(
                    str(round_.user),
                    round_.repair,
                    tuple(round_.findings),
                    tuple(sorted(round_.silent)),
                )
            )

    def _ask(
        self,
        round_: _Round,
        channel: Jid,
        payload: ET.Element,
        then: Callable[[_Round, Jid, Stanza | None], None],
    ) -> None:
        context = self._context
        context.ask(
            context.iq("get", round_.user, channel, payload),
            context.limits.channel_timeout,
            lambda reply: then(round_, channel, reply),
        )

    def _told(self, round_: _Round, channel: Jid, reply: Stanza | None) -> None:
        told = None if reply is None else participants.read(reply.element)
        if reply is None:
            self._unknown(round_, channel, f"{channel.domain} did not answer")
        elif has_condition(reply, "item-not-found"):
            # The node, or the channel? The second item-not-found means the channel.
            self._ask(round_, channel, ET.Element(disco.QUERY_TAG), self._told_of_itself)
        elif has_condition(reply, "forbidden"):
            self._unknown(
                round_,
                channel,
                "the channel refuses: it hides its participants, or this user is none of them",
            )
        elif reply.type != "result" or told is None:
            self._unknown(round_, channel, "the channel does not tell its participants")
        else:
            self._judge(round_, channel, told)

    def _told_of_itself(self, round_: _Round, channel: Jid, info: Stanza | None) -> None:
        if info is not None and has_condition(info, "item-not-found"):
            self._settle(round_, channel, None)
        else:
            self._unknown(round_, channel, "the channel has no participants node")

    def _judge(self, round_: _Round, channel: Jid, told: ParticipantList) -> None:
        found = told.of(round_.user)
        membership = self._context.mirror.membership(round_.user, channel)
        if found is None and membership is not None:
            # A channel that hides JIDs still shows whose id is in use.
            by_id = told.by_id(membership.participant_id)
            found = by_id if by_id is not None and by_id.jid is None else None
        if found is not None:
            self._settle(round_, channel, found)
        elif not told.complete:
            self._unknown(round_, channel, "the channel lists its participants in parts")
        elif membership is None and told.hides:
            self._unknown(round_, channel, "the channel hides who its participants are")
        else:
            self._settle(round_, channel, None)

    # -- judging and repairing -----------------------------------------------------------

    def _finding(
        self, round_: _Round, channel: Jid, verdict: Verdict, found: Participant | None
    ) -> Finding:
        membership = self._context.mirror.membership(round_.user, channel)
        return Finding(
            str(channel),
            verdict,
            None if membership is None else membership.participant_id,
            round_.rostered.get(channel),
            None if found is None else found.id,
        )

    def _unknown(self, round_: _Round, channel: Jid, why: str) -> None:
        self._end(
            round_, channel, replace(self._finding(round_, channel, "unknown", None), why=why)
        )

    def _settle(self, round_: _Round, channel: Jid, found: Participant | None) -> None:
        """Make memory and roster follow the channel's answer."""
        if not self._is_quiet(round_, channel):
            busy = self._finding(round_, channel, "busy", found)
            self._end(round_, channel, replace(busy, why="it was changed meanwhile"))
            return
        before = self._finding(round_, channel, "agree", found)
        if found is None:
            repairs = self._absent(round_, channel)
        else:
            repairs = self._present(round_, channel, found)
        verdict: Verdict = "differ" if repairs else "agree"
        self._end(round_, channel, replace(before, verdict=verdict, repairs=tuple(repairs)))

    def _is_quiet(self, round_: _Round, channel: Jid) -> bool:
        """Tell whether no change began while the channel was asked."""
        row = self._context.mirror.find(round_.user)
        key = channel.key
        if row is None or key in row.changes:
            return False
        return row.is_pending(key) or row.has_joined(key)

    def _absent(self, round_: _Round, channel: Jid) -> list[str]:
        """Follow a channel that has no such participant: neither may memory and roster."""
        user, repairs = round_.user, []
        is_member = self._context.mirror.membership(user, channel) is not None
        is_rostered = channel in round_.rostered
        if is_member:
            repairs.append("forget the membership: the channel has no such participant")
        elif str(channel) in (round_.stored or {}):
            repairs.append("remove the membership from Redis: the channel has no such participant")
            if round_.repair:
                self._context.write(DropMembership(str(user), str(channel)))
        if is_rostered:
            repairs.append("remove the channel from the roster")
        if round_.repair and is_member:
            self._memberships.forget(user, channel)
        elif round_.repair and is_rostered:
            self._write_roster(user, channel, "remove")
        return repairs

    def _present(self, round_: _Round, channel: Jid, found: Participant) -> list[str]:
        """Follow a channel that has the user: so must memory and roster."""
        user, repairs = round_.user, []
        before = self._context.mirror.membership(user, channel)
        subscription = round_.rostered.get(channel)
        shares = subscription in {"from", "both"}
        if before is None:
            repairs.append("restore the membership")
            stored = (round_.stored or {}).get(str(channel))
            if subscription is None and stored is not None:
                # Without a word of the user's, nobody has agreed to more than this.
                shares = stored.shares_presence
            after = Membership(channel, found.id, found.nick, ASSUMED_NODES, found.core, shares)
        else:
            if subscription is None:
                shares = before.shares_presence
            elif shares != before.shares_presence:
                repairs.append(f"follow the roster: presence is {'' if shares else 'not '}shared")
            if before.participant_id != found.id:
                repairs.append("correct the participant id")
            after = before._replace(participant_id=found.id)
            known = round_.stored
            if known is not None and known.get(str(channel)) != before.record():
                repairs.append("write the membership to Redis")
        if subscription is None:
            repairs.append("put the channel into the roster")
        if round_.repair:
            self._remember(user, after, shares=shares)
            # Of a member the tap learns by this alone (tap protocol "Members").
            if subscription is None or before is None:
                self._write_roster(user, channel, "from" if shares else "none")
        return repairs

    def _remember(self, user: Jid, after: Membership, *, shares: bool) -> None:
        mirror = self._context.mirror
        is_new = mirror.membership(user, after.channel) is None
        mirror.join(user, after)
        if is_new:
            self._presence.began(mirror.row(user), after)
        else:
            self._preferences.share(user, after.channel, shares=shares)
        # Even if nothing has changed: Redis may have lost it.
        record = after._replace(shares_presence=shares).record()
        self._context.write(PutMembership(str(user), record))

    def _write_roster(self, user: Jid, channel: Jid, subscription: str) -> None:
        def answered(refused: object) -> None:
            if refused is not None:
                self._context.report(
                    "roster-refused", "warning", user=str(user), channel=str(channel)
                )

        self._rosters.set(user, channel, subscription, answered)

    def _end(self, round_: _Round, channel: Jid, finding: Finding) -> None:
        row = self._context.mirror.find(round_.user)
        key = channel.key
        if row is not None and row.is_pending(key):
            row.activity.inquiries -= {key}
        round_.asking.discard(channel)
        round_.findings.append(finding)
        self._ask_more(round_)
