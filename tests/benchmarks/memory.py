"""A real component with many users: its memory, its start from a real Redis, its pauses.

Each size is a process of its own, `mixpam run` against a stand-in server. The mirror's bytes per
user are those of a process that has nothing else; the component's are its growth since it had no
users: after Redis was read, after all devices have come online, and after everybody has received a
message; so everything that is kept counts.
"""

import argparse
import asyncio
import random
import subprocess
import time
from contextlib import suppress

from benchmarks import standin, traffic
from benchmarks.feeder import python
from benchmarks.population import Population
from benchmarks.report import Report, percentile, table
from benchmarks.standin import Latencies, StandIn


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--users", default="10000,100000", help="numbers of users, all online")
    parser.add_argument("--devices", type=int, default=2, help="of each user")
    parser.add_argument("--channels", type=int, default=10, help="of each user")
    parser.add_argument(
        "--distinct", action="store_true", help="no two users' presences say the same"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of traffic, for the pauses")
    parser.add_argument("--rate", type=int, default=500, help="messages a second meanwhile")


async def _traffic(stand: StandIn, people: Population, options: argparse.Namespace) -> None:
    """Send messages to users in turn, at a rate, and ask for metrics now and then."""
    chance = random.Random(1)  # noqa: S311 - the same order each time
    end, number = time.perf_counter() + options.seconds, 0
    while time.perf_counter() < end:
        await asyncio.sleep(0.02)
        for _ in range(max(1, options.rate // 50)):
            who = chance.randrange(people.users)
            room = chance.choice(people.rooms(who))
            number += 1
            stand.link.write(traffic.message(traffic.user(who), room, number))


async def _measure(people: Population, options: argparse.Namespace) -> dict[str, float]:
    found: dict[str, float] = {}
    async with StandIn(people.roster) as empty:
        await empty.start()
        await empty.replay([])
        await empty.quiet()
        nobody = empty.memory
    async with StandIn(people.roster) as stand:
        await people.remember(stand.redis)
        before = time.perf_counter()
        found["start_s"] = await stand.start()
        del before
        found["start_cpu_s"] = stand.cpu
        found["loaded"] = (stand.memory - nobody) / people.users
        found["replay_s"] = await stand.replay(people.presences())
        who = people.users // 2
        async with Latencies(stand, traffic.user(who), people.rooms(who)[0]) as busy:
            # The work after a start goes on meanwhile: every member's roster is read.
            await _traffic(stand, people, options)
        found["rosters"] = stand.rosters_read
        await stand.quiet()
        found["online"] = (stand.memory - nobody) / people.users
        async with Latencies(stand, traffic.user(who), people.rooms(who)[0]) as calm:
            await _traffic(stand, people, options)
        found["rss"] = stand.memory
        for name, each in (("busy", busy), ("calm", calm)):
            found[f"{name}_p99_ms"] = percentile(each.seconds, 0.99) * 1000
            found[f"{name}_worst_ms"] = max(each.seconds) * 1000
            found[f"{name}_own_ms"] = max(each.own_lag) * 1000
            found[f"{name}_own_p99_ms"] = percentile(each.own_lag, 0.99) * 1000
    return found


def run(options: argparse.Namespace, report: Report) -> None:
    """Run the benchmark."""
    memory, start, pauses = [], [], []
    for users in map(int, options.users.split(",")):
        people = Population(users, options.devices, options.channels, distinct=options.distinct)
        found: dict[str, float] = {}
        with suppress(asyncio.CancelledError):
            standin.run(lambda p=people, f=found: _into(f, p, options))  # type: ignore[misc]
        found["mirror"] = _mirror_alone(users, options)
        for key, value in found.items():
            report.add(f"memory/{users}/{key}", value)
        memory.append(
            [f"{users:,}", f"{found['mirror']:,.0f}", f"{found['loaded']:,.0f}",
             f"{found['online']:,.0f}", f"{found['rss'] / 2**20:,.0f}"]
        )  # fmt: skip
        start.append(
            [f"{users:,}", f"{users * options.channels:,}", f"{found['start_s']:.1f}",
             f"{found['start_cpu_s']:.1f}", f"{found['replay_s']:.1f}"]
        )  # fmt: skip
        pauses += [
            [f"{users:,}, {what}", f"{found[f'{name}_p99_ms']:.1f}",
             f"{found[f'{name}_worst_ms']:.1f}", f"{found[f'{name}_own_p99_ms']:.1f}",
             f"{found[f'{name}_own_ms']:.1f}"]
            for name, what in (("busy", "right after the start"), ("calm", "later"))
        ]  # fmt: skip
    table(
        f"Memory: {options.devices} devices and {options.channels} channels each",
        ["users", "mirror alone, B/user", "process, B/user, nobody online", "all online",
         "whole process, MiB"],
        memory,
    )  # fmt: skip
    table(
        "Start: Redis read and linked; then all devices replayed",
        ["users", "memberships", "start s", "start CPU s", "replay s"],
        start,
    )
    table(
        f"A message every 5 ms, among {options.rate} others a second: until its copy is back",
        ["users", "p99 ms", "worst ms", "generator late: p99", "worst"],
        pauses,
    )


def _mirror_alone(users: int, options: argparse.Namespace) -> float:
    """Fill a mirror in a process of its own; bytes per user."""
    command = [*python("mirror"), str(users), str(options.devices), str(options.channels)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def _into(found: dict[str, float], people: Population, options: argparse.Namespace) -> None:
    found.update(await _measure(people, options))
