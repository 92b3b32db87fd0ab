"""Joining: what the channel is asked, what the client is told, what remains."""

import asyncio

import pytest
from harness import ns
from harness.fake import error, is_join, joined
from harness.stack import Stack, client_join
from harness.stanza import Stanza, match
from harness.steps import VERSIONS, leaves, memberships, session
from harness.stream import fresh

JOIN = f"{{{ns.PAM2}}}client-join/{{{ns.CORE1}}}join"


@pytest.mark.req("J1", "J2")
@pytest.mark.parametrize(("pam", "core"), VERSIONS)
async def test_a_join_in_every_version(stack: Stack, pam: str, core: str) -> None:
    client = await session(stack)
    channel = stack.fake.channel()
    id_ = fresh("join")
    client.send(
        f"<iq type='set' id='{id_}' to='{client.bare}'>"
        f"<client-join xmlns='{pam}' channel='{channel.jid}'><join xmlns='{core}'>"
        f"<subscribe node='{ns.NODES}messages'/><subscribe node='{ns.NODES}presence'/>"
        "<nick>third &amp; witch</nick><x xmlns='urn:example:0' a='b'>kept</x>"
        "</join></client-join></iq>"
    )
    asked = await stack.fake.expect(is_join(channel.jid))
    assert (asked["from"], asked["id"]) == (client.bare, id_)
    join = asked.need(f"{{{core}}}join")
    nodes = [e.get("node") for e in join.findall(f"{{{core}}}subscribe")]
    assert nodes == [f"{ns.NODES}messages", f"{ns.NODES}presence"]
    assert join.findtext(f"{{{core}}}nick") == "third & witch"
    assert join.findtext("{urn:example:0}x") == "kept"

    answer = await client.expect(match("iq", id=id_))
    assert answer["type"] == "result", answer.raw
    assert (answer["from"], answer["to"]) == (client.bare, client.jid)
    granted = answer.need(f"{{{pam}}}client-join/{{{core}}}join")
    assert granted.get("id") == channel.pid
    assert granted.get("jid") == f"{channel.pid}#{channel.jid}"
    nodes = [e.get("node") for e in granted.findall(f"{{{core}}}subscribe")]
    assert nodes == [f"{ns.NODES}messages", f"{ns.NODES}presence"]
    assert granted.findtext(f"{{{core}}}nick") == "third & witch"
    assert await memberships(client) == {channel.jid: channel.pid}


@pytest.mark.req("J2")
@pytest.mark.parametrize("by", [("id",), ("jid",), ("id", "jid")])
async def test_id_and_jid_whichever_the_channel_gave(stack: Stack, by: tuple[str, ...]) -> None:
    client = await session(stack)
    channel = stack.fake.channel(by=by)
    join = (await stack.join(client, channel)).need(JOIN)
    assert join.get("id") == channel.pid
    assert join.get("jid") == f"{channel.pid}#{channel.jid}"


@pytest.mark.req("J3")
async def test_a_partial_grant_is_passed_on(stack: Stack) -> None:
    client = await session(stack)
    channel = stack.fake.channel(grant=(f"{ns.NODES}messages",))
    join = (await stack.join(client, channel)).need(JOIN)
    assert [e.get("node") for e in join.findall(f"{{{ns.CORE1}}}subscribe")] == [
        f"{ns.NODES}messages"
    ]


@pytest.mark.req("J4")
@pytest.mark.parametrize(
    ("type_", "condition", "text"),
    [
        ("auth", "forbidden", "banned &amp; gone"),
        ("cancel", "conflict", "nick"),
        ("wait", "resource-constraint", ""),
    ],
)
async def test_the_channels_error_reaches_the_client(
    stack: Stack, type_: str, condition: str, text: str
) -> None:
    client = await session(stack)
    channel = stack.fake.channel(join=lambda s: error(s, type_, condition, text))
    answer = await client.iq(client_join(client.bare, channel.jid))
    assert answer["type"] == "error"
    assert answer["from"] == client.bare
    assert answer.condition == condition
    assert answer.need(f"{{{ns.CLIENT}}}error").get("type") == type_
    words = answer.text(f"{{{ns.CLIENT}}}error/{{{ns.STANZAS}}}text")
    assert (words or "") == text.replace("&amp;", "&")
    assert await memberships(client) == {}
    assert await stack.roster(client.account, channel.jid) is None


