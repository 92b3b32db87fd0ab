"""Blocking (XEP-0191): channels, and contacts who are not channels."""

import pytest
from harness import ns
from harness.client import RawClient
from harness.stack import Stack
from harness.stanza import match


async def mix_client(stack: Stack) -> RawClient:
    """Return an online MIX client of a fresh user."""
    client = await stack.raw(await stack.user())
    return await client.mix_online()


async def block(client: RawClient, *jids: str, undo: bool = False) -> None:
    """Block addresses, or unblock them."""
    name = "unblock" if undo else "block"
    items = "".join(f"<item jid='{jid}'/>" for jid in jids)
    answer = await client.iq(f"<iq type='set'><{name} xmlns='{ns.BLOCKING}'>{items}</{name}></iq>")
    assert answer["type"] == "result", answer.raw


@pytest.mark.req("K1")
async def test_a_blocked_channel_says_nothing(stack: Stack) -> None:
    client = await mix_client(stack)
    channel, other = await stack.joined(client), await stack.joined(client)
    stack.fake.say(channel.jid, client.bare, "before")
    await client.expect(match("message", body="before"))
    await block(client, channel.jid)
    stack.fake.say(channel.jid, client.bare, "blocked")
    stack.fake.event(channel.jid, client.bare, "info", "<item id='blocked'/>")
    stack.fake.send(f"<presence from='{channel.jid}' to='{client.bare}'/>")
    stack.fake.say(other.jid, client.bare, "other")
    await client.expect(match("message", body="other"))
    await stack.settle(client)
    assert client.count(match("message")) == 2
    client.none(match("presence", from_=channel.jid))
    archive = await stack.archive(client.account, channel.jid)
    assert [stanza.body for stanza in archive] == ["before"]
    await block(client, channel.jid, undo=True)
    stack.fake.say(channel.jid, client.bare, "after")
    await client.expect(match("message", body="after"))


@pytest.mark.req("K1")
async def test_nor_do_its_participants(stack: Stack) -> None:
    """Their addresses are the channel's: `id#channel@…` (XEP-0405, "Blocking")."""
    client = await mix_client(stack)
    channel = await stack.joined(client)
    await block(client, channel.jid)
    stack.fake.send(f"<presence from='p#{channel.jid}/r' to='{client.bare}'/>")
    await stack.settle(client)
    client.none(match("presence", from_=f"p#{channel.jid}/r"))


@pytest.mark.req("K1")
async def test_blocking_the_whole_service(stack: Stack) -> None:
    client = await mix_client(stack)
    channel = await stack.joined(client)
    await block(client, stack.fake.jid)
    stack.fake.say(channel.jid, client.bare, "blocked")
    stack.fake.send(f"<presence from='p#{channel.jid}/r' to='{client.bare}'/>")
    await stack.settle(client)
    client.none(match("message"))
    client.none(match("presence", from_=f"p#{channel.jid}/r"))
    assert await stack.archive(client.account, channel.jid) == []


@pytest.mark.req("K2")
async def test_a_blocked_contact_blocks_no_channel(stack: Stack) -> None:
    """Not even one with the channel's localpart, or with the participant's id as address."""
    client = await mix_client(stack)
    channel = await stack.joined(client)
    local = channel.jid.partition("@")[0]
    await block(
        client, f"contact@{stack.domain}", f"{local}@{stack.domain}", f"p@{stack.fake.jid}",
        "hecate@shakespeare.lit",
    )  # fmt: skip
    sender = f"p#{channel.jid}/r"
    stack.fake.send(f"<presence from='{sender}' to='{client.bare}'/>")
    await client.expect(match("presence", from_=sender))
    # The message says whose it is; it is the channel that sends it.
    stack.fake.say(channel.jid, client.bare, "heard")
    await client.expect(match("message", body="heard"))
    stack.fake.send(
        f"<message from='{sender}' to='{client.jid}' type='chat' id='pm'><body>p</body></message>"
    )
    await client.expect(match("message", id="pm"))
    archive = await stack.archive(client.account, channel.jid)
    assert "heard" in [stanza.body for stanza in archive]
