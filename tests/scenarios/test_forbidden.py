"""What a user has forbidden does not happen: XEP-0191 clause by clause, and the servers' other lists.

The kind: whatever is said in a user's name is judged as the user's own would be.

| clause | what is to be seen | test |
|---|---|---|
| XEP-0191 §3.3 unavailable to the JID blocked | of each device that the channel was shown, once, and of no other | `a_block_takes_the_devices_back` |
| §3.3 no stanza of that JID is delivered | messages, presence, nor from memory | `nobody_is_told_of_who_was_blocked`, test_blocking |
| §3.3 outbound: not-acceptable with `<blocked/>` | join and leave of a channel or service, at once; nothing has changed | `what_is_asked_of_who_is_blocked` |
| §3.3 the user appears offline | changes of presence, new devices, probes: nothing | `a_block_takes_the_devices_back` |
| §3.4 current presence to the JID unblocked | of each device, as it is then | `an_unblock_shows_them_again` |
| §3.5 all unblocked | the same for all of them | `an_unblock_shows_them_again` |
| §5 matching: JID, domain, participant | channel, service; a participant alone hides the user from nobody | all; `a_participant_who_is_blocked` |
| XEP-0016 deny lists (ejabberd) | the same answers, by that list | `a_privacy_list_counts_as_well` |
| the same, too late | a join or leave that has no answer yet: at once; nothing has changed, and an unblock undoes what the channel did | `what_is_under_way_when_its_channel_is_blocked` |
| the rest | a channel removed from the roster, a kick, other members | `leaving_what_is_blocked_by_the_roster`, `the_others_notice_nothing` |
"""  # noqa: E501

import asyncio

import pytest
from harness import caps, ns
from harness.client import RawClient
from harness.fake import Script
from harness.stack import Stack, client_join, client_leave
from harness.stanza import Match, Stanza, match
from sharing import gone, here, shown

NODES = ("messages", "presence")


async def mix_client(stack: Stack) -> RawClient:
    """Return an online MIX client of a fresh user."""
    client = await stack.raw(await stack.user())
    return await client.mix_online()


async def another(stack: Stack, client: RawClient, *, mix: bool = True) -> RawClient:
    """Return one more device of the same user."""
    other = await stack.raw(client.account)
    return await (other.mix_online() if mix else other.online())


async def change(client: RawClient, name: str, *jids: str) -> None:
    """Block addresses, or unblock them; none is all."""
    items = "".join(f"<item jid='{jid}'/>" for jid in jids)
    answer = await client.iq(f"<iq type='set'><{name} xmlns='{ns.BLOCKING}'>{items}</{name}></iq>")
    assert answer["type"] == "result", answer.raw


def of(stack: Stack, how: str, channel: Script) -> str:
    """Return the address to block: the channel's, or its service's."""
    return channel.jid if how == "channel" else stack.fake.jid


def by_user(client: RawClient, channel: Script) -> Match:
    """Return a matcher for whatever a user says at a channel."""
    return match(to=channel.jid, test=lambda s: s["from"].partition("/")[0] == client.bare)


async def blocked_answer(client: RawClient, request: str) -> Stanza:
    """Ask what is refused because of a list; it is so at once."""
    answer = await client.iq(request, 10)
    assert answer["type"] == "error", answer.raw
    assert answer.find(f"{{{ns.CLIENT}}}error/{{{ns.STANZAS}}}not-acceptable") is not None
    assert answer.find(f"{{{ns.CLIENT}}}error/{{{ns.BLOCKING}:errors}}blocked") is not None
    return answer


@pytest.mark.req("K1", "P2")
@pytest.mark.parametrize("how", ["channel", "service"])
async def test_a_block_takes_the_devices_back(stack: Stack, how: str) -> None:
    client = await mix_client(stack)
    second, plain = await another(stack, client), await another(stack, client, mix=False)
    channel, other = await stack.joined(client), await stack.joined(client)
    for device in (client, second):
        await stack.fake.expect(here(device.jid, channel.jid))
        await stack.fake.expect(here(device.jid, other.jid))
    await change(client, "block", of(stack, how, channel))
    for device in (client, second):
        await stack.fake.expect(gone(device.jid, channel.jid))
    stack.fake.inbox.clear()
    third = await another(stack, client)
    second.presence(caps.element(caps.MIX) + "<show>away</show>")
    await second.fence()
    stack.fake.send(f"<presence type='probe' from='{channel.jid}' to='{client.bare}'/>")
    plain.presence("<show>dnd</show>")
    await stack.settle(client, second, third, plain)
    await client.close()
    await stack.settle(second, third)
    stack.fake.none(by_user(client, channel))
    if how == "channel":
        await stack.fake.expect(here(third.jid, other.jid))
        await stack.fake.expect(here(second.jid, other.jid, shown("away")))
        await stack.fake.expect(gone(client.jid, other.jid))


