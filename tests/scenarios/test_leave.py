"""Leaving, being kicked, and what else ends a membership."""

import pytest
from harness import ns
from harness.fake import Script, error, result
from harness.stack import Stack, client_join, client_leave
from harness.stanza import match
from harness.steps import VERSIONS, leaves, memberships, session
from harness.stream import fresh


@pytest.mark.req("L1")
@pytest.mark.parametrize(("pam", "core"), VERSIONS)
async def test_a_leave_in_every_version(stack: Stack, pam: str, core: str) -> None:
    client = await session(stack)
    await client.roster()
    channel = stack.fake.channel()
    answer = await client.iq(client_join(client.bare, channel.jid, pam=pam, core=core))
    assert answer["type"] == "result"
    answer = await client.iq(client_leave(client.bare, channel.jid, pam=pam, core=core))
    assert answer["type"] == "result", answer.raw
    assert answer["from"] == client.bare
    assert answer.find(f"{{{pam}}}client-leave/{{{core}}}leave") is not None
    asked = await stack.fake.expect(leaves(channel.jid))
    assert (asked["from"], asked["id"]) == (client.bare, answer["id"])
    assert asked.find(f"{{{core}}}leave") is not None
    item = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item[@jid='{channel.jid}'][@subscription='remove']"
    await client.expect(match("iq", type="set", has=item))
    assert await stack.roster(client.account, channel.jid) is None
    assert await memberships(client) == {}


@pytest.mark.req("L2")
async def test_the_channels_error_to_a_leave(stack: Stack) -> None:
    client = await session(stack)
    channel = await stack.joined(client)
    channel.leave = lambda s: error(s, "auth", "not-authorized", "stay")
    answer = await client.iq(client_leave(client.bare, channel.jid))
    assert answer.condition == "not-authorized"
    assert answer.text(f"{{{ns.CLIENT}}}error/{{{ns.STANZAS}}}text") == "stay"
    assert await memberships(client) == {channel.jid: channel.pid}
    channel.leave = None


@pytest.mark.req("L3")
async def test_leaving_what_was_never_joined(stack: Stack) -> None:
    client = await session(stack)
    channel = stack.fake.channel()
    answer = await client.iq(client_leave(client.bare, channel.jid))
    assert answer.condition == "item-not-found"
    await stack.settle()
    stack.fake.none(leaves(channel.jid))


@pytest.mark.req("L3")
async def test_a_leave_cleans_a_left_over_roster_item(stack: Stack) -> None:
    client = await session(stack)
    channel = stack.fake.channel()
    await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{channel.jid}'/></query></iq>"
    )
    answer = await client.iq(client_leave(client.bare, channel.jid))
    assert answer["type"] == "result", answer.raw
    assert await stack.roster(client.account, channel.jid) is None


def retract(stack: Stack, channel: Script, to: str, pid: str, sender: str = "") -> None:
    """Send a participants event that retracts a participant."""
    stack.fake.event(sender or channel.jid, to, "participants", f"<retract id='{pid}'/>")


@pytest.mark.req("L4")
@pytest.mark.abuse(7)
async def test_a_kick(stack: Stack) -> None:
    account = await stack.user()
    device = await stack.device(account)
    channel = await stack.joined(device)
    other = stack.fake.channel()
    retract(stack, channel, account.jid, "somebody-else")
    retract(stack, channel, account.jid, channel.pid, sender=other.jid)
    await stack.settle(device)
    assert await stack.roster(account, channel.jid) is not None
    retract(stack, channel, account.jid, channel.pid)
    item = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item[@jid='{channel.jid}'][@subscription='remove']"
    await device.expect(match("iq", type="set", has=item))
    assert device.count(match("message", has=f"{{{ns.PUBSUB_EVENT}}}event")) == 2
    stack.fake.say(channel.jid, account.jid, "after")
    await stack.settle(device)
    device.none(match("message", body="after"))
    assert await stack.roster(account, channel.jid) is None


@pytest.mark.req("L6")
async def test_removing_the_roster_item_is_a_leave(stack: Stack) -> None:
    client = await session(stack)
    channel = await stack.joined(client)
    answer = await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'>"
        f"<item jid='{channel.jid}' subscription='remove'/></query></iq>"
    )
    assert answer["type"] == "result"
    leave = await stack.fake.expect(leaves(channel.jid))
    assert leave["from"] == client.bare
    await stack.settle()
    assert stack.fake.count(leaves(channel.jid)) == 1
    assert (await client.iq(client_leave(client.bare, channel.jid))).condition == "item-not-found"


@pytest.mark.req("J7")
async def test_leave_and_join_again(stack: Stack) -> None:
    client = await session(stack)
    channel = await stack.joined(client)
    assert (await client.iq(client_leave(client.bare, channel.jid)))["type"] == "result"
    channel.pid = fresh("pid")
    await stack.join(client, channel)
    assert await memberships(client) == {channel.jid: channel.pid}


async def test_the_answer_to_a_leave_may_be_empty(stack: Stack) -> None:
    client = await session(stack)
    channel = await stack.joined(client, leave=result)
    answer = await client.iq(client_leave(client.bare, channel.jid))
    assert answer["type"] == "result"
    assert answer.find(f"{{{ns.PAM2}}}client-leave/{{{ns.CORE1}}}leave") is not None
