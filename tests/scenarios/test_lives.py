"""How memberships begin at the same time, and how they end without a leave."""

import asyncio

import pytest
from harness import caps, ns
from harness.client import RawClient, register, unregister
from harness.fake import Script, error, is_join, joined
from harness.stack import Stack, client_join, client_leave
from harness.stanza import Stanza, match
from harness.steps import leaves, memberships
from harness.stream import fresh
from sharing import here

ITEM = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"


async def mix_client(stack: Stack, like: RawClient | None = None) -> RawClient:
    """Return an online MIX client of a fresh user, or of the user of another client."""
    client = await stack.raw(like.account if like else await stack.user())
    await client.roster(annotate=True)
    return await client.mix_online()


def removal(channel: Script) -> object:
    """Return a matcher for the push that takes a channel out of the roster."""
    return match("iq", type="set", has=f"{ITEM}[@jid='{channel.jid}'][@subscription='remove']")


def retract(stack: Stack, channel: Script, to: str, *pids: str) -> None:
    """Have the channel retract participants, all in one event."""
    inner = "".join(f"<retract id='{pid}'/>" for pid in pids)
    stack.fake.event(channel.jid, to, "participants", inner)


@pytest.mark.req("J8")
async def test_two_devices_join_with_different_wishes(stack: Stack) -> None:
    """The second is asked for when the first is answered; the later wish is what remains."""
    one = await mix_client(stack)
    two = await mix_client(stack, one)
    open_: list[Stanza] = []
    channel = stack.fake.channel(join=open_.append)
    tasks = []
    for client, nick, nodes in ((one, "one", ("messages",)), (two, "two", ("messages", "info"))):
        request = client_join(client.bare, channel.jid, nick, nodes=nodes)
        tasks.append(asyncio.create_task(client.iq(request)))
        await client.fence()
    await stack.fake.expect(is_join(channel.jid))
    await stack.settle(one, two)
    assert len(open_) == 1
    channel.join = None
    stack.fake.send(joined(open_[0], channel))
    answers = await asyncio.gather(*tasks)
    path = f"{{{ns.PAM2}}}client-join/{{{ns.CORE1}}}join"
    for client, nick, answer, nodes in zip(
        (one, two), ("one", "two"), answers, (1, 2), strict=True
    ):
        assert answer["to"] == client.jid
        assert answer.text(f"{path}/{{{ns.CORE1}}}nick") == nick
        assert len(answer.all(f"{path}/{{{ns.CORE1}}}subscribe")) == nodes
    assert await memberships(one) == {channel.jid: channel.pid}
    stack.fake.say(channel.jid, one.bare, "once")
    for client in (one, two):
        await client.expect(match("message", body="once"))
    await stack.settle(one, two)
    assert [client.count(match("message", body="once")) for client in (one, two)] == [1, 1]


@pytest.mark.req("J8", "L1")
async def test_a_leave_right_behind_a_join(stack: Stack) -> None:
    one = await mix_client(stack)
    two = await mix_client(stack, one)
    open_: list[Stanza] = []
    channel = stack.fake.channel(join=open_.append)
    join = asyncio.create_task(one.iq(client_join(one.bare, channel.jid)))
    await stack.fake.expect(is_join(channel.jid))
    leave = asyncio.create_task(two.iq(client_leave(two.bare, channel.jid)))
    await two.fence()
    stack.fake.send(joined(open_[0], channel))
    assert (await join)["type"] == "result"
    assert (await leave)["type"] == "result"
    await stack.fake.expect(leaves(channel.jid))
    assert await memberships(one) == {}
    assert await stack.roster(one.account, channel.jid) is None


@pytest.mark.req("J8", "J4")
async def test_the_first_join_fails_and_the_second_does_not(stack: Stack) -> None:
    one = await mix_client(stack)
    two = await mix_client(stack, one)
    open_: list[Stanza] = []
    channel = stack.fake.channel(join=open_.append)
    tasks = []
    for client in (one, two):
        tasks.append(asyncio.create_task(client.iq(client_join(client.bare, channel.jid))))
        await client.fence()
    await stack.fake.expect(is_join(channel.jid))
    channel.join = None
    stack.fake.send(error(open_[0], "cancel", "conflict"))
    first, second = await asyncio.gather(*tasks)
    assert first.condition == "conflict"
    assert second["type"] == "result", second.raw
    assert await memberships(one) == {channel.jid: channel.pid}


