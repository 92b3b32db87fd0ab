"""Fan-out: which devices get what a channel sends, and what they get."""

import pytest
from harness import caps, ns
from harness.client import RawClient
from harness.fake import is_join
from harness.stack import Stack, client_leave
from harness.stanza import canonical, match, parse

EVENT = f"{{{ns.PUBSUB_EVENT}}}event"


def whole(message: str) -> object:
    """Return a message's comparable form without addresses and archive ids."""
    element = parse(message)
    element.attrib.pop("to", None)
    return canonical(element, ignore=frozenset({f"{{{ns.SID}}}stanza-id"}))


async def mix_client(
    stack: Stack, bare: str = "", features: tuple[str, ...] = caps.MIX, children: str = ""
) -> RawClient:
    """Return an online hand-driven MIX client of a fresh user, or of a device's account."""
    account = next((d.account for d in stack.devices if d.bare == bare), None)
    client = await stack.raw(account or await stack.user())
    return await client.mix_online(features, children)


@pytest.mark.req("F1")
async def test_every_mix_device_gets_it_unchanged(stack: Stack) -> None:
    one = await mix_client(stack)
    low = await mix_client(stack, one.bare, children="<priority>-5</priority>")
    busy = await mix_client(stack, one.bare, children="<show>dnd</show>")
    channel = await stack.joined(one)
    message = (
        f"<message xml:lang='la' from='{channel.jid}' to='%s' id='m1' type='groupchat'>"
        "<body>1 &lt; 2 &amp; \"drei\" 'vier' \U0001f9ed</body>"
        f"<mix xmlns='{ns.CORE1}'><nick>a &amp; b</nick><jid>x@y.test</jid></mix>"
        f"<stanza-id xmlns='{ns.SID}' by='{channel.jid}' id='c1'/>"
        "<unknown xmlns='urn:example:0' a='&quot;&apos;'><deep/>text<deep>er</deep></unknown>"
        "</message>"
    )
    stack.fake.send(message % one.bare)
    stack.fake.send((message % one.jid).replace("m1", "straight"))
    straight = await one.expect(match("message", id="straight"))
    expected = whole(straight.raw.replace("straight", "m1"))
    for device in (one, low, busy):
        copy = await device.expect(match("message", id="m1"))
        assert copy["to"] == device.jid
        assert whole(copy.raw) == expected
    await stack.settle(one, low, busy)
    for device in (one, low, busy):
        assert device.count(match("message", id="m1")) == 1


@pytest.mark.req("F1")
async def test_order_is_kept(stack: Stack) -> None:
    one = await mix_client(stack)
    two = await mix_client(stack, one.bare)
    channels = [await stack.joined(one) for _ in range(3)]
    sent = []
    for number in range(60):
        channel = channels[number % 3]
        if number % 5 == 4:
            sent.append(stack.fake.event(channel.jid, one.bare, "info", f"<item id='{number}'/>"))
        else:
            sent.append(stack.fake.say(channel.jid, one.bare, str(number)))
    for device in (one, two):
        await device.expect(match("message", id=sent[-1]))
        assert [s["id"] for s in device.inbox.matching(match("message"))] == sent


@pytest.mark.req("F2", "F3")
async def test_never_devices_without_mix_or_presence(stack: Stack) -> None:
    account = await stack.user()
    plain = await stack.device(account, "plain", mix=False)
    silent = await stack.raw(account, "silent")
    for client in (plain, silent):
        await client.iq(f"<iq type='set'><enable xmlns='{ns.CARBONS}'/></iq>")
    channel = await stack.joined(silent)
    stack.fake.say(channel.jid, account.jid, "to nobody")
    await stack.settle(plain, silent)
    device = await stack.device(account, "mix")
    stack.fake.say(channel.jid, account.jid, "to one")
    await device.expect(match("message", body="to one"))
    await stack.settle(plain, silent, device)
    assert device.count(match("message")) == 1
    for client in (plain, silent):
        client.none(match("message"))
    stack.fake.none(match("message", to=channel.jid))
    bodies = [s.body for s in await stack.archive(account, channel.jid)]
    assert bodies == ["to nobody", "to one"]


@pytest.mark.req("F2")
async def test_not_after_logging_out(stack: Stack) -> None:
    one = await mix_client(stack)
    channel = await stack.joined(one)
    one.send("<presence type='unavailable'/>")
    await one.fence()
    stack.fake.say(channel.jid, one.bare, "too late")
    await stack.settle(one)
    one.none(match("message"))


