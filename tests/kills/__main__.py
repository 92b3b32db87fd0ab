"""The command `tests/run --kills 500`; see its `--help`."""

import argparse
import asyncio
import random
import shutil
import sys
from pathlib import Path

from harness.loopback import Block
from harness.machines import KINDS

from kills.drive import Outcome, run
from kills.plan import NoSuchPointError, Point, parse
from kills.world import World

TEXT = """\
Injects faults into a running system while a user joins, leaves, is kicked, deletes a channel from
the roster or the whole account, comes and goes with devices, or a channel sends messages: kill -9
of the component, of Redis or of the server, or loss of the component's link. Each fault happens
before, after or in the middle of one step, that is one stanza or Redis command. Then everything
must agree again, and no message may be lost, doubled or archived twice.
"""


def _point(text: str) -> Point:
    try:
        return parse(text)
    except NoSuchPointError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("tests/run --kills", description=TEXT)
    parser.add_argument("points", type=int, help="kill points for each family of servers")
    parser.add_argument("--seed", type=int, help="the choice of points (default: a new one)")
    parser.add_argument(
        "--server", dest="servers", default=",".join(KINDS), help="comma separated kinds"
    )
    parser.add_argument("--point", type=_point, help="only this point, as a failure names it")
    return parser.parse_args()


def _shares(kinds: list[str], points: int) -> dict[str, int]:
    """Divide each family's points among its versions."""
    shares = {}
    for software in dict.fromkeys(KINDS[kind].software for kind in kinds):
        family = [kind for kind in kinds if KINDS[kind].software == software]
        for number, kind in enumerate(family):
            shares[kind] = points // len(family) + (number < points % len(family))
    return shares


async def _all(arguments: argparse.Namespace, seed: int) -> dict[str, Outcome]:
    kinds = arguments.servers.split(",")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise SystemExit(f"no such server: {', '.join(unknown)} (there are {', '.join(KINDS)})")
    folders: list[Path] = []
    block = Block()
    outcomes = {}

    def remember(world: World) -> None:
        folders.extend(world.folders)

    for kind, count in _shares(kinds, arguments.points).items():
        outcome = await run(
            kind, block, seed=seed, count=count, say=_say, only=arguments.point, worlds=remember
        )
        outcomes[kind] = outcome
        if not outcome.failures:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
        folders.clear()
    block.close()
    return outcomes


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Run, print the outcome, and return the exit status."""
    arguments = _arguments()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed  # noqa: S311
    _say(f"seed {seed}")
    outcomes = asyncio.run(_all(arguments, seed))
    for kind, outcome in outcomes.items():
        faults = ", ".join(f"{fault} {times}" for fault, times in sorted(outcome.faults.items()))
        _say(
            f"{kind}: {outcome.done} kill points (seed {seed}; {faults}):"
            f" {len(outcome.failures)} failed, {len(outcome.forgotten)} things forgotten"
            " by the server itself"
        )
        for failure in outcome.failures:
            _say(f"  failed: {failure.point}")
    return int(any(outcome.failures for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
