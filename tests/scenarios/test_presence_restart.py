"""Presence over a restart of the component: what channels and devices know stays right."""

import asyncio

import pytest
from harness import caps, ns
from harness.client import RawClient
from harness.stack import Stack, client_join
from harness.stanza import match
from sharing import gone, here, shown

from component.store.keys import Keys

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

LINK_TIMEOUT = 3.5
"""Seconds after which a link is certain to be there, with MIXPAM_KEEPALIVE at its least."""


async def remembered(stack: Stack, user: str, *, devices: int) -> None:
    """Wait until Redis knows what the channels were shown of each of a user's devices."""
    key = Keys("mixpam").shown(user)
    async with asyncio.timeout(10):
        # Redis wakes nobody.
        while (await stack.redis.ask("HVALS", key)).count("") or (  # noqa: ASYNC110
            await stack.redis.ask("HLEN", key) < devices
        ):
            await asyncio.sleep(0.05)


@pytest.mark.req("P6")
async def test_devices_that_vanished_meanwhile_are_taken_back(breakable: Stack) -> None:
    """One stays as it is, one changes, one vanishes, one comes, one stops to speak MIX."""
    stack = breakable
    stays = await stack.raw(await stack.user())
    account = stays.account
    await stays.mix_online()
    changes, vanishes, converts, comes = [await stack.raw(account) for _ in range(4)]
    for client in (changes, vanishes, converts):
        await client.mix_online()
    channel = await stack.joined(stays)
    hidden = stack.fake.channel()
    for client in (stays, changes, vanishes, converts):
        await stack.fake.expect(here(client.jid, channel.jid))
    await remembered(stack, stays.bare, devices=4)
    await stack.mixpam.stop(kill=True)
    for client in (stays, changes, vanishes, converts, comes):
        client.components = []
    await vanishes.close()
    await changes.mix_online(children="<show>away</show>")
    await converts.mix_online(caps.PLAIN)
    await comes.mix_online()
    stack.fake.inbox.clear()

    await stack.mixpam.start()
    await stack.fake.expect(gone(vanishes.jid, channel.jid), 10)
    await stack.fake.expect(gone(converts.jid, channel.jid), 10)
    await stack.fake.expect(here(changes.jid, channel.jid, shown("away")), 10)
    await stack.fake.expect(here(comes.jid, channel.jid), 10)
    await stack.settle(stays, changes, converts, comes)
    for client in (vanishes, converts):
        stack.fake.none(here(client.jid, channel.jid))
    for client in (stays, changes, comes):
        stack.fake.none(gone(client.jid, channel.jid))
    # It is not told again what it knows, and a channel never joined is told nothing.
    stack.fake.none(match("presence", from_=stays.jid))
    stack.fake.none(match("presence", to=hidden.jid))