@pytest.mark.req("F3")
async def test_offline_means_nobody_and_no_offline_storage(stack: Stack) -> None:
    account = await stack.user()
    first = await stack.raw(account)
    channel = await stack.joined(first)
    stack.devices.remove(first)
    await first.close()
    stack.fake.say(channel.jid, account.jid, "nobody home")
    await stack.settle()
    stack.fake.none(match("message", to=channel.jid))
    device = await stack.device(account)
    await stack.settle(device)
    device.none(match("message"))


NODES = ("participants", "info", "config", "jidmap", "allowed", "banned", "presence", "avatar:data")


@pytest.mark.req("F4")
async def test_events_of_every_node(stack: Stack) -> None:
    one = await mix_client(stack)
    plain = await mix_client(stack, one.bare, features=caps.PLAIN)
    channel = await stack.joined(one)
    sent = [
        stack.fake.event(
            channel.jid,
            one.bare,
            node,
            f"<item id='x'><thing xmlns='urn:example:{number}'>&amp;</thing></item>",
        )
        for number, node in enumerate(NODES)
    ]
    await stack.settle(one, plain)
    events = one.inbox.matching(match("message", has=EVENT))
    assert [stanza["id"] for stanza in events] == sent
    for number, stanza in enumerate(events):
        thing = f"{EVENT}/{{{ns.PUBSUB_EVENT}}}items/{{{ns.PUBSUB_EVENT}}}item/"
        assert stanza.text(f"{thing}{{urn:example:{number}}}thing") == "&"
        assert stanza["to"] == one.jid
    plain.none(match("message"))


@pytest.mark.req("F5")
@pytest.mark.parametrize("space", [ns.MIX_PRESENCE, "urn:xmpp:presence:0"])
async def test_presence_of_participants(stack: Stack, space: str) -> None:
    one = await mix_client(stack)
    two = await mix_client(stack, one.bare)
    plain = await mix_client(stack, one.bare, features=caps.PLAIN)
    channel = await stack.joined(one)
    sender = f"p7#{channel.jid}/r"
    inner = f"<show>away</show><mix xmlns='{space}'><nick>n &amp; m</nick></mix>"
    stack.fake.send(f"<presence from='{sender}' to='{one.bare}'>{inner}</presence>")
    stack.fake.send(f"<presence from='{sender}' to='{one.bare}' type='unavailable'/>")
    for device in (one, two):
        here = await device.expect(match("presence", from_=sender, to=device.jid, type=None))
        assert here.text(f"{{{space}}}mix/{{{space}}}nick") == "n & m"
        await device.expect(match("presence", from_=sender, to=device.jid, type="unavailable"))
    await stack.settle(plain)
    plain.none(match("presence", from_=sender))


@pytest.mark.req("F6")
@pytest.mark.abuse(1, 2)
async def test_a_channel_the_user_is_not_in(stack: Stack) -> None:
    one = await mix_client(stack)
    joined = await stack.joined(one)
    other = stack.fake.channel().jid
    left = await stack.joined(one)
    await one.iq(client_leave(one.bare, left.jid))
    local = joined.jid.partition("@")[0]
    senders = [other, left.jid, f"x#{other}", f"{local}x@{stack.fake.jid}", stack.fake.jid]
    for sender in senders:
        id_ = stack.fake.say(sender, one.bare, "spam")
        bounce = await stack.fake.expect(match("message", id=id_, type="error", to=sender))
        assert bounce.condition == "service-unavailable"
        assert bounce["from"] == one.bare
        stack.fake.send(f"<presence from='{sender}/p' to='{one.bare}'/>")
        stack.fake.send(f"<iq type='result' id='r' from='{sender}' to='{one.bare}'/>")
    await stack.settle(one)
    one.none(match("message"))
    for sender in senders:
        one.none(match("presence", from_=f"{sender}/p"))
        assert await stack.archive(one.account, sender) == []
    stack.fake.none(match("iq", type="error"))
    stack.fake.none(match("presence", type="error"))


