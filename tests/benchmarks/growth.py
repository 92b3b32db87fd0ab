"""The cost of a message as the numbers of participants, devices, channels and users grow.

The real stream, framing, decision and copies, without sockets: it shows the component's own work,
not the kernel's. The goal is a flat column "us/copy".
"""

import argparse
import asyncio
import random

from harness.machines import REPOSITORY

from benchmarks import traffic
from benchmarks.engines.mixpam import populate
from benchmarks.hotlane import HotLane
from benchmarks.picture import draw
from benchmarks.report import Report, median, table
from component.core.users.mirror import Membership
from schemas import jid

_READ = 262_144
_STANZAS = 10_000

AXES: dict[str, tuple[int, ...]] = {
    "participants": (10, 100, 1_000, 10_000),
    "devices": (1, 2, 3, 4, 5),
    "channels": (1, 10, 100),
    "users": (1_000, 10_000, 100_000),
}
_BASE = {"participants": 0, "devices": 2, "channels": 10, "users": 10_000}
_NAMES = {
    "participants": "participants of the channel",
    "devices": "devices of each user",
    "channels": "channels of each user",
    "users": "users online",
}
PICTURE = REPOSITORY / "deploy" / "docs" / "growth.svg"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--axes", default=",".join(AXES), help="what grows")
    parser.add_argument("--draw", action="store_true", help="write the README's picture anew")
    parser.add_argument("--most-users", type=int, default=100_000, help="leave out more users")


def _picture(report: Report) -> None:
    """Draw the results, if they are complete."""
    charts = {
        _NAMES[axis]: [
            (value, report.results[f"growth/{axis}/{value}/us_per_copy"])
            for value in values
            if f"growth/{axis}/{value}/us_per_copy" in report.results
        ]
        for axis, values in AXES.items()
    }
    if all(
        len(points) == len(AXES[axis]) for axis, points in zip(AXES, charts.values(), strict=True)
    ):
        title = "What one delivery costs as things grow"
        PICTURE.write_text(draw(title, charts, "µs of CPU"), encoding="utf-8")
        print(f"\nPicture: {PICTURE.relative_to(REPOSITORY)}")


def _reads(stanzas: list[bytes]) -> list[bytes]:
    joined = b"".join(stanzas)
    return [joined[start : start + _READ] for start in range(0, len(joined), _READ)]


def _case(axis: str, value: int) -> tuple[HotLane, list[bytes], int]:
    """Make one point: lane, reads, and stanzas in one channel message (0: not one message)."""
    shape = {**_BASE, axis: value}
    lane = HotLane()
    users = max(value, 1) if axis == "participants" else shape["users"]
    per_user = shape["channels"]
    populate(lane.mirror, users, shape["devices"], per_user=per_user)
    if axis == "participants":
        room = jid.parse(f"room@mix.{traffic.DOMAIN}")
        for number in range(users):
            member = Membership(room, f"p{number}", None, ("messages",), 1, True)
            lane.mirror.join(jid.parse(traffic.user(number)), member)
        one = [traffic.message(traffic.user(n), str(room), 1) for n in range(users)]
        return lane, _reads(one * max(1, _STANZAS // users)), users
    chance = random.Random(1)  # noqa: S311 - the same order each time
    stanzas = []
    for number in range(_STANZAS):
        who = chance.randrange(users)
        channel = chance.choice(traffic.channels_of(who, per_user))
        stanzas.append(traffic.message(traffic.user(who), traffic.channel(channel), number))
    return lane, _reads(stanzas), 0


async def _axis(axis: str, options: argparse.Namespace, report: Report) -> None:
    values = [v for v in AXES[axis] if axis != "users" or v <= options.most_users]
    cases = [_case(axis, value) for value in values]
    costs: list[list[float]] = [[] for _ in values]
    copies = [0] * len(values)
    for number in range(-1, options.rounds):
        for index, (lane, reads, _) in enumerate(cases):
            seconds, copies[index] = lane.feed(reads)
            if number >= 0:
                costs[index].append(seconds)
    rows = []
    for index, (value, (_, _, participants)) in enumerate(zip(values, cases, strict=True)):
        devices = value if axis == "devices" else _BASE["devices"]
        stanzas = copies[index] // devices
        each_pass = max(1, _STANZAS // participants) * participants if participants else _STANZAS
        if copies[index] != each_pass * devices:
            raise RuntimeError(f"{axis} {value}: {copies[index]} copies came out")
        cost = median(costs[index])
        ratio = median([a / b for a, b in zip(costs[index], costs[0], strict=True)]) * (
            copies[0] / copies[index]
        )
        message = f"{cost / stanzas * participants * 1e6:,.0f}" if participants else "-"
        rows.append(
            [f"{value:,}", f"{cost / stanzas * 1e6:.2f}", f"{cost / copies[index] * 1e6:.2f}",
             message, f"{ratio:.2f}"]
        )  # fmt: skip
        report.add(f"growth/{axis}/{value}/us_per_copy", cost / copies[index] * 1e6)
        report.add(f"growth/{axis}/{value}/per_copy_ratio", ratio)
    table(
        f"{axis} grow (else {_BASE['devices']} devices, {_BASE['channels']} channels each)",
        [axis, "us/stanza in", "us/copy", "us/channel message", "us/copy, ratio to first"],
        rows,
    )


def run(options: argparse.Namespace, report: Report) -> None:
    """Run the benchmark."""
    for axis in options.axes.split(","):
        asyncio.run(_axis(axis, options, report))
    if options.draw:
        _picture(report)
