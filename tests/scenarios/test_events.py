"""What a channel sends during a join, and its events and versions at every device."""

import pytest
from harness import caps, ns
from harness.client import RawClient
from harness.fake import Script, error, joined
from harness.inbox import Matcher
from harness.stack import Stack, client_join
from harness.stanza import Stanza, match
from sharing import here

EVENT = f"{{{ns.PUBSUB_EVENT}}}event"
ITEM = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"
OLD_PRESENCE = "urn:xmpp:presence:0"
BOTH = (*caps.MIX, ns.CORE0)


async def mix_client(
    stack: Stack, like: RawClient | None = None, features: tuple[str, ...] = caps.MIX
) -> RawClient:
    """Return an online MIX client of a fresh user, or of the user of another client."""
    client = await stack.raw(like.account if like else await stack.user())
    await client.roster(annotate=True)
    return await client.mix_online(features)


def has_event(node: str) -> Matcher:
    """Return a matcher for an event of a channel's node."""
    path = f"{EVENT}/{{{ns.PUBSUB_EVENT}}}items[@node='{ns.NODES}{node}']"
    return match("message", has=path)


def in_order(client: RawClient, *matchers: Matcher) -> None:
    """Assert that these arrived, in this order."""
    places = [client.inbox.position(matcher) for matcher in matchers]
    assert places == sorted(places), client.inbox.transcript()


@pytest.mark.req("J10", "A1", "A2", "F4", "F5")
async def test_traffic_during_a_join(stack: Stack) -> None:
    """The channel sends an event, presence and two messages before it answers."""
    joiner = await mix_client(stack)
    other = await mix_client(stack, joiner)
    sender = ""

    def early(stanza: Stanza) -> str:
        nonlocal sender
        sender = f"p1#{channel.jid}/r"
        stack.fake.event(channel.jid, joiner.bare, "participants", "<item id='p1'/>")
        stack.fake.send(f"<presence from='{sender}' to='{joiner.bare}'/>")
        extra = f"<stanza-id xmlns='{ns.SID}' by='{channel.jid}' id='c1'/>"
        stack.fake.say(channel.jid, joiner.bare, "one", extra)
        stack.fake.say(channel.jid, joiner.bare, "two")
        return joined(stanza, channel)

    channel = stack.fake.channel(join=early)
    answer = await stack.join(joiner, channel)
    # What comes before these are back from the archive may be archived before them.
    await joiner.expect(match("message", body="two"))
    stack.fake.say(channel.jid, joiner.bare, "three")
    for client in (joiner, other):
        await client.expect(match("message", body="three"))
    await stack.settle(joiner, other)
    push = match("iq", type="set", has=f"{ITEM}[@jid='{channel.jid}']")
    result = match("iq", id=answer["id"], type="result")
    traffic: list[Matcher] = [
        has_event("participants"),
        match("presence", from_=sender),
        *(match("message", body=body) for body in ("one", "two", "three")),
    ]
    in_order(joiner, push, result, *traffic)
    in_order(other, push, *traffic)
    for client in (joiner, other):
        assert [client.count(each) for each in traffic] == [1] * 5
    archive = await stack.archive(joiner.account, channel.jid)
    assert [stanza.body for stanza in archive] == ["one", "two", "three"]
    for stored in archive:
        for client in (joiner, other):
            copy = client.inbox.matching(match("message", body=stored.body))[0]
            ids = {e.get("by"): e.get("id") for e in copy.all(f"{{{ns.SID}}}stanza-id")}
            assert ids[joiner.bare] == stored.xml.get("archive-id")
            assert ("c1" in ids.values()) == (stored.body == "one")


@pytest.mark.req("J10", "J4", "F6")
async def test_traffic_during_a_join_that_fails(stack: Stack) -> None:
    client = await mix_client(stack)

    def early(stanza: Stanza) -> str:
        stack.fake.say(channel.jid, client.bare, "never")
        stack.fake.event(channel.jid, client.bare, "participants", "<item id='p1'/>")
        return error(stanza, "auth", "forbidden")

    channel = stack.fake.channel(join=early)
    answer = await client.iq(client_join(client.bare, channel.jid))
    assert answer.condition == "forbidden"
    await stack.settle(client)
    client.none(match("message"))
    assert await stack.archive(client.account, channel.jid) == []


