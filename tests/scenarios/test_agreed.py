"""What a user never agreed to does not happen, and what was asked for comes to one end.

The kind: answers of a channel that come late, in any order, for somebody who has asked again
or is no more. In the end channel, roster and memory agree. tests/unit/test_model_membership.py
has every order of everything; here are those that have left ghosts, with real servers. And a
client that joins a hundred channels at once is in all of them.
"""

import asyncio

import pytest
from harness import ns
from harness.client import RawClient, register, unregister
from harness.fake import Script, error, is_join, joined, result
from harness.stack import Stack, client_join, client_leave
from harness.stanza import Stanza, match
from harness.steps import leaves, memberships, session
from harness.stream import fresh

HUNDRED = 100


async def agree(stack: Stack, client: RawClient, channel: Script, pid: str | None) -> None:
    """Check what roster, memory and the tap know: one participant id, or nothing."""
    await stack.settle(client)
    assert await memberships(client) == ({} if pid is None else {channel.jid: pid})
    item = await stack.roster(client.account, channel.jid)
    assert (item is not None) == (pid is not None)


async def no_answer(client: RawClient, request: str) -> None:
    """Ask, and be told that the channel does not answer."""
    answer = await client.iq(request, 15)
    assert answer.condition == "remote-server-timeout", answer.raw


@pytest.mark.req("J5", "J7")
@pytest.mark.parametrize("second", ["conflict", "result", "silence"])
async def test_a_late_result_while_the_second_join_is_open(stack: Stack, second: str) -> None:
    client = await session(stack)
    asked: list[Stanza] = []
    channel = stack.fake.channel(join=asked.append)
    await no_answer(client, client_join(client.bare, channel.jid))
    client.send(client_join(client.bare, channel.jid).replace("<iq", "<iq id='again'", 1))
    await stack.fake.expect(is_join(channel.jid))
    await stack.fake.expect(is_join(channel.jid))
    stack.fake.send(joined(asked[0], channel))
    if second == "conflict":
        stack.fake.send(error(asked[1], "cancel", "conflict"))
    elif second == "result":
        stack.fake.send(joined(asked[1], channel))
    answer = await client.expect(match("iq", id="again"), 10)
    assert answer["type"] == "result", answer.raw
    await agree(stack, client, channel, channel.pid)
    stack.fake.none(leaves(channel.jid))


@pytest.mark.req("J5", "L1", "L2")
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "the other way round"])
async def test_a_leave_and_a_join_that_are_both_answered_late(
    stack: Stack, order: tuple[int, int]
) -> None:
    client = await session(stack)
    channel = await stack.joined(client)
    left: list[Stanza] = []
    again: list[Stanza] = []
    channel.leave, channel.join = left.append, again.append
    await no_answer(client, client_leave(client.bare, channel.jid))
    await no_answer(client, client_join(client.bare, channel.jid))
    channel.pid = fresh("pid")
    answers = [result(left[0], f"<leave xmlns='{ns.CORE1}'/>"), joined(again[0], channel)]
    for number in order:
        stack.fake.send(answers[number])
        await stack.settle(client)
    await agree(stack, client, channel, channel.pid)
    # And it can be left.
    channel.leave = None
    answer = await client.iq(client_leave(client.bare, channel.jid))
    assert answer["type"] == "result", answer.raw
    await agree(stack, client, channel, None)


@pytest.mark.abuse(29)
@pytest.mark.req("L5")
@pytest.mark.parametrize("answered", ["before", "after"])
async def test_an_heir_is_in_nothing(stack: Stack, answered: str) -> None:
    """The account ends while its join is open, and another is registered by its name."""
    client = await stack.raw(await stack.user())
    asked: list[Stanza] = []
    channel = stack.fake.channel(join=asked.append)
    client.send(client_join(client.bare, channel.jid).replace("<iq", "<iq id='open'", 1))
    await stack.fake.expect(is_join(channel.jid))
    await unregister(client)
    await stack.fake.expect(leaves(channel.jid))
    if answered == "before":
        stack.fake.send(joined(asked[0], channel))
    account = await register(stack.server.place, name=client.account.local)
    heir = await (await stack.raw(account)).mix_online()
    if answered == "after":
        stack.fake.send(joined(asked[0], channel))
    await agree(stack, heir, channel, None)
    stack.fake.say(channel.jid, heir.bare, "for the one before")
    await stack.fake.expect(match("message", from_=heir.bare, type="error"))
    await stack.settle(heir)
    heir.none(match("message", body="for the one before"))
    heir.none(match("iq", type="set", has=f"{{{ns.ROSTER}}}query"))
    # The heir may join, as anybody.
    channel.join, channel.pid = None, fresh("pid")
    await stack.join(heir, channel)
    await agree(stack, heir, channel, channel.pid)


@pytest.mark.abuse(14)
async def test_a_hundred_joins_at_once(stack: Stack) -> None:
    """As a client that moves house does; of those, ten at a time are with the channels."""
    client = await session(stack)
    channels = [stack.fake.channel() for _ in range(HUNDRED)]
    answers = await asyncio.gather(
        *(client.iq(client_join(client.bare, channel.jid), 60) for channel in channels)
    )
    refused = [answer.raw for answer in answers if answer["type"] != "result"]
    assert not refused, refused[:3]
    asked = [s["to"] for s in stack.fake.inbox.matching(match("iq", type="set", from_=client.bare))]
    wanted = [channel.jid for channel in channels]
    assert [to for to in asked if to in wanted] == wanted
    assert await memberships(client) == {channel.jid: channel.pid for channel in channels}
