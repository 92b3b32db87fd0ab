"""The shell around leadership: its timer, its task, and the stanzas that come too early."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from driver import ANNA, COVEN, Play

from component import failover as module
from component.failover import Failover
from component.leadership import Action, Event, State
from component.wire.framing import OVERSIZED, Frame, LeftOut

pytestmark = pytest.mark.abuse(23)

STANZA = Frame(f"<message from='{COVEN}' to='{ANNA}'/>".encode())
LEFT_OUT = LeftOut.of(STANZA, OVERSIZED)


class Process:
    """Link, store and shell of a process, which note what they are told to do."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.reads = True
        self.takes_over: Callable[[], Awaitable[int | None]] = self._takes_over
        self.failover = Failover(self, Play().core, self, self)  # type: ignore[arg-type]
        self.failover.link_up(self._stop_reading)

    def _stop_reading(self, stop: bool) -> None:
        self.reads = not stop

    async def _takes_over(self) -> int | None:
        return 3

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in {
            *("report_up", "close", "lead", "resign", "follow"),
            *("receive", "leave_out", "read_ended", "loaded", "report", "fault"),
        }:
            raise AttributeError(name)
        return lambda *given, **facts: self.done.append((name, *given, *facts.values()))

    async def take_over(self) -> int | None:
        """Do as the test says."""
        return await self.takes_over()

    async def load(self, _: object) -> str:
        """Read Redis."""
        return "all"

    @property
    def state(self) -> State:
        """Say where it stands."""
        return self.failover.leadership.state

    def stands_by(self) -> "Process":
        """Meet another process, and be let in by the server nevertheless."""
        self.failover.link_ended("conflict", was_up=True)
        self.failover.link_up(self._stop_reading)
        self.done.clear()
        return self

    async def has_taken_over(self) -> None:
        """Wait for the task."""
        task = self.failover._takeover
        assert task is not None
        await asyncio.wait({task})


async def test_each_action_can_be_carried_out() -> None:
    assert set(Process().failover._act) == set(Action)


async def test_what_came_too_early_comes_again_in_its_order() -> None:
    process = Process().stands_by()
    assert not process.failover.may_deal_with(STANZA)
    assert not process.failover.may_deal_with(LEFT_OUT)
    assert not process.failover.may_deal_with(STANZA)
    await process.has_taken_over()
    assert process.done == [
        ("report_up",),
        ("report", "taken-over", 3),
        ("lead",),
        ("receive", STANZA),
        ("leave_out", LEFT_OUT),
        ("receive", STANZA),
        ("read_ended",),
    ]
    assert process.failover.may_deal_with(STANZA)


async def test_what_cannot_be_followed_is_read_anew() -> None:
    process = Process().stands_by()

    async def cannot() -> None:
        return None

    process.takes_over = cannot
    process.failover.may_deal_with(STANZA)
    await process.has_taken_over()
    assert process.done[1:3] == [("loaded", "all"), ("lead",)]


async def test_probation_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBATION", 0.0)
    process = Process().stands_by()
    assert process.done == []
    await asyncio.sleep(0.01)
    assert process.state is State.ACCEPTED
    assert process.done == [("report_up",)]


@pytest.mark.parametrize("reason", ["conflict", "closed"])
async def test_probation_ends_with_its_link(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    monkeypatch.setattr(module, "PROBATION", 0.0)
    process = Process().stands_by()
    process.failover.link_ended(reason, was_up=True)
    await asyncio.sleep(0.01)
    assert process.state is State.FOLLOWING
    assert process.done == []


async def test_an_attempt_that_fails_is_no_link_that_ends() -> None:
    process = Process()
    process.failover.link_ended("closed", was_up=True)
    process.failover.link_ended("unreachable", was_up=False)
    assert process.state is State.CONNECTING
    process.failover.link_ended("conflict", was_up=False)
    assert process.state is State.FOLLOWING


@pytest.mark.parametrize("reason", ["conflict", "closed"])
async def test_a_link_that_ends_takes_its_stanzas_along(reason: str) -> None:
    process = Process().stands_by()
    never = asyncio.Event()

    async def takes_long() -> int:
        await never.wait()
        return 0

    process.takes_over = takes_long
    process.failover.may_deal_with(STANZA)
    task = process.failover._takeover
    assert task is not None
    await asyncio.sleep(0)
    process.failover.link_ended(reason, was_up=True)
    await asyncio.wait({task})
    assert task.cancelled()
    process.takes_over = process._takes_over
    process.failover.link_up(process._stop_reading)
    process.failover.may_deal_with(LEFT_OUT)
    await process.has_taken_over()
    assert process.done[-2:] == [("leave_out", LEFT_OUT), ("read_ended",)]
    assert ("receive", STANZA) not in process.done


async def test_a_fault_ends_the_link_and_the_next_one_tries_again() -> None:
    process = Process().stands_by()
    fault = KeyError("ours")

    async def fails() -> int:
        raise fault

    process.takes_over = fails
    process.failover.may_deal_with(STANZA)
    await process.has_taken_over()
    assert process.done[1:] == [("fault", fault), ("close",)]
    assert process.state is State.ACCEPTED
    process.takes_over = process._takes_over
    process.failover.link_ended("closed", was_up=True)
    process.failover.link_up(process._stop_reading)
    process.failover.may_deal_with(STANZA)
    await process.has_taken_over()
    assert process.state is State.LEADING


async def test_who_is_deposed_closes_the_link_and_follows() -> None:
    process = Process()
    assert process.failover.may_deal_with(STANZA)
    process.failover.meet(Event.SUPERSEDED)
    assert process.done[-2:] == [("resign",), ("close",)]
    assert not process.failover.may_deal_with(STANZA)
    process.failover.link_ended("closed", was_up=True)
    assert process.done[-1] == ("follow",)
    assert process.state is State.FOLLOWING
