"""Joining and leaving channels (XEP-0405 §5.6, §5.7).

One `Op` is one change of one user's membership in one channel; a second request for the
same channel waits for the first. After a kill between any two steps, the next process
completes or undoes the change (`recover`). The order that clients rely on: roster push,
result, channel traffic.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Literal

from component.core.context import Context
from component.core.errors import Refusal, wait
from component.core.membership.change import Op, check_room, op_of, ops_of
from component.core.membership.journal import Journal
from component.core.membership.ledger import Asked
from component.core.membership.requests import Request
from component.core.membership.steps import Changes
from component.core.membership.turns import Turns
from component.core.presence.announce import Presence
from component.core.presence.participants import Participants
from component.core.roster.access import Rosters
from component.core.services import Services
from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.records import CoreVersion, JournalRecord

TOGETHER = 100
"""Memberships whose end is written in one go."""


class Memberships(Changes):
    """Begins joins and leaves, and takes up what ends a membership."""

    def __init__(
        self,
        context: Context,
        rosters: Rosters,
        services: Services,
        presence: Presence,
        participants: Participants,
    ) -> None:
        super().__init__(context, rosters, presence, participants)
        self._services = services
        self._turns = Turns(context)

    @property
    def journal(self) -> Journal:
        """The changes under way, as the store is to hold them."""
        return self._journal

    # -- after a cut ---------------------------------------------------------------------

    def link_lost(self) -> None:
        """Forget what was asked, and who waits: the tap answers them, the journal knows more."""
        self._ledger.clear()
        self._turns.clear()
        self._ends.clear()

    def recover(self, domain: str) -> None:
        """Finish or undo what is in the journal for a domain's users.

        Leaves, of which there may be many, a few at a time.
        """
        for user, channel, record in self._journal.of_domain(domain):
            if self._under_way(user, channel) is not None or self._ends.waits(user, channel):
                continue
            if record.kind == "join" and self._is_member(user, channel):
                self._recover(user, channel, record)
            else:
                begin = partial(self._recover_later, user, channel, record)
                self._ends.keep(user, channel, begin)
                self._ends.ready(user, channel, begin)

    def _recover_later(self, user: Jid, channel: Jid, record: JournalRecord) -> None:
        """Take up an entry whose turn has come, if nothing else has taken its place."""
        if self._journal.find(user, channel) is record and self._under_way(user, channel) is None:
            self._recover(user, channel, record)

    def _recover(self, user: Jid, channel: Jid, record: JournalRecord) -> None:
        op = Op(record.kind, user, channel, record.core, record.member)
        op.label, op.recovers = self._context.new_id(), True
        self._context.report("journal-recovered", **op.facts())
        joined = self._context.mirror.membership(user, channel)
        if record.step == "roster" and (record.kind == "leave" or joined is not None):
            self._begun(op, lambda op: self._to_roster(op, shares=record.shares_presence))
        elif record.kind == "join" and record.member:
            self._journal.close(op)
        else:
            op.kind = "leave"
            self._begun(op, self._ask)

    def _to_roster(self, op: Op, *, shares: bool) -> None:
        if op.kind == "leave":
            self._part(op.user, op.channel)  # which may be what broke
        self._write_roster(op, shares=shares)

    def _broke(self, broken: Op | Asked) -> None:
        """End a change that an exception has cut off, as after a restart; once.

        A recovered change that fails again waits for the next link.
        """
        context, user, channel = self._context, broken.user, broken.channel
        if isinstance(broken, Op):
            self._take_off(broken)
            asked, is_new = broken.asked, not (broken.recovers or broken.gone)
            broken.gone = True
            if broken.request is not None:
                refusal = wait("internal-server-error", "mixpam failed; this has been reported")
                facts = broken.facts()
                context.report("change-refused", condition=refusal.condition, **facts)
                context.refuse(broken.request.stanza, refusal)
                broken.request = None
        else:
            asked, is_new = broken, True
            begun = self._under_way(user, channel)
            if begun is not None and begun.request is None:
                # Its question was dropped together with the failed change.
                self._take_off(begun)
                begun.gone = True
                if begun.asked is not None:
                    self._ledger.forget(begun.asked)
        if asked is not None:
            self._ledger.forget(asked)
        is_member = context.mirror.membership(user, channel) is not None
        if is_new and is_member and self._journal.find(user, channel) is None:
            self._enter_end(broken)
        entry = self._journal.find(user, channel)
        if is_new and entry is not None and self._under_way(user, channel) is None:
            context.attempt(lambda: self._recover(user, channel, entry))
        if isinstance(broken, Op):
            if broken.kind == "leave" and not is_member:
                context.write(broken.drop)
            context.attempt(lambda: self._over(broken))

    def _enter_end(self, broken: Op | Asked) -> None:
        """Have the end of a membership not be lost that nobody asked for."""
        if isinstance(broken, Op) and broken.kind == "leave" and broken.request is None:
            self._context.write(self._journal.entry(broken, "ask"))

    # -- requests ------------------------------------------------------------------------

    def request(self, request: Request) -> None:
        """Begin what a client asks for, or queue it behind what is under way.

        Raises Refusal if it asks for too much.
        """
        self._ends.hurry(request.user, request.channel)
        if self._may_begin(request) and not self.waiting(request.user, request.channel):
            self._begin(request)
        else:
            self._turns.add(request)

    def waiting(self, user: Jid, channel: Jid) -> int:
        """Return the number of requests for a channel that wait for their turn."""
        return self._turns.count(user, channel)

    def _may_begin(self, request: Request) -> bool:
        row = self._context.mirror.row(request.user)
        is_free = op_of(row, request.channel.key) is None
        if not is_free or self._ends.waits(request.user, request.channel):
            return False
        # Ends that the user has not asked for, perhaps of an account before, hold up nobody.
        pending = sum(not op.forced for op in ops_of(row))
        return pending < self._context.limits.max_pending

    def _begin(self, request: Request) -> None:
        user, channel = request.user, request.channel
        row = self._context.mirror.row(user)
        member = row.has_joined(channel.key)
        if request.kind == "join" and not member:
            check_room(row, self._context.limits)
        op = Op(request.kind, user, channel, request.core, member, request)
        op.doubted = self._ledger.doubt(user, channel, member=member)
        if request.kind == "join" and self._services.knows(channel.domain):
            self._begun(op, self._journal_then_ask)
        elif request.kind == "join":
            checked = self._guarded(op, lambda verdict: self._checked(op, verdict))
            self._begun(op, lambda _: self._services.check(channel.domain, user, checked))
        elif member or self._ledger.knows(user, channel):
            self._begun(op, self._journal_then_ask)
        else:
            found = self._guarded(op, lambda found: self._looked_up(op, found))
            self._begun(op, lambda _: self._rosters.has(user, channel, found))

    def _checked(self, op: Op, verdict: Refusal | ET.Element | None) -> None:
        if op.gone:
            return
        if verdict is None:
            self._journal_then_ask(op)
        else:
            self._refuse(op, verdict)

    def _looked_up(self, op: Op, found: bool | None) -> None:
        """Go on with leaving a channel that is not in our memory."""
        if op.gone:
            return
        if found:
            self._journal_then_ask(op)
        elif found is None:
            self._refuse(op, wait("internal-server-error", "the roster cannot be read right now"))
        else:
            self._refuse(op, Refusal("cancel", "item-not-found", "you are not in that channel"))

    # -- ends that nobody asked for, and changes ------------------------------------------

    def forget(self, user: Jid, channel: Jid) -> None:
        """End a membership that the channel has ended: state and roster item go."""
        if self._postponed(user, channel, "forget"):
            return
        op = Op("leave", user, channel, 1, member=True)
        self._begun(op, lambda op: self._left(op, None))

    def depart(self, user: Jid, channel: Jid) -> None:
        """Leave a channel for a user whose roster, or account, no longer has it.

        The membership ends at once, whatever the channel answers.
        """
        self.depart_all(user, [channel])

    def depart_all(self, user: Jid, channels: Iterable[Jid]) -> None:
        """Leave channels as `depart` does, with one look at the user's memberships."""
        row = self._context.mirror.find(user)
        keys = {channel.key for channel in channels}
        ended = {
            each.channel: each.core
            for each in ([] if row is None else row.among(keys))
            if not self._postponed(user, each.channel, "depart")
        }
        self._end_all(user, ended, member=True)

    def is_ending(self, user: Jid, channel: Jid) -> bool:
        """Tell whether the channel is still to be told that a membership has ended."""
        return self._ends.waits(user, channel)

    def _end_all(self, user: Jid, channels: Mapping[Jid, CoreVersion], *, member: bool) -> None:
        """End memberships at once; leaves are sent to the channels a few at a time."""
        ops = [
            Op("leave", user, channel, core, member=member, forced=True)
            for channel, core in channels.items()
        ]
        if len(ops) == 1 and self._ends.has_room:
            self._ends.taken(user, ops[0].channel)
            self._end(ops[0])
            return
        for start in range(0, len(ops), TOGETHER):
            self._enter_ends(ops[start : start + TOGETHER])
        self._part(user, *channels)

    def _enter_ends(self, ops: list[Op]) -> None:
        context, ends = self._context, self._ends
        changes = [each for op in ops for each in (op.drop, self._journal.entry(op, "ask"))]

        def then(done: bool) -> None:
            if not done:
                # They have ended all the same; our memory follows when the store is back.
                context.write(*changes)
            for op in ops:
                ends.ready(op.user, op.channel, partial(self._begun, op, self._ask))

        for op in ops:
            ends.keep(op.user, op.channel, partial(self._end, op))
        context.write(*changes, then=then)

    def _end(self, op: Op) -> None:
        """Begin a leave after which nothing is left of a membership, here at once."""

        def then(done: bool) -> None:
            if op.gone:
                return
            if not done:
                # It has ended all the same; our memory follows when the store is back.
                self._context.write(op.drop, self._journal.entry(op, "ask"))
            self._ask(op)

        def drop(op: Op) -> None:
            entry = self._journal.entry(op, "ask")
            self._context.write(op.drop, entry, then=self._guarded(op, then))
            self._part(op.user, op.channel)

        self._begun(op, drop)

    def account_removed(self, user: Jid) -> None:
        """Leave everything in the name of an account that is no more.

        The next of that name inherits nothing: no membership, nor what was asked for and
        has no answer yet, nor a request that waits.
        """
        self._turns.drop(user)
        row = self._context.mirror.find(user)
        left = {} if row is None else {each.channel: each.core for each in row.channels.all()}
        for op in [] if row is None else ops_of(row):
            self._give_up(op)
            if op.asked is not None or op.forced:
                # The channel may have taken the user in, or has not been told of the end.
                left[op.channel] = op.core
        # A question that is still open may be granted.
        channels = [*left, *(each for each in self._ledger.of_user(user) if each not in left)]
        self._end_all(user, {each: left.get(each, 1) for each in channels}, member=False)
        self._context.mirror.tidy(user)

    def _give_up(self, op: Op) -> None:
        """Cancel a change that is under way, whatever it is waiting for."""
        op.gone = True
        self._take_off(op)
        self._journal.close(op)

    def _take_off(self, op: Op) -> None:
        """Remove a change from its row, and drop its buffer."""
        row = self._context.mirror.row(op.user)
        if row.changes.get(op.key) is op:
            row.activity.changes.pop(op.key)
        if op.holding is not None:
            op.holding.discard()
            self._released(op)

    # -- what the user blocks ------------------------------------------------------------

    def blocked(self, user: Jid, channel: Jid) -> None:
        """End what a client waits for from a channel that the user has just blocked.

        The tap drops the channel's answers from now on.
        """
        op = self._under_way(user, channel)
        if op is not None and op.request is not None and op.reply is None:
            self._attempt(op, self._barred)

    def _barred(self, op: Op) -> None:
        error = stanzas.blocked()
        if op.asked is not None:
            # It may have done it all the same: as if it were late.
            self._wait_on(op.asked)
            self._refuse(op, error)
        else:
            self._give_up(op)
            self._refuse(op, error)

    def unblocked(self, user: Jid, channel: Jid) -> None:
        """Undo a join whose answer the tap may have dropped: its client got an error."""
        asked = self._ledger.open_join(user, channel)
        is_member = self._context.mirror.membership(user, channel) is not None
        is_free = self._under_way(user, channel) is None and not self.is_ending(user, channel)
        if asked is not None and not is_member and is_free:
            op = Op("leave", user, channel, asked.core, member=False)
            self._begun(op, self._ask)

    def asked_of(self, user: Jid) -> list[Jid]:
        """List the channels of which a user waits for something, or whose answer is late."""
        row = self._context.mirror.find(user)
        changing = [] if row is None else [op.channel for op in ops_of(row)]
        late = [each for each in self._ledger.of_user(user) if each not in changing]
        return [*changing, *late]

    # -- turns ---------------------------------------------------------------------------

    def _over(self, op: Op) -> None:
        """Take up what has waited for a change's end."""
        self._ends.over(op.user, op.channel)
        row = self._context.mirror.row(op.user)
        if op.afterwards and row.has_joined(op.key):
            end = self.forget if op.afterwards == "forget" else self.depart
            end(op.user, op.channel)
        if self._ledger.knows(op.user, op.channel):
            self._settle(op.user, op.channel)
        self._next(op.user)

    def _next(self, user: Jid) -> None:
        """Begin what has waited for its turn, as far as there is room."""
        while (request := self._turns.next(user, self._may_begin)) is not None:
            try:
                self._begin(request)
            except Refusal as refusal:
                self._context.refuse(request.stanza, refusal)
        self._context.mirror.tidy(user)

    def _postponed(self, user: Jid, channel: Jid, what: Literal["forget", "depart"]) -> bool:
        """Have the end of a membership wait for the change that is under way, if one is."""
        under_way = self._under_way(user, channel)
        if under_way is None:
            return False
        under_way.afterwards = what
        # A cut must not lose it.
        self._context.write(self._journal.entry(under_way, "ask"))
        return True
