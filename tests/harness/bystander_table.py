"""Put the table of each attack's effect on neighbours into tests/README.md.

Run as ``PYTHONPATH=.:tests python -m harness.bystander_table`` after the tests that use
`harness.bystander`; it takes the last run of each on each server.
"""

import json
import sys
from collections import defaultdict
from typing import Any, Final

from harness.bystander import KEPT, MARGIN
from harness.machines import KINDS, REPOSITORY

README: Final = REPOSITORY / "tests/README.md"
BEGIN: Final = "<!-- bystanders:begin -->"
END: Final = "<!-- bystanders:end -->"

Results = dict[str, dict[str, dict[str, Any]]]


def load() -> Results:
    """Return the last results: test -> server -> figures."""
    results: Results = defaultdict(dict)
    for path in sorted(KEPT.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        results[report["test"]][report["server"]] = report
    return results


def cell(report: dict[str, Any] | None) -> str:
    """Return the table's cell for one attack on one server."""
    if report is None:
        return "-"
    words = [f"{min(report['live'])} of {report['sent']}"]
    if report["links_lost"] or report["restarted"]:
        words.append("**link lost**")
    later = report["p99"] - report["quiet_p99"]
    p99 = f"{report['quiet_p99'] * 1000:.0f} → {report['p99'] * 1000:.0f} ms"
    if later >= MARGIN:
        straight = report["straight_p99"]
        servers = max(2 * straight, report.get("server_p99", 0.0))
        excused = report.get("busy_server", True) and report["p99"] - servers < MARGIN
        rule = "excused by the server" if excused else "**missed**"
        past = report.get("server_p99", 0.0)
        without = f"; without mixpam {past * 1000:.0f} ms" if past else ""
        p99 += f" (+{later * 1000:.0f}; straight {straight * 1000:.0f} ms{without}; {rule})"
    words.append(p99 + (" (2nd)" if report["retried"] else ""))
    return ", ".join(words)


def table(results: Results) -> str:
    """Return the Markdown table, a row per attack."""
    servers = list(KINDS)
    lines = ["| attack | " + " | ".join(servers) + " |", "|---|" + "---|" * len(servers)]
    for test in sorted(results):
        cells = " | ".join(cell(results[test].get(server)) for server in servers)
        lines.append(f"| {test.replace('_', ' ')} | {cells} |")
    return "\n".join(lines)


def renewed(text: str, rows: str) -> str:
    """Return the Markdown `text` with the table in it. Raises LookupError without marks."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise LookupError(f"tests/README.md has no {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{rows}\n{END}{tail}"


def main() -> int:
    """Renew tests/README.md."""
    README.write_text(renewed(README.read_text(encoding="utf-8"), table(load())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
