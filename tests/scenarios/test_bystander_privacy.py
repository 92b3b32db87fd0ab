"""What goes wrong between one user and a channel stays between those two.

The kind: a channel that is blocked, an account that is deleted and registered anew, answers that
come too late. What each must come to is shown in the tests of those; here others must not
notice, and the user's own requests must be answered.
"""

import asyncio

import pytest
from harness import caps, ns
from harness.bystander import LONG, Withstands
from harness.client import register, unregister
from harness.fake import is_join, joined
from harness.stack import Stack, client_join, client_leave
from harness.stanza import Stanza, match
from harness.steps import memberships, session

pytestmark = [pytest.mark.slow, pytest.mark.abuse(6, 29), pytest.mark.timeout(120)]

ROUNDS = 8 if LONG else 2


async def test_a_blocked_channel_that_is_left(stack: Stack, withstands: Withstands) -> None:
    async def attack() -> None:
        client = await stack.raw(await stack.user())
        await client.mix_online()
        for _ in range(ROUNDS):
            channel = await stack.joined(client)
            await client.block(channel.jid)
            client.presence("<show>away</show>")
            stack.fake.say(channel.jid, client.bare, "is not heard")
            answer = await client.iq(client_leave(client.bare, channel.jid), 10)
            assert answer["type"] in ("result", "error")
        await stack.settle(client)
        client.none(match("message", body="is not heard"))

    await withstands(attack)


async def test_an_account_deleted_while_it_joins(stack: Stack, withstands: Withstands) -> None:
    """Its heir is in no channel."""

    async def attack() -> None:
        for _ in range(ROUNDS):
            asked: list[Stanza] = []
            channel = stack.fake.channel(join=lambda stanza, asked=asked: asked.append(stanza))
            client = await session(stack)
            request = client_join(client.bare, channel.jid)
            client.send(request.replace("<iq", "<iq id='j'", 1))
            await stack.fake.expect(is_join(channel.jid))
            await unregister(client)
            heir = await stack.raw(await register(stack.server.place, name=client.account.local))
            stack.fake.send(joined(asked[0], channel))
            await stack.settle(heir)
            assert channel.jid not in await memberships(heir)

    await withstands(attack)


async def test_answers_that_come_when_nobody_waits(stack: Stack, withstands: Withstands) -> None:
    async def attack() -> None:
        client = await session(stack)
        for _ in range(ROUNDS):
            asked: list[Stanza] = []
            channel = stack.fake.channel(join=lambda stanza, asked=asked: asked.append(stanza))
            answer = await client.iq(client_join(client.bare, channel.jid), 10)
            assert answer["type"] == "error"
            channel.join = None
            for stanza in asked * 20:
                stack.fake.send(joined(stanza, channel))
            await stack.settle(client)
        for _ in range(100):
            stack.fake.send(
                f"<iq type='result' id='never' from='{channel.jid}' to='{client.bare}'>"
                f"<join xmlns='{ns.CORE1}' id='p'/></iq>"
            )
            await asyncio.sleep(0.005)

    await withstands(attack)


async def test_blocked_and_unblocked(stack: Stack, withstands: Withstands) -> None:
    """At the block the channel sees the device go, at the unblock it sees it again."""

    async def attack() -> None:
        client = await stack.raw(await stack.user())
        await client.mix_online()
        channels = [await stack.joined(client) for _ in range(10)]
        for _ in range(ROUNDS):
            for channel in channels:
                await client.block(channel.jid)
            await stack.settle(client)
            stack.fake.inbox.clear()
            await client.set(f"<unblock xmlns='{ns.BLOCKING}'/>")
            for channel in channels:
                await stack.fake.expect(
                    match("presence", to=channel.jid, test=lambda p: not p["type"])
                )

    await withstands(attack)


async def test_a_preference_in_a_form(stack: Stack, withstands: Withstands) -> None:
    """As XEP-0404's own example has it, and of a channel that says the contrary: not shared."""

    def form(value: str, type_: str) -> str:
        return (
            f"<x xmlns='{ns.DATA}' type='{type_}'><field var='FORM_TYPE' type='hidden'>"
            f"<value>{ns.MIX_ANON}</value></field><field var='Presence'>"
            f"<value>{value}</value></field></x></join>"
        )

    def contradicts(stanza: Stanza) -> str:
        script = stack.fake.channels[stanza["to"]]
        return joined(stanza, script).replace("</join>", form("share", "result"))

    async def attack() -> None:
        client = await stack.raw(await stack.user())
        await client.mix_online()
        channels = [stack.fake.channel(join=contradicts) for _ in range(10 * ROUNDS)]
        for channel in channels:
            request = client_join(client.bare, channel.jid)
            request = request.replace("</join>", form("not share", "submit"))
            answer = await client.iq(request, 10)
            assert answer["type"] == "result", answer.raw
        client.presence(caps.element(caps.MIX) + "<show>away</show>")
        await stack.settle(client)
        for channel in channels:
            stack.fake.none(match("presence", from_=client.jid, to=channel.jid))

    await withstands(attack)


async def test_a_channel_that_only_the_roster_knows(stack: Stack, withstands: Withstands) -> None:
    """What it sends to who has put it there without joining is in no archive."""

    async def attack() -> None:
        client = await stack.raw(await stack.user())
        await client.mix_online()
        known = await stack.joined(client)
        for _ in range(ROUNDS):
            channel = stack.fake.channel()
            await client.set(
                f"<query xmlns='{ns.ROSTER}'><item jid='{channel.jid}' name='mine'/></query>"
            )
            for _ in range(20):
                stack.fake.say(channel.jid, client.bare, "is not archived")
            stack.fake.say(known.jid, client.bare, "is")
            await client.expect(match("message", from_=known.jid))
            await stack.settle(client)
            assert not await stack.archive(client.account, channel.jid)

    await withstands(attack)