@pytest.mark.req("J8")
async def test_two_users_join_one_channel_at_once(stack: Stack) -> None:
    clients = [await mix_client(stack) for _ in range(5)]
    pids = {client.bare: fresh("pid") for client in clients}

    def each(stanza: Stanza) -> str:
        return joined(stanza, Script(channel.jid, pid=pids[stanza["from"]]))

    channel = stack.fake.channel(join=each)
    await asyncio.gather(*(stack.join(client, channel) for client in clients))
    for client in clients:
        assert await memberships(client) == {channel.jid: pids[client.bare]}


@pytest.mark.req("L4", "F4")
async def test_a_kick_reaches_every_device_and_ends_everything(stack: Stack) -> None:
    one = await mix_client(stack)
    two = await mix_client(stack, one)
    plain = await stack.raw(one.account)
    await plain.roster()
    await plain.mix_online(caps.PLAIN)
    channel, other = await stack.joined(one), await stack.joined(one)
    # The user's own id among those of others that go at the same time.
    retract(stack, channel, one.bare, "somebody", channel.pid, "else")
    event = match("message", has=f"{{{ns.PUBSUB_EVENT}}}event")
    for client in (one, two):
        await client.expect(event)
        await client.expect(removal(channel))
    await plain.expect(removal(channel))
    await stack.settle(one, two, plain)
    plain.none(event)
    assert await memberships(one) == {other.jid: other.pid}
    # The channel has ended it: it is neither asked to, nor told of devices any more.
    stack.fake.none(leaves(channel.jid))
    one.presence(caps.element(caps.MIX) + "<show>away</show>")
    away = match("presence", from_=one.jid, test=lambda s: "away" in s.raw)
    await stack.fake.expect(away)
    await stack.settle(one)
    assert {s["to"] for s in stack.fake.inbox.matching(away)} == {other.jid}
    stack.fake.say(channel.jid, one.bare, "after")
    bounce = await stack.fake.expect(match("message", type="error", to=channel.jid))
    assert bounce.condition == "service-unavailable"
    answer = await one.iq(client_leave(one.bare, channel.jid))
    assert answer.condition == "item-not-found"


@pytest.mark.req("L4", "J7")
async def test_after_a_kick_one_may_come_back(stack: Stack) -> None:
    client = await mix_client(stack)
    channel = await stack.joined(client)
    old = channel.pid
    retract(stack, channel, client.bare, old)
    await client.expect(removal(channel))
    channel.pid = fresh("pid")
    await stack.join(client, channel)
    # The old id means nothing any more.
    retract(stack, channel, client.bare, old)
    stack.fake.say(channel.jid, client.bare, "back")
    await client.expect(match("message", body="back"))
    await stack.settle(client)
    assert await memberships(client) == {channel.jid: channel.pid}


@pytest.mark.req("L4")
@pytest.mark.abuse(7)
async def test_what_only_looks_like_a_kick(stack: Stack) -> None:
    client = await mix_client(stack)
    channel, other = await stack.joined(client), await stack.joined(client)
    bare = client.bare
    stack.fake.event(channel.jid, bare, "allowed", f"<retract id='{channel.pid}'/>")
    stack.fake.event(other.jid, bare, "participants", f"<retract id='{channel.pid}'/>")
    stack.fake.event(f"x#{channel.jid}", bare, "participants", f"<retract id='{channel.pid}'/>")
    stack.fake.event(
        channel.jid, bare, "participants",
        f"<item id='x'><retract xmlns='urn:example:0' id='{channel.pid}'/></item>",
    )  # fmt: skip
    stack.fake.say(
        channel.jid, bare, "words",
        f"<x xmlns='urn:example:0'>{ns.NODES}participants retract {channel.pid}</x>",
    )  # fmt: skip
    await client.expect(match("message", body="words"))
    await stack.settle(client)
    assert await memberships(client) == {channel.jid: channel.pid, other.jid: other.pid}


