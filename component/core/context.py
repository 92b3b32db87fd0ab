"""What every part of the core shares: the mirror, the effects so far, time, open questions."""

from __future__ import annotations

import heapq
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar, TypeVarTuple, Unpack

from component.core.effects import Change, Copy, Count, Effect, Fault, Report, Send, Write
from component.core.largest import Largest
from component.core.mirror import Mirror, Row
from schemas import codec
from schemas import jid as jids
from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.stanza import Stanza

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Answer = Callable[[Stanza | None], None]
"""Gets the answer, or None when time is up."""

Outcome = Callable[[bool], None]
"""Gets whether a write was done."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of the core. Those that are settings have their reason there.

    Names and defaults of settings are the settings' own; a test compares.
    """

    channel_timeout: float = 30
    disco_timeout: float = 30
    server_timeout: float = 30
    max_stanza_bytes: int = 262_144
    server_stanza_bytes: int = 524_288
    max_channels: int = 1000
    max_pending: int = 10
    join_rate: float = 1
    join_burst: int = 100
    caps_cache: int = 10_000
    presence_memory: int = 1000
    presence_bytes: int = 67_108_864
    presence_rate: float = 1000
    presence_user_rate: float = 5000
    late_presences: int = 50_000
    held_stanzas: int = 256
    held_bytes: int = 1_048_576
    # How long after a time-out an answer is still waited for, to undo what it did: longer
    # than servers keep trying to reach each other.
    late_window: float = 600
    # How long what was given back to the server for archiving may take to return: as long
    # as the tap waits for a roster, the other thing that goes there and back.
    archive_timeout: float = 5
    # Bytes of one user's joins and leaves that wait for their turn, a hundred of a few
    # kilobytes.
    waiting_bytes: int = 262_144
    # Seconds that one may wait, before the channel has its own: a client's patience.
    waiting_time: float = 60
    # What users ask channels about their preferences, and what has no answer yet.
    wishes: int = 10_000
    # Forms of ad-hoc commands that are out at the same time: admins are few.
    command_sessions: int = 100
    # Devices asked for one capabilities hash at the same time: one that is silent must
    # not keep the others from what MIX clients get.
    hash_devices: int = 3
    # Devices of one user that are asked what they can do, at once and a second: each costs a
    # question and an answer as large as a stanza may be, and new hashes are made up quickly.
    disco_burst: float = 100
    # How fast that goes on: as fast as joins.
    disco_rate: float = 1
    # A link that still is there after this has carried what was written to it before: one
    # that is dead is given up after twice MIXPAM_KEEPALIVE.
    link_timeout: float = 60


_FEW_CALLED_OFF = 1_000

ROWS_AT_ONCE = 200
"""Rows that are looked at in one go, when all are …"""

ROWS_INTERVAL = 0.001
"""… and seconds until the next go: others have their turn in between."""


