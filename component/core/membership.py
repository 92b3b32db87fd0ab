"""Joining and leaving channels (XEP-0405 §5.6, §5.7).

One `Op` is one change of one user's membership in one channel; a second wish for the
same channel waits for the first. Each step is journalled before its stanza leaves, so
that a process killed between any two steps finds out at its next start what is left to
do (`recover`). The order that clients rely on: roster push, result, channel traffic.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Literal

from component.core import results
from component.core.context import Context
from component.core.effects import PutMembership
from component.core.errors import Refusal, answer, condition_of, wait
from component.core.holding import Holding
from component.core.journal import Journal
from component.core.operation import Op, check_room
from component.core.packed import Member
from component.core.participants import Participants
from component.core.presence import Presence
from component.core.requests import Request
from component.core.rosters import Rosters
from component.core.services import Services
from schemas import codec, mix
from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.records import MembershipRecord
from schemas.stanza import Stanza

_UNUSABLE = Refusal("cancel", "undefined-condition", "the channel gave no usable participant id")
_STORE_AWAY = "memberships cannot be changed right now; try again later"


class Memberships:
    """Carries out joins and leaves."""

    def __init__(
        self,
        context: Context,
        rosters: Rosters,
        services: Services,
        presence: Presence,
        participants: Participants,
    ) -> None:
        self._context = context
        self._rosters = rosters
        self._services = services
        self._presence = presence
        self._participants = participants
        self._journal = Journal(context)

    @property
    def journal(self) -> Journal:
        """The changes under way, as the store is to hold them."""
        return self._journal

    # -- from the store, and after a cut -------------------------------------------------

    def load(self, user: Jid, records: Iterable[MembershipRecord]) -> None:
        """Enter a user's memberships from the store."""
        self._context.mirror.load(user, [Member.of(record) for record in records])

    def recover(self, domain: str) -> None:
        """Finish or undo what is in the journal for a domain's users."""
        for user, channel, record in self._journal.of_domain(domain):
            if self._is_busy(user, channel):
                continue
            op = Op(record.kind, user, channel, record.core, record.member)
            op.label = self._context.new_id()
            self._context.report("journal-recovered", **op.facts())
            joined = self._context.mirror.membership(user, channel)
            if record.step == "roster" and (record.kind == "leave" or joined is not None):
                self._start(op)
                self._write_roster(op, shares=record.shares_presence)
            elif record.kind == "join" and record.member:
                self._journal.close(op)
            else:
                op.kind = "leave"
                self._start(op)
                self._ask(op)

    # -- requests ------------------------------------------------------------------------

    def request(self, request: Request) -> None:
        """Begin what a client asks for, or queue it behind what is under way.

        Raises Refusal if it asks for too much.
        """
        row = self._context.mirror.row(request.user)
        key = str(request.channel).encode()
        joined = row.has_joined(key)
        check_room(row, self._context.limits, new=request.kind == "join" and not joined)
        under_way = row.busy.get(key)
        if isinstance(under_way, Op):
            under_way.queue.append(request)
            return
        op = Op(request.kind, request.user, request.channel, request.core, joined, request)
        self._start(op)
        if request.kind == "join":
            domain = request.channel.domain
            self._services.check(domain, op.user, lambda verdict: self._checked(op, verdict))
        elif joined:
            self._journal_then_ask(op)
        else:
            self._rosters.has(op.user, op.channel, lambda found: self._looked_up(op, found))

    def _checked(self, op: Op, verdict: Refusal | ET.Element | None) -> None:
        if verdict is None:
            self._journal_then_ask(op)
        else:
            self._refuse(op, verdict)

    def _looked_up(self, op: Op, found: bool | None) -> None:
        """Go on with leaving a channel that is not in our memory."""
        if found:
            self._journal_then_ask(op)
        elif found is None:
            self._refuse(op, wait("internal-server-error", "the roster cannot be read right now"))
        else:
            self._refuse(op, Refusal("cancel", "item-not-found", "you are not in that channel"))

    def _journal_then_ask(self, op: Op) -> None:
        def then(done: bool) -> None:
            if done:
                self._ask(op)
            else:
                self._journal.close(op)
                self._refuse(op, wait("internal-server-error", _STORE_AWAY))

        self._context.write(self._journal.entry(op, "ask"), then=then)

    def _ask(self, op: Op) -> None:
        """Send the channel what the client wants of it."""
        context = self._context
        if op.request is not None:
            id_, inner = op.request.id, op.request.inner
        else:
            id_, inner = context.new_id(), codec.from_xso(mix.LEAVE[op.core]())
        element = stanzas.make(stanzas.IQ, "set", op.user, op.channel, id_, inner)
        context.ask(
            element, context.limits.channel_timeout, lambda reply: self._answered(op, id_, reply)
        )

    def _answered(self, op: Op, id_: str, reply: Stanza | None) -> None:
        if op.forced:
            self._left(op, reply)
        elif reply is None:
            self._watch_for_late_answer(op, id_)
            text = f"{op.channel.domain} did not answer"
            self._refuse(op, wait("remote-server-timeout", text))
        elif reply.type == "error":
            unknown_here = op.request is None or not op.member
            gone = results.has_condition(reply, "item-not-found")
            if op.kind == "leave" and unknown_here and gone:
                self._left(op, reply)  # it was left before, and nobody heard
                return
            self._journal.close(op)
            error = reply.error
            self._refuse(op, Refusal("cancel", "undefined-condition") if error is None else error)
        elif op.kind == "join":
            self._joined(op, reply)
        else:
            self._left(op, reply)

    def _watch_for_late_answer(self, op: Op, id_: str) -> None:
        """Undo what an answer that comes too late has done."""

        def late(reply: Stanza | None) -> None:
            busy = self._is_busy(op.user, op.channel)
            if reply is None or reply.type == "error" or busy:
                # Nothing happened there, or somebody is at it again.
                if not busy:
                    self._journal.close(op)
                return
            again = Op("leave", op.user, op.channel, op.core, op.member, label=op.label)
            self._context.report("late-answer", "warning", **op.facts())
            self._start(again)
            if op.kind == "join" and not op.member:
                self._ask(again)
            elif op.kind == "leave":
                self._left(again, reply)
            else:
                self._journal.close(again)
                self._finish(again)

        key = (op.channel, op.user, id_)
        self._context.expect(key, self._context.limits.late_window, late)

    # -- ends that nobody asked for, and changes ------------------------------------------

    def forget(self, user: Jid, channel: Jid) -> None:
        """End a membership that the channel has ended: state and roster item go."""
        if self._postponed(user, channel, "forget"):
            return
        op = Op("leave", user, channel, 1, member=True)
        self._start(op)
        self._left(op, None)

    def depart(self, user: Jid, channel: Jid) -> None:
        """Leave a channel for a user whose roster, or account, no longer has it.

        The membership ends here and now, whatever the channel will say.
        """
        membership = self._context.mirror.membership(user, channel)
        if membership is None or self._postponed(user, channel, "depart"):
            return
        op = Op("leave", user, channel, membership.core, member=True, forced=True)
        self._start(op)

        def then(done: bool) -> None:
            if not done:
                # It has ended all the same; our memory follows when the store is back.
                self._context.write(op.drop, self._journal.entry(op, "ask"))
            self._ask(op)

        self._context.write(op.drop, self._journal.entry(op, "ask"), then=then)
        self._part(user, channel)

    def _part(self, user: Jid, channel: Jid) -> None:
        """Take a membership out of the mirror, and what hangs on it."""
        row = self._context.mirror.find(user)
        if row is not None:
            self._participants.forget(row, str(channel).encode())
        self._context.mirror.part(user, channel)
        row = self._context.mirror.find(user)
        if row is not None:
            self._presence.tidy(row)

    # -- join ----------------------------------------------------------------------------

    def _joined(self, op: Op, reply: Stanza) -> None:
        op.reply = reply
        record = results.granted(op, reply)
        if record is None:
            if op.member:
                self._journal.close(op)
            self._refuse(op, _UNUSABLE, undo=not op.member)
            return
        op.participant_id = record.participant_id

        def then(done: bool) -> None:
            if done:
                # Known from here on, so that the roster push is annotated; what the channel
                # sends goes on waiting until the result is out.
                before = self._context.mirror.membership(op.user, op.channel)
                self.load(op.user, [record])
                self._presence.shared_anew(op.user, op.channel, before)
                self._write_roster(op, shares=record.shares_presence)
            else:
                self._take_back(op)
                refusal = wait("internal-server-error", _STORE_AWAY)
                self._refuse(op, refusal, undo=not op.member)

        self._context.write(
            PutMembership(str(op.user), record),
            self._journal.entry(op, "roster", shares=record.shares_presence),
            then=then,
        )

    def _take_back(self, op: Op) -> None:
        """Have the store hold what was before: a write that failed may have been done."""
        before = self._context.mirror.membership(op.user, op.channel)
        if before is None:
            self._context.write(op.drop)
        else:
            self._context.write(PutMembership(str(op.user), before.record()))
            self._journal.close(op)

    # -- leave ---------------------------------------------------------------------------

    def _left(self, op: Op, reply: Stanza | None) -> None:
        op.reply = reply
        self._part(op.user, op.channel)

        def then(done: bool) -> None:
            if not done:
                # The channel has let go; our memory follows when the store is back.
                self._context.write(op.drop)
            self._write_roster(op, shares=False)

        self._context.write(op.drop, self._journal.entry(op, "roster"), then=then)

    # -- roster, result, release ---------------------------------------------------------

    def _write_roster(self, op: Op, *, shares: bool) -> None:
        """Have the roster follow the membership."""
        sharing = "from" if shares else "none"
        subscription = "remove" if op.kind == "leave" else sharing
        self._rosters.set(
            op.user, op.channel, subscription, lambda refused: self._rostered(op, refused)
        )

    def _rostered(self, op: Op, refused: ET.Element | Refusal | None) -> None:
        # A forced end has no roster to follow any more: the item, or the account, is gone.
        if refused is not None and not op.forced:
            self._context.report("roster-refused", "warning", **op.facts())
            if op.kind == "join" and not op.member:
                self._part(op.user, op.channel)
                self._context.write(op.drop)
                self._refuse(op, refused, undo=True)
                return
        if op.kind == "join" and op.afterwards == "forget":
            op.afterwards = ""  # the channel has taken the user in again
        self._journal.close(op)
        self._context.report("change-done", **op.facts())
        self._respond(op)
        self._finish(op)

    def _respond(self, op: Op) -> None:
        """Give the client the channel's answer, wrapped (XEP-0405 §5.6)."""
        request, reply = op.request, op.reply
        if request is None:
            return
        if request.kind == "leave":
            self._context.send(results.left(request, reply))
        elif reply is not None and op.participant_id is not None:
            self._context.send(results.joined(request, reply, op.participant_id))

    # -- ends ----------------------------------------------------------------------------

    def _refuse(self, op: Op, why: Refusal | ET.Element, *, undo: bool = False) -> None:
        """End an operation with an error: ours, or the channel's as it came."""
        self._context.report("change-refused", condition=condition_of(why), **op.facts())
        if op.request is not None:
            if isinstance(why, Refusal):
                answer(self._context, op.request.stanza, why)
            else:
                request = op.request
                self._context.send(
                    stanzas.make(stanzas.IQ, "error", request.user, request.device, request.id, why)
                )
            op.request = None
        if undo:
            # The channel believes in a participant that there is none.
            op.kind, op.reply = "leave", None
            if op.holding is not None:
                op.holding.discard()
            self._ask(op)
        else:
            self._finish(op)

    def _start(self, op: Op) -> None:
        if not op.label:
            op.label = self._context.new_id()
            self._context.report("change-begun", **op.facts())
        row = self._context.mirror.row(op.user)
        row.activity.busy[op.key] = op
        if op.kind == "join" and not op.member:
            op.holding = Holding(self._context, row, op.key)
            row.hold(op.key, op.holding)

    def _finish(self, op: Op) -> None:
        """Take an operation off the desk, and the next wish for its channel up."""
        row = self._context.mirror.row(op.user)
        row.activity.busy.pop(op.key, None)
        if op.holding is not None:
            holding = op.holding
            membership = row.membership(op.key)
            if membership is not None:
                self._participants.began(row, op.key)
                self._presence.began(row, membership)
                holding.release(lambda: self._released(op))
            else:
                holding.discard()
                self._released(op)
        if op.afterwards and row.has_joined(op.key):
            end = self.forget if op.afterwards == "forget" else self.depart
            end(op.user, op.channel)
        self._context.mirror.tidy(op.user)
        for position, request in enumerate(op.queue):
            try:
                self.request(request)
            except Refusal as refusal:
                answer(self._context, request.stanza, refusal)
                continue
            successor = self._context.mirror.row(op.user).busy.get(op.key)
            if isinstance(successor, Op) and successor.request is request:
                successor.queue.extend(op.queue[position + 1 :])
                break

    def _released(self, op: Op) -> None:
        row = self._context.mirror.find(op.user)
        if row is not None and row.holding.get(op.key) is op.holding:
            row.let_go(op.key)

    def _postponed(self, user: Jid, channel: Jid, what: Literal["forget", "depart"]) -> bool:
        """Have the end of a membership wait for the change that is under way, if one is."""
        under_way = self._under_way(user, channel)
        if not isinstance(under_way, Op):
            return False
        under_way.afterwards = what
        return True

    def _is_busy(self, user: Jid, channel: Jid) -> bool:
        return self._under_way(user, channel) is not None

    def _under_way(self, user: Jid, channel: Jid) -> object | None:
        row = self._context.mirror.find(user)
        return None if row is None else row.busy.get(str(channel).encode())
