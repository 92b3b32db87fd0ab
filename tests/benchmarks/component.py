"""The component alone over TCP, on one core, against the alternatives.

mixpam: the real link, framing, routing decision and copies, with a stanza for each user and with
the tap's batches. Against it: C + expat without any decision, slixmpp's ComponentXMPP, and
aioxmpp's XSOs in and out.
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import traffic
from benchmarks.feeder import Engine, EngineError, compile_ceiling, pieces, python
from benchmarks.report import Report, median, spread, table

TOGETHER = 50
"""Users of one stanza if the tap sends batches; such a stanza counts as that many."""

WARM = 3
"""Warm-up rounds: until buffers and heaps have their final size."""

SLOW = {"slixmpp": 20, "aioxmpp": 60}
"""Engines that get only this small part of the stanzas, because they would take minutes."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--stanzas", type=int, default=60_000, help="into an engine, each round")
    parser.add_argument("--devices", default="1,2,3", help="copies for each stanza")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument(
        "--engines",
        default="ceiling,mixpam,translated,gathered,slixmpp,aioxmpp",
        help="what takes part",
    )
    parser.add_argument(
        "--flat", type=int, default=500_000, help="stanzas of the memory test, 0 for none"
    )
    parser.add_argument(
        "--names", type=int, default=500_000, help="stanzas with ever-new element names"
    )


def _engine(name: str, devices: int, folder: Path) -> Engine:
    match name:
        case "ceiling":
            return Engine(name, [str(compile_ceiling(folder))], devices)
        case "mixpam":
            return Engine(name, python("mixpam"), devices)
        case "translated":
            # core:0 from the channel, core:1 at the devices: mod_mix and living clients.
            return Engine(name, python("mixpam"), devices, extra=("core1",))
        case "gathered":
            # One stanza for many users in each direction, as with a tap that supports it.
            return Engine(name, python("mixpam"), devices, extra=("gathered",))
        case "slixmpp":
            return Engine(name, python("slix"), devices)
        case "aioxmpp":
            return Engine(name, python("aio"), devices, content="jabber:client")
    raise ValueError(f"no such engine: {name}")


def _check(engine: Engine) -> None:
    """Check that an engine's first copies are the stanza with another `to`, byte for byte.

    Engines that rebuild stanzas may order and quote differently; their copies are only counted.
    """
    if engine.name not in {"ceiling", "mixpam", "translated"}:
        return
    original = next(traffic.stanzas(1, core=0 if engine.name == "translated" else 1))
    to, _, _ = original.partition(b" to='")[2].partition(b"'")
    original = original.replace(b"mix:core:0", b"mix:core:1")
    for device in range(1, engine.devices + 1):
        if original.replace(b" to='" + to, b" to='%s/d%d" % (to, device)) not in engine.head:
            raise EngineError(f"{engine.name} does not copy as it should: {engine.head[:2000]!r}")


def _traffic(name: str, count: int) -> Iterator[bytes]:
    if name == "gathered":
        return traffic.gathered(count, TOGETHER)
    return traffic.stanzas(count, core=0 if name == "translated" else 1)


def _throughput(devices: int, options: argparse.Namespace, folder: Path, report: Report) -> None:
    names = options.engines.split(",")
    engines: list[Engine] = []
    try:
        for name in names:
            # One by one: running ones must be stopped if the next fails to start.
            engines.append(_engine(name, devices, folder))  # noqa: PERF401
        counts = {name: options.stanzas // SLOW.get(name, 1) for name in names}
        feeds = {name: pieces(_traffic(name, counts[name])) for name in names}
        rates: dict[str, list[float]] = {name: [] for name in names}
        costs: dict[str, list[float]] = {name: [] for name in names}
        for engine in engines:
            for _ in range(WARM):
                engine.feed(feeds[engine.name], counts[engine.name])
            _check(engine)
        for number in range(options.rounds):
            for engine in engines if number % 2 == 0 else reversed(engines):
                seconds, cpu = engine.feed(feeds[engine.name], counts[engine.name])
                rates[engine.name].append(counts[engine.name] / seconds)
                costs[engine.name].append(cpu / counts[engine.name] * 1e6)
    finally:
        for engine in engines:
            engine.stop()
    first = names[0]
    rows = []
    for name in names:
        by_rate = [mine / other for mine, other in zip(rates[name], rates[first], strict=True)]
        by_cpu = [other / mine for mine, other in zip(costs[name], costs[first], strict=True)]
        rows.append(
            [name, f"{median(rates[name]):,.0f}", f"{median(costs[name]):.2f}",
             f"{median(by_rate):.3f}", spread(by_rate), f"{median(by_cpu):.3f}", spread(by_cpu)]
        )  # fmt: skip
        key = f"component/R{devices}/{name}"
        report.add(f"{key}/rate_ratio", median(by_rate))
        report.add(f"{key}/cpu_ratio", median(by_cpu))
        report.add(f"{key}/cpu_us", median(costs[name]))
    table(
        f"{devices} copies for each {traffic.SIZE}-byte stanza; ratios to {first}",
        ["engine", "stanzas in/s", "CPU us/stanza", "rate ratio", "range", "CPU ratio", "range"],
        rows,
    )


def _new_names(count: int) -> Iterator[bytes]:
    for number in range(count):
        who = number % traffic.USERS
        channel = traffic.channel(traffic.channels_of(who)[0])
        # Names come from remote users: <x0000001/> and so on, in namespaces as new.
        extra = f"</body><n{number:x} xmlns='urn:n:{number:x}' a{number:x}=''/><body>"
        yield traffic.message(traffic.user(who), channel, number, extra=extra)


def _memory(what: str, count: int, folder: Path, report: Report) -> None:
    if not count:
        return
    engine = _engine("mixpam", 2, folder)
    rows = []
    try:
        step = max(count // 10, 1)
        feed = pieces(traffic.stanzas(min(step, 50_000)))
        engine.feed(feed, min(step, 50_000))  # warm: buffers have their size
        before = engine.memory
        news = _new_names(count)
        for number in range(1, 11):
            if what == "names":
                engine.feed(pieces(itertools.islice(news, step)), step)
            else:
                for _ in range(max(step // 50_000, 1)):
                    engine.feed(feed, min(step, 50_000))
            rows.append([f"{number * step:,}", f"{engine.memory / 2**20:.1f}"])
        grown = (engine.memory - before) / 2**20
    finally:
        engine.stop()
    report.add(f"component/memory/{what}/grown_mib", grown)
    title = "ever-new element names" if what == "names" else "ordinary stanzas"
    table(f"Memory over {count:,} {title}: grew {grown:+.1f} MiB", ["stanzas", "MiB"], rows)


def run(options: argparse.Namespace, report: Report) -> None:
    """Run the benchmark; an engine that cannot take part is reported, and the others go on."""
    with tempfile.TemporaryDirectory(prefix="mixpam-bench-") as temporary:
        folder = Path(temporary)
        if "ceiling" in options.engines.split(","):
            try:
                compile_ceiling(folder)
            except EngineError as error:
                report.missing("ceiling", error)
                rest = [name for name in options.engines.split(",") if name != "ceiling"]
                if not rest:
                    return
                options.engines = ",".join(rest)
        for devices in options.devices.split(","):
            _throughput(int(devices), options, folder, report)
        _memory("flat", options.flat, folder, report)
        _memory("names", options.names, folder, report)
