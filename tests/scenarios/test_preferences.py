"""The preference to share presence or not (XEP-0404), in a join and later."""

import pytest
from harness import caps, ns
from harness.client import RawClient
from harness.fake import Script, error, joined
from harness.stack import Stack, client_join
from harness.stanza import Stanza, match
from sharing import PREFERENCE, answering, gone, grants, here, preference, shown

ITEM = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"


async def mix_client(stack: Stack) -> RawClient:
    """Return an online MIX client of a fresh user, interested in the roster."""
    client = await stack.raw(await stack.user())
    await client.roster(annotate=True)
    return await client.mix_online()


async def set_preference(client: RawClient, channel: Script, value: str) -> Stanza:
    """Ask the channel to note a preference and return its answer."""
    return await client.iq(f"<iq type='set' to='{channel.jid}'>{preference(value)}</iq>")


async def subscription(client: RawClient, channel: Script, expected: str) -> None:
    """Wait for the push that says so, and see it in the roster."""
    path = f"{ITEM}[@jid='{channel.jid}'][@subscription='{expected}']"
    push = await client.expect(match("iq", type="set", has=path))
    mark = push.need(f"{path}/{{{ns.MIX_ROSTER}}}channel")
    assert mark.get("participant-id") == channel.pid
    assert (await client.roster(annotate=True)).find(path) is not None


@pytest.mark.req("R6", "P2")
async def test_a_change_both_ways(stack: Stack) -> None:
    client = await mix_client(stack)
    channel = await stack.joined(client)
    await subscription(client, channel, "from")
    await stack.fake.expect(here(client.jid, channel.jid))
    with answering(stack.fake, PREFERENCE, grants):
        answer = await set_preference(client, channel, "not share")
        assert answer["type"] == "result", answer.raw
        assert (answer["from"], answer["to"]) == (channel.jid, client.jid)
        await subscription(client, channel, "none")
        await stack.fake.expect(gone(client.jid, channel.jid))
        client.presence(caps.element(caps.MIX) + "<show>away</show>")
        await stack.settle(client)
        stack.fake.none(here(client.jid, channel.jid, shown("away")))

        await set_preference(client, channel, "share")
        await subscription(client, channel, "from")
        await stack.fake.expect(here(client.jid, channel.jid, shown("away")))
        client.presence(caps.element(caps.MIX) + "<show>xa</show>")
        await stack.fake.expect(here(client.jid, channel.jid, shown("xa")))


@pytest.mark.req("R6")
async def test_one_channel_not_the_other(stack: Stack) -> None:
    client = await mix_client(stack)
    quiet, other = await stack.joined(client), await stack.joined(client)
    for channel in (quiet, other):
        await stack.fake.expect(here(client.jid, channel.jid))
    with answering(stack.fake, PREFERENCE, grants):
        await set_preference(client, quiet, "not share")
        await stack.fake.expect(gone(client.jid, quiet.jid))
    client.presence(caps.element(caps.MIX) + "<show>away</show>")
    await stack.fake.expect(here(client.jid, other.jid, shown("away")))
    await stack.settle(client)
    stack.fake.none(here(client.jid, quiet.jid, shown("away")))
    stack.fake.none(gone(client.jid, other.jid))


@pytest.mark.req("R6")
async def test_a_channel_may_refuse_a_wish_and_never_turn_it_round(stack: Stack) -> None:
    """A refusal the client knows of; with "share" for "not share" nobody has agreed."""
    client = await mix_client(stack)
    channel = await stack.joined(client)
    await stack.fake.expect(here(client.jid, channel.jid))
    with answering(stack.fake, PREFERENCE, lambda s: error(s, "auth", "forbidden")):
        assert (await set_preference(client, channel, "not share"))["type"] == "error"
    await stack.settle(client)
    stack.fake.none(gone(client.jid, channel.jid))
    item = await stack.roster(client.account, channel.jid)
    assert item is not None
    assert item["subscription"] == "from"
    with answering(stack.fake, PREFERENCE, lambda s: grants(s, "share")):
        assert (await set_preference(client, channel, "not share"))["type"] == "result"
    await stack.fake.expect(gone(client.jid, channel.jid))
    with answering(stack.fake, PREFERENCE, lambda s: grants(s, "not share")):
        assert (await set_preference(client, channel, "share"))["type"] == "result"
    await stack.settle(client)
    assert stack.fake.count(here(client.jid, channel.jid)) == 1
    item = await stack.roster(client.account, channel.jid)
    assert item is not None
    assert item["subscription"] == "none"


