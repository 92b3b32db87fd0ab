"""The cost of an idle component: users are online, and nobody sends anything."""

import argparse
import asyncio
import urllib.request

from benchmarks import standin
from benchmarks.population import Population
from benchmarks.report import Report, table
from benchmarks.standin import StandIn

_TOKEN = "benchmark-of-mixpam"
_SCRAPE_EVERY = 15.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--users", type=int, default=10_000, help="online, two devices each")
    parser.add_argument("--channels", type=int, default=10, help="of each user")
    parser.add_argument("--seconds", type=float, default=60.0, help="of silence, each time")


async def _measure(options: argparse.Namespace) -> dict[str, float]:
    people = Population(options.users, 2, options.channels)
    found: dict[str, float] = {}
    async with StandIn(people.roster) as stand:
        await people.remember(stand.redis)
        await stand.start()
        await stand.replay(people.presences())
        await stand.quiet()
        for name, scraped in (("alone", False), ("scraped", True)):
            before, passed = stand.cpu, 0.0
            while passed < options.seconds:
                if scraped:
                    await asyncio.to_thread(_scrape, stand)
                await asyncio.sleep(min(_SCRAPE_EVERY, options.seconds - passed))
                passed += _SCRAPE_EVERY
            found[name] = (stand.cpu - before) / options.seconds
    return found


def _scrape(stand: StandIn) -> None:
    request = urllib.request.Request(  # noqa: S310 - our own
        f"{stand.http}/metrics", headers={"Authorization": f"Bearer {_TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        answer.read()


def run(options: argparse.Namespace, report: Report) -> None:
    """Run the benchmark."""
    found: dict[str, float] = {}

    async def measure() -> None:
        found.update(await _measure(options))

    standin.run(measure)
    names = {"alone": "silence", "scraped": "silence, metrics read every 15 s"}
    for name, share in found.items():
        report.add(f"idle/{name}/core_share", share)
    table(
        f"{options.users:,} users online, 2 devices and {options.channels} channels each",
        ["", "share of a core"],
        [[names[name], f"{share * 100:.2f} %"] for name, share in found.items()],
    )
