"""Channels in the roster: annotated, versioned, and left as the user wants them."""

import xml.etree.ElementTree as ET

import pytest
from harness import ns
from harness.client import RawClient
from harness.stack import Stack, client_join, client_leave
from harness.stanza import Stanza, match
from harness.steps import memberships, session
from sharing import preference

ITEM = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"
CHANNEL = f"{{{ns.MIX_ROSTER}}}channel"


def item(stanza: Stanza, jid: str) -> ET.Element:
    """Return a contact's item in a roster or a push."""
    return stanza.need(f"{ITEM}[@jid='{jid}']")


def pid(stanza: Stanza, jid: str) -> str | None:
    """Return the participant id in a contact's item, None where it has no annotation."""
    found = item(stanza, jid).findall(CHANNEL)
    assert len(found) <= 1, stanza.raw
    return found[0].get("participant-id") if found else None


async def pushed(client: RawClient, jid: str, subscription: str | None = None) -> Stanza:
    """Return the next roster push about a contact."""
    condition = "" if subscription is None else f"[@subscription='{subscription}']"
    path = f"{ITEM}[@jid='{jid}']{condition}"
    return await client.expect(match("iq", type="set", has=path))


async def roster_set(client: RawClient, jid: str, attributes: str = "", inner: str = "") -> Stanza:
    """Change an item of the client's roster and return the answer."""
    return await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{jid}'{attributes}>{inner}</item>"
        "</query></iq>"
    )


@pytest.mark.req("R1")
async def test_the_sessions_that_any_change_is_pushed_to(stack: Stack) -> None:
    """RFC 6121 §2.1.6 wants those who asked for the roster; ejabberd tells the others too."""
    account = await stack.user()
    asking, plain, silent = [await stack.raw(account) for _ in range(3)]
    await asking.roster(annotate=True)
    await plain.roster()
    await roster_set(plain, f"friend@{stack.domain}")
    await stack.settle(asking, plain, silent)
    anything = match("iq", type="set")
    usual = [client.count(anything) for client in (asking, plain, silent)]
    assert usual[:2] == [1, 1]
    channel = await stack.joined(asking)
    for client in (asking, plain):
        push = await pushed(client, channel.jid)
        assert item(push, channel.jid).get("subscription") == "from"
        assert item(push, channel.jid).get("ask") is None
    await stack.settle(asking, plain, silent)
    assert [client.count(anything) for client in (asking, plain, silent)] == [2 * n for n in usual]


@pytest.mark.req("R1")
async def test_not_shared_is_subscription_none(stack: Stack) -> None:
    client = await session(stack)
    await client.roster(annotate=True)
    channel = stack.fake.channel()
    request = client_join(client.bare, channel.jid)
    answer = await client.iq(request.replace("</join>", preference("not share") + "</join>"))
    assert answer["type"] == "result", answer.raw
    push = await pushed(client, channel.jid)
    assert item(push, channel.jid).get("subscription") == "none"
    assert pid(push, channel.jid) == channel.pid
    assert item(await client.roster(), channel.jid).get("subscription") == "none"


@pytest.mark.req("R2", "R3")
async def test_channels_are_marked_and_nothing_else(stack: Stack) -> None:
    client = await session(stack)
    channels = [await stack.joined(client) for _ in range(3)]
    friend = f"friend@{stack.domain}"
    stranger = f"nobody@{stack.fake.jid}"
    for jid in (friend, stranger):
        await roster_set(client, jid, " name='a &amp; b'", "<group>G &lt; H</group>")
    answer = await client.roster(annotate=True)
    jids = {e.get("jid") for e in answer.all(ITEM)}
    assert jids == {friend, stranger, *(channel.jid for channel in channels)}
    for channel in channels:
        assert pid(answer, channel.jid) == channel.pid
    for jid in (friend, stranger):
        assert pid(answer, jid) is None
        assert item(answer, jid).get("name") == "a & b"
        assert item(answer, jid).findtext(f"{{{ns.ROSTER}}}group") == "G < H"
    assert "annotate" not in answer.raw
    await roster_set(client, friend, " name='new'")
    push = await pushed(client, friend)
    assert pid(push, friend) is None
    assert ns.MIX_ROSTER not in push.raw


