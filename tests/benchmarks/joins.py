"""Many joins at the same time, and their effect on everybody else's messages.

A real component with a real Redis, against a stand-in server. A message is sent every few
milliseconds, and the latency of its copy is recorded: while nothing else happens, and while many
users at once request to join a channel and are answered. The two alternate.
"""

import argparse
import asyncio
import itertools
import time

from benchmarks import standin, traffic
from benchmarks.population import Population
from benchmarks.report import Report, median, percentile, table
from benchmarks.standin import Latencies, StandIn

_PATIENCE = 60.0
_SETTLE = 0.5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--joins", type=int, default=200, help="at the same time")
    parser.add_argument("--users", type=int, default=2_000, help="online, two devices each")
    parser.add_argument("--channels", type=int, default=10, help="of each user before")
    parser.add_argument("--rounds", type=int, default=25, help="turns of quiet and joins")
    parser.add_argument("--every", type=float, default=1.0, help="ms between two messages")


def _wish(user: str, resource: str, room: str, number: int) -> bytes:
    return (
        f"<iq type='set' id='j{number}' from='{user}/{resource}' to='{user}'>"
        f"<client-join xmlns='urn:xmpp:mix:pam:2' channel='{room}'>"
        "<join xmlns='urn:xmpp:mix:core:1'><nick>n</nick>"
        "<subscribe node='urn:xmpp:mix:nodes:messages'/></join></client-join></iq>"
    ).encode()


class _Turns:
    """The measurements, turn by turn."""

    def __init__(self) -> None:
        self.quiet: list[float] = []
        self.joining: list[float] = []
        self.late: list[float] = []
        self.seconds: list[float] = []
        self.cpu: list[float] = []


async def _measure(options: argparse.Namespace) -> _Turns:
    people, turns = Population(options.users, 2, options.channels), _Turns()
    numbers = itertools.count()
    async with StandIn(people.roster, MIXPAM_JOIN_BURST="1000000") as stand:
        await people.remember(stand.redis)
        await stand.start()
        await stand.replay(people.presences())
        await stand.quiet()
        probed = traffic.user(0), people.rooms(0)[0]
        for number in range(options.rounds):
            room = f"new{number}@mix.{traffic.DOMAIN}"
            async with Latencies(stand, *probed, every=options.every / 1000) as quiet:
                await asyncio.sleep(_SETTLE)
            wishes = []
            for each in range(1, options.joins + 1):
                user, _, resource = people.full(each % options.users, 0).partition("/")
                wishes.append(_wish(user, resource, room, next(numbers)))
            wanted, cpu = stand.results + options.joins, stand.cpu
            async with Latencies(stand, *probed, every=options.every / 1000) as joining:
                began = time.perf_counter()
                stand.link.write(b"".join(wishes))
                async with asyncio.timeout(_PATIENCE):
                    while stand.results < wanted:  # noqa: ASYNC110 - the stand-in counts
                        await asyncio.sleep(0.002)
                turns.seconds.append(time.perf_counter() - began)
            turns.cpu.append((stand.cpu - cpu) / options.joins)
            turns.quiet += quiet.seconds
            turns.joining += joining.seconds
            turns.late += joining.own_lag
            await asyncio.sleep(_SETTLE)
    return turns


def run(options: argparse.Namespace, report: Report) -> None:
    """Run the benchmark."""
    turns = _Turns()

    async def measure() -> None:
        nonlocal turns
        turns = await _measure(options)

    standin.run(measure)
    rows = []
    for name, values in (
        ("quiet", turns.quiet),
        ("while they join", turns.joining),
        ("generator late meanwhile", turns.late),
    ):
        p50, p99 = percentile(values, 0.5) * 1000, percentile(values, 0.99) * 1000
        report.add(f"joins/{name}/p50_ms", p50)
        report.add(f"joins/{name}/p99_ms", p99)
        rows.append(
            [name, f"{len(values):,}", f"{p50:.2f}", f"{p99:.2f}", f"{max(values) * 1000:.2f}"]
        )
    table(
        f"{options.joins} joins at the same time: until somebody else's message is copied",
        ["", "messages", "p50 ms", "p99 ms", "worst ms"],
        rows,
    )
    report.add("joins/all_answered_ms", median(turns.seconds) * 1000)
    report.add("joins/cpu_us_each", median(turns.cpu) * 1e6)
    print(
        f"  all of them answered within {median(turns.seconds) * 1000:.0f} ms;"
        f" CPU of the component {median(turns.cpu) * 1e6:.0f} us each, presence to channels,"
        " Redis and log included"
    )