@pytest.mark.req("R6")
@pytest.mark.abuse(5)
async def test_an_answer_nobody_asked_for_changes_nothing(stack: Stack) -> None:
    client = await mix_client(stack)
    channel, other = await stack.joined(client), stack.fake.channel()
    inner = preference("not share", "result")
    for sender in (channel.jid, other.jid):
        stack.fake.send(f"<iq type='result' id='no' from='{sender}' to='{client.jid}'>{inner}</iq>")
    with answering(stack.fake, PREFERENCE, lambda s: grants(s).replace(channel.jid, other.jid, 1)):
        client.send(f"<iq type='set' id='w' to='{channel.jid}'>{preference('not share')}</iq>")
        await stack.fake.expect(match("iq", id="w"))
    await stack.settle(client)
    item = await stack.roster(client.account, channel.jid)
    assert item is not None
    assert item["subscription"] == "from"
    stack.fake.none(gone(client.jid, channel.jid))


@pytest.mark.req("R6", "R1")
@pytest.mark.parametrize(
    ("asked", "granted", "expected"),
    [
        ("not share", None, "none"),
        ("not share", "not share", "none"),
        ("not share", "share", "none"),
        ("share", "not share", "none"),
        (None, "not share", "none"),
        ("share", None, "from"),
    ],
)
async def test_in_the_join(
    stack: Stack, asked: str | None, granted: str | None, expected: str
) -> None:
    client = await mix_client(stack)

    def answer(stanza: Stanza) -> str:
        words = "" if granted is None else preference(granted, "result")
        return joined(stanza, channel).replace("</join>", f"{words}</join>")

    channel = stack.fake.channel(join=answer)
    request = client_join(client.bare, channel.jid)
    if asked is not None:
        request = request.replace("</join>", f"{preference(asked)}</join>")
    result = await client.iq(request)
    assert result["type"] == "result", result.raw
    await subscription(client, channel, expected)
    await stack.settle(client)
    told = stack.fake.count(match("presence", from_=client.jid, to=channel.jid))
    assert told == (1 if expected == "from" else 0)


@pytest.mark.req("R6", "P2")
async def test_in_the_join_as_xep_0404_has_it(stack: Stack) -> None:
    """The form stands in the `<join/>`, with nothing around it, and in the answer likewise."""
    client = await mix_client(stack)

    def form(value: str, type_: str) -> str:
        return (
            f"<x xmlns='{ns.DATA}' type='{type_}'><field var='FORM_TYPE' type='hidden'>"
            f"<value>{ns.MIX_ANON}</value></field><field var='JID Visibility'>"
            "<value>never</value></field><field var='Presence'>"
            f"<value>{value}</value></field></x>"
        )

    def answer(stanza: Stanza) -> str:
        return joined(stanza, channel).replace("</join>", f"{form('not share', 'result')}</join>")

    channel = stack.fake.channel(join=answer)
    request = client_join(client.bare, channel.jid)
    result = await client.iq(request.replace("</join>", f"{form('not share', 'submit')}</join>"))
    assert result["type"] == "result", result.raw
    await subscription(client, channel, "none")
    # Joining again without a word of it takes nothing back.
    channel.join = None
    assert (await client.iq(request))["type"] == "result"
    client.presence(caps.element(caps.MIX) + "<show>away</show>")
    await stack.settle(client)
    stack.fake.none(match("presence", from_=client.jid, to=channel.jid))


@pytest.mark.req("R6")
@pytest.mark.parametrize("wish", ["share", "not share"])
async def test_joining_again_with_another_preference(stack: Stack, wish: str) -> None:
    client = await mix_client(stack)
    channel = stack.fake.channel()
    before = "not share" if wish == "share" else "share"
    for value in (before, wish):
        request = client_join(client.bare, channel.jid)
        request = request.replace("</join>", f"{preference(value)}</join>")
        assert (await client.iq(request))["type"] == "result"
    await stack.settle(client)
    told = stack.fake.inbox.matching(match("presence", from_=client.jid, to=channel.jid))
    types = [stanza["type"] for stanza in told]
    assert types == ([""] if wish == "share" else ["", "unavailable"])
    item = await stack.roster(client.account, channel.jid)
    assert item is not None
    assert item["subscription"] == ("from" if wish == "share" else "none")