class Deadlines:
    """Actions that are due at a moment, unless called off."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._actions: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()

    def at(self, moment: float, action: Callable[[], None]) -> int:
        """Plan an action; gives a number to call it off by."""
        number = next(self._numbers)
        heapq.heappush(self._heap, (moment, number))
        self._actions[number] = action
        return number

    def off(self, number: int) -> None:
        """Call an action off that is still planned, and let go of it."""
        self._actions.pop(number, None)
        # Its moment leaves as the heap drains; when most are off, clear them out, so that
        # memory follows what is planned.
        if len(self._heap) > 2 * len(self._actions) + _FEW_CALLED_OFF:
            self._heap = [entry for entry in self._heap if entry[1] in self._actions]
            heapq.heapify(self._heap)

    @property
    def next(self) -> float | None:
        """The earliest planned moment."""
        while self._heap and self._heap[0][1] not in self._actions:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Callable[[], None]]:
        """Take out what is due, one by one."""
        while (moment := self.next) is not None and moment <= now:
            yield self._actions.pop(heapq.heappop(self._heap)[1])


class Tap(NamedTuple):
    """What the tap of a domain has said of itself (tap protocol T7, `hello`).

    `limit` is the size in bytes of the largest stanza that its server takes, None for any.
    """

    archive: bool = False
    pages: bool = False
    limit: int | None = None


NO_TAP = Tap()
"""Of a domain whose tap has not said hello."""


@dataclass(slots=True)
class _Question:
    answer: Answer
    deadline: int


@dataclass(slots=True)
class Context:
    """The core's desk. `now` is set by the caller before each input, in seconds."""

    own: Jid
    domains: frozenset[str]
    limits: Limits
    new_id: Callable[[], str]
    mirror: Mirror = field(default_factory=Mirror)
    now: float = 0.0
    effects: list[Effect] = field(default_factory=list)
    deadlines: Deadlines = field(default_factory=Deadlines)
    largest: Largest = field(init=False)
    # Domains whose tap has said hello on this link, and what it said.
    taps: dict[str, Tap] = field(default_factory=dict)
    _questions: dict[tuple[Jid, Jid, str], _Question] = field(default_factory=dict)
    _outcomes: dict[int, Outcome] = field(default_factory=dict)
    # Which link this is; what was begun on another is not gone on with.
    _link: int = 0
    _tokens: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.largest = Largest(self.limits.server_stanza_bytes, self.limits.max_stanza_bytes)

    def is_local(self, jid: Jid) -> bool:
        """Tell whether this is an account, or a session of one, that we serve."""
        return jid.local is not None and jid.domain in self.domains

    def tap(self, domain: str) -> Tap:
        """Give what a domain's tap can do; nothing as long as it has not said hello."""
        return self.taps.get(domain, NO_TAP)

    def room(self) -> int:
        """Give how large a stanza may be, in bytes."""
        return self.largest.stanza

    def send(self, element: ET.Element) -> bool:
        """Send a stanza; False if there is nothing that could be sent.

        One that holds what XML cannot carry, or more than the server takes, is reported, and
        what its kind demands is sent in place of it (component.core.largest).
        """
        try:
            data: bytes | None = codec.write(element, self.largest.stanza)
        except codec.MalformedStanza as error:
            self.report("stanza-unsendable", "warning", reason=str(error))
            data = self.largest.instead(element)
        if data is None:
            return False
        self.effects.append(Send(data))
        return True

    def report(self, event: str, level: str = "info", **facts: object) -> None:
        """Tell the operator."""
        self.effects.append(Report(event, level, facts))

    def count(self, what: str, reason: str = "") -> None:
        """Count something for the metrics."""
        self.effects.append(Count(what, reason))

    def drop(self, reason: str) -> None:
        """Count a stanza that is not answered."""
        self.count("dropped", reason)

    def attempt(self, action: Callable[[Unpack[Ts]], object], *args: *Ts) -> bool:
        """Do something; False if it failed half-way, by a fault of ours.

        Then nothing of it is said. What was to be written is: memory has changed already, and
        what waits for the write must go on.
        """
        before = len(self.effects)
        try:
            action(*args)
        except Exception as error:  # noqa: BLE001 - one stanza, or user, never costs another
            self.failed(before, error)
            return False
        return True

    def failed(self, before: int, error: Exception) -> None:
        """Report a fault of ours, and say nothing of what came of it but writes.

        `before` is how many effects there were when it began.
        """
        half_done = self.effects[before:]
        self.effects[before:] = [x for x in half_done if not isinstance(x, Send | Copy)]
        self.effects.append(Fault(error))

    def write(self, *changes: Change, then: Outcome | None = None) -> None:
        """Make changes durable, and go on with `then` when that is done or has failed."""
        token = None
        if then is not None:
            token = next(self._tokens)
            self._outcomes[token] = then
        self.effects.append(Write(changes, token))

    def written(self, token: int, done: bool) -> None:
        """Take the outcome of a write."""
        outcome = self._outcomes.pop(token, None)
        if outcome is not None:
            outcome(done)

    def after(self, seconds: float, action: Callable[[], None]) -> int:
        """Plan an action from now."""
        return self.deadlines.at(self.now + seconds, action)

    def while_linked(self, seconds: float, action: Callable[[], None]) -> None:
        """Plan an action from now, for the case that this link still is there then."""
        link = self._link
        self.after(seconds, lambda: action() if link == self._link else None)

    def each_row(
        self, action: Callable[[Row], None], then: Callable[[], None] = lambda: None
    ) -> None:
        """Do something with each row, some at a time, and `then` something else.

        Ends with the link.
        """

        def look(key: bytes) -> None:
            row = self.mirror.rows.get(key)
            if row is not None:
                action(row)

        self.each(list(self.mirror.rows), look, then)

    def each(
        self,
        items: Sequence[T],
        action: Callable[[T], None],
        then: Callable[[], None] = lambda: None,
        *,
        at_once: int = ROWS_AT_ONCE,
    ) -> None:
        """Do something with each of many, some at a time, and `then` something else.

        Ends with the link.
        """
        rest, link = iter(items), self._link

        def some() -> None:
            if link != self._link:
                return
            batch = list(itertools.islice(rest, at_once))
            for each in batch:
                self.attempt(action, each)
            if len(batch) == at_once:
                self.after(ROWS_INTERVAL, some)
            else:
                then()

        some()

    def ask(self, request: ET.Element, timeout: float, answer: Answer) -> None:
        """Send an iq request; `answer` gets the one reply that fits it, or None.

        Only a reply from the asked JID to the asking one with the same id fits. A request
        that repeats an open one takes its place.
        """
        sent = self.send(request)
        key = _key_of(request)
        self.expect(key, timeout, answer)
        if not sent:
            # Who asked is told in its turn, as if the one who was to be asked had refused.
            self.after(0, lambda: self._refuse(*key))

    def _refuse(self, asked: Jid, asker: Jid, id_: str) -> None:
        error = stanzas.error("modify", "policy-violation", "the request is too large")
        reply = stanzas.make(stanzas.IQ, "error", asked, asker, id_, error)
        self.answered(Stanza(stanzas.IQ, "error", id_, asked, asker, reply))

    def expect(self, key: tuple[Jid, Jid, str], timeout: float, answer: Answer) -> None:
        """Wait for the reply (from, to, id) without sending anything."""
        replaced = self._questions.pop(key, None)
        if replaced is not None:
            self.deadlines.off(replaced.deadline)

        def time_is_up() -> None:
            del self._questions[key]
            answer(None)

        self._questions[key] = _Question(answer, self.after(timeout, time_is_up))

    def is_asked(self, to: Jid, sender: Jid, id_: str) -> bool:
        """Tell whether a question with these addresses and id is open."""
        return (to, sender, id_) in self._questions

    def answered(self, reply: Stanza) -> bool:
        """Hand a result or error to who asked; False if nobody did."""
        question = self._questions.pop((reply.sender, reply.to, reply.id or ""), None)
        if question is None:
            return False
        self.deadlines.off(question.deadline)
        try:
            question.answer(reply)
        except codec.MalformedStanza as error:
            question.answer(stanzas.unread(reply, str(error)))
        return True

    def no_more_answers(self) -> None:
        """Forget all open questions: the link is gone and their answers with it."""
        for question in self._questions.values():
            self.deadlines.off(question.deadline)
        self._questions.clear()
        self._link += 1
        # Writes still happen, but what was to follow them belonged to that link.
        self._outcomes.clear()

    def iq(self, type_: str, sender: Jid, to: Jid, payload: ET.Element) -> ET.Element:
        """Build an iq request with an id of our own."""
        return stanzas.make(stanzas.IQ, type_, sender, to, self.new_id(), payload)


def _key_of(request: ET.Element) -> tuple[Jid, Jid, str]:
    return (
        jids.parse(request.get("to", "")),
        jids.parse(request.get("from", "")),
        request.get("id", ""),
    )
