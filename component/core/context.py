"""State shared by all parts of the core: mirror, time, effects so far, open questions."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar, TypeVarTuple, Unpack

from component.core.deadlines import Deadlines
from component.core.effects import Change, Count, Deliver, Effect, Fault, Report, Send, Write
from component.core.errors import Refusal, error_for
from component.core.limits import Limits
from component.core.reach import Reach
from component.core.stanza_size import Largest
from component.core.users.mirror import Mirror, Row
from component.core.users.sessions import Device
from component.wire.framing import Frame
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

ROWS_AT_ONCE = 200
"""Rows that are looked at in one go, when all are …"""

ROWS_INTERVAL = 0.001
"""… and seconds until the next go: others have their turn in between."""


class Tap(NamedTuple):
    """The properties in a tap's `hello` (tap protocol T7).

    `limit` is the size in bytes of the largest stanza that its server takes, None for any.
    """

    archive: bool = False
    pages: bool = False
    limit: int | None = None


NO_TAP = Tap()
"""Of a domain whose tap has not said hello."""


class Copy(NamedTuple):
    """A stanza of a channel for the user's MIX devices, or for one, if it is still joined.

    Stands among the effects, for its place in their order; `delivery` makes the copies when the
    input has been dealt with.
    """

    frame: Frame
    row: Row
    channel: bytes
    device: Device | None = None


@dataclass(slots=True)
class _Question:
    answer: Answer
    deadline: int


@dataclass(slots=True)
class Context:
    """State shared by all parts of the core. The caller sets `now` (seconds) before each input."""

    own: Jid
    domains: frozenset[str]
    limits: Limits
    new_id: Callable[[], str]
    mirror: Mirror = field(default_factory=Mirror)
    now: float = 0.0
    effects: list[Effect | Copy] = field(default_factory=list)
    deadlines: Deadlines = field(default_factory=Deadlines)
    largest: Largest = field(init=False)
    reach: Reach = field(default_factory=Reach)
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

    def pause(self, user: bytes, domain: str) -> float:
        """Give the seconds until a domain may be addressed for a user; 0 takes the turn."""
        return self.reach.pause(user, domain, self.now)

    def tap(self, domain: str) -> Tap:
        """Give what a domain's tap can do; nothing as long as it has not said hello."""
        return self.taps.get(domain, NO_TAP)

    def room(self) -> int:
        """Give how large a stanza may be, in bytes."""
        return self.largest.stanza

    def send(self, element: ET.Element) -> bool:
        """Send a stanza; False if there is nothing that could be sent.

        One that holds what XML cannot carry, or more than the server takes, is reported, and
        what its kind demands is sent in place of it (component.core.stanza_size).
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
        """Log an event for the operator."""
        self.effects.append(Report(event, level, facts))

    def count(self, what: str, reason: str = "") -> None:
        """Count something for the metrics."""
        self.effects.append(Count(what, reason))

    def drop(self, reason: str) -> None:
        """Count a stanza that is not answered."""
        self.count("dropped", reason)

    def attempt(self, action: Callable[[Unpack[Ts]], object], *args: *Ts) -> bool:
        """Run an action; False if it raised an exception.

        Its stanzas are then dropped. Its writes are kept: memory has changed already, and
        continuations wait for them.
        """
        before = len(self.effects)
        try:
            action(*args)
        except Exception as error:  # noqa: BLE001 - one stanza, or user, never costs another
            self.failed(before, error)
            return False
        return True

    def taken(self) -> list[Effect | Copy]:
        """Take the effects so far."""
        effects = self.effects[:]
        self.effects.clear()
        return effects

    def failed(self, before: int, error: Exception) -> None:
        """Report a fault, and drop the stanzas of the failed action.

        `before` is the number of effects before the action.
        """
        half_done = self.effects[before:]
        self.effects[before:] = [x for x in half_done if not isinstance(x, Send | Copy | Deliver)]
        self.effects.append(Fault(error))

    def refuse(self, stanza: Stanza, refusal: Refusal) -> None:
        """Answer a stanza with an error, unless it is one itself, a result or a presence."""
        error = error_for(stanza, refusal)
        if error is None:
            self.drop(refusal.condition)
            return
        self.count("refused", refusal.condition)
        self.send(error)

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

    def is_asking(self, to: Jid, sender: Jid) -> bool:
        """Tell whether any question with these addresses is open."""
        return any((to, sender) == each[:2] for each in self._questions)

    @property
    def open_questions(self) -> int:
        """The number of open questions."""
        return len(self._questions)

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
