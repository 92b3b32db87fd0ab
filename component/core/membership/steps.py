"""The steps of one change of a membership, from the channel's answer to the client's.

Each is journalled before its stanza leaves. What the channel was asked, and may still
answer, is in the ledger; when everything has been answered, memory, roster and channel are
made to agree (`_settle`). component.core.membership.memberships begins changes.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable

from component.core.context import Context
from component.core.delivery.join_buffer import Holding
from component.core.effects import PutMembership
from component.core.errors import Refusal, condition_of, unusable, wait
from component.core.membership import answers
from component.core.membership.background_leaves import Ends
from component.core.membership.change import Op, op_of
from component.core.membership.guarded import Guarded
from component.core.membership.journal import Journal
from component.core.membership.ledger import Asked, Ledger
from component.core.presence.announce import Presence
from component.core.presence.participants import Participants
from component.core.roster import candidates
from component.core.roster.access import Rosters
from component.core.services import ID_PREFIX
from component.core.users.packed import Member
from schemas import mix
from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.records import MembershipRecord
from schemas.stanza import Stanza, has_condition

_STORE_AWAY = "memberships cannot be changed right now; try again later"


class Changes(Guarded):
    """Carries changes out once they have begun."""

    def __init__(
        self, context: Context, rosters: Rosters, presence: Presence, participants: Participants
    ) -> None:
        super().__init__(context)
        self._rosters = rosters
        self._presence = presence
        self._participants = participants
        self._journal = Journal(context)
        self._ledger = Ledger()
        self._ends = Ends(context)

    def _over(self, op: Op) -> None:
        """Do what a change's end makes room for; given by `memberships`."""
        raise NotImplementedError  # pragma: no cover - never this one

    def load(self, user: Jid, records: Iterable[MembershipRecord]) -> None:
        """Enter a user's memberships from the store."""
        self._context.mirror.load(user, [Member.of(record) for record in records])

    # -- the channel is asked ------------------------------------------------------------

    def _journal_then_ask(self, op: Op) -> None:
        def then(done: bool) -> None:
            if op.gone:
                return
            if done:
                self._ask(op)
            else:
                self._close(op)
                self._refuse(op, wait("internal-server-error", _STORE_AWAY))

        self._context.write(self._journal.entry(op, "ask"), then=self._guarded(op, then))

    def _ask(self, op: Op) -> None:
        """Send the channel the join or leave."""
        context = self._context
        if op.request is not None:
            id_, inner = op.request.id, op.request.inner
            if context.is_asked(op.channel, op.user, id_) or self._ledger.is_recovering(
                op.user, op.channel
            ):
                # The client may have used it before, and that answer may still come.
                id_ = context.new_id()
        else:
            # Nobody may be in a channel of the service any more, so that the taps' lists lack it.
            id_ = f"{ID_PREFIX}{context.new_id()}"
            inner = ET.Element(mix.LEAVE_TAGS[op.core])
        asked = Asked(op.kind, op.user, op.channel, op.core, op.wish, op.recovers, id_)
        op.asked = asked
        self._ledger.ask(asked)
        element = stanzas.make(stanzas.IQ, "set", op.user, op.channel, id_, inner)
        context.ask(
            element,
            context.limits.channel_timeout,
            self._guarded(op, lambda reply: self._replied(op, asked, reply)),
        )

    def _replied(self, op: Op, asked: Asked, reply: Stanza | None) -> None:
        if reply is None and not op.forced:
            self._wait_on(asked)
        else:
            self._note(asked, reply)
        if op.asked is not asked or op.gone:
            self._settle(op.user, op.channel)
        elif op.forced:
            # Forced: any answer ends it. A leave cannot reach a channel that the user has blocked
            # (the tap answers for it), and retries would not change that. The channel keeps a
            # participant whose stanzas are dropped; after an unblock its first message gets an
            # error, by which it learns of the end.
            self._take(asked)
            self._left(op, reply)
        elif reply is None:
            self._timed_out(op)
        elif asked.reply is None:
            self._refused(op, reply)
        elif op.kind == "join":
            self._take(asked)
            self._joined(op, reply)
        else:
            self._take(asked)
            self._left(op, reply)

    def _wait_on(self, asked: Asked) -> None:
        """Wait for an answer for which its client does not wait any more."""
        key = (asked.channel, asked.user, asked.id)
        late = self._guarded(asked, lambda reply: self._late(asked, reply))
        self._context.expect(key, self._context.limits.late_window, late)

    def _note(self, asked: Asked, reply: Stanza | None) -> None:
        """Enter an answer, or that none will come."""
        self._ledger.answer(asked, reply)
        if asked.kind == "join" and asked.reply is not None:
            op = self._under_way(asked.user, asked.channel)
            if op is not None and op.afterwards == "forget":
                op.afterwards = ""  # after a kick, the channel has taken the user in again

    def _take(self, asked: Asked) -> Stanza | None:
        """Take out of the ledger what is used from now on."""
        self._ledger.forget(asked)
        return asked.reply

    def _timed_out(self, op: Op) -> None:
        if not self._used(op):
            text = f"{op.channel.domain} did not answer"
            self._refuse(op, wait("remote-server-timeout", text))

    def _refused(self, op: Op, reply: Stanza) -> None:
        """Follow a channel's error; what has already happened is refused a second time."""
        if has_condition(reply, "conflict") and self._used(op):
            return
        error = Refusal("cancel", "undefined-condition") if reply.error is None else reply.error
        # Nobody waits for a leave of our own: one that did not get there is tried again on
        # the next link.
        if op.request is not None or not candidates.is_silent(error):
            self._close(op)
        self._refuse(op, error)

    def _used(self, op: Op) -> bool:
        """Go on with what the channel did when it was asked for the same before."""
        done = self._ledger.done(op.user, op.channel)
        reply = None if done is None else done.reply
        if done is None or reply is None or done.kind != op.kind or op.request is None:
            return False
        self._take(done)
        if op.kind == "leave":
            self._left(op, reply)
        else:
            self._joined(op, reply)
        return True

    # -- what comes of it in the end -----------------------------------------------------

    def _late(self, asked: Asked, reply: Stanza | None) -> None:
        """Take an answer that comes too late for who asked, or is certain not to come."""
        self._note(asked, reply)
        if reply is not None:
            op = Op(asked.kind, asked.user, asked.channel, asked.core, member=False)
            self._context.report("late-answer", "warning", **op.facts())
        self._settle(asked.user, asked.channel)

    def _settle(self, user: Jid, channel: Jid) -> None:
        """Make memory, roster and channel agree, once all is answered and nobody is at it."""
        if self._under_way(user, channel) is not None or self._ledger.is_open(user, channel):
            return
        if self._ends.waits(user, channel):
            return  # which is settled when that is over
        member = self._is_member(user, channel)
        done = self._ledger.done(user, channel)
        reply = None if done is None else self._take(done)
        if done is None or reply is None or (done.kind == "leave" and not member):
            # It is as it is remembered.
            self._journal.close(Op("leave", user, channel, 1, member))
            return
        op = Op(done.kind, user, channel, done.core, member, wish=done.wish)
        if done.kind == "join" and not member:
            # The client got an error for that join.
            op.kind = "leave"
            self._begun(op, self._ask)
        elif done.kind == "join":
            self._begun(op, lambda op: self._joined(op, reply))
        else:
            self._begun(op, lambda op: self._left(op, reply))

    def _close(self, op: Op) -> None:
        """Close a change's entry, but for an open answer that could unmake what it came to."""
        member = self._is_member(op.user, op.channel)
        if self._ledger.doubt(op.user, op.channel, member=member):
            # Should we end before that answer comes, a leave settles it whatever it is.
            leave = Op("leave", op.user, op.channel, op.core, member)
            self._context.write(self._journal.entry(leave, "ask"))
        else:
            self._journal.close(op)

    # -- join ----------------------------------------------------------------------------

    def _joined(self, op: Op, reply: Stanza) -> None:
        op.reply = reply
        before = self._context.mirror.membership(op.user, op.channel)
        shared = None if before is None else before.shares_presence
        record = answers.granted(op, reply, shared=shared)
        if record is None:
            if op.sure:
                self._close(op)
            self._refuse(op, unusable(reply), undo=not op.sure)
            return
        op.participant_id = record.participant_id

        def then(done: bool) -> None:
            if op.gone:
                return
            if done:
                # Known from here on, so that the roster push is annotated; what the channel
                # sends goes on waiting until the result is out.
                before = self._context.mirror.membership(op.user, op.channel)
                self.load(op.user, [record])
                self._presence.sharing_changed(op.user, op.channel, before)
                self._write_roster(op, shares=record.shares_presence)
            else:
                self._take_back(op)
                refusal = wait("internal-server-error", _STORE_AWAY)
                self._refuse(op, refusal, undo=not op.sure)

        self._context.write(
            PutMembership(op.user.text, record),
            self._journal.entry(op, "roster", shares=record.shares_presence),
            then=self._guarded(op, then),
        )

    def _take_back(self, op: Op) -> None:
        """Have the store hold what was before: a write that failed may have been done."""
        before = self._context.mirror.membership(op.user, op.channel)
        if before is None:
            self._context.write(op.drop)
        else:
            self._context.write(PutMembership(op.user.text, before.record()))
            self._close(op)

    # -- leave ---------------------------------------------------------------------------

    def _left(self, op: Op, reply: Stanza | None) -> None:
        op.reply = reply

        def then(done: bool) -> None:
            if not done:
                # The channel has removed the user; the store follows when it is back.
                self._context.write(op.drop)
            if not op.gone:
                self._write_roster(op, shares=False)

        entry = self._journal.entry(op, "roster")
        self._context.write(op.drop, entry, then=self._guarded(op, then))
        self._part(op.user, op.channel)

    def _part(self, user: Jid, *channels: Jid) -> None:
        """Take memberships out of the mirror, and what hangs on them."""
        row = self._context.mirror.find(user)
        if row is not None:
            for channel in channels:
                self._participants.forget(row, channel.key)
        self._context.mirror.part(user, *channels)
        row = self._context.mirror.find(user)
        if row is not None:
            self._presence.tidy(row)

    # -- roster, result, release ---------------------------------------------------------

    def _write_roster(self, op: Op, *, shares: bool) -> None:
        """Have the roster follow the membership."""
        sharing = "from" if shares else "none"
        subscription = "remove" if op.kind == "leave" else sharing
        then = self._guarded(op, lambda refused: self._rostered(op, refused))
        self._rosters.set(op.user, op.channel, subscription, then)

    def _rostered(self, op: Op, refused: ET.Element | Refusal | None) -> None:
        if op.gone:
            return
        # A forced end has no roster to follow any more: the item, or the account, is gone.
        if refused is not None and not op.forced:
            self._context.report("roster-refused", "warning", **op.facts())
            if op.kind == "join" and not op.member:
                self._part(op.user, op.channel)
                self._context.write(op.drop)
                self._refuse(op, refused, undo=True)
                return
        self._close(op)
        self._context.report("change-done", **op.facts())
        self._respond(op)
        op.request = None
        self._attempt(op, self._finish)

    def _respond(self, op: Op) -> None:
        """Give the client the channel's answer, wrapped (XEP-0405 §5.6)."""
        request, reply = op.request, op.reply
        if request is None:
            return
        if request.kind == "leave":
            self._context.send(answers.left(request, reply))
        elif reply is not None and op.participant_id is not None:  # pragma: no branch - granted
            self._context.send(answers.joined(request, reply, op.participant_id))

    # -- ends ----------------------------------------------------------------------------

    def _refuse(self, op: Op, why: Refusal | ET.Element, *, undo: bool = False) -> None:
        """End a change with an error: a `Refusal`, or the channel's as it came."""
        self._context.report("change-refused", condition=condition_of(why), **op.facts())
        if op.request is not None:
            if isinstance(why, Refusal):
                self._context.refuse(op.request.stanza, why)
            else:
                request = op.request
                self._context.send(
                    stanzas.make(stanzas.IQ, "error", request.user, request.device, request.id, why)
                )
            op.request = None
        if undo:
            # The channel granted a membership that was not kept: send a leave.
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
        row.activity.changes[op.key] = op
        if op.kind == "join" and not op.member:
            op.holding = Holding(self._context, row, op.key)
            row.hold(op.key, op.holding)

    def _begun(self, op: Op, go_on: Callable[[Op], None]) -> None:
        """Register a change in its row, and go on with it."""
        self._attempt(op, self._start, go_on)

    def _finish(self, op: Op) -> None:
        """Remove a change from its row, and begin the next request for its channel."""
        row = self._context.mirror.row(op.user)
        row.activity.changes.pop(op.key, None)
        if op.holding is not None:
            holding = op.holding
            membership = row.membership(op.key)
            if membership is not None:
                self._participants.began(row, op.key)
                self._presence.began(row, membership)
                holding.release(self._guarded(op, lambda: self._released(op)))
            else:
                holding.discard()
                self._released(op)
        self._over(op)

    def _released(self, op: Op) -> None:
        row = self._context.mirror.find(op.user)
        if row is not None and row.holding.get(op.key) is op.holding:
            row.let_go(op.key)

    def _is_member(self, user: Jid, channel: Jid) -> bool:
        row = self._context.mirror.find(user)
        return row is not None and row.has_joined(channel.key)

    def _under_way(self, user: Jid, channel: Jid) -> Op | None:
        row = self._context.mirror.find(user)
        return None if row is None else op_of(row, channel.key)
