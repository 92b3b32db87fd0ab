"""Kicks that nobody heard are found out when the component is back, from real channels, too."""

import asyncio

import pytest
from harness import ns
from harness.client import RawClient
from harness.participants import tells
from harness.stack import Stack
from harness.stanza import match
from harness.steps import memberships

ASKED = 1.5
"""Seconds after which the component has asked the channels."""

pytestmark = pytest.mark.slow


async def gone(client: RawClient, channel: str) -> None:
    """Wait until a channel has been taken out of the user's roster."""
    item = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item[@jid='{channel}'][@subscription='remove']"
    await client.expect(match("iq", type="set", has=item), 10)


@pytest.mark.req("L4")
async def test_a_kick_while_the_component_was_down(breakable: Stack) -> None:
    stack = breakable
    client = await stack.raw(await stack.user())
    await client.roster(annotate=True)
    channel, kept = await stack.joined(client), await stack.joined(client)
    tells(channel, ("someone", "someone@else.example"))
    tells(kept, (kept.pid, client.bare))
    await stack.mixpam.stop(kill=True)
    stack.fake.event(channel.jid, client.bare, "participants", f"<retract id='{channel.pid}'/>")
    await stack.fake.fence()
    await stack.mixpam.start()
    await gone(client, channel.jid)
    assert await memberships(client) == {kept.jid: kept.pid}


@pytest.mark.req("L4")
async def test_a_real_channel_is_believed(breakable: Stack) -> None:
    """Who left it behind the component's back is out, who did not is not."""
    stack = breakable
    clients = [await stack.raw(await stack.user()) for _ in range(2)]
    channel, other = await stack.channel(), await stack.channel()
    for client in clients:
        await client.roster(annotate=True)
        await stack.join(client, channel)
        await stack.join(client, other)
    leaver, stayer = clients
    await stack.mixpam.stop(kill=True)
    # Where the tap is, answers for a full JID are the client's.
    answer = await leaver.iq(f"<iq type='set' to='{other}'><leave xmlns='{ns.CORE0}'/></iq>")
    assert answer["type"] == "result", answer.raw
    await stack.mixpam.start()
    await gone(leaver, other)
    await asyncio.sleep(ASKED)
    await stack.settle(*clients)
    assert set(await memberships(leaver)) == {channel}
    assert set(await memberships(stayer)) == {channel, other}
