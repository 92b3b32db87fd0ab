"""Spread tests over processes, those that share a server together: each is started once.

Tests of taps and of the whole system have servers of their own, so that each kind of server
makes two heaps. Both wait a lot, at different times: one half of the processes begins with these,
one with those. All else fills the gaps at the end.

For pytest-xdist, in place of its own groups, which later versions of pytest do not show it.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from harness.machines import KINDS

FOLDERS = ("tests/scenarios", "tests/integration")
TOGETHER = ("test_tap_silence.py", "test_demo.py")
"""Files whose tests wait at the same time, or want the same ports."""


def scope(nodeid: str) -> str:
    """Name what a test has to share a process with; itself, if with nothing."""
    name, _, parameters = nodeid.partition("[")
    for file in TOGETHER:
        if file in name:
            return file
    for kind in KINDS:
        if kind in parameters:
            return f"{kind} {name.rpartition('/')[0]}"
    return nodeid


HEAPS = [
    f"{kind} {FOLDERS[(number + half) % 2]}" for half in (0, 1) for number, kind in enumerate(KINDS)
] + [*TOGETHER]
"""What takes long, in the order in which it is begun."""


def place(nodeid: str) -> int:
    """Return the place of a test's heap in the order; what has none comes last."""
    heap = scope(nodeid)
    return HEAPS.index(heap) if heap in HEAPS else len(HEAPS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put what begins first to the front, if several processes share the tests."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place(item.nodeid))


class ByServer(LoadScopeScheduling):
    """Gives each process whole heaps, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer:
    """Have it done this way."""
    config.option.loadscopereorder = False
    return ByServer(config, log)