@pytest.mark.req("P6")
async def test_everybody_gone_while_the_component_was_down(
    breakable: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = breakable
    environment = stack.mixpam.process.env
    assert environment is not None
    monkeypatch.setitem(environment, "MIXPAM_KEEPALIVE", "1")
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channel = await stack.joined(client)
    await stack.fake.expect(here(client.jid, channel.jid))
    await stack.mixpam.stop(kill=True)
    await client.close()
    await stack.mixpam.start()
    await stack.fake.expect(gone(client.jid, channel.jid), 10)
    # And only once: a link that held so long has carried it, and the next start has
    # nothing left to correct.
    await asyncio.sleep(LINK_TIMEOUT)
    await stack.settle()
    await stack.mixpam.stop()
    stack.fake.inbox.clear()
    await stack.mixpam.start()
    await stack.settle()
    stack.fake.none(match("presence", from_=client.jid))


@pytest.mark.req("P4")
async def test_after_a_start_the_channel_is_asked(breakable: Stack) -> None:
    stack = breakable
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channel = stack.fake.channel()
    request = client_join(client.bare, channel.jid, nodes=("messages", "presence"))
    assert (await client.iq(request))["type"] == "result"
    deaf = await stack.joined(client)
    await stack.mixpam.stop(kill=True)
    stack.fake.inbox.clear()
    await stack.mixpam.start()
    asked = match("presence", from_=client.bare, to=channel.jid, type=None)
    await stack.fake.expect(asked, 10)
    stack.fake.send(f"<presence from='anna#{channel.jid}/r' to='{client.bare}'/>")
    await client.expect(match("presence", from_=f"anna#{channel.jid}/r"))
    # The second device is served from the memory that is whole again.
    second = await stack.raw(client.account)
    await second.mix_online()
    await second.expect(match("presence", from_=f"anna#{channel.jid}/r"))
    await stack.settle(client, second)
    assert stack.fake.count(asked) == 1
    stack.fake.none(match("presence", from_=client.bare, to=deaf.jid))


@pytest.mark.req("P6")
@pytest.mark.abuse(24)
@pytest.mark.parametrize("seconds", [0.0, 0.004, 0.015])
async def test_killed_while_presence_changes(breakable: Stack, seconds: float) -> None:
    """Whatever was on its way: after the next start the channel knows the last presence."""
    stack = breakable
    clients = [await stack.raw(await stack.user()) for _ in range(8)]
    for client in clients:
        await client.mix_online()
    channel = stack.fake.channel()
    for client in clients:
        await stack.join(client, channel)
    await stack.settle(*clients)
    for number, client in enumerate(clients):
        client.components = []
        if number % 2:
            client.send("<presence type='unavailable'/>")
        else:
            client.presence(caps.element(caps.MIX) + "<show>away</show>")
    await asyncio.sleep(seconds)
    await stack.mixpam.stop(kill=True)
    for client in clients:
        await client.fence()
    await stack.mixpam.start()
    for client in clients:
        client.components = [stack.component]
    await stack.settle(*clients)
    for number, client in enumerate(clients):
        told = stack.fake.inbox.matching(match("presence", from_=client.jid, to=channel.jid))
        if number % 2:
            assert told[-1]["type"] == "unavailable", [s.raw for s in told]
        else:
            assert shown("away")(told[-1]), [s.raw for s in told]


async def changes_the_list(client: RawClient, name: str, address: str) -> None:
    """Block or unblock an address, and wait until it is in force."""
    answer = await client.iq(
        f"<iq type='set'><{name} xmlns='{ns.BLOCKING}'><item jid='{address}'/></{name}></iq>"
    )
    assert answer["type"] == "result", answer.raw


@pytest.mark.req("K1", "P6")
@pytest.mark.parametrize("how", ["channel", "service"])
@pytest.mark.parametrize("leaves", ["one", "all"])
async def test_a_block_and_an_unblock_while_the_component_was_down(
    breakable: Stack, how: str, leaves: str
) -> None:
    """The channel is told what it may still know, and nothing more; and again what it may know."""
    stack = breakable
    phone = await stack.raw(await stack.user())
    await phone.mix_online()
    laptop = await stack.raw(phone.account)
    await laptop.mix_online()
    channel = await stack.joined(phone)
    for client in (phone, laptop):
        await stack.fake.expect(here(client.jid, channel.jid))
    await remembered(stack, phone.bare, devices=2)
    address = channel.jid if how == "channel" else stack.fake.jid

    await stack.mixpam.stop(kill=True)
    for client in (phone, laptop):
        client.components = []
    await changes_the_list(phone, "block", address)
    await laptop.close()
    if leaves == "all":
        await phone.close()
    stack.fake.inbox.clear()
    await stack.mixpam.start()
    for device in (phone.jid, laptop.jid):
        await stack.fake.expect(gone(device, channel.jid), 10)
    if leaves == "all":
        phone = await stack.raw(phone.account)
        await phone.mix_online()
    phone.presence(caps.element(caps.MIX) + "<show>away</show>")
    await stack.settle(phone)
    stack.fake.none(match("presence", to=channel.jid, type=None))
    # A channel that knows it is told no more.
    stack.fake.inbox.clear()
    tablet = await stack.raw(phone.account)
    await tablet.mix_online()
    await stack.settle(phone, tablet)
    stack.fake.none(match("presence", to=channel.jid))

    await stack.mixpam.stop(kill=True)
    for client in (phone, tablet):
        client.components = []
    await changes_the_list(phone, "unblock", address)
    stack.fake.inbox.clear()
    await stack.mixpam.start()
    await stack.fake.expect(here(phone.jid, channel.jid, shown("away")), 10)
    await stack.fake.expect(here(tablet.jid, channel.jid), 10)
    await stack.settle(phone, tablet)
    stack.fake.none(gone(phone.jid, channel.jid))
    stack.fake.none(gone(tablet.jid, channel.jid))
