"""Injects a fault at one kill point after another, and reports the outcomes."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from harness import caps
from harness.client import Account
from harness.loopback import Block
from harness.stack import client_leave

from kills import actions
from kills.actions import Cast
from kills.plan import ACTIONS, Point, choose
from kills.verdict import Verdict
from kills.world import Watched, World

Say = Callable[[str], None]

AROUND: Final = 4
"""Steps shown before and after the one with the fault."""


@dataclass
class Failure:
    """A kill point after which something was wrong; `text` describes it."""

    point: Point
    text: str


@dataclass
class Outcome:
    """The outcome of a run; `forgotten` lists what the server itself lost."""

    done: int = 0
    failures: list[Failure] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)


class Driver:
    """One world, with the users who stay from one point to the next."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._actor: Account | None = None
        self._witness: Watched | None = None

    async def survey(self) -> dict[str, int]:
        """Perform every action undisturbed; return the number of steps of each."""
        lengths = {}
        for action in ACTIONS:
            cast = await self._cast(action)
            self.world.steps.begin()
            await actions.ACTIONS[action](cast)
            self.world.steps.end()
            await self.world.back_online()
            lengths[action] = len(self.world.steps.trace)
            verdict = await Verdict(cast, Point(action, "none", 0, "")).reach()
            if verdict.failures:
                raise AssertionError(
                    f"{action} fails without any fault: " + "; ".join(verdict.failures)
                )
            await self._exit(cast)
        return lengths

    async def inject(self, point: Point) -> Verdict:
        """Perform the action, inject the fault during it, and check everything."""
        world = self.world
        cast = await self._cast(point.action)
        if point.fault == "server":
            await world.settled()
        injected = asyncio.Event()

        def inject() -> None:
            world.inject(point.fault)
            injected.set()

        async def recover() -> None:
            await injected.wait()
            await world.recover(point.fault)

        recovery = asyncio.create_task(recover())
        world.steps.inject_at(point.step, point.moment, inject)
        await actions.ACTIONS[point.action](cast)
        world.steps.end()
        await recovery
        await world.back_online()
        verdict = await Verdict(cast, point).reach()
        if not verdict.failures:
            await self._exit(cast)
        return verdict

    async def _cast(self, action: str) -> Cast:
        """Prepare users, devices and channel for an action."""
        world = self.world
        if self._actor is None:
            self._actor = await world.account()
        if self._witness is None:
            self._witness = await world.device(await world.account())
        actor = await world.account() if action == "account-delete" else self._actor
        first, second = [await self._device(actor, number, mix=True) for number in range(2)]
        plain = await self._device(actor, 0, mix=False)
        cast = Cast(world, actor, first, second, plain, self._witness, world.venue.room())
        await world.stack.join(self._witness, cast.room.jid)
        if action != "join":
            await world.stack.join(first, cast.room.jid)
        await world.settle()
        world.touched()
        for device in world.devices:
            device.inbox.clear()
        world.venue.inbox.clear()
        return cast

    async def _device(self, account: Account, number: int, *, mix: bool) -> Watched:
        """Return a user's device of the given kind, logging one in if there is none."""
        wanted = caps.MIX if mix else caps.PLAIN
        there = [
            device
            for device in self.world.devices
            if device.account == account and device.connected and device.features == wanted
        ]
        return there[number] if number < len(there) else await self.world.device(account, mix=mix)

    async def _exit(self, cast: Cast) -> None:
        """Let everybody leave, so that the next point begins without memberships."""
        world = self.world
        if cast.actor != self._actor:
            for device in [each for each in world.devices if each.account == cast.actor]:
                await world.drop(device)
        for device in [cast.first, cast.witness]:
            if device in world.devices and device.bare in cast.room.participants:
                answer = await device.iq(client_leave(device.bare, cast.room.jid))
                assert answer["type"] == "result", answer.raw
        world.touched()


async def run(
    kind: str,
    block: Block,
    *,
    seed: int,
    count: int,
    say: Say,
    only: Point | None = None,
    worlds: Callable[[World], None] = lambda _: None,
) -> Outcome:
    """Inject `count` faults on a server of `kind`, or at `only` one point.

    `worlds` is called with each world before it starts. After a failure a new one is made.
    """
    outcome = Outcome()
    points: list[Point] | None = None if only is None else [only]
    number = 0
    while points is None or number < len(points):
        world = World(kind, block)
        worlds(world)
        try:
            await world.start()
            driver = Driver(world)
            if points is None:
                lengths = await driver.survey()
                taken = ", ".join(f"{action} {steps}" for action, steps in lengths.items())
                say(f"{kind}: steps undisturbed: {taken}")
                points = list(choose(seed, count, lengths))
            sound = True
            while sound and number < len(points):
                number += 1
                sound = await _one(
                    driver, points[number - 1], outcome, say, f"{number}/{len(points)}"
                )
        finally:
            await world.stop()
    return outcome


async def _one(driver: Driver, point: Point, outcome: Outcome, say: Say, place: str) -> bool:
    """Inject a fault at one point and report it; tell whether the world may be used further."""
    began = time.monotonic()
    world = driver.world
    try:
        verdict = await driver.inject(point)
    except Exception as error:  # noqa: BLE001 - a point that ends the driver has failed
        failures, forgotten = [f"{type(error).__name__}: {error}"], []
    else:
        failures, forgotten = verdict.failures, verdict.forgotten
    seconds = time.monotonic() - began
    steps = world.steps
    outcome.done += 1
    outcome.faults[point.fault] = outcome.faults.get(point.fault, 0) + 1
    outcome.forgotten += [f"{point}: {each}" for each in forgotten]
    word = "FAILED" if failures else "ok"
    say(f"{place} {world.kind} {point} ({len(steps.trace)} steps) {seconds:.1f} s {word}")
    for each in forgotten:
        say(f"    {each}")
    if not failures:
        return True
    at = steps.injected_at or 0
    around = [
        f"    {'>>' if number == at else '  '} {number:3} {text}"
        for number, text in enumerate(steps.trace, 1)
        if abs(number - at) <= AROUND
    ]
    folders = [f"    {folder}" for folder in world.folders]
    text = "\n".join(
        [
            *(f"    {each}" for each in failures),
            "  the fault was injected here:",
            *around,
            "  logs:",
            *folders,
            "  again, alone:",
            f"    tests/run --kills 1 --server {world.kind} --point {point}",
        ]
    )
    say(text)
    outcome.failures.append(Failure(point, text))
    return False
