"""Print which test covers which clause on which server, and put the table into README.md.

Run as ``python -m harness.report RESULTS SERVERS``; in the folder RESULTS are JSON files. Exit
status 1 when a clause has no test and is not planned, when a planned one has a test, or when a
test failed.
"""

import json
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Final

from harness.machines import REPOSITORY

BEGIN: Final = "<!-- conformance:begin -->"
END: Final = "<!-- conformance:end -->"
SIGNS: Final = {"passed": "pass", "failed": "FAIL", "skipped": "-"}

Results = dict[str, dict[str, list[dict[str, str]]]]


def load(path: Path) -> Results:
    """Return the records in a folder: clause -> server ('' for tests without one) -> records."""
    results: Results = defaultdict(lambda: defaultdict(list))
    for part in sorted(path.glob("*.json")):
        for record in json.loads(part.read_text(encoding="utf-8")):
            results[record["id"]][record["server"]].append(record)
    return results


def verdict(records: list[dict[str, str]]) -> str:
    """Return the worst outcome of some records, as the table shows it."""
    outcomes = {record["result"] for record in records}
    for outcome in ("failed", "skipped", "passed"):
        if outcome in outcomes and (outcome != "skipped" or outcomes == {"skipped"}):
            return SIGNS[outcome]
    return "-"


def table(clauses: dict[str, dict[str, str]], results: Results, servers: list[str]) -> list[str]:
    """Return the Markdown table, one row per clause."""
    lines = [
        "| id | clause | tests | " + " | ".join(servers) + " |",
        "|---|---|---|" + "---|" * len(servers),
    ]
    for id_, clause in clauses.items():
        by_server = results.get(id_, {})
        tests = sorted({record["test"] for records in by_server.values() for record in records})
        names = ", ".join(test.rpartition("::")[2].removeprefix("test_") for test in tests[:3])
        more = f" and {len(tests) - 3} more" if len(tests) > 3 else ""
        if tests:
            anywhere = by_server.get("", [])
            cells = [verdict(by_server.get(server, []) + anywhere) for server in servers]
        else:
            names = f"not yet: {clause['planned']}" if "planned" in clause else "none"
            cells = ["-"] * len(servers)
        lines.append(f"| {id_} | {clause['text']} | {names}{more} | " + " | ".join(cells) + " |")
    return lines


def complaints(clauses: dict[str, dict[str, str]], results: Results) -> list[str]:
    """Return the violations, one line each."""
    found = [f"{id_} is no clause of conformance.toml" for id_ in sorted(set(results) - {*clauses})]
    for id_, clause in clauses.items():
        if id_ not in results and "planned" not in clause:
            found.append(f"{id_} has no test and is not planned")
        if id_ in results and "planned" in clause:
            found.append(f"{id_} is said to be planned, but has a test")
    for id_, by_server in sorted(results.items()):
        for records in by_server.values():
            found.extend(
                f"{id_} failed: {r['test']} [{r['server']}] {r['why']}"
                for r in records
                if r["result"] == "failed"
            )
    return found


def rewrite(readme: Path, lines: list[str]) -> bool:
    """Put the table between the marks of a Markdown file; tell whether it has marks."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        return False
    block = "\n".join(lines)
    readme.write_text(f"{head}{BEGIN}\n{block}\n{END}{tail}", encoding="utf-8")
    return True


def main(path: str, servers: str) -> int:
    """Report on a run and return the exit status."""
    clauses = tomllib.loads((REPOSITORY / "tests/conformance.toml").read_text(encoding="utf-8"))
    results = load(Path(path))
    lines = table(clauses, results, servers.split(","))
    print("\n".join(lines))
    shown = sum(1 for id_ in clauses if id_ in results)
    print(f"\n{shown} of {len(clauses)} clauses have tests.")
    if not rewrite(REPOSITORY / "README.md", lines):
        print(f"README.md has no {BEGIN} … {END}: the table was not put there.")
    found = complaints(clauses, results)
    for complaint in found:
        print(complaint)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