@pytest.mark.req("J4")
async def test_a_channel_on_a_server_that_is_not_there(stack: Stack) -> None:
    client = await session(stack)
    answer = await client.iq(client_join(client.bare, "coven@nowhere.invalid"), 15)
    assert answer["type"] == "error"
    assert await stack.roster(client.account, "coven@nowhere.invalid") is None


@pytest.mark.req("J5")
@pytest.mark.abuse(6)
async def test_silence_and_a_late_answer(stack: Stack) -> None:
    client = await session(stack)
    channel = stack.fake.channel(join=lambda _: None)
    answer = await client.iq(client_join(client.bare, channel.jid))
    assert answer.condition == "remote-server-timeout"
    assert answer.need(f"{{{ns.CLIENT}}}error").get("type") == "wait"
    asked = await stack.fake.expect(is_join(channel.jid))
    stack.fake.send(joined(asked, channel))
    leave = await stack.fake.expect(leaves(channel.jid))
    assert leave["from"] == client.bare
    await stack.settle(client)
    assert await stack.roster(client.account, channel.jid) is None
    assert client.count(match("iq", id=answer["id"])) == 1


JOIN_ONLY = "<join xmlns='{core}'/>"
MALFORMED = {
    "no-channel": "<client-join xmlns='{pam}'>" + JOIN_ONLY + "</client-join>",
    **{
        name: f"<client-join xmlns='{{pam}}' channel='{channel}'>{JOIN_ONLY}</client-join>"
        for name, channel in {
            "empty-channel": "",
            "domain-only": "{fake}",
            "resource": "c@{fake}/x",
            "two-at-signs": "a@b@{fake}",
            "spaces": "a b@{fake}",
        }.items()
    },
    "no-join": "<client-join xmlns='{pam}' channel='c@{fake}'/>",
    "leave-for-join": "<client-join xmlns='{pam}' channel='c@{fake}'>"
    "<leave xmlns='{core}'/></client-join>",
    "mixed-namespaces": "<client-join xmlns='{pam}' channel='c@{fake}'>"
    "<join xmlns='urn:xmpp:mix:core:0'/></client-join>",
    "leave-without-channel": "<client-leave xmlns='{pam}'><leave xmlns='{core}'/></client-leave>",
    "unknown-element": "<client-dance xmlns='{pam}' channel='c@{fake}'/>",
}


@pytest.mark.req("J6")
@pytest.mark.abuse(13)
@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request_is_told_what_is_wrong(stack: Stack, request_: str) -> None:
    client = await session(stack)
    inner = request_.format(pam=ns.PAM2, core=ns.CORE1, fake=stack.fake.jid)
    answer = await client.iq(f"<iq type='set' to='{client.bare}'>{inner}</iq>")
    assert answer["type"] == "error", answer.raw
    assert answer.condition in ("bad-request", "jid-malformed")
    assert answer.text(f"{{{ns.CLIENT}}}error/{{{ns.STANZAS}}}text")
    await stack.settle()
    stack.fake.none(match("iq", from_=client.bare))


@pytest.mark.req("J6")
async def test_a_get_is_not_implemented(stack: Stack) -> None:
    client = await session(stack)
    request = client_join(client.bare, f"c@{stack.fake.jid}").replace("type='set'", "type='get'")
    answer = await client.iq(request)
    assert answer.condition == "feature-not-implemented"


@pytest.mark.req("J6")
@pytest.mark.abuse(12)
async def test_nobody_joins_for_another_account(stack: Stack) -> None:
    client, victim = await session(stack), await session(stack)
    channel = stack.fake.channel()
    answer = await client.iq(client_join(victim.bare, channel.jid))
    assert answer.condition == "forbidden"
    outside = client_join(victim.bare, channel.jid).replace(
        "<iq", f"<iq from='evil@{stack.stranger.jid}/x'", 1
    )
    assert (await stack.stranger.iq(outside)).condition == "forbidden"
    await stack.settle()
    stack.fake.none(match("iq", to=channel.jid))
    assert await memberships(victim) == {}


