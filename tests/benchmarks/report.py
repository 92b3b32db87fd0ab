"""Tables on the terminal, JSON beside them, and changes since the last run."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.machines import REPOSITORY, cache

Results = dict[str, float]
"""Flat: 'what/case/side' -> number. Those that end in `ratio` may be compared between runs."""


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Return smallest and largest value, to show the noise."""
    return f"{min(values):.2f}-{max(values):.2f}"


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which `part` (0..1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, numbers to the right."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  " + "  ".join(cells))
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


def conditions() -> dict[str, Any]:
    """Return time and machine of the measurement."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted": _git("status", "--short", "--", "component", "schemas", "deploy"),
    }


def _git(*arguments: str) -> str:
    """Return git's output, or nothing outside a clone."""
    done = subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


class Report:
    """Keeps one run's numbers; compares them with the last run of the same command line."""

    def __init__(self, name: str, arguments: dict[str, Any], path: Path | None) -> None:
        self._name = name
        self._arguments = {key: str(value) for key, value in sorted(arguments.items())}
        self._folder = cache() / "benchmarks"
        self._path = path
        self._conditions = conditions()
        self.results: Results = {}
        self.problems: list[str] = []

    def add(self, key: str, value: float) -> None:
        """Keep a number."""
        self.results[key] = value

    def missing(self, part: str, error: Exception) -> None:
        """Report that a part could not run, and why; the exit status will show it too."""
        problem = f"{part}: could not run: {error}"
        self.problems.append(problem)
        print(f"\n{problem}", file=sys.stderr, flush=True)

    def finish(self) -> Path:
        """Write the JSON, print the comparison; return the path of the JSON."""
        before = self._last()
        self._folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = self._path or self._folder / f"{self._name}-{stamp}.json"
        path.write_text(
            json.dumps(
                {
                    "benchmark": self._name,
                    "arguments": self._arguments,
                    **self._conditions,
                    "load_after": os.getloadavg()[0],
                    "problems": self.problems,
                    "results": self.results,
                },
                indent=1,
            )
            + "\n",
            encoding="utf-8",
        )
        if before is not None:
            self._compare(before)
        print(f"\nNumbers: {path}")
        return path

    def _last(self) -> dict[str, Any] | None:
        for path in sorted(self._folder.glob(f"{self._name}-*.json"), reverse=True):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                continue
            if found.get("arguments") == self._arguments:
                return dict(found)
        return None

    def _compare(self, before: dict[str, Any]) -> None:
        rows = []
        for key, value in self.results.items():
            old = before["results"].get(key)
            if old and key.endswith("ratio"):
                rows.append(
                    [key, f"{old:.3f}", f"{value:.3f}", f"{(value / old - 1) * 100:+.0f} %"]
                )
        if rows:
            table(
                f"Against the last run ({before['date']}, load {before['load_before']:.1f})",
                ["", "then", "now", "change"],
                rows,
            )
