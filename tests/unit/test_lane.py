"""The control lane: in order, in slices, and nothing overtakes for one user."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from component import lane
from component.framing import Frame
from component.lane import MOST, ControlLane, user_of


class Case:
    """A lane, and what becomes of its steps; `cost` seconds pass with each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float = 0.0) -> None:
        self.now = 0.0
        self.cost = cost
        self.waiting: dict[bytes, int] = {}
        self.done: list[object] = []
        self.crowded: list[bool] = []
        self.lane = ControlLane(
            self.waiting, lambda: self.done.append("written"), self.crowded.append
        )
        monkeypatch.setattr(lane, "perf_counter", lambda: self.now)

    def step(self, what: object) -> Callable[[], None]:
        """Make a step that can be told."""

        def step() -> None:
            self.now += self.cost
            self.done.append(what)

        return step


async def test_steps_are_done_in_order_and_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    for number in range(3):
        case.lane.add(case.step(number), b"anna")
    assert case.waiting == {b"anna": 3}
    assert not case.lane.work()
    assert case.done == [0, 1, 2, "written"]
    assert case.waiting == {}
    assert not case.lane.work()
    assert case.done == [0, 1, 2, "written"]


async def test_what_takes_longer_than_a_slice_goes_on_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(monkeypatch, cost=lane.SLICE * 0.4)
    for number in range(5):
        case.lane.add(case.step(number), b"%d" % number)
    assert case.lane.work()
    assert case.done == [0, 1, 2, "written"]
    assert case.waiting == {b"3": 1, b"4": 1}
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert case.done == [0, 1, 2, "written", 3, 4, "written"]


async def test_a_step_longer_than_a_slice_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch, cost=lane.SLICE * 10)
    case.lane.add(case.step(1))
    case.lane.add(case.step(2))
    assert [each for each in case.lane.rest()] == [None]  # noqa: C416 - told one by one
    assert case.done == [1, "written", 2, "written"]


async def test_it_is_done_soon_if_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    case.lane.add(case.step(1))
    assert case.done == []
    await asyncio.sleep(0)
    assert case.done == [1, "written"]


async def test_steps_may_add_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    case.lane.add(partial(case.lane.add, case.step("later"), b"anna"), b"anna")
    assert not case.lane.work()
    assert case.done == ["later", "written"]
    await asyncio.sleep(0)
    assert case.done == ["later", "written"]


async def test_reading_stops_while_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch, cost=lane.SLICE)
    for number in range(9):
        case.lane.add(case.step(number), size=MOST // 8)
    assert case.crowded == [True]
    for _ in case.lane.rest():
        assert case.crowded == [True] or len(case.done) > 2 * 5
    assert case.crowded == [True, False]


@pytest.mark.parametrize(
    ("to", "sender", "user"),
    [
        (b"anna@example.org", b"coven@mix.example", b"anna@example.org"),
        (b"anna@example.org/a@b/c", b"anna@example.org", b"anna@example.org"),
        (b"mixpam.example.org", b"anna@example.org/phone", b"anna@example.org"),
        (b"mixpam.example.org/x", b"example.org", b"example.org"),
    ],
)
def test_a_stanza_is_for_the_user_that_it_is_of(to: bytes, sender: bytes, user: bytes) -> None:
    assert user_of(Frame(b"<iq to='%b' from='%b'/>" % (to, sender))) == user
