"""The last problems: what a stranger causes pushes nothing else off the status page.

Of the kind: many events of one sort with ever-new facts, and facts of any length.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from component.http.watch import KEPT_OF_A_KIND, LONGEST_FACT, Watch


def clock() -> Callable[[], datetime]:
    """Give a clock that goes on by a second each time it is looked at."""
    moments = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(100_000))
    return lambda: next(moments)


@pytest.fixture
def watch() -> Watch:
    return Watch(("example.org",), clock())


@pytest.mark.abuse(10)
def test_a_flood_of_one_kind_leaves_the_others(watch: Watch) -> None:
    watch.saw("redis-away", "error", {"kind": "permission", "reason": "no"})
    for number in range(1_000):
        watch.saw("event-of-stranger", "warning", {"sender": f"{number}@evil.example"})
        watch.saw("stanza-oversized", "warning", {"sender": f"{number}@evil.example"})
    events = [problem.event for problem in watch.problems]
    assert events.count("redis-away") == 1
    assert len(events) == 2 * KEPT_OF_A_KIND + 1


def test_the_last_comes_first_and_the_same_counts_up(watch: Watch) -> None:
    for sender in ("a", "b", "a"):
        watch.saw("event-of-stranger", "warning", {"sender": sender})
    watch.saw("fault", "error", {})
    watch.saw("ready", "info", {"domain": "example.org"})
    found = [(each.event, each.facts.get("sender"), each.count) for each in watch.problems]
    assert found == [
        ("fault", None, 1),
        ("event-of-stranger", "a", 2),
        ("event-of-stranger", "b", 1),
    ]


@pytest.mark.abuse(10)
def test_a_fact_is_kept_as_long_as_can_be_read(watch: Watch) -> None:
    watch.saw("event-of-stranger", "warning", {"sender": "x" * 100_000})
    assert watch.problems[0].facts == {"sender": "x" * LONGEST_FACT}
