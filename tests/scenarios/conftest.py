"""Fixtures of scenarios alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from harness.stack import Stack


@pytest_asyncio.fixture(loop_scope="session")
async def breakable(stack: Stack) -> AsyncIterator[Stack]:
    """Give a test the running system, to kill and freeze the component as it likes.

    A component that is not running, or not known to be sound, afterwards is started anew.
    """
    process = stack.mixpam.process
    pid = process.pid
    yield stack
    if process.running and process.pid == pid and not _frozen(pid):
        return
    await stack.mixpam.stop(kill=True)
    await stack.mixpam.start()


def _frozen(pid: int) -> bool:
    """Tell whether a process has been stopped by SIGSTOP."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[0] == "T"
