"""Distributes tests over processes; tests that share a server stay together, so each starts once.

Tests of taps and of the whole system have servers of their own, so each kind of server makes two
groups. Both wait a lot, at different times: half of the processes begin with the former, half with
the latter. All other tests fill the gaps at the end.

For pytest-xdist, instead of its own groups, which later versions of pytest do not show it.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from harness.machines import KINDS

FOLDERS = ("tests/scenarios", "tests/integration")
TOGETHER = ("test_tap_silence.py", "test_demo.py")
"""Files whose tests wait at the same time, or use the same ports."""


def scope(nodeid: str) -> str:
    """Name the group that a test shares a process with; the test itself, if it has none."""
    name, _, parameters = nodeid.partition("[")
    for file in TOGETHER:
        if file in name:
            return file
    for kind in KINDS:
        if kind in parameters:
            return f"{kind} {name.rpartition('/')[0]}"
    return nodeid


GROUPS = [
    f"{kind} {FOLDERS[(number + half) % 2]}" for half in (0, 1) for number, kind in enumerate(KINDS)
] + [*TOGETHER]
"""Long groups, in the order in which they begin."""


def place(nodeid: str) -> int:
    """Return the place of a test's group in the order; groups without one come last."""
    group = scope(nodeid)
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests by the order of groups, if several processes share them."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place(item.nodeid))


class ByServer(LoadScopeScheduling):
    """Gives each process whole groups, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer:
    """Use this scheduler."""
    config.option.loadscopereorder = False
    return ByServer(config, log)
