"""Records which clause each test covers, per server, for the conformance table.

Tests carry ``@pytest.mark.req("J3", …)`` and ``@pytest.mark.abuse(4, …)``; abuse 4 is
clause X4. With ``--conformance-json FILE`` the results are written there.
"""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

RESULTS = pytest.StashKey[list[dict[str, str]]]()
_HANDED_OVER = "mixpam_conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the file of results."""
    parser.addoption("--conformance-json", default=None, help="write results per clause here")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the record."""
    config.stash[RESULTS] = []
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(Collector())


def clauses(item: pytest.Item) -> list[str]:
    """Return the ids of the clauses that a test covers."""
    ids: list[str] = []
    for mark in item.iter_markers("req"):
        ids.extend(str(id_) for id_ in mark.args)
    for mark in item.iter_markers("abuse"):
        ids.extend(f"X{number}" for number in mark.args)
    return ids


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Note the tests left out of this run, so that their clauses do not count as untested."""
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        item.config.stash[RESULTS].extend(
            {
                "id": clause,
                "test": item.nodeid.partition("[")[0],
                "server": str(params.get("server_kind", "")),
                "result": "skipped",
                "why": "left out of this run",
            }
            for clause in clauses(item)
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep one result per clause, test and server."""
    report = yield
    if call.when == "call" or (call.when == "setup" and not report.passed):
        params = getattr(getattr(item, "callspec", None), "params", {})
        why = "" if report.passed else str(report.longrepr).strip().splitlines()[-1][:300]
        record = item.config.stash[RESULTS]
        for clause in clauses(item):
            record.append(
                {
                    "id": clause,
                    "test": item.nodeid.partition("[")[0],
                    "server": str(params.get("server_kind", "")),
                    "result": report.outcome,
                    "why": why,
                }
            )
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the record, or hand it to the process that collects those of all workers."""
    results = session.config.stash[RESULTS]
    handed_over: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    path = session.config.getoption("--conformance-json")
    if handed_over is not None:
        handed_over[_HANDED_OVER] = results
    elif path:
        # Each worker deselects for itself, so the same note comes more than once.
        unique = {json.dumps(result, sort_keys=True): result for result in results}
        Path(path).write_text(json.dumps(list(unique.values()), indent=1), "utf-8")


class Collector:
    """Takes the records of the worker processes, if tests run in several."""

    def pytest_testnodedown(self, node: Any) -> None:
        """Add a worker's record to this process's."""
        output = getattr(node, "workeroutput", {})
        node.config.stash[RESULTS].extend(output.get(_HANDED_OVER, []))
