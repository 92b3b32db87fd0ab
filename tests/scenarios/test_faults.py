"""The component killed, frozen or flooded in the middle of things."""

import asyncio

import pytest
from harness import ns
from harness.client import register, unregister
from harness.fake import Script, error, is_join, joined
from harness.stack import Stack, client_join, client_leave
from harness.stanza import Stanza, match
from harness.steps import leaves, memberships
from harness.stream import fresh

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
ITEM = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"
CHANNEL = f"{ITEM}/{{{ns.MIX_ROSTER}}}channel"
NET = 5.0
"""Seconds after which the tap delivers a roster that did not come back."""


async def again(stack: Stack) -> None:
    """Start the component after a fault, and let what it has to mend be mended."""
    await stack.mixpam.start()
    await stack.settle()


@pytest.mark.req("R2")
async def test_frozen_during_a_roster_detour(breakable: Stack) -> None:
    """The roster comes without annotations after five seconds, and never twice."""
    stack = breakable
    client = await stack.raw(await stack.user())
    channel = await stack.joined(client)
    stack.mixpam.process.freeze()
    loop = asyncio.get_running_loop()
    began = loop.time()
    request = f"<query xmlns='{ns.ROSTER}'><annotate xmlns='{ns.MIX_ROSTER}'/></query>"
    answer = await client.iq(f"<iq type='get' id='roster'>{request}</iq>", NET + 5)
    assert NET - 1 < loop.time() - began < NET + 3
    assert answer.need(ITEM).get("jid") == channel.jid
    assert answer.find(CHANNEL) is None
    assert "annotate" not in answer.raw
    stack.mixpam.process.thaw()
    await stack.settle(client)
    assert client.count(match("iq", id="roster")) == 1
    # The next one is right again.
    assert await memberships(client) == {channel.jid: channel.pid}


@pytest.mark.req("R2")
@pytest.mark.abuse(24)
async def test_killed_during_a_roster_detour(breakable: Stack) -> None:
    stack = breakable
    client = await stack.raw(await stack.user())
    channel = await stack.joined(client)
    stack.mixpam.process.freeze()
    client.components = []
    request = f"<query xmlns='{ns.ROSTER}'><annotate xmlns='{ns.MIX_ROSTER}'/></query>"
    client.send(f"<iq type='get' id='roster'>{request}</iq>")
    await client.fence()
    client.none(match("iq", id="roster"))
    await stack.mixpam.stop(kill=True)
    answer = await client.expect(match("iq", id="roster"), 3)
    assert answer.need(ITEM).get("jid") == channel.jid
    assert answer.find(CHANNEL) is None
    await again(stack)
    # The session asked for annotations once; pushes have them as soon as they can.
    await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{channel.jid}' name='n'/>"
        "</query></iq>"
    )
    push = await client.expect(match("iq", type="set", has=f"{ITEM}[@name='n']"))
    assert push.need(CHANNEL).get("participant-id") == channel.pid
    assert await memberships(client) == {channel.jid: channel.pid}


@pytest.mark.abuse(24)
@pytest.mark.parametrize("step", ["asked", "answered", "late"])
async def test_killed_during_a_join(breakable: Stack, step: str) -> None:
    """The client is answered; afterwards nobody believes in half a membership.

    Killed before the channel's answer, while the answer is on its way, or with the
    answer coming when the next process is there.
    """
    stack = breakable
    client = await stack.raw(await stack.user())
    await client.roster(annotate=True)
    asked: list[Stanza] = []
    channel = stack.fake.channel(join=asked.append)
    client.send(client_join(client.bare, channel.jid).replace("<iq", "<iq id='join'", 1))
    await stack.fake.expect(is_join(channel.jid))
    if step == "answered":
        stack.mixpam.process.freeze()
        stack.fake.send(joined(asked[0], channel))
        await stack.fake.fence()
    await stack.mixpam.stop(kill=True)
    answer = await client.expect(match("iq", id="join"), 5)
    assert answer["type"] == "error"
    assert answer.condition == "service-unavailable"
    channel.join = None
    await stack.mixpam.start()
    if step == "late":
        stack.fake.send(joined(asked[0], channel))
    # The channel may believe in a participant: it is told otherwise.
    leave = await stack.fake.expect(leaves(channel.jid), 10)
    assert leave["from"] == client.bare
    await stack.settle(client)
    assert await memberships(client) == {}
    assert await stack.roster(client.account, channel.jid) is None
    assert client.count(match("iq", id="join")) == 1
    stack.fake.say(channel.jid, client.bare, "ghost")
    bounce = await stack.fake.expect(match("message", type="error", to=channel.jid))
    assert bounce.condition == "service-unavailable"
    channel.pid = fresh("pid")
    await stack.join(client, channel)
    assert await memberships(client) == {channel.jid: channel.pid}