@pytest.mark.req("L4", "F3")
async def test_a_kick_while_nobody_is_online(stack: Stack) -> None:
    client = await mix_client(stack)
    channel = await stack.joined(client)
    stack.devices.remove(client)
    await client.close()
    retract(stack, channel, client.bare, channel.pid)
    await stack.settle()
    assert await stack.roster(client.account, channel.jid) is None
    again = await mix_client(stack, client)
    assert await memberships(again) == {}


@pytest.mark.req("L6")
@pytest.mark.parametrize("answered", ["result", "error", "silence"])
async def test_removed_from_the_roster(stack: Stack, answered: str) -> None:
    """The membership ends at once, whatever the channel says to the leave."""
    client = await mix_client(stack)
    channel = await stack.joined(client)
    if answered == "error":
        channel.leave = lambda s: error(s, "auth", "forbidden")
    if answered == "silence":
        channel.leave = lambda _: None
    await stack.fake.expect(here(client.jid, channel.jid))
    answer = await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'>"
        f"<item jid='{channel.jid}' subscription='remove'/></query></iq>"
    )
    assert answer["type"] == "result", answer.raw
    leave = await stack.fake.expect(leaves(channel.jid))
    assert leave["from"] == client.bare
    stack.fake.say(channel.jid, client.bare, "after")
    await stack.fake.expect(match("message", type="error", to=channel.jid))
    await stack.settle(client)
    client.none(match("message"))
    assert stack.fake.count(leaves(channel.jid)) == 1
    assert await stack.roster(client.account, channel.jid) is None
    # A new join is none of the old one's business.
    channel.leave = None
    channel.pid = fresh("pid")
    await stack.join(client, channel)
    assert await memberships(client) == {channel.jid: channel.pid}
    assert await stack.roster(client.account, channel.jid) is not None


@pytest.mark.req("L6")
async def test_removing_another_contact_is_no_leave(stack: Stack) -> None:
    client = await mix_client(stack)
    channel = await stack.joined(client)
    for jid in (f"friend@{stack.domain}", f"never-joined@{stack.fake.jid}"):
        for attribute in ("", " subscription='remove'"):
            await client.iq(
                f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{jid}'{attribute}/>"
                "</query></iq>"
            )
    await stack.settle(client)
    stack.fake.none(match("iq", test=lambda s: s.find(f"{{{ns.CORE1}}}leave") is not None))
    assert await memberships(client) == {channel.jid: channel.pid}


@pytest.mark.req("L5")
@pytest.mark.abuse(29)
async def test_a_removed_account_leaves_and_its_heir_inherits_nothing(stack: Stack) -> None:
    client = await mix_client(stack)
    account = client.account
    channels = [await stack.joined(client) for _ in range(3)]
    silent = await stack.joined(client, leave=lambda _: None)
    stack.devices.remove(client)
    await unregister(client)
    await client.cut()
    for channel in (*channels, silent):
        leave = await stack.fake.expect(leaves(channel.jid))
        assert leave["from"] == account.jid
    await stack.settle()

    await register(account.place, name=account.local)
    heir = await mix_client(stack, client)
    assert await memberships(heir) == {}
    roster = await heir.roster()
    assert roster.all(ITEM) == []
    for channel in channels:
        stack.fake.say(channel.jid, account.jid, "for the dead")
        bounce = await stack.fake.expect(match("message", type="error", to=channel.jid))
        assert bounce.condition == "service-unavailable"
    await stack.settle(heir)
    heir.none(match("message"))
    stack.fake.none(here(heir.jid, channels[0].jid))
    for channel in channels:
        assert await stack.archive(account, channel.jid) == []
    # It may join for itself.
    channels[0].pid = fresh("pid")
    await stack.join(heir, channels[0])
    assert await memberships(heir) == {channels[0].jid: channels[0].pid}
