"""The control lane: in order, in slices, and nothing overtakes for one user.

One user's thousand stanzas must not keep another's waiting, nor fill what all may fill: each
has a turn, a step at a time, and a room in bytes. What the tap tells of itself is between what
came before and what comes after, for all.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from component import control_queue
from component.control_queue import LITTLE_ROOM, MOST, ROOM, STRANGE, ControlLane


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
        monkeypatch.setattr(control_queue, "perf_counter", lambda: self.now)

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
    case = Case(monkeypatch, cost=control_queue.SLICE * 0.4)
    for number in range(5):
        case.lane.add(case.step(number), b"%d" % number)
    assert case.lane.work()
    assert case.done == [0, 1, 2, "written"]
    assert case.waiting == {b"3": 1, b"4": 1}
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert case.done == [0, 1, 2, "written", 3, 4, "written"]


async def test_a_step_longer_than_a_slice_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch, cost=control_queue.SLICE * 10)
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
    case = Case(monkeypatch, cost=control_queue.SLICE)
    for number in range(9):
        case.lane.add(case.step(number), size=MOST // 8)
    assert case.crowded == [True]
    for _ in case.lane.rest():
        assert case.crowded == [True] or len(case.done) > 2 * 5
    assert case.crowded == [True, False]


async def test_users_have_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    for number in range(1_000):
        case.lane.add(case.step(("anna", number)), b"anna")
    for number in range(2):
        case.lane.add(case.step(("ben", number)), b"ben")
    case.lane.work()
    assert case.done[:5] == [("anna", 0), ("ben", 0), ("anna", 1), ("ben", 1), ("anna", 2)]
    assert [each for each in case.done if each != "written"][-1] == ("anna", 999)
    assert case.waiting == {}


async def test_what_is_alone_neither_overtakes_nor_is_overtaken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(monkeypatch)
    for number in range(3):
        case.lane.add(case.step(number), b"anna")
    case.lane.add(case.step("replayed"), b"example.org", alone=True)
    case.lane.add(case.step("ben"), b"ben")
    case.lane.add(case.step(3), b"anna")
    case.lane.work()
    assert case.done == [0, 1, 2, "replayed", "ben", 3, "written"]


async def test_the_room_of_a_user_is_bounded_and_others_have_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(monkeypatch)
    waiting = 0
    while case.lane.has_room(b"anna@x", 10_000):
        case.lane.add(case.step(1), b"anna@x", 10_000)
        waiting += 10_000
    assert ROOM * 0.9 < waiting <= ROOM
    assert case.lane.has_room(b"ben@x", ROOM)
    # Many who fill theirs have less, and reading need not stop.
    for number in range(100):
        user = b"%d@x" % number
        while case.lane.has_room(user, 10_000):
            case.lane.add(case.step(1), user, 10_000)
    assert case.lane.has_room(b"ben@x", ROOM)
    case.lane.add(case.step(1), b"ben@x", 1_000)
    assert case.lane.has_room(b"ben@x", LITTLE_ROOM - 10_000)
    assert not case.lane.has_room(b"ben@x", LITTLE_ROOM)
    for _ in case.lane.rest():
        pass
    assert case.lane.has_room(b"anna@x", ROOM)


async def test_strange_domains_cannot_fill_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are, reading goes on, and users have their room."""
    case = Case(monkeypatch)
    waiting = 0
    for number in range(1_000):
        domain = b"%d.example" % number
        while case.lane.has_room(domain, 10_000):
            case.lane.add(case.step(1), domain, 10_000)
            waiting += 10_000
    assert STRANGE * 0.8 < waiting <= STRANGE
    assert case.crowded == []
    assert case.lane.has_room(b"anna@x", ROOM)
    assert not case.lane.has_room(b"another.example", 10_000)
    for _ in case.lane.rest():
        pass
    assert case.lane.has_room(b"another.example", ROOM)