@pytest.mark.abuse(24)
@pytest.mark.parametrize("milliseconds", [0, 1, 2, 3, 5, 8, 13, 21])
async def test_killed_at_any_moment_of_a_join(breakable: Stack, milliseconds: int) -> None:
    """Wherever it hits, roster, memory and channel agree after the next start."""
    stack = breakable
    client = await stack.raw(await stack.user())
    channel = stack.fake.channel()
    await stack.joined(client)  # the service is known: the join is asked at once
    client.send(client_join(client.bare, channel.jid).replace("<iq", "<iq id='join'", 1))
    await asyncio.sleep(milliseconds / 1000)
    await stack.mixpam.stop(kill=True)
    answer = await client.expect(match("iq", id="join"), 5)
    await again(stack)
    await stack.settle(client)
    in_channel = is_participant(stack, channel)
    member = (await memberships(client)).get(channel.jid)
    item = await stack.roster(client.account, channel.jid)
    assert (item is not None) == (member is not None) == in_channel, stack.fake.inbox.transcript()
    if answer["type"] == "result":
        assert member == channel.pid
    stack.fake.say(channel.jid, client.bare, "who is in?")
    await stack.settle(client)
    bounced = stack.fake.count(match("message", type="error", to=channel.jid)) > 0
    assert bounced != in_channel


def is_participant(stack: Stack, channel: Script) -> bool:
    """Tell whether the channel, after all it was asked, has the one user in it."""
    last = None
    for stanza in stack.fake.inbox.all:
        if is_join(channel.jid)(stanza):  # type: ignore[operator]
            last = True
        if leaves(channel.jid)(stanza):
            last = False
    return bool(last)


@pytest.mark.abuse(24)
@pytest.mark.parametrize("step", ["asked", "answered"])
async def test_killed_during_a_leave(breakable: Stack, step: str) -> None:
    stack = breakable
    client = await stack.raw(await stack.user())
    asked: list[Stanza] = []
    channel = await stack.joined(client, leave=asked.append)
    client.send(client_leave(client.bare, channel.jid).replace("<iq", "<iq id='leave'", 1))
    await stack.fake.expect(leaves(channel.jid))
    if step == "answered":
        stack.mixpam.process.freeze()
        stanza = asked[0]
        stack.fake.send(
            f"<iq type='result' id='{stanza['id']}' from='{channel.jid}' to='{client.bare}'/>"
        )
        await stack.fake.fence()
        channel.leave = lambda s: error(s, "cancel", "item-not-found")
    else:
        channel.leave = None
    await stack.mixpam.stop(kill=True)
    assert (await client.expect(match("iq", id="leave"), 5))["type"] == "error"
    await stack.mixpam.start()
    await stack.fake.expect(leaves(channel.jid), 10)
    await stack.settle(client)
    assert await memberships(client) == {}
    assert await stack.roster(client.account, channel.jid) is None


@pytest.mark.abuse(24)
@pytest.mark.req("L4")
async def test_killed_when_a_kick_comes(breakable: Stack) -> None:
    """A kick nobody heard: who leaves then is out, though the channel knows no such participant."""
    stack = breakable
    client = await stack.raw(await stack.user())
    channel = await stack.joined(client)
    await stack.mixpam.stop(kill=True)
    stack.fake.event(channel.jid, client.bare, "participants", f"<retract id='{channel.pid}'/>")
    await stack.fake.fence()
    await again(stack)
    channel.leave = lambda s: error(s, "cancel", "item-not-found")
    answer = await client.iq(client_leave(client.bare, channel.jid))
    assert answer["type"] == "result"
    assert await memberships(client) == {}
    channel.pid = fresh("pid")
    await stack.join(client, channel)
    assert await memberships(client) == {channel.jid: channel.pid}


UNHEARD = "departures: what ends while no component is there to hear of it is not noticed later"


@pytest.mark.req("L6")
async def test_removed_from_the_roster_while_the_component_was_down(
    breakable: Stack,
) -> None:
    stack = breakable
    client = await stack.raw(await stack.user())
    channel = await stack.joined(client)
    await stack.mixpam.stop()
    await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'>"
        f"<item jid='{channel.jid}' subscription='remove'/></query></iq>"
    )
    await stack.mixpam.start()
    await client.mix_online()
    leave = await stack.fake.expect(leaves(channel.jid), 10)
    assert leave["from"] == client.bare
    await stack.settle(client)
    stack.fake.say(channel.jid, client.bare, "gone")
    await stack.settle(client)
    client.none(match("message"))


@pytest.mark.req("L5")
@pytest.mark.abuse(29)
async def test_an_account_removed_while_the_component_was_down(breakable: Stack) -> None:
    stack = breakable
    client = await stack.raw(await stack.user())
    channel = await stack.joined(client)
    await stack.mixpam.stop()
    stack.devices.remove(client)
    await unregister(client)
    await client.cut()
    await register(client.account.place, name=client.account.local)
    await stack.mixpam.start()
    heir = await stack.raw(client.account)
    await heir.mix_online()
    assert await memberships(heir) == {}
    await stack.fake.expect(leaves(channel.jid), 10)
    await stack.settle(heir)
    stack.fake.say(channel.jid, heir.bare, "for the dead")
    await stack.settle(heir)
    heir.none(match("message"))