@pytest.mark.req("R2", "R3")
@pytest.mark.abuse(18)
async def test_the_flag_is_each_sessions_own(stack: Stack) -> None:
    account = await stack.user()
    asking, plain, turncoat = [await stack.raw(account) for _ in range(3)]
    await asking.roster(annotate=True)
    await plain.roster()
    await turncoat.roster(annotate=True)
    await turncoat.roster()
    channel = await stack.joined(asking)
    assert pid(await pushed(asking, channel.jid), channel.jid) == channel.pid
    for client in (plain, turncoat):
        assert pid(await pushed(client, channel.jid), channel.jid) is None
        answer = await client.roster()
        assert pid(answer, channel.jid) is None
        assert ns.MIX_ROSTER not in answer.raw
    # Another login with the same resource begins without the flag.
    stack.devices.remove(asking)
    await asking.close()
    again = await stack.raw(account, asking.resource)
    await again.roster()
    await roster_set(plain, channel.jid, " name='x'")
    assert pid(await pushed(again, channel.jid), channel.jid) is None


@pytest.mark.req("R4")
async def test_the_users_name_and_groups_stay(stack: Stack) -> None:
    client = await session(stack)
    await client.roster(annotate=True)
    channel = await stack.joined(client)
    await pushed(client, channel.jid)
    groups = "<group>Covens</group><group>a &amp; b</group>"
    answer = await roster_set(client, channel.jid, " name='The &quot;Coven&quot;'", groups)
    assert answer["type"] == "result", answer.raw
    push = await pushed(client, channel.jid)
    await stack.join(client, channel, nick="again")
    channel.pid = "another"
    await stack.join(client, channel, nick="and again")
    roster = await client.roster(annotate=True)
    for stanza, expected in ((push, None), (roster, "another")):
        found = item(stanza, channel.jid)
        assert found.get("name") == 'The "Coven"'
        assert {e.text for e in found.findall(f"{{{ns.ROSTER}}}group")} == {"Covens", "a & b"}
        assert found.get("subscription") == "from"
        assert pid(stanza, channel.jid) is not None
        assert expected in (None, pid(stanza, channel.jid))


@pytest.mark.req("R4")
@pytest.mark.abuse(15)
async def test_a_forged_channel_element_is_stripped(stack: Stack) -> None:
    client = await session(stack)
    await client.roster(annotate=True)
    channel = await stack.joined(client)
    await pushed(client, channel.jid)
    forged = f"<channel xmlns='{ns.MIX_ROSTER}' participant-id='forged'/>"
    friend = f"friend@{stack.domain}"
    for jid in (channel.jid, friend):
        # A server may refuse what it does not know; then nothing has happened.
        await roster_set(client, jid, "", forged)
    await stack.settle(client)
    answer = await client.roster(annotate=True)
    assert pid(answer, channel.jid) == channel.pid
    assert "forged" not in answer.raw
    for push in client.inbox.matching(match("iq", type="set")):
        assert "forged" not in push.raw
    assert "forged" not in (await client.roster()).raw


@pytest.mark.req("R5")
async def test_versioning_of_a_plain_session(stack: Stack) -> None:
    client = await session(stack)
    # Prosody counts from 1, and calls the roster before its first change 1 as well.
    await roster_set(client, f"friend@{stack.domain}")
    first = await client.roster(ver="")
    version = first.need(f"{{{ns.ROSTER}}}query").get("ver")
    assert version
    unchanged = await client.roster(ver=version)
    assert unchanged.find(f"{{{ns.ROSTER}}}query") is None
    channel = await stack.joined(client)
    push = await pushed(client, channel.jid)
    assert push.need(f"{{{ns.ROSTER}}}query").get("ver") not in (None, version)
    changed = await client.roster(ver=version)
    assert pid(changed, channel.jid) is None
    version = changed.need(f"{{{ns.ROSTER}}}query").get("ver")
    unchanged = await client.roster(ver=version)
    assert unchanged["type"] == "result"
    assert unchanged.find(f"{{{ns.ROSTER}}}query") is None


