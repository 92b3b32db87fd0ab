"""The whole path: channel, server, tap, component, tap, devices; beside setups without mixpam.

On ejabberd the channel is real mod_mix and the other side is ejabberd's own mod_mix_pam;
on Prosody, which has no MIX, a component sends each device its copy directly: no tap, no decision,
the minimum for a server. With archiving the other side is the server alone, archiving and
delivering chat messages of the same size to the same users.
"""

import argparse
import asyncio
import contextlib
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import uvloop
from harness import caps, ns
from harness.loopback import Block
from harness.machines import KINDS

from benchmarks.load.device import (
    Device,
    create_channel,
    fresh_names,
    join,
    login,
    newest_archived,
    register,
)
from benchmarks.load.service import Service
from benchmarks.load.tally import LostError, Tally
from benchmarks.processes import cpu_seconds, family_bytes
from benchmarks.report import Report, median, percentile, spread, table
from benchmarks.sites import QuietEjabberd, Site

FEATURES = {
    "core1": caps.MIX,
    "both": (ns.DISCO_INFO, ns.CORE0, ns.CORE1),
}
"""The version devices use: today's clients core:1, which mod_mix's core:0 is translated to."""

_AT_ONCE = 40


@dataclass
class Round:
    """One measurement of one side; `cpu` is seconds per 1,000 deliveries, `memory` the server's."""

    rate: float
    latencies: list[float]
    cpu: dict[str, float]
    generator_share: float
    memory: int


@dataclass
class Side:
    """One way to deliver a channel's message to the devices; `role` names it."""

    name: str
    role: str
    site: Site
    tally: Tally | None = None
    service: Service | None = None
    devices: list[Device] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)

    async def measure(self, options: argparse.Namespace) -> None:
        """Do one round: a short warm-up, throughput, then one message at a time."""
        assert self.tally is not None
        await self.tally.run(options.seconds / 4, options.window)
        pids = self.site.processes()
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        own = time.process_time()
        phase = await self.tally.run(options.seconds, options.window)
        own = time.process_time() - own
        thousands = phase.deliveries / 1000
        cpu = {name: (cpu_seconds(pid) - before[name]) / thousands for name, pid in pids.items()}
        cpu["generator"] = own / thousands
        alone = await self.tally.run(options.seconds / 2, 1)
        self.rounds.append(
            Round(
                phase.deliveries / phase.seconds,
                [1000 * each for each in alone.latencies],
                cpu,
                own / phase.seconds,
                family_bytes(pids["server"]),
            )
        )


