"""The takeover by a standby: from its connection to the first copy of a message.

A real `mixpam run` reads a real Redis and is refused with a conflict by a stand-in server.
Meanwhile another writer acts as the leading process. Then the component is accepted, and gets one
user's devices and a message for them at once. One side has followed the writes; for the other the
stream of changes is trimmed away, so that it has to read everything again.
"""

import argparse
import asyncio
import time
from typing import Any

from redis.asyncio import Redis as Client

from benchmarks import standin, traffic
from benchmarks.population import Population
from benchmarks.report import Report, median, spread, table
from benchmarks.standin import StandIn
from component.core.effects import PutMembership
from component.store.epoch import Epoch
from component.store.keys import Keys
from component.store.writing import add_change, leave_epoch
from schemas.records import MembershipRecord

_KEYS = Keys("mixpam")
_SIDES = ("follows", "reads again")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--users", type=int, default=20_000, help="whom Redis remembers")
    parser.add_argument("--channels", type=int, default=10, help="of each user")
    parser.add_argument("--seconds", type=float, default=5.0, help="that it stands by")
    parser.add_argument("--rate", type=int, default=200, help="transactions a second meanwhile")
    parser.add_argument("--rounds", type=int, default=3, help="of each side, in turn")


class _Leader:
    """Writes one change after another, as the leading process does."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._mark = Epoch(1, 0)

    async def write(self, *changes: PutMembership) -> None:
        """Write changes in one transaction."""
        before, self._mark = self._mark, Epoch(1, self._mark.number + 1)
        async with self._client.pipeline(transaction=True) as pipeline:
            held = [add_change(pipeline, _KEYS, change) for change in changes]
            leave_epoch(pipeline, _KEYS, self._mark, before, held)
            await pipeline.execute()


async def _measure(
    people: Population, side: str, options: argparse.Namespace
) -> tuple[float, float]:
    """Return seconds and CPU seconds until the first copy."""
    async with StandIn(people.roster) as stand, Client.from_url(stand.redis.url) as client:
        await people.remember(stand.redis)
        leader = _Leader(client)
        await leader.write()
        await stand.stand_by()
        end, number = time.perf_counter() + options.seconds, 0
        while time.perf_counter() < end:
            await asyncio.sleep(1 / options.rate)
            number += 1
            who = number * 7 % people.users
            record = MembershipRecord(
                channel=people.rooms(who)[0], participant_id=f"{number:020x}", nick="renewed"
            )
            await leader.write(PutMembership(traffic.user(who), record))
        if side == "reads again":
            await client.xtrim(_KEYS.changes, maxlen=0, approximate=False)
        said = len(stand.component.lines)
        await stand.let_in()
        began, cpu = time.perf_counter(), stand.cpu
        who = people.users // 2
        await stand.greet(people.presence(who, device) for device in range(people.devices))
        await stand.probe(traffic.user(who), people.rooms(who)[0])
        took = time.perf_counter() - began, stand.cpu - cpu
        event = "taken-over" if side == "follows" else "loaded"
        await stand.component.line(f'"event": ?"{event}"', 10, since=said)
        return took


def run(options: argparse.Namespace, report: Report) -> None:
    """Run the benchmark."""
    people = Population(options.users, 2, options.channels)
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in _SIDES}

    async def measure(side: str) -> None:
        taken[side].append(await _measure(people, side, options))

    for number in range(options.rounds):
        for side in _SIDES if number % 2 == 0 else _SIDES[::-1]:
            standin.run(lambda s=side: measure(s))  # type: ignore[misc]
    rows = []
    for side, found in taken.items():
        waits, cpu = [each[0] * 1000 for each in found], [each[1] for each in found]
        ratios = [
            again[0] / each[0] for each, again in zip(found, taken["reads again"], strict=True)
        ]
        report.add(f"standby/{options.users}/{side}/ms", median(waits))
        report.add(f"standby/{options.users}/{side}/cpu_seconds", median(cpu))
        report.add(f"standby/{options.users}/{side}/ratio", median(ratios))
        rows.append(
            [side, f"{median(waits):.1f}", spread(waits), f"{median(cpu):.2f}",
             f"{median(ratios):.1f}", spread(ratios)]
        )  # fmt: skip
    table(
        f"Taking over: {options.users:,} users in {options.channels} channels each,"
        f" {options.rate} transactions a second while it stood by",
        ["", "ms to the first copy", "range", "CPU s", "times as quick", "range"],
        rows,
    )
