"""Spread tests over processes, those of one server together: each server is started once.

For pytest-xdist, in place of its own groups, which later versions of pytest do not show it.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from harness.machines import KINDS

TOGETHER = ("test_demo.py",)
"""Files whose tests want the same ports."""


def scope(nodeid: str) -> str:
    """Name what a test has to share a process with; itself, if with nothing."""
    name, _, parameters = nodeid.partition("[")
    for part in (*KINDS, *TOGETHER):
        if part in (parameters if part in KINDS else name):
            return part
    return nodeid


class ByServer(LoadScopeScheduling):
    """Gives each process whole scopes, the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer:
    """Have it done this way."""
    return ByServer(config, log)
