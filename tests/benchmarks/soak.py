"""Half an hour at four fifths of the capacity of server and mixpam, with restarts.

Each lap has fresh accounts (old ones are removed, so that the server's archives are as small as in
other laps), of which some stay online and some come and go all the time. In the middle of each lap
the component or Redis is restarted under load. Every message has a number; at the end of the lap
devices and archives are compared with the sent messages.
"""

import argparse
import asyncio
import contextlib
import itertools
import random
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import uvloop
from harness import caps
from harness.loopback import Block

from benchmarks.load.crowd import Crowd, Member, Verdict
from benchmarks.load.movers import Mover, movers
from benchmarks.load.service import Service
from benchmarks.processes import resident_bytes
from benchmarks.report import Report, median, percentile, table
from benchmarks.sites import Site

_MARGIN = 2.0
"""Seconds around begin, end and restart whose latencies do not count."""

_HARMLESS = "Redis killed"
"""Redis is not on the path of a message: its restart excuses nothing."""

_GROWTH = 1.10
"""Allowed ratio of the component's largest to smallest memory after the first lap."""

_SLICE = 30.0
"""Seconds of load whose latencies make one p50 and p99."""

_WINDOW = 8
_PATIENCE = 60
"""Seconds that messages under way may take."""

_NAMES = 5
"""How many of the failed messages are listed."""

FEATURES = caps.MIX


@dataclass
class Slice:
    """The latencies (seconds) of some time of load, and the component's memory (bytes)."""

    latencies: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


