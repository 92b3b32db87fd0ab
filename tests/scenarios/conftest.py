"""Fixtures of scenarios alone."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from harness.bystander import Attack, Neighbour, Report, Withstands, withstood
from harness.stack import Stack


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def neighbour(shared_stack: Stack) -> AsyncIterator[Neighbour]:
    """Have a neighbour live on the shared system for all attacks of a module."""
    lives = await Neighbour(shared_stack).start()
    yield lives
    await lives.end()


@pytest_asyncio.fixture(loop_scope="session")
async def withstands(stack: Stack, neighbour: Neighbour) -> Withstands:
    """Give a test that attacks the running system the neighbour's judgement of it."""

    async def judged(attack: Attack, **how: Any) -> Report:
        return await withstood(stack, attack, neighbour=neighbour, **how)

    return judged


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