@pytest.mark.req("K1", "P1")
@pytest.mark.parametrize("how", ["channel", "service", "all"])
async def test_an_unblock_shows_them_again(stack: Stack, how: str) -> None:
    client = await mix_client(stack)
    channel = await stack.joined(client)
    await stack.fake.expect(here(client.jid, channel.jid))
    await change(client, "block", of(stack, how.replace("all", "channel"), channel))
    await stack.fake.expect(gone(client.jid, channel.jid))
    client.presence(caps.element(caps.MIX) + "<show>away</show>")
    second, plain = await another(stack, client), await another(stack, client, mix=False)
    await stack.settle(client, second, plain)
    stack.fake.inbox.clear()
    await change(client, "unblock", *([] if how == "all" else [of(stack, how, channel)]))
    await stack.fake.expect(here(client.jid, channel.jid, shown("away")))
    await stack.fake.expect(here(second.jid, channel.jid))
    await stack.settle(client, second, plain)
    for device in (client, second):
        assert stack.fake.count(here(device.jid, channel.jid)) == 1
    stack.fake.none(here(plain.jid, channel.jid))
    stack.fake.say(channel.jid, client.bare, "after")
    await client.expect(match("message", body="after"))


@pytest.mark.req("K1", "L2", "J4")
@pytest.mark.parametrize("how", ["channel", "service"])
async def test_what_is_asked_of_who_is_blocked(stack: Stack, how: str) -> None:
    client = await mix_client(stack)
    channel, new = await stack.joined(client), stack.fake.channel()
    await stack.fake.expect(here(client.jid, channel.jid))
    await change(client, "block", of(stack, how, channel), new.jid)
    await stack.fake.expect(gone(client.jid, channel.jid))
    await stack.settle(client)
    stack.fake.inbox.clear()
    await blocked_answer(client, client_leave(client.bare, channel.jid))
    await blocked_answer(client, client_join(client.bare, channel.jid))
    await blocked_answer(client, client_join(client.bare, new.jid))
    stack.fake.none(by_user(client, channel))
    stack.fake.none(by_user(client, new))
    assert await stack.roster(client.account, channel.jid) is not None
    assert await stack.roster(client.account, new.jid) is None
    await change(client, "unblock")
    await stack.fake.expect(here(client.jid, channel.jid))
    stack.fake.say(channel.jid, client.bare, "still a member")
    await client.expect(match("message", body="still a member"))
    answer = await client.iq(client_leave(client.bare, channel.jid))
    assert answer["type"] == "result", answer.raw
    await stack.join(client, new)


@pytest.mark.req("K1", "J4", "L2")
@pytest.mark.parametrize("how", ["channel", "service"])
@pytest.mark.parametrize("kind", ["join", "leave"])
async def test_what_is_under_way_when_its_channel_is_blocked(
    stack: Stack, how: str, kind: str
) -> None:
    client = await mix_client(stack)
    channel = stack.fake.channel()
    if kind == "leave":
        await stack.join(client, channel)
    setattr(channel, kind, lambda _: None)
    request = (client_join if kind == "join" else client_leave)(client.bare, channel.jid)
    waiting = asyncio.create_task(blocked_answer(client, request))
    await stack.fake.expect(match("iq", to=channel.jid, has=f"{{{ns.CORE1}}}{kind}"))
    await change(client, "block", of(stack, how, channel))
    await waiting
    item = await stack.roster(client.account, channel.jid)
    assert (item is None) is (kind == "join")
    setattr(channel, kind, None)
    stack.fake.inbox.clear()
    await change(client, "unblock", of(stack, how, channel))
    if kind == "join":
        # It may have done it, and must not think so.
        await stack.fake.expect(match("iq", to=channel.jid, has=f"{{{ns.CORE1}}}leave"))
        await stack.settle(client)
        await stack.join(client, channel)
    answer = await client.iq(client_leave(client.bare, channel.jid))
    assert answer["type"] == "result", answer.raw
    assert await stack.roster(client.account, channel.jid) is None


@pytest.mark.req("K1", "L6")
async def test_leaving_what_is_blocked_by_the_roster(stack: Stack) -> None:
    client = await mix_client(stack)
    channel = await stack.joined(client)
    await change(client, "block", channel.jid)
    await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'>"
        f"<item jid='{channel.jid}' subscription='remove'/></query></iq>"
    )
    await stack.settle(client)
    assert await stack.roster(client.account, channel.jid) is None
    await change(client, "unblock", channel.jid)
    stack.fake.inbox.clear()
    stack.fake.say(channel.jid, client.bare, "no member")
    await stack.fake.expect(match("message", from_=client.bare, type="error"))
    await stack.settle(client)
    client.none(match("message", body="no member"))
    assert await stack.archive(client.account, channel.jid) == []
    await stack.join(client, channel)