async def _each(jobs: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Run many set-up jobs, some at once."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(job: Callable[[], Awaitable[object]]) -> None:
        async with gate:
            await job()

    await asyncio.gather(*[one(job) for job in jobs])


async def _prepare(side: Side, users: int, per_user: int, features: tuple[str, ...]) -> None:
    """Make accounts, devices and a channel they all have joined."""
    place = side.site.server.place
    names = fresh_names(users)
    await _each([lambda n=name: register(place, n) for name in names])  # type: ignore[misc]
    devices: list[Device] = []

    async def come(name: str, number: int) -> None:
        devices.append(await login(place, name, f"d{number}", features))

    # From the first device the component learns the capabilities of all.
    await come(names[0], 0)
    await asyncio.sleep(0.3)
    rest = [(name, number) for name in names for number in range(per_user)][1:]
    await _each([lambda n=n, k=k: come(n, k) for n, k in rest])  # type: ignore[misc]
    side.devices = devices
    one_each = {device.bare: device for device in devices}
    if side.role in {"native", "mixpam"} and isinstance(side.site.server, QuietEjabberd):
        channel = await create_channel(devices[0], side.site.server.mix, f"room{names[0]}")
        await _each([lambda d=d: join(d, channel) for d in one_each.values()])  # type: ignore[misc]
        speaker = devices[0]
        side.tally = Tally(devices, lambda body: _say(speaker, channel, body))
    else:
        service = await Service(side.site.server).connect()
        channel = service.channel()
        targets = [device.jid for device in devices]
        if side.role not in {"direct", "alone"}:
            await _each([lambda d=d: join(d, channel) for d in one_each.values()])  # type: ignore[misc]
        if side.role != "direct":
            targets = list(one_each)
        kind = "chat" if side.role == "alone" else "groupchat"
        side.tally = Tally(devices, service.speaker(channel, targets, kind))
        side.service = service
    await side.tally.prime()


def _say(device: Device, channel: str, body: str) -> None:
    device.wire.write(
        f"<message to='{channel}' type='groupchat' id='s'><body>{body}</body></message>"
    )


async def _check_archive(side: Side, features: tuple[str, ...]) -> None:
    """Check that a user's archive ends with the last message. Raises LostError if not."""
    assert side.tally is not None
    name = side.devices[-1].bare.partition("@")[0]
    reader = await login(side.site.server.place, name, "reader", features)
    newest = await newest_archived(reader)
    reader.wire.close()
    if side.tally.newest not in newest:
        raise LostError(f"{side.name}: {side.tally.newest!r} is not in the archive: {newest}")


async def _clear(side: Side) -> None:
    """End all sessions of a side."""
    for device in side.devices:
        device.wire.close()
    if side.service is not None:
        side.service.close()
    await asyncio.sleep(1)


SIDES = {
    "ejabberd": {"native": True, "mixpam": False, "link": False, "direct": True, "alone": True},
    "prosody": {"direct": True, "mixpam": False, "alone": True},
}
"""Side -> whether it runs on the server without tap."""

_USUAL = {
    ("ejabberd", False): ["native", "mixpam"],
    ("ejabberd", True): ["alone", "link"],
    ("prosody", False): ["direct", "mixpam"],
    ("prosody", True): ["alone", "mixpam"],
}
"""The default sides, with and without archiving; the others are compared with the first."""


async def _server(kind: str, options: argparse.Namespace, report: Report) -> None:
    software = KINDS[kind].software
    wanted = options.sides.split(",") if options.sides else []
    roles = [n for n in wanted if n in SIDES[software]] or _USUAL[software, options.archive]
    thresholds = options.gc.split(",") if options.gc and software == "prosody" else [None]
    chosen = [(role, gc) for gc in thresholds for role in roles]
    block = Block()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(block.close)
        sites: dict[tuple[bool, str | None], Site] = {}
        for native, gc in dict.fromkeys((SIDES[software][role], gc) for role, gc in chosen):
            site = Site(
                kind,
                block,
                native=native,
                archive=options.archive,
                gc=gc,
                spin=not options.no_spin,
            )
            sites[native, gc] = site
            stack.push_async_callback(site.stop)
            await site.start()
        for shape in options.shapes.split(","):
            users, _, per_user = shape.partition("x")
            sides = [
                Side(f"{role} gc {gc}" if gc else role, role, sites[SIDES[software][role], gc])
                for role, gc in chosen
            ]
            print(f"{kind} {shape}: preparing", flush=True)
            for side in sides:
                await _prepare(side, int(users), int(per_user), FEATURES[options.features])
            for number in range(options.rounds):
                # Alternately in both directions, so that drift favours no side.
                for side in sides if number % 2 == 0 else reversed(sides):
                    await side.measure(options)
                rates = ", ".join(f"{s.name} {s.rounds[-1].rate:,.0f}/s" for s in sides)
                print(f"  round {number + 1}: {rates}", flush=True)
            _show(kind, shape, sides, report)
            for side in sides:
                if options.archive:
                    await _check_archive(side, FEATURES[options.features])
                await _clear(side)


def _show(kind: str, shape: str, sides: list[Side], report: Report) -> None:
    first = sides[0]
    rows = []
    for side in sides:
        ratios = [
            mine.rate / other.rate for mine, other in zip(side.rounds, first.rounds, strict=True)
        ]
        cpu = {
            name: median([r.cpu.get(name, 0.0) for r in side.rounds])
            for name in ("server", "component", "redis", "generator")
        }
        work = [_work(o) / _work(m) for m, o in zip(side.rounds, first.rounds, strict=True)]
        latencies = [each for r in side.rounds for each in r.latencies]
        p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
        rate = median([r.rate for r in side.rounds])
        share = median([r.generator_share for r in side.rounds])
        memory = max(r.memory for r in side.rounds) / 2**20
        key = f"path/{kind}/{shape}/{side.name}"
        report.add(f"{key}/server_mib", memory)
        report.add(f"{key}/rate_ratio", median(ratios))
        report.add(f"{key}/cpu_ratio", median(work))
        report.add(f"{key}/rate", rate)
        report.add(f"{key}/p50_ms", p50)
        report.add(f"{key}/p99_ms", p99)
        for name, value in cpu.items():
            report.add(f"{key}/cpu_{name}", value)
        rows.append(
            [
                side.name, f"{rate:,.0f}", f"{median(ratios):.2f}", spread(ratios),
                f"{median(work):.2f}", spread(work), f"{p50:.1f}", f"{p99:.1f}",
                *[f"{cpu[name]:.3f}" for name in ("server", "component", "redis", "generator")],
                f"{share * 100:.0f} %", f"{memory:.0f}",
            ]
        )  # fmt: skip
    table(
        f"{kind}, {shape} (users x devices)",
        ["side", "deliveries/s", "ratio", "range", "CPU ratio", "range", "p50 ms", "p99 ms",
         "server", "component", "redis", "generator", "gen. core", "MiB"],
        rows,
    )  # fmt: skip
    print(
        "  (ratio: of the first side's deliveries/s in the same round; CPU ratio: first side's CPU"
        " per\n  delivery by this one's; server..generator: CPU seconds per 1,000 deliveries;"
        " MiB: the\n  server's resident memory at most)",
        flush=True,
    )


def _work(one: Round) -> float:
    """Return the CPU seconds of all but the generator; other load hardly changes them."""
    return sum(value for name, value in one.cpu.items() if name != "generator")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--servers", default="ejabberd-24.12,prosody-13", help="server kinds")
    parser.add_argument(
        "--shapes", default="50x2,500x2", help="users x devices, e.g. 50x2,500x2,200x1,100x5"
    )
    parser.add_argument(
        "--sides",
        help="ejabberd: native,mixpam,link (channel on a component link),direct (a component "
        "to each device); prosody: direct,mixpam; both: alone (the server's own chat messages to "
        "the same users). Default: native,mixpam and direct,mixpam; with --archive alone,link "
        "and alone,mixpam. The first is what the others are held to",
    )
    parser.add_argument(
        "--archive", action="store_true", help="servers archive every message for every user"
    )
    parser.add_argument(
        "--gc", metavar="N,N", help="Prosody: each side at each gc threshold (its default is 105)"
    )
    parser.add_argument(
        "--no-spin",
        action="store_true",
        help="ejabberd: schedulers with nothing to do sleep at once. Erlang's default, and what "
        "operators run, is to spin for a while, which others pay for on few cores",
    )
    parser.add_argument("--features", choices=list(FEATURES), default="core1", help="devices speak")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one throughput phase")
    parser.add_argument("--window", type=int, default=4, help="messages under way")


def run(options: argparse.Namespace, report: Report) -> None:
    """Run the benchmark on each requested server, even if another cannot run."""
    for kind in options.servers.split(","):
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_server(kind, options, report))
        except Exception as error:  # noqa: BLE001 - said, shown, and the status tells
            traceback.print_exc()
            report.missing(f"path on {kind}", error)
