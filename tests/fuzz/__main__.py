"""Command line of the fuzzer; see ``run --help``."""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import resident_bytes
from benchmarks.report import conditions, table
from harness.machines import cache

from fuzz import memory

TARGETS = {
    "stream": "framer and stream beside a real parser, in chunks of any size",
    "control": "sessions of stanzas through the core; its answers, copies and annotations",
    "events": "what taps tell of",
    "records": "what Redis holds, loaded from a real Redis",
}
_LONGEST = {"stream": 4_096, "control": 4_096, "events": 1_024, "records": 2_048}
_STUCK = 1_800
"""Wall-clock seconds for one input, including time in which the process was stopped: an input that
computes long enough to count as a hang is found much earlier, by `fuzz.engine` itself."""

_RSS_LIMIT_MB = 1_024
_FRESH_SHARE, _FRESH_LEAST = 0.05, 20.0
"""Part of the time, and seconds, for trying new inputs while each byte is counted."""


@dataclass
class Outcome:
    """The outcome of one target."""

    target: str
    executions: int = 0
    edges: int = 0
    kept: int = 0
    rss: list[int] = field(default_factory=list)
    lines: str = ""
    problems: list[str] = field(default_factory=list)


def main() -> int:
    """Fuzz the requested targets; return 1 if something was found."""
    parser = argparse.ArgumentParser(
        prog="tests/fuzz/run",
        description="Looks for bytes that break what must hold (crash, hang, growth, a check that "
        "fails), following the branches of component/ and schemas/. The search goes on where the "
        "last one ended: inputs worth keeping are in the cache, findings beside them.",
        epilog="Targets: "
        + "; ".join(f"{name}: {what}" for name, what in TARGETS.items())
        + ". Examples: run all --seconds 900; run control; run stream --repeat FILE",
    )
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--repeat", type=Path, help="try one finding again, with its traceback")
    options = parser.parse_args()
    if options.repeat is not None:
        return _engine(options.target, "repeat", str(options.repeat)).wait()
    names = list(TARGETS) if options.target == "all" else [options.target]
    outcomes = [_fuzz(name, options.seconds) for name in names]
    _show(outcomes, options.seconds)
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def _engine(*arguments: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    out = None if log is None else log.open("wb")
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "fuzz.engine", *arguments],
        stdout=out,
        stderr=subprocess.STDOUT if out else None,
    )


def _fuzz(target: str, seconds: int) -> Outcome:
    folder = cache() / "fuzz" / target
    corpus, findings = folder / "corpus", folder / "findings"
    for each in (corpus, findings):
        each.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(target)
    before = set(findings.iterdir())
    log = folder / "log"
    began = time.monotonic()
    child = _engine(
        target, "fuzz", str(corpus), f"-max_total_time={seconds}", f"-timeout={_STUCK}",
        f"-report_slow_units={_STUCK}",
        f"-rss_limit_mb={_RSS_LIMIT_MB}", f"-max_len={_LONGEST[target]}",
        f"-artifact_prefix={findings}/", f"-dict={folder / 'words'}", "-print_final_stats=1",
        log=log,
    )  # fmt: skip
    while child.poll() is None:
        time.sleep(1)
        outcome.rss.append(_resident(child.pid))
        _progress(target, time.monotonic() - began, seconds, log)
    said = log.read_text(encoding="utf-8", errors="replace")
    outcome.executions = _number(said, r"number_of_executed_units:\s+(\d+)")
    outcome.edges = _number(said, r"cov: (\d+)")
    outcome.rss = [each for each in outcome.rss if each]
    if child.returncode and not set(findings.iterdir()) - before:
        outcome.problems.append(f"the fuzzer ended with status {child.returncode}: see {log}")
    if grew := memory.grown(memory.looks(folder / "memory")):
        outcome.problems.append(f"fuzzing grows: {grew}")
    _replay(outcome, corpus, log)
    _fresh(outcome, corpus, log, seconds)
    for finding in sorted(set(findings.iterdir()) - before):
        outcome.problems.append(f"{finding}: tests/fuzz/run {target} --repeat {finding}")
    return outcome


def _replay(outcome: Outcome, corpus: Path, log: Path) -> None:
    """Replay all kept inputs repeatedly: memory must not grow at all."""
    replay = log.with_name("replay")
    status = _engine(outcome.target, "replay", str(corpus), log=replay).wait()
    lines = replay.read_text(encoding="utf-8", errors="replace").splitlines()
    if status == 0:
        facts = json.loads(lines[-1])
        outcome.kept, outcome.lines = facts["inputs"], facts["lines"]
        if facts["blocks_after"] > 1.005 * facts["blocks_before"]:
            outcome.problems.append(f"replaying grows: {lines[-1]}")
    elif not outcome.problems:
        outcome.problems.append(f"replaying failed: see {replay}")


def _fresh(outcome: Outcome, corpus: Path, log: Path, seconds: int) -> None:
    """Try new inputs for a while, counting each byte that Python allocates."""
    fresh, span = log.with_name("fresh"), max(seconds * _FRESH_SHARE, _FRESH_LEAST)
    status = _engine(outcome.target, "fresh", str(corpus), str(span), log=fresh).wait()
    said = fresh.read_text(encoding="utf-8", errors="replace").splitlines()
    if status:
        outcome.problems.append(f"trying what is new failed: see {fresh}")
    elif grew := memory.grown(json.loads(said[-1])):
        outcome.problems.append(f"what is new grows: {grew}")


def _resident(pid: int) -> int:
    try:
        return resident_bytes(pid)
    except OSError:
        return 0


def _number(text: str, pattern: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def _progress(target: str, passed: float, seconds: int, log: Path) -> None:
    """Show progress: one updated line on a terminal, a line a minute elsewhere."""
    edges = _number(log.read_text(encoding="utf-8", errors="replace"), r"cov: (\d+)")
    said = f"{target}: {passed:.0f} of {seconds} s, {edges} branches"
    if sys.stdout.isatty():
        print(f"\r\033[K{said}", end="\r", flush=True)
    elif int(passed) % 60 == 0:
        print(said, flush=True)


def _show(outcomes: list[Outcome], seconds: int) -> None:
    table(
        f"{seconds} s each, {conditions()['date']}, commit {conditions()['commit']},"
        f" load {os.getloadavg()[0]:.1f}",
        ["target", "executions", "branches", "inputs kept", "lines", "MiB", "problems"],
        [
            [
                o.target, f"{o.executions:,}", f"{o.edges:,}", f"{o.kept:,}", o.lines,
                f"{o.rss[0] / 2**20:.0f}-{o.rss[-1] / 2**20:.0f}" if o.rss else "-",
                str(len(o.problems)),
            ]
            for o in outcomes
        ],
    )  # fmt: skip
    for outcome in outcomes:
        for problem in outcome.problems:
            print(f"{outcome.target}: {problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