@pytest.mark.req("K1", "K2", "P4")
async def test_a_participant_who_is_blocked(stack: Stack) -> None:
    client = await mix_client(stack)
    channel = stack.fake.channel()
    answer = await client.iq(client_join(client.bare, channel.jid, nodes=NODES))
    assert answer["type"] == "result", answer.raw
    await stack.fake.expect(here(client.jid, channel.jid))
    enemy, friend = f"enemy#{channel.jid}", f"friend#{channel.jid}"

    def arrive(show: str) -> None:
        for who in (enemy, friend):
            stack.fake.send(
                f"<presence from='{who}/r' to='{client.bare}'><show>{show}</show></presence>"
            )

    arrive("away")
    for who in (enemy, friend):
        await client.expect(match("presence", from_=f"{who}/r"))
    await change(client, "block", enemy)
    await stack.settle(client)
    stack.fake.none(gone(client.jid, channel.jid))
    client.inbox.clear()
    arrive("dnd")
    await client.expect(match("presence", from_=f"{friend}/r"))
    second = await another(stack, client)
    await stack.settle(client, second)
    for device in (client, second):
        device.none(match("presence", from_=f"{enemy}/r"))
    stack.fake.say(channel.jid, client.bare, "of the channel")
    await client.expect(match("message", body="of the channel"))
    # Unblocked, the channel is asked who is there.
    stack.fake.inbox.clear()
    await change(client, "unblock", enemy)
    await stack.fake.expect(match("presence", from_=client.bare, to=channel.jid, type=None))


@pytest.mark.req("K1", "P4")
async def test_nobody_is_told_of_who_was_blocked(stack: Stack) -> None:
    client = await mix_client(stack)
    channel = stack.fake.channel()
    answer = await client.iq(client_join(client.bare, channel.jid, nodes=NODES))
    assert answer["type"] == "result", answer.raw
    stack.fake.send(f"<presence from='p#{channel.jid}/r' to='{client.bare}'/>")
    await client.expect(match("presence", from_=f"p#{channel.jid}/r"))
    await change(client, "block", channel.jid)
    await stack.fake.expect(gone(client.jid, channel.jid))
    second = await another(stack, client)
    await stack.settle(client, second)
    second.none(match("presence", from_=f"p#{channel.jid}/r"))


@pytest.mark.req("K1")
async def test_the_others_notice_nothing(stack: Stack) -> None:
    """Neither other members of what one blocks, nor who asks for the service at that moment."""
    client, other = await mix_client(stack), await mix_client(stack)
    channel = await stack.joined(client)
    await stack.join(other, channel)
    await stack.fake.expect(here(other.jid, channel.jid))
    await change(client, "block", stack.fake.jid)
    new = stack.fake.channel()
    answers = await asyncio.gather(
        client.iq(client_join(client.bare, new.jid), 10),
        other.iq(client_join(other.bare, new.jid), 10),
    )
    assert [answer["type"] for answer in answers] == ["error", "result"]
    for number in range(20):
        stack.fake.say(channel.jid, client.bare, f"m{number}")
        stack.fake.say(channel.jid, other.bare, f"m{number}")
    for number in range(20):
        await other.expect(match("message", body=f"m{number}"))
    await stack.settle(client, other)
    client.none(match("message"))
    stack.fake.none(gone(other.jid, channel.jid))


@pytest.mark.req("K1")
async def test_a_privacy_list_counts_as_well(stack: Stack) -> None:
    """XEP-0016, which ejabberd has besides; it tells nobody of a change."""
    if stack.kind.startswith("prosody"):
        pytest.skip("Prosody has no privacy lists")
    client = await mix_client(stack)
    channel = await stack.joined(client)
    await stack.fake.expect(here(client.jid, channel.jid))
    for inner in (
        f"<list name='l'><item type='jid' value='{channel.jid}' action='deny' order='1'/></list>",
        "<default name='l'/>",
    ):
        answer = await client.iq(
            f"<iq type='set'><query xmlns='jabber:iq:privacy'>{inner}</query></iq>"
        )
        assert answer["type"] == "result", answer.raw
    await stack.settle(client)
    stack.fake.inbox.clear()
    client.presence(caps.element(caps.MIX) + "<show>away</show>")
    await blocked_answer(client, client_leave(client.bare, channel.jid))
    await stack.settle(client)
    stack.fake.none(by_user(client, channel))
    assert await stack.roster(client.account, channel.jid) is not None
