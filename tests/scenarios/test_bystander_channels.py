"""One user in six hundred channels, and what a neighbour pays for it.

The kind: what costs as much as the user has channels, or that squared: annotated rosters, and
presence of any size that goes to all of them.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness import ns
from harness.bystander import Withstands
from harness.client import RawClient, unregister
from harness.stack import Stack
from harness.stanza import match
from harness.steps import memberships

from component.store.keys import Keys
from schemas.records import MembershipRecord

pytestmark = [pytest.mark.slow, pytest.mark.abuse(8, 14), pytest.mark.timeout(120)]

CHANNELS = 600


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def everywhere(shared_stack: Stack) -> AsyncIterator[RawClient]:
    """Give an online MIX client of a user in so many channels, who goes away afterwards."""
    stack = shared_stack
    account = await stack.user()
    client = RawClient(account, "everywhere")
    await client.login()
    client.components = [stack.component]
    await stack.mixpam.stop()
    channels = [stack.fake.channel().jid for _ in range(CHANNELS)]
    for number in range(0, CHANNELS, 50):
        ids = [f"r{each}" for each in range(number, number + 50)]
        for id_, channel in zip(ids, channels[number:], strict=False):
            client.send(
                f"<iq type='set' id='{id_}'><query xmlns='{ns.ROSTER}'>"
                f"<item jid='{channel}'/></query></iq>"
            )
        for id_ in ids:
            await client.expect(match("iq", id=id_, type="result"), 30)
    records = [
        MembershipRecord(channel=channel, participant_id="p", nodes=[], core=1)
        for channel in channels
    ]
    fields = [part for each in records for part in (each.channel, each.model_dump_json())]
    await stack.redis.ask("HSET", Keys("mixpam").channels(client.bare), *fields)
    await stack.mixpam.start()
    # It reads the roster first, and says `from` in six hundred items.
    async with asyncio.timeout(60):
        while len(await memberships(client)) < CHANNELS:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.2)
    await client.mix_online()
    await stack.settle(client)
    yield client
    await unregister(client)
    await client.cut()


async def test_rosters_of_six_hundred_channels(
    everywhere: RawClient, withstands: Withstands
) -> None:
    """Five a second, each annotated in full."""

    async def attack() -> None:
        for _ in range(10):
            answer = await everywhere.roster(annotate=True)
            assert answer.raw.count("participant-id") == CHANNELS
            await asyncio.sleep(0.2)

    await withstands(attack, busy_server=True)


async def test_a_presence_of_any_size_for_six_hundred_channels(
    stack: Stack, everywhere: RawClient, withstands: Withstands
) -> None:
    """200 kB, of which channels are told what is not large."""

    async def attack() -> None:
        for number in range(3):
            everywhere.presence(f"<priority>{number}</priority><status>{'s' * 200_000}</status>")
            await everywhere.fence()
            await asyncio.sleep(0.7)
        await stack.settle()

    await withstands(attack, busy_server=True)
