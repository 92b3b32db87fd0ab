"""T5: a request that the component never answers gets an answer after two minutes.

All servers wait at the same time: each has a tap's house of its own from the first test on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio
from harness import ns
from harness.client import RawClient
from harness.house import TapHouse
from harness.logs import KeptLogs, running
from harness.loopback import Block
from harness.stanza import match
from test_tap_requests import answer, answered, ask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


@dataclass
class Asked:
    """A client, the ids of its requests, and how many were refused within 110 seconds."""

    tap: TapHouse
    client: RawClient
    ids: list[str]
    early: int = 0


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def asked(
    request: pytest.FixtureRequest, block: Block, logs: KeptLogs
) -> AsyncIterator[dict[str, Asked]]:
    """Return what a client of each kind of server has asked, 110 seconds later."""
    async with AsyncExitStack() as stack:
        found = {}
        for kind in request.config.getoption("--servers").split(","):
            tap = await stack.enter_async_context(running(TapHouse(kind, block), logs))
            client = await tap.client()
            ids = [ask(client) for _ in range(3)]
            await tap.link.expect(match("iq", id=ids[-1]))
            found[kind] = Asked(tap, client, ids)
        await asyncio.sleep(110)
        for each in found.values():
            each.early = each.client.count(match("iq", type="error"))
        yield found


async def test_what_has_no_answer_gets_one_after_two_minutes(
    server_kind: str, asked: dict[str, Asked]
) -> None:
    mine = asked[server_kind]
    client = mine.client
    assert mine.early == 0
    for id_ in mine.ids:
        error = (await answered(client, id_, 40)).need(f"{{{ns.CLIENT}}}error")
        assert error.get("type") == "wait"
        assert error.find(f"{{{ns.STANZAS}}}remote-server-timeout") is not None
    # What the component says at last is no second answer.
    answer(mine.tap, client, mine.ids[0])
    await mine.tap.fence(client)
    assert client.count(match("iq", id=mine.ids[0])) == 1
    again = ask(client)
    await mine.tap.link.expect(match("iq", id=again))