@pytest.mark.req("R5")
async def test_an_annotated_get_is_never_answered_as_unchanged(stack: Stack) -> None:
    client = await session(stack)
    channel = await stack.joined(client)
    version = (await client.roster(ver="")).need(f"{{{ns.ROSTER}}}query").get("ver")
    assert version
    for _ in range(2):
        answer = await client.roster(annotate=True, ver=version)
        assert pid(answer, channel.jid) == channel.pid
        # Versions are still told, so that the client may go on without annotations.
        assert answer.need(f"{{{ns.ROSTER}}}query").get("ver") == version


@pytest.mark.req("R5")
async def test_annotation_survives_resumption(stack: Stack) -> None:
    client = await stack.raw(await stack.user(), smacks=True)
    other = await stack.raw(client.account)
    await client.roster(annotate=True)
    first = await stack.joined(other)
    await pushed(client, first.jid)
    await client.cut()
    second = await stack.joined(other)
    await stack.settle(other)
    await client.resume()
    assert pid(await pushed(client, second.jid), second.jid) == second.pid
    third = await stack.joined(other)
    assert pid(await pushed(client, third.jid), third.jid) == third.pid
    await stack.settle(client)
    assert client.count(match("iq", type="set")) == 3


@pytest.mark.req("R2", "L1")
async def test_a_removal_is_pushed_without_annotation(stack: Stack) -> None:
    client = await session(stack)
    await client.roster(annotate=True)
    channel = await stack.joined(client)
    await client.iq(client_leave(client.bare, channel.jid))
    push = await pushed(client, channel.jid, "remove")
    assert pid(push, channel.jid) is None
    assert "annotate" not in push.raw
    assert await memberships(client) == {}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.req("R2", "R7")
async def test_a_roster_of_a_thousand_items(stack: Stack) -> None:
    """It is right, and a message sent meanwhile to another user is not stuck.

    How much work it is tests/benchmarks measures.
    """
    client = await session(stack)
    channels = [await stack.joined(client) for _ in range(20)]
    for start in range(0, 980, 70):
        requests = [
            f"<iq type='set' id='r{number}'><query xmlns='{ns.ROSTER}'>"
            f"<item jid='contact{number}@example.org' name='Contact &amp; {number}'>"
            f"<group>G{number % 7}</group></item></query></iq>"
            for number in range(start, start + 70)
        ]
        client.send("".join(requests))
        await client.expect(match("iq", id=f"r{start + 69}", type="result"), 30)
    listener = await stack.raw(await stack.user())
    await listener.mix_online()
    lively = await stack.joined(listener)
    client.send(
        f"<iq type='get' id='all'><query xmlns='{ns.ROSTER}'>"
        f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
    )
    stack.fake.say(lively.jid, listener.bare, "meanwhile")
    await listener.expect(match("message", body="meanwhile"), 2)
    answer = await client.expect(match("iq", id="all"), 10)
    items = answer.all(ITEM)
    assert len(items) == 1000
    marked = {e.get("jid"): e.find(CHANNEL) for e in items if e.find(CHANNEL) is not None}
    assert {jid: e.get("participant-id") for jid, e in marked.items() if e is not None} == {
        channel.jid: channel.pid for channel in channels
    }
    named = {e.get("jid"): e for e in items}
    for number in range(980):
        found = named[f"contact{number}@example.org"]
        assert found.get("name") == f"Contact & {number}"
        assert found.findtext(f"{{{ns.ROSTER}}}group") == f"G{number % 7}"