@pytest.mark.req("F6")
@pytest.mark.abuse(1)
async def test_strangers_cannot_tell_accounts_apart(stack: Stack) -> None:
    account = await stack.user()
    channel = stack.fake.channel().jid
    answers = []
    for bare in (account.jid, f"no-such-user@{stack.domain}"):
        id_ = stack.fake.say(channel, bare, "anybody there?")
        bounce = await stack.fake.expect(match("message", id=id_, type="error"))
        error = bounce.need(f"{{{ns.CLIENT}}}error")
        answers.append((bounce["from"] == bare, error.get("type"), bounce.condition))
    assert answers[0] == answers[1]


@pytest.mark.req("F7")
async def test_each_device_gets_the_namespace_it_speaks(stack: Stack) -> None:
    new = await mix_client(stack)
    old = await mix_client(stack, new.bare, features=caps.OLD_MIX)
    both = await mix_client(stack, new.bare, features=(*caps.MIX, ns.CORE0))
    channel = await stack.joined(new)
    for core in (ns.CORE0, ns.CORE1):
        body = f"<b> &amp; {core}".replace("<", "&lt;")
        stack.fake.say(channel.jid, new.bare, body, core=core)
        for device, spoken in ((new, ns.CORE1), (old, ns.CORE0), (both, core)):
            got = await device.expect(match("message", body=f"<b> & {core}"))
            assert got.text(f"{{{spoken}}}mix/{{{spoken}}}nick") == "Hecate"
            assert len([c for c in got.xml if c.tag.endswith("}mix")]) == 1


@pytest.mark.req("F8")
async def test_a_hibernated_session(stack: Stack) -> None:
    account = await stack.user()
    client = await stack.raw(account, smacks=True)
    await client.mix_online()
    other = await mix_client(stack, account.jid)
    channel = await stack.joined(other)
    await client.cut()
    for body in ("1", "2"):
        stack.fake.say(channel.jid, account.jid, body)
        await other.expect(match("message", body=body))
    await client.resume()
    stack.fake.say(channel.jid, account.jid, "3")
    await client.expect(match("message", body="3"))
    await stack.settle(client)
    assert [s.body for s in client.inbox.matching(match("message"))] == ["1", "2", "3"]


@pytest.mark.req("F9")
async def test_a_device_that_is_gone_disturbs_nobody(stack: Stack) -> None:
    """Devices come and go in the middle of traffic; the channel never gets an error."""
    stays = await mix_client(stack)
    channel = await stack.joined(stays)
    for number in range(20):
        goes = await mix_client(stack, stays.bare)
        stack.fake.say(channel.jid, stays.bare, f"before {number}")
        await goes.cut()
        stack.devices.remove(goes)
        stack.fake.say(channel.jid, stays.bare, f"after {number}")
    await stays.expect(match("message", body="after 19"))
    await stack.settle(stays)
    bodies = [s.body for s in stays.inbox.matching(match("message"))]
    assert bodies == [f"{when} {n}" for n in range(20) for when in ("before", "after")]
    stack.fake.none(match(type="error"))


@pytest.mark.req("F10")
async def test_direct_traffic_is_left_alone(stack: Stack) -> None:
    one = await mix_client(stack)
    channel = await stack.joined(one)
    await stack.fake.expect(is_join(channel.jid))
    one.send(f"<message to='{channel.jid}' id='g1' type='groupchat'><body>hi</body></message>")
    await stack.fake.expect(match("message", from_=one.jid, to=channel.jid, body="hi"))
    for inner in (
        f"<setnick xmlns='{ns.CORE1}'><nick>new</nick></setnick>",
        f"<pubsub xmlns='{ns.PUBSUB}'><items node='{ns.NODES}participants'/></pubsub>",
        f"<query xmlns='{ns.MAM}'/>",
    ):
        answer = await one.iq(f"<iq type='set' to='{channel.jid}'>{inner}</iq>")
        assert answer["from"] == channel.jid
        assert answer.condition == "feature-not-implemented"
    asked = match("iq", from_=one.jid, to=channel.jid)
    assert stack.fake.count(asked) == 3
    disco = await one.iq(f"<iq type='get' to='{channel.jid}'><query xmlns='{ns.DISCO_INFO}'/></iq>")
    assert disco["type"] == "result"
    stack.fake.send(
        f"<message from='x#{channel.jid}/r' to='{one.jid}' type='chat' id='pm'>"
        "<body>p</body></message>"
    )
    await one.expect(match("message", id="pm"))