@pytest.mark.req("J7")
async def test_joining_again_updates(stack: Stack) -> None:
    client = await session(stack)
    channel = await stack.joined(client)
    channel.pid = fresh("other")
    again = await stack.join(client, channel, nick="new nick")
    join = again.need(JOIN)
    assert join.get("id") == channel.pid
    assert join.findtext(f"{{{ns.CORE1}}}nick") == "new nick"
    assert await memberships(client) == {channel.jid: channel.pid}
    roster = await client.roster()
    assert len(roster.all(f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item")) == 1


@pytest.mark.req("J8")
async def test_two_devices_join_at_once(stack: Stack) -> None:
    account = await stack.user()
    one, two = await stack.raw(account), await stack.raw(account)
    asked: list[Stanza] = []

    def hold(stanza: Stanza) -> None:
        asked.append(stanza)

    channel = stack.fake.channel(join=hold)
    requests = [
        asyncio.create_task(client.iq(client_join(account.jid, channel.jid), 15))
        for client in (one, two)
    ]
    await stack.fake.expect(is_join(channel.jid))
    await one.fence()
    await two.fence()
    channel.join = None
    for stanza in asked:
        stack.fake.send(joined(stanza, channel))
    for answer in await asyncio.gather(*requests):
        assert answer["type"] == "result", answer.raw
        assert answer.need(JOIN).get("id") == channel.pid
    assert await memberships(one) == {channel.jid: channel.pid}


BAD_IDS = ["", "x" * 1024, "a#b", "a/b", "a@b"]


@pytest.mark.req("J9")
@pytest.mark.abuse(6)
@pytest.mark.parametrize("pid", BAD_IDS, ids=["empty", "long", "hash", "slash", "at"])
async def test_an_unusable_participant_id(stack: Stack, pid: str) -> None:
    client = await session(stack)
    channel = stack.fake.channel(by=("id",), pid=pid)
    answer = await client.iq(client_join(client.bare, channel.jid))
    assert answer["type"] == "error", answer.raw
    await stack.settle(client)
    assert await memberships(client) == {}
    assert await stack.roster(client.account, channel.jid) is None


@pytest.mark.abuse(6)
async def test_a_join_answered_by_another_address(stack: Stack) -> None:
    client = await session(stack)
    other = stack.fake.channel()

    def by_other(stanza: Stanza) -> str:
        return joined(stanza, channel).replace(f"from='{channel.jid}'", f"from='{other.jid}'", 1)

    channel = stack.fake.channel(join=by_other)
    answer = await client.iq(client_join(client.bare, channel.jid))
    assert answer.condition == "remote-server-timeout"
    assert await memberships(client) == {}
    for jid in (channel.jid, other.jid):
        assert await stack.roster(client.account, jid) is None


@pytest.mark.req("J10", "A1")
async def test_what_comes_during_a_join_comes_after_it(stack: Stack) -> None:
    account = await stack.user()
    device = await stack.device(account)

    def early(stanza: Stanza) -> str:
        stack.fake.say(channel.jid, account.jid, "early bird")
        stack.fake.event(channel.jid, account.jid, "participants", f"<item id='{channel.pid}'/>")
        return joined(stanza, channel)

    channel = stack.fake.channel(join=early)
    answer = await stack.join(device, channel)
    early_bird = match("message", type="groupchat", body="early bird")
    await device.expect(early_bird)
    event = match("message", has=f"{{{ns.PUBSUB_EVENT}}}event")
    await device.expect(event)
    item = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item[@jid='{channel.jid}']"
    push = device.inbox.position(match("iq", type="set", has=f"{item}/{{{ns.MIX_ROSTER}}}channel"))
    told = device.inbox.position(match("iq", id=answer["id"], type="result"))
    assert push < told < device.inbox.position(early_bird) < device.inbox.position(event)
    assert [s.body for s in await stack.archive(account, channel.jid)] == ["early bird"]


@pytest.mark.req("R1", "R2", "R3")
async def test_the_roster_after_a_join(stack: Stack) -> None:
    account = await stack.user()
    asking, plain = await stack.raw(account), await stack.raw(account)
    await asking.roster(annotate=True)
    await plain.roster()
    channel = await stack.joined(asking)
    item = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item[@jid='{channel.jid}']"
    annotation = f"{item}/{{{ns.MIX_ROSTER}}}channel"
    push = await asking.expect(match("iq", type="set", has=item))
    assert push.need(annotation).get("participant-id") == channel.pid
    assert push.need(item).get("subscription") == "from"
    assert (await plain.expect(match("iq", type="set", has=item))).find(annotation) is None
    assert "annotate" not in (await asking.roster(annotate=True)).raw
