"""Fixtures of tests of the taps alone."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness.contrib import ContribEjabberd
from harness.house import TapHouse
from harness.logs import KeptLogs, running
from harness.loopback import Block
from harness.machines import KINDS


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def contrib(server_kind: str, block: Block, logs: KeptLogs) -> AsyncIterator[TapHouse]:
    """Run an ejabberd with the tap installed as a contributed module."""
    if KINDS[server_kind].software != "ejabberd":
        pytest.skip("about ejabberd's modules")
    house = TapHouse(server_kind, block, ContribEjabberd(KINDS[server_kind], block))
    async with running(house, logs):
        yield house
