"""Asks the channels whether our users still participate.

A kick that a channel sent while no component was there, or that was on its way when a link
broke, is never sent again. So some time after every new link each joined channel is asked for
its participants, in the name of one of its users. A user missing from the list was kicked. A
channel that refuses may hide its participants, or have kicked the user who asks: then other
users ask, and at last that user asks for the number of messages (XEP-0313). A user who may
read neither participants nor messages is no participant (XEP-0369 §5.1). If no question is
answered, nothing is done.

A channel service that has lost its data lists nobody. If that seems so, no more of its users
are taken for kicked, and the operator gets a report. Such a service, or one that does not
answer, affects only its own users: services are judged one by one and asked in turn.

After a stanza that may have been a kick and could not be read, that user is asked about first,
beside the others, and the answer counts without that judgement.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from component.core.checks.roster_audit import FEW, LARGE_SHARE
from component.core.context import Context
from component.core.membership.memberships import Memberships
from component.core.users.mirror import Membership, Row
from schemas import jid, mam, participants
from schemas.jid import Jid
from schemas.stanza import Stanza, has_condition, is_blocked

DELAY = 1.0
"""Seconds after the replay: rosters, and what was cut off, come first."""

AT_ONCE = 4
"""Questions that are open at the same time at one service: their answers may come in one
read, and each takes milliseconds, for which everybody waits."""

SERVICES_AT_ONCE = 5
"""Services that are asked at the same time."""

SILENT = 4
"""Questions without an answer, one after another, after which a service is asked no more."""

TOGETHER = 50
"""Participants who are asked for in one question."""


ASKERS = 3
"""Participants in whose names a channel is asked that refuses."""


@dataclass(slots=True)
class _Question:
    """Whether some users, with the ids they were given, are in a channel.

    `refused` is how many of them have asked in vain. `has_cause` tells whether the channel has
    sent what may have been a kick of theirs.
    """

    channel: Jid
    members: list[tuple[Jid, str]]
    has_cause: bool = False
    refused: int = 0


@dataclass(slots=True)
class _Queue:
    """What a service is to be asked, and is being asked.

    `unasked` has channels and the users of each who have to be asked for, as the mirror names
    them: of all there are, nothing else is kept.
    """

    unasked: dict[bytes, list[bytes]] = field(default_factory=dict)
    to_ask: deque[_Question] = field(default_factory=deque)
    asking: list[_Question] = field(default_factory=list)


@dataclass(slots=True)
class _Service:
    """A service whose channels are asked: about everybody, and about those with a cause."""

    domain: str
    everybody: _Queue = field(default_factory=_Queue)
    caused: _Queue = field(default_factory=_Queue)
    looked_at: int = 0
    missing: int = 0
    silent: int = 0
    is_wrong: bool = False
    has_turn: bool = False
    """Whether it waits to be asked, or is being asked."""

    def stop(self) -> None:
        """Ask no more without a cause."""
        self.everybody.to_ask.clear()
        self.everybody.unasked.clear()

    def queue_of(self, question: _Question) -> _Queue:
        """Give the queue that a question belongs to."""
        return self.caused if question.has_cause else self.everybody


MOST_AVOIDED = 1_000
"""Channels that may be avoided; more than that have not all broken a link."""


class RollCall:
    """Compares memory with the channels, once a link."""

    def __init__(self, context: Context, memberships: Memberships) -> None:
        self._context = context
        self._memberships = memberships
        self._link = 0
        self._services: dict[str, _Service] = {}  # by domain
        self._waiting: deque[_Service] = deque()
        self._asked: list[_Service] = []
        self._is_planned = False
        # Channels whose answer may have been what broke a link, by its size.
        self._avoided: set[Jid] = set()

    def begin(self, domain: str) -> None:
        """Look at all members of a domain, in a moment."""
        link = self._link
        self._context.after(DELAY, lambda: self._begin(domain) if link == self._link else None)

    def ask_about(self, user: Jid, channel: Jid) -> None:
        """Ask a channel about a user: a kick may have been in what could not be read."""
        service = self._service(channel.domain)
        users = service.caused.unasked.setdefault(channel.key, [])
        key = user.key
        if key not in users:
            if service in self._waiting:
                # It has just spoken, and is not kept waiting by those that may be gone.
                self._waiting.remove(service)
                self._waiting.appendleft(service)
            users.append(key)
            # What is under way, and may be of that very user, is done first.
            self._context.while_linked(DELAY, self._ask_more)

    def link_lost(self) -> None:
        """Forget all questions: the next link starts from the beginning."""
        self._link += 1
        for service in self._services.values():
            for question in (*service.caused.asking, *service.everybody.asking):
                self._avoided.add(question.channel)
        if len(self._avoided) > MOST_AVOIDED:
            # Links break for other reasons too; then none of these was it.
            self._avoided.clear()
        self._services.clear()
        self._waiting.clear()
        self._asked.clear()
        self._is_planned = False

    def _begin(self, domain: str) -> None:
        end = f"@{domain}".encode()

        def look(row: Row) -> None:
            if row.key.endswith(end):
                for channel in row.channels:
                    service = self._service(channel.rpartition(b"@")[2].decode())
                    service.everybody.unasked.setdefault(channel, []).append(row.key)

        self._context.each_row(look, then=self._ask_more)

    def _service(self, domain: str) -> _Service:
        """Give a service that is to be asked something, and its turn."""
        service = self._services.get(domain)
        if service is None:
            service = self._services[domain] = _Service(domain)
        if not service.has_turn:
            service.has_turn = True
            self._waiting.append(service)
        return service

    # What an answer costs does not grow with the number of services: anybody may be in
    # thousands, each with a channel.
    def _ask_more(self) -> None:
        for service in self._asked:
            self._fill(service)
        self._asked = [service for service in self._asked if service.has_turn]
        while self._waiting and len(self._asked) < SERVICES_AT_ONCE:
            pause = self._pause(self._waiting[0])
            if pause:
                self._plan(pause)
                break
            service = self._waiting.popleft()
            self._fill(service)
            if service.has_turn:
                self._asked.append(service)

    def _pause(self, service: _Service) -> float:
        """Give the seconds until a service may be addressed; all of them share one budget."""
        if service.caused.unasked or service.caused.to_ask:
            return 0.0
        return self._context.pause(b"", service.domain)

    def _plan(self, pause: float) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._context.while_linked(pause, self._ask_later)

    def _ask_later(self) -> None:
        self._is_planned = False
        self._ask_more()

    def _fill(self, service: _Service) -> None:
        """Ask as much as may be asked at the same time; without anything, the turn is over."""
        for queue in (service.caused, service.everybody):
            while len(queue.asking) < AT_ONCE:
                question = self._next(queue, has_cause=queue is service.caused)
                if question is None:
                    break
                if question.members:
                    queue.asking.append(question)
                    self._ask(service, question)
        service.has_turn = bool(service.caused.asking or service.everybody.asking)

    def _next(self, queue: _Queue, *, has_cause: bool) -> _Question | None:
        """Give the next question, of those who are still members."""
        if queue.to_ask:
            question = queue.to_ask.popleft()
            question.members = [
                (user, id_)
                for user, id_ in question.members
                if self._member(user, question.channel, id_) is not None
            ]
            return question
        if not queue.unasked:
            return None
        key, users = next(iter(queue.unasked.items()))
        channel, some = jid.parse(key.decode()), users[:TOGETHER]
        del users[:TOGETHER]
        if not users or channel in self._avoided:
            del queue.unasked[key]
        if channel in self._avoided:
            return _Question(channel, [])
        members = [each for user in some for each in self._id(user, key)]
        return _Question(channel, members, has_cause)

    def _id(self, user: bytes, channel: bytes) -> list[tuple[Jid, str]]:
        """Give a user with the id in a channel, unless that is about to change."""
        row = self._context.mirror.rows.get(user)
        if row is None or row.is_pending(channel) or not row.has_joined(channel):
            return []
        return [(row.jid, row.channels[channel].participant_id)]

    def _member(self, user: Jid, channel: Jid, id_: str) -> Membership | None:
        """Give a membership that is as it was, and not about to change."""
        row = self._context.mirror.find(user)
        key = channel.key
        found = None if row is None or row.is_pending(key) else row.channels.get(key)
        return found if found is not None and found.participant_id == id_ else None

    def _ask(self, service: _Service, question: _Question) -> None:
        context, asker = self._context, question.members[question.refused][0]
        request = participants.request(id_ for _, id_ in question.members)
        context.ask(
            context.iq("get", asker, question.channel, request),
            context.limits.channel_timeout,
            lambda reply: self._told(service, question, reply),
        )

    def _told(self, service: _Service, question: _Question, reply: Stanza | None) -> None:
        told = None if reply is None else participants.read(reply.element)
        if reply is not None and reply.type == "result" and told is not None and told.complete:
            missing = [
                (user, id_)
                for user, id_ in question.members
                if told.by_id(id_) is None and told.of(user) is None
            ]
            told_of = len(question.members)
            self._end(service, question, told_of, missing if told.understood else [])
        elif reply is None:
            self._unanswered(service, question)
        elif is_blocked(reply):
            # Only for this one; nothing gets through to them, so the others are asked about.
            del question.members[question.refused]
            if question.members:
                service.queue_of(question).to_ask.append(replace(question, refused=0))
            self._end(service, question, 0, [])
        elif not has_condition(reply, "forbidden"):
            self._end(service, question, 0, [])
        else:
            question.refused += 1
            if question.refused < min(ASKERS, len(question.members)):
                self._ask(service, question)
            else:
                self._ask_for_messages(service, question)

    def _ask_for_messages(self, service: _Service, question: _Question) -> None:
        context, asker = self._context, question.members[0][0]
        context.ask(
            context.iq("set", asker, question.channel, mam.count()),
            context.limits.channel_timeout,
            lambda reply: self._counted(service, question, reply),
        )

    def _counted(self, service: _Service, question: _Question, reply: Stanza | None) -> None:
        if reply is None:
            self._unanswered(service, question)
            return
        if not has_condition(reply, "forbidden"):
            # It hides its participants from this one, and all.
            self._end(service, question, 0, [])
            return
        asker, *others = question.members
        if others:
            again = replace(question, members=others, refused=0)
            service.queue_of(question).to_ask.append(again)
        self._end(service, question, 1, [asker])

    def _unanswered(self, service: _Service, question: _Question) -> None:
        """End a question that has no answer; a service that never answers is asked no more."""
        silent = service.silent + 1
        if silent >= SILENT:
            service.stop()
        self._end(service, question, 0, [])
        service.silent = silent

    def _credible(
        self, service: _Service, channel: Jid, missing: list[tuple[Jid, str]]
    ) -> list[tuple[Jid, str]]:
        """Give who is missing, or nobody where a service misses too many to be believed."""
        if not missing or service.missing <= max(FEW, service.looked_at * LARGE_SHARE):
            return missing
        if not service.is_wrong:
            self._context.report(
                "roll-call-stopped",
                "error",
                service=channel.domain,
                participants=service.missing,
            )
        service.is_wrong = True
        service.stop()
        return []

    def _end(
        self,
        service: _Service,
        question: _Question,
        looked_at: int,
        missing: list[tuple[Jid, str]],
    ) -> None:
        service.queue_of(question).asking.remove(question)
        service.silent = 0
        if not question.has_cause:
            service.looked_at += looked_at
            service.missing += len(missing)
            missing = self._credible(service, question.channel, missing)
        for user, id_ in missing:
            if self._member(user, question.channel, id_) is not None:
                self._context.report("kicked", user=str(user), channel=str(question.channel))
                self._memberships.forget(user, question.channel)
        self._ask_more()
