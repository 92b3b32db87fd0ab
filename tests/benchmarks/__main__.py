"""Command line of the benchmarks; see ``run --help``."""

import argparse
import importlib
import sys
import traceback
from pathlib import Path

from benchmarks.report import Report

BENCHMARKS = {
    "path": "the whole path against ejabberd's own MIX-PAM, and against direct sending",
    "component": "the component alone over TCP against C + expat, slixmpp and aioxmpp",
    "joins": "how long messages take while hundreds of users join at the same time",
    "control": "CPU per join, roster, parse in the core",
    "memory": "bytes per user, start from a real Redis, and pauses of a whole component",
    "standby": "from letting a standby in to its first copy: following against reading again",
    "idle": "CPU of a component whose users are all silent",
    "soak": "half an hour at 80 %% of the capacity, with restarts: no loss, no growth",
    "growth": "cost per message against participants, devices, channels and users",
}


def main() -> int:
    """Run the requested benchmarks; return 1 if a part could not run."""
    parser = argparse.ArgumentParser(
        prog="tests/benchmarks/run",
        description="Each benchmark prints tables, writes JSON and compares its ratios with "
        "those of the last run of the same command line. Absolute times say "
        "little on a shared machine; ratios come from interleaved rounds.",
        epilog="Examples: run path --servers ejabberd-24.12 --shapes 50x2,500x2; "
        "run component --stanzas 100000; run control; run memory --users 10000",
    )
    chosen = parser.add_subparsers(dest="benchmark", required=True)
    for name, help_ in BENCHMARKS.items():
        sub = chosen.add_parser(name, help=help_, description=help_)
        sub.add_argument("--json", type=Path, help="where the numbers go (default: the cache)")
        importlib.import_module(f"benchmarks.{name}").add_options(sub)
    options = parser.parse_args()
    arguments = {k: v for k, v in vars(options).items() if k not in {"json", "benchmark"}}
    report = Report(options.benchmark, arguments, options.json)
    try:
        importlib.import_module(f"benchmarks.{options.benchmark}").run(options, report)
    except Exception as error:  # noqa: BLE001 - reported, and in the exit status
        traceback.print_exc()
        report.missing(options.benchmark, error)
    if report.results:
        report.finish()
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