@pytest.mark.req("J10", "P1")
async def test_the_channel_hears_of_the_devices_after_it_let_them_in(stack: Stack) -> None:
    client = await mix_client(stack)
    answered = 0

    def answer(stanza: Stanza) -> str:
        nonlocal answered
        answered = len(stack.fake.inbox.all)
        return joined(stanza, channel)

    channel = stack.fake.channel(join=answer)
    await stack.join(client, channel)
    await stack.fake.expect(here(client.jid, channel.jid))
    assert stack.fake.inbox.position(here(client.jid, channel.jid)) >= answered > 0


def core_of(stanza: Stanza) -> str:
    """Return the one core namespace of a message's `<mix/>`."""
    spaces = [child.tag[1:].partition("}")[0] for child in stanza.xml if child.tag.endswith("}mix")]
    assert len(spaces) == 1, stanza.raw
    return spaces[0]


@pytest.mark.req("F7", "N1", "N2", "N3")
@pytest.mark.parametrize("said", [ns.CORE0, ns.CORE1])
@pytest.mark.parametrize(("pam", "core"), [(ns.PAM1, ns.CORE0), (ns.PAM2, ns.CORE1)])
async def test_each_device_reads_its_own_version(
    stack: Stack, said: str, pam: str, core: str
) -> None:
    """Whatever the channel speaks, and whichever version the join was made in."""
    new = await mix_client(stack)
    old = await mix_client(stack, new, caps.OLD_MIX)
    both = await mix_client(stack, new, BOTH)
    channel = stack.fake.channel()
    joiner = old if core == ns.CORE0 else new
    answer = await joiner.iq(client_join(joiner.bare, channel.jid, pam=pam, core=core))
    assert answer["type"] == "result", answer.raw
    extra = f"<x xmlns='urn:example:0' a='{said}'>{said}</x>"
    stack.fake.say(channel.jid, new.bare, f"a {said} word", extra, core=said)
    participant = f"<participant xmlns='{said}'><nick>n</nick><jid>a@b.test</jid></participant>"
    stack.fake.event(channel.jid, new.bare, "participants", f"<item id='p1'>{participant}</item>")
    for device, spoken in ((new, ns.CORE1), (old, ns.CORE0), (both, said)):
        copy = await device.expect(match("message", body=f"a {said} word"))
        assert core_of(copy) == spoken
        # Texts and attributes that happen to name a namespace are left alone.
        other = copy.need("{urn:example:0}x")
        assert (other.get("a"), other.text) == (said, said)
        event = await device.expect(has_event("participants"))
        path = f"{EVENT}/{{{ns.PUBSUB_EVENT}}}items/{{{ns.PUBSUB_EVENT}}}item"
        assert event.text(f"{path}/{{{spoken}}}participant/{{{spoken}}}nick") == "n"


@pytest.mark.req("F5", "F7")
@pytest.mark.parametrize("space", [ns.MIX_PRESENCE, OLD_PRESENCE])
async def test_presence_in_either_namespace(stack: Stack, space: str) -> None:
    new = await mix_client(stack)
    old = await mix_client(stack, new, caps.OLD_MIX)
    channel = await stack.joined(new)
    sender = f"p1#{channel.jid}/r"
    for type_ in ("", " type='unavailable'"):
        stack.fake.send(
            f"<presence from='{sender}' to='{new.bare}'{type_}>"
            f"<mix xmlns='{space}'><nick>n</nick></mix></presence>"
        )
    for device in (new, old):
        came = await device.expect(match("presence", from_=sender, type=None))
        assert came.text(f"{{{space}}}mix/{{{space}}}nick") == "n"
        await device.expect(match("presence", from_=sender, type="unavailable"))


async def listening(stack: Stack) -> tuple[RawClient, Script]:
    """Return an online MIX client and a channel it has joined."""
    client = await mix_client(stack)
    return client, await stack.joined(client)


@pytest.mark.req("F4", "F6")
async def test_events_are_the_channels_own(stack: Stack) -> None:
    """A participant's address may not speak for the channel's nodes of others."""
    client, channel = await listening(stack)
    stranger = stack.fake.channel()
    stack.fake.event(stranger.jid, client.bare, "info", "<item id='no'/>")
    stack.fake.event(f"p#{stranger.jid}", client.bare, "info", "<item id='no'/>")
    stack.fake.event(channel.jid, client.bare, "info", "<item id='yes'/>")
    await client.expect(has_event("info"))
    await stack.settle(client)
    assert client.count(has_event("info")) == 1
