"""The list of log events against the code: what is reported is listed, and the reverse."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import component
from component.process.events import EVENTS, table

PACKAGE = Path(component.__file__).parent
REPORTERS = {"report", "_report"}
# What `**op.facts()` stands for.
OP_FACTS = {"kind", "user", "channel", "request"}
OTHER_WAYS = {"exception"}  # the fault's own: it comes with a traceback …
TRACEBACK = "exc_info"  # … which is made of this


def reports() -> Iterator[tuple[str, ast.Call]]:
    """Find every call that reports an event, with the place it stands at."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and (node.func.attr in REPORTERS | OTHER_WAYS)
                and not any(isinstance(arg, ast.Starred) for arg in node.args)
            ):
                yield f"{path.name}:{node.lineno}", node


def described() -> list[tuple[str, str, str, set[str]]]:
    """Give place, event, level and facts of each report that names its event."""
    found = []
    for place, call in reports():
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Name) and first.id == "event":
            continue  # passes on what another call named
        assert isinstance(first, ast.Constant), f"{place}: the event is no plain text"
        level = "error" if call.func.attr in OTHER_WAYS else "info"  # type: ignore[attr-defined]
        if len(call.args) > 1:
            assert isinstance(call.args[1], ast.Constant), place
            level = call.args[1].value
        facts = {
            keyword.arg
            for keyword in call.keywords
            if keyword.arg not in {None, "level", TRACEBACK}
        }
        if any(ast.unparse(keyword.value) == "op.facts()" for keyword in call.keywords):
            facts |= OP_FACTS
        found.append((place, first.value, level, facts))
    return found


def test_every_reported_event_is_listed() -> None:
    for place, event, level, facts in described():
        assert event in EVENTS, f"{place}: {event} is not in component/process/events.py"
        assert level == EVENTS[event].level, place
        assert facts <= set(EVENTS[event].facts), place


def test_every_listed_event_is_reported_with_its_facts() -> None:
    reported: dict[str, set[str]] = {}
    for _, event, _, facts in described():
        reported.setdefault(event, set()).update(facts)
    for name, event in EVENTS.items():
        assert name in reported, f"nobody reports {name}"
        # The traceback is a fact that structlog adds.
        assert set(event.facts) - {"exception"} == reported[name] - {"exception"}, name


def test_problems_say_what_to_do() -> None:
    for event in EVENTS.values():
        assert event.meaning.endswith("."), event.name
        if event.level == "error":
            assert event.remedy or "remedy" in event.facts, event.name


def test_the_table_has_a_row_for_each() -> None:
    rows = table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(EVENTS)
    assert all(row.count(" | ") == rows[0].count(" | ") for row in rows)


@pytest.mark.parametrize("word", ["body", "secret", "password", "token"])
def test_no_fact_is_a_secret(word: str) -> None:
    assert not [event.name for event in EVENTS.values() if word in event.facts]