@dataclass
class Lap:
    """The outcome of one lap; `window` is from the beginning of the restart to its end.

    `excused` are the messages that were under way when it began.
    """

    restart: str
    window: tuple[float, float] = (0.0, 0.0)
    excused: set[int] = field(default_factory=set)
    sent: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    lost_on_link: int = 0
    lost_live: list[int] = field(default_factory=list)
    before: list[Slice] = field(default_factory=list)
    after: list[Slice] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Soak:
    """One run on one server."""

    def __init__(self, site: Site, options: argparse.Namespace) -> None:
        self.site = site
        self.options = options
        self.service = Service(site.server)
        self.laps: list[Lap] = []
        self.capacity = 0.0
        self._number = 0
        self._memory: list[tuple[float, int]] = []

    async def run(self) -> None:
        """Measure the capacity, then do the laps."""
        await self.service.connect()
        watching = asyncio.create_task(self._watch())
        try:
            await self._measure()
            restarts = itertools.cycle(self._restarts().items())
            every = self.options.every
            for number in range(max(1, round(self.options.minutes * 60 / every))):
                name, restart = next(restarts)
                lap = Lap(name)
                self.laps.append(lap)
                await self._lap(lap, restart)
                _say_lap(number + 1, lap)
        finally:
            watching.cancel()

    def _restarts(self) -> dict[str, Callable[[], Awaitable[object]]]:
        site = self.site

        async def component(*, kill: bool) -> None:
            await site.mixpam.stop(kill=kill)
            await site.mixpam.start()

        async def redis() -> None:
            await site.redis.stop(kill=True)
            await site.redis.start()

        return {
            "component stopped": lambda: component(kill=False),
            _HARMLESS: redis,
            "component killed": lambda: component(kill=True),
        }

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(OSError, ValueError):
                memory = resident_bytes(self.site.mixpam.process.pid)
                if memory:
                    self._memory.append((time.perf_counter(), memory))
            await asyncio.sleep(1)

    def _publish(self, crowd: Crowd, due: float) -> None:
        self._number += 1
        crowd.publish(self._number, due)

    async def _gathered(self) -> Crowd:
        options = self.options
        crowd = Crowd(self.site.server, self.service, FEATURES)
        await crowd.gather(options.users, options.devices, options.channels)
        return crowd

    # -- capacity ------------------------------------------------------------------------

    async def _measure(self) -> None:
        """Measure the messages a second if each is sent after the previous one has arrived.

        That takes as long as a lap. The lowest of the second half counts: servers get
        slower as archives get fuller, and neighbours come and go.
        """
        crowd = await self._gathered()
        seconds = self.options.every
        done: list[float] = []
        counts: Counter[str] = Counter()
        began = time.perf_counter()

        def complete() -> None:
            now = time.perf_counter()
            done.append(now)
            if now < began + seconds:
                self._publish(crowd, now)

        crowd.on_complete = complete
        async with self._company(crowd, counts) as moving:
            for _ in range(_WINDOW):
                self._publish(crowd, time.perf_counter())
            await asyncio.sleep(seconds)
        await crowd.settle(_PATIENCE)
        part = seconds / 10
        rates = [
            sum(began + n * part <= moment < began + (n + 1) * part for moment in done) / part
            for n in range(10)
        ]
        self.capacity = min(rates[5:])
        verdict = await self._verdict(crowd, moving, counts)
        assert not verdict.not_live, "messages were lost before anything was restarted"
        await crowd.scatter()
        said = ", ".join(f"{rate:.0f}" for rate in rates)
        print(f"capacity: {self.capacity:.0f} messages/s (tenths: {said})", flush=True)

    # -- a lap ---------------------------------------------------------------------------

    async def _lap(self, lap: Lap, restart: Callable[[], Awaitable[object]]) -> None:
        crowd = await self._gathered()
        half = self.options.every / 2
        async with self._company(crowd, lap.counts) as moving:
            began = time.perf_counter()
            restarting = asyncio.create_task(self._restart(lap, crowd, restart, began + half))
            await self._load(crowd, began, 2 * half)
            await restarting
        await crowd.settle(_PATIENCE)
        await self._verify(lap, crowd, moving)
        self._sum_up(lap, crowd, began)
        await crowd.scatter()

    @contextlib.asynccontextmanager
    async def _company(self, crowd: Crowd, counts: Counter[str]) -> AsyncIterator[list[Mover]]:
        """Let other users come and go, and presence change, while the context lasts."""
        moving = await movers(self.site.server, FEATURES, self.options.movers, lambda: self._number)
        lives = [asyncio.create_task(mover.live(crowd.channels)) for mover in moving]
        changing = asyncio.create_task(self._change(crowd, counts))
        yield moving
        changing.cancel()
        for mover in moving:
            mover.stop()
        await asyncio.gather(*lives)

    async def _load(self, crowd: Crowd, began: float, seconds: float) -> None:
        """Send at a steady rate, regardless of results; own lateness counts as latency."""
        pause = 1 / (self.capacity * self.options.share)
        for number in range(int(seconds / pause)):
            due = began + number * pause
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            self._publish(crowd, due)

    async def _restart(
        self, lap: Lap, crowd: Crowd, restart: Callable[[], Awaitable[object]], moment: float
    ) -> None:
        await asyncio.sleep(moment - time.perf_counter())
        begin = time.perf_counter()
        if lap.restart != _HARMLESS:
            lap.excused = crowd.under_way
        await restart()
        lap.window = (begin, time.perf_counter())

    async def _change(self, crowd: Crowd, counts: Counter[str]) -> None:
        """Let members and the channels' other participants change their presence."""
        rng = random.Random(1)  # noqa: S311 - no secret
        for number in itertools.count():
            await asyncio.sleep(0.5)
            member: Member = rng.choice(crowd.members)
            show = ("away", "chat", "dnd", "xa")[number % 4]
            member.device.wire.write(
                f"<presence><show>{show}</show>{caps.element(FEATURES)}</presence>"
            )
            self.service.show(member.channel, f"p{number % 50}", show)
            counts["presence changes"] += 2

    async def _verdict(self, crowd: Crowd, moving: list[Mover], counts: Counter[str]) -> Verdict:
        verdict = await crowd.verify()
        for mover in moving:
            await mover.verify(verdict, crowd.by_channel)
            counts.update(mover.counts)
        return verdict

    async def _verify(self, lap: Lap, crowd: Crowd, moving: list[Mover]) -> None:
        lap.sent = len(crowd.messages)
        lap.verdict = await self._verdict(crowd, moving, lap.counts)
        begin, end = lap.window if lap.restart != _HARMLESS else (0.0, 0.0)
        for number in sorted(lap.verdict.not_live):
            if number in lap.excused or begin <= crowd.messages[number].sent <= end:
                lap.lost_on_link += 1
            else:
                lap.lost_live.append(number)

    def _sum_up(self, lap: Lap, crowd: Crowd, began: float) -> None:
        begin, end = lap.window

        def slices(start: float, stop: float) -> list[Slice]:
            made = [Slice() for _ in range(max(1, int((stop - start) / _SLICE)))]
            size = (stop - start) / len(made)
            for message in crowd.messages.values():
                if message.latency is not None and start <= message.due < stop:
                    made[int((message.due - start) / size)].latencies.append(message.latency)
            for moment, memory in self._memory:
                if start <= moment < stop:
                    made[int((moment - start) / size)].memory.append(memory)
            return [each for each in made if each.latencies and each.memory]

        lap.before = slices(began + _MARGIN, begin - _MARGIN)
        lap.after = slices(end + _MARGIN, began + self.options.every)


def _say_lap(number: int, lap: Lap) -> None:
    verdict = lap.verdict
    print(
        f"lap {number}, {lap.restart}: {lap.sent:,} messages,"
        f" {verdict.archived:,} in archives, {len(verdict.not_archived)} missing there,"
        f" {len(lap.lost_live)} not live, {lap.lost_on_link} on the link"
        f" ({lap.window[1] - lap.window[0]:.1f} s away); {dict(lap.counts)}",
        flush=True,
    )
    for what, found in (
        ("not archived", verdict.not_archived),
        ("archived twice", verdict.archived_twice),
        ("twice or out of order", verdict.disorder),
        ("not live", lap.lost_live),
    ):
        if found:
            print(f"  {what}: {', '.join(map(str, found[:_NAMES]))} …", flush=True)


