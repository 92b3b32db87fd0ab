"""States of link, taps and Redis, and recent problems, derived from the log's events.

Every logged event also arrives here, so no state is reported in two ways.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from component.process.events import EVENTS

KEPT_OF_A_KIND = 5
"""Problems of one kind that are kept: a stranger can cause many of some kinds, which must not
displace the others."""

LONGEST_FACT = 300
"""Characters of a fact that are kept: strangers write some of them."""

LinkState = Literal["connecting", "up", "down", "standby"]
RedisState = Literal["connecting", "up", "away"]


def utc_now() -> datetime:
    """Give the time in a readable form."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Problem:
    """An event of level warning or worse; repetitions only increase a count.

    `first` and `last` are when it happened, `meaning` and `remedy` say what it is and what
    to do.
    """

    event: str
    level: str
    meaning: str
    remedy: str
    facts: dict[str, str]
    first: datetime
    last: datetime
    count: int = 1


@dataclass(slots=True)
class Link:
    """The link to the server: its state, since when, and what is wrong."""

    state: LinkState
    since: datetime
    reason: str = ""
    remedy: str = ""


@dataclass(slots=True)
class Tap:
    """The tap of one domain, by its `<hello/>` on this link.

    `limit` and `wanted` are bytes of a stanza: what the server accepts from mixpam, if that is less
    than what is wanted.
    """

    software: str = ""
    version: str = ""
    archive: bool = False
    ready: bool = False
    limit: int = 0
    wanted: int = 0


@dataclass(slots=True)
class Redis:
    """Redis: its state, since when, and what is wrong."""

    state: RedisState
    since: datetime
    kind: str = ""
    reason: str = ""
    remedy: str = ""


class Watch:
    """Takes every event, and keeps the current states."""

    def __init__(self, domains: tuple[str, ...], now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self.started = now()
        self.link = Link("connecting", self.started)
        self.redis = Redis("connecting", self.started)
        self.taps: dict[str, Tap] = {domain: Tap() for domain in domains}
        self.events: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        # By kind, which is the event's name; the latest of each comes last.
        self._problems: dict[str, OrderedDict[str, Problem]] = {}

    @property
    def problems(self) -> list[Problem]:
        """The last problems, the latest first."""
        found = (problem for some in self._problems.values() for problem in some.values())
        return sorted(found, key=lambda problem: problem.last, reverse=True)

    def saw(self, event: str, level: str, facts: dict[str, object]) -> None:
        """Take an event."""
        self.events[event] += 1
        if level in {"warning", "error"}:
            self._note(event, level, facts)
        match event:
            case "link-up":
                self.link = Link("up", self._now())
            case "link-down":
                self._link_down(facts)
            case "tap":
                tap = self._tap(facts)
                tap.software, tap.version = str(facts["software"] or ""), str(facts["tap"] or "")
                tap.archive = bool(facts["archive"])
            case "server-limit":
                tap = self._tap(facts)
                tap.limit, tap.wanted = int(str(facts["limit"])), int(str(facts["wanted"]))
            case "ready":
                self._tap(facts).ready = True
            case "redis-away":
                self._redis_away(facts)
            case "redis-back" | "loaded":
                self.redis = Redis("up", self._now())

    def not_ready(self) -> list[str]:
        """Give the reasons why users are not served in full; none means ready."""
        reasons = []
        if self.redis.state != "up":
            reasons.append(self.redis.reason or "Redis has not been read yet")
        if self.link.state == "standby":
            reasons.append("standing by: another process is connected as this component")
        elif self.link.state != "up":
            reasons.append(f"no link to the server: {self.link.reason or 'not connected yet'}")
        else:
            reasons += [
                f"the tap of {domain} has not told of all sessions yet"
                if tap.version
                else f"the tap of {domain} has not said hello: is it loaded there,"
                " and does it name this component?"
                for domain, tap in self.taps.items()
                if not tap.ready
            ]
        return reasons

    def _link_down(self, facts: dict[str, object]) -> None:
        reason = str(facts.get("reason", ""))
        state: LinkState = "standby" if reason == "conflict" else "down"
        if self.link.state == "up":
            self.losses[reason] += 1
        if self.link.state != state:
            self.link = Link(state, self._now())
        self.link.reason, self.link.remedy = reason, str(facts.get("remedy", ""))
        for domain in self.taps:
            self.taps[domain] = Tap()

    def _redis_away(self, facts: dict[str, object]) -> None:
        kind = str(facts.get("kind", ""))
        if self.redis.state != "away":
            self.redis = Redis("away", self._now())
        if self.redis.kind != kind:
            self.troubles[kind] += 1
        self.redis.kind, self.redis.reason = kind, str(facts.get("reason", ""))
        self.redis.remedy = str(facts.get("remedy", ""))

    def _tap(self, facts: dict[str, object]) -> Tap:
        return self.taps.setdefault(str(facts["domain"]), Tap())

    def _note(self, event: str, level: str, facts: dict[str, object]) -> None:
        """Record a problem; one that differs only in its retry time is the same."""
        shown = {
            name: str(value)[:LONGEST_FACT]
            for name, value in facts.items()
            if name not in {"remedy", "retry_in", "exception"}
        }
        known = EVENTS.get(event)
        now = self._now()
        key = repr(shown)
        of_kind = self._problems.setdefault(event, OrderedDict())
        problem = of_kind.pop(key, None)
        if problem is None:
            problem = Problem(
                event,
                level,
                "" if known is None else known.meaning,
                str(facts.get("remedy") or ("" if known is None else known.remedy)),
                shown,
                now,
                now,
                count=0,
            )
        problem.last = now
        problem.count += 1
        of_kind[key] = problem
        while len(of_kind) > KEPT_OF_A_KIND:
            of_kind.popitem(last=False)