def _show(kind: str, soak: Soak, report: Report) -> None:
    rows = []
    for number, lap in enumerate(soak.laps, 1):
        for name, slices in (("before", lap.before), ("after", lap.after)):
            if not slices:
                continue
            p50, p99 = (_latency(slices, part) for part in (0.5, 0.99))
            memory = _memory(slices)
            rows.append(
                [f"{number} {name}", lap.restart, f"{lap.sent:,}", f"{p50:.1f}", f"{p99:.1f}",
                 f"{memory / 2**20:.1f}"]
            )  # fmt: skip
            key = f"soak/{kind}/{number}/{name}"
            report.add(f"{key}/p50_ms", p50)
            report.add(f"{key}/p99_ms", p99)
            report.add(f"{key}/memory", memory)
    options = soak.options
    rate = soak.capacity * options.share
    report.add(f"soak/{kind}/capacity", soak.capacity)
    table(
        f"{kind}: {rate:.0f} messages/s ({options.share:.0%} of {soak.capacity:.0f}) to"
        f" {options.users} users with {options.devices} devices in {options.channels} channels,"
        f" {options.movers} more come and go",
        ["lap", "restart", "messages", "p50 ms", "p99 ms", "component MiB"],
        rows,
    )


def _latency(slices: list[Slice], part: float) -> float:
    return 1000 * percentile([each for one in slices for each in one.latencies], part)


def _memory(slices: list[Slice]) -> float:
    return median([each for one in slices for each in one.memory])


def _judge(kind: str, soak: Soak, report: Report) -> None:
    """Report for each criterion whether it holds; a failed one is a problem of the run."""
    laps = soak.laps
    lost = sum(len(lap.verdict.not_archived) for lap in laps)
    live = sum(len(lap.lost_live) for lap in laps)
    twice = sum(len(lap.verdict.archived_twice) + len(lap.verdict.disorder) for lap in laps)
    criteria = [
        ("every message in the archive of each who was in", f"{lost} missing", lost == 0),
        ("live to every device but while the component restarts", f"{live} missing", live == 0),
        ("nothing twice or out of order", f"{twice} times", twice == 0),
    ]
    later = [_memory(part) for lap in laps[1:] for part in (lap.before, lap.after) if part]
    if len(later) > 1:
        ratio = max(later) / min(later)
        report.add(f"soak/{kind}/memory_ratio", ratio)
        said = f"{min(later) / 2**20:.1f}-{max(later) / 2**20:.1f} MiB"
        criteria.append(("memory flat after the first lap", said, ratio <= _GROWTH))
    # The first lap warms up; if there is no other, it is used.
    first, last = laps[min(1, len(laps) - 1)], laps[-1]
    for part, name in ((0.5, "p50"), (0.99, "p99")):
        before = [_latency([each], part) for each in first.before + first.after]
        after = [_latency([each], part) for each in last.before + last.after]
        if not before or not after:
            continue
        report.add(f"soak/{kind}/{name}_ratio", median(after) / median(before))
        said = f"{min(before):.1f}-{max(before):.1f} ms, then {min(after):.1f}-{max(after):.1f} ms"
        # The slowest slice of the first laps is the measure of noise.
        criteria.append((f"{name} at the end as at first", said, median(after) <= max(before)))
    table(
        "Criteria",
        ["", "found", "holds"],
        [[name, found, "yes" if holds else "NO"] for name, found, holds in criteria],
    )
    report.problems += [f"{kind}: {name}: {found}" for name, found, ok in criteria if not ok]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--servers", default="ejabberd-24.12,prosody-13", help="server kinds")
    parser.add_argument("--minutes", type=float, default=30, help="of load, all laps together")
    parser.add_argument("--every", type=float, default=300, help="seconds of load of one lap")
    parser.add_argument("--share", type=float, default=0.8, help="of the measured capacity")
    parser.add_argument("--users", type=int, default=200, help="members who stay")
    parser.add_argument("--devices", type=int, default=2, help="of each")
    parser.add_argument("--channels", type=int, default=20, help="each member is in one")
    parser.add_argument("--movers", type=int, default=10, help="users who come and go")


async def _server(kind: str, options: argparse.Namespace, report: Report) -> None:
    block = Block()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(block.close)
        site = Site(kind, block, native=False, archive=True)
        stack.push_async_callback(site.stop)
        await site.start()
        soak = Soak(site, options)
        print(f"{kind}: measuring the capacity", flush=True)
        await soak.run()
        _show(kind, soak, report)
        _judge(kind, soak, report)


def run(options: argparse.Namespace, report: Report) -> None:
    """Run on each requested server, one after the other."""
    for kind in options.servers.split(","):
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_server(kind, options, report))
        except Exception as error:  # noqa: BLE001 - said, shown, and the status tells
            traceback.print_exc()
            report.missing(f"soak on {kind}", error)
