"""What strangers and broken peers send, and what must not come of it."""

from xml.sax.saxutils import escape

import pytest
from harness import caps, ns
from harness.client import RawClient
from harness.component import SECRET
from harness.fake import is_join, joined
from harness.stack import FreshStack, Stack, client_join
from harness.stanza import Stanza, match
from harness.steps import memberships
from harness.stream import fresh


async def mix_member(stack: Stack) -> tuple[RawClient, str]:
    """Return an online MIX client of a fresh user, and the channel the user is in."""
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channel = await stack.joined(client)
    return client, channel.jid


@pytest.mark.abuse(3)
@pytest.mark.parametrize("kind", ["chat", "normal", "headline"])
async def test_other_types_than_groupchat_are_no_messages_of_the_channel(
    stack: Stack, kind: str
) -> None:
    client, channel = await mix_member(stack)
    stack.fake.send(
        f"<message from='{channel}' to='{client.bare}' type='{kind}' id='odd'><body>b</body>"
        f"<mix xmlns='{ns.CORE1}'><nick>n</nick></mix></message>"
    )
    await stack.settle(client)
    client.none(match("message", type="groupchat"))
    assert client.count(match("message", id="odd")) <= 1


@pytest.mark.abuse(3)
async def test_wrappers_are_not_unwrapped(stack: Stack) -> None:
    client, channel = await mix_member(stack)
    inner = (
        f"<forwarded xmlns='{ns.FORWARD}'><message xmlns='{ns.CLIENT}' from='{channel}' "
        f"to='{client.bare}' type='groupchat'><body>inner</body></message></forwarded>"
    )
    for wrapper in (inner, f"<received xmlns='{ns.CARBONS}'>{inner}</received>"):
        id_ = stack.fake.say(channel, client.bare, "outer", wrapper)
        got = await client.expect(match("message", id=id_))
        assert got.body == "outer"
    await stack.settle(client)
    client.none(match("message", body="inner"))


@pytest.mark.abuse(5)
async def test_answers_nobody_asked_for(stack: Stack) -> None:
    client, channel = await mix_member(stack)
    other = stack.fake.channel()
    forged = (
        f"<iq type='result' id='%s' from='{other.jid}' to='{client.bare}'>"
        f"<join xmlns='{ns.CORE1}' id='p'><subscribe node='{ns.NODES}messages'/></join></iq>"
    )
    stack.fake.send(forged % "never-asked")
    stack.fake.send(
        f"<iq type='error' id='never-asked' from='{channel}' to='{client.bare}'>"
        f"<error type='cancel'><gone xmlns='{ns.STANZAS}'/></error></iq>"
    )
    await stack.settle(client)
    assert set(await memberships(client)) == {channel}
    client.none(match("iq", id="never-asked"))
    stack.fake.none(match(type="error"))


@pytest.mark.abuse(5, 6)
async def test_the_right_id_from_the_wrong_channel_or_for_the_wrong_user(stack: Stack) -> None:
    client, _ = await mix_member(stack)
    bystander, theirs = await mix_member(stack)
    evil = stack.fake.channel()
    target = stack.fake.channel(join=lambda _: None)
    request = client_join(client.bare, target.jid)
    id_ = fresh("join")
    client.send(request.replace("<iq", f"<iq id='{id_}'", 1))
    asked = await stack.fake.expect(is_join(target.jid))
    answer = joined(asked, target)
    stack.fake.send(answer.replace(f"from='{target.jid}'", f"from='{evil.jid}'", 1))
    stack.fake.send(answer.replace(f"to='{client.bare}'", f"to='{bystander.bare}'", 1))
    await stack.settle(client, bystander)
    client.none(match("iq", id=id_))
    assert set(await memberships(bystander)) == {theirs}
    stack.fake.send(answer)
    assert (await client.expect(match("iq", id=id_)))["type"] == "result"
    joined_now = await memberships(client)
    assert target.jid in joined_now
    assert evil.jid not in joined_now


@pytest.mark.abuse(9)
@pytest.mark.parametrize("spelling", ["upper", "mixed"])
async def test_spellings_of_a_channel_are_one_channel(stack: Stack, spelling: str) -> None:
    client, _ = await mix_member(stack)
    channel = stack.fake.channel()
    written = channel.jid.upper() if spelling == "upper" else channel.jid.title()
    answer = await client.iq(client_join(client.bare, written))
    assert answer["type"] == "result", answer.raw
    assert (await memberships(client))[channel.jid] == channel.pid
    assert [jid for jid in await memberships(client) if jid != jid.lower()] == []
    id_ = stack.fake.say(channel.jid, client.bare, "hi")
    await client.expect(match("message", id=id_))


@pytest.mark.abuse(10)
async def test_tap_events_of_others_are_ignored(stack: Stack) -> None:
    client, channel = await mix_member(stack)
    stranger = stack.stranger
    for event in (
        f"<user-removed xmlns='{ns.TAP}' jid='{client.bare}'/>",
        f"<hello xmlns='{ns.TAP}' version='1' tap='0' software='evil' archive='false'/>",
        f"<replayed xmlns='{ns.TAP}'/>",
        "<delegation xmlns='urn:xmpp:delegation:2'/>",
        "<privilege xmlns='urn:xmpp:privilege:2'/>",
    ):
        for sender in (stranger.jid, f"x@{stranger.jid}"):
            stranger.send(f"<message from='{sender}' to='{stack.component}'>{event}</message>")
    stranger.send(
        f"<iq type='set' id='t8' from='x@{stranger.jid}' to='{stack.component}'>"
        f"<query xmlns='{ns.ROSTER}'><item jid='{channel}' subscription='remove'/></query></iq>"
    )
    stranger.send(f"<presence from='{stranger.jid}/x' to='{stack.component}'/>")
    await stranger.fence()
    await stack.settle(client)
    id_ = stack.fake.say(channel, client.bare, "still here")
    await client.expect(match("message", id=id_))
    assert set(await memberships(client)) == {channel}
    own = await client.iq(
        f"<iq type='get' to='{client.bare}'><query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    assert f"{ns.PAM2}#archive" in own.raw


@pytest.mark.abuse(13)
async def test_malformed_requests_do_no_harm(stack: Stack) -> None:
    client, channel = await mix_member(stack)
    requests = [
        f"<client-join xmlns='{ns.PAM2}' channel='{bad}'><join xmlns='{ns.CORE1}'/></client-join>"
        for bad in ("a b@x", f"{'a' * 3000}@{stack.fake.jid}")
    ]
    requests.append(
        f"<client-leave xmlns='{ns.PAM2}' channel='@'><leave xmlns='{ns.CORE1}'/></client-leave>"
    )
    # A long tag comes in pieces, and Debian's present expat, which ejabberd 23.01 reads by,
    # looks at one again only when there is twice as much.
    more = " " * 6_000
    for inner in requests:
        answer = await client.iq(f"<iq type='set' to='{client.bare}'>{inner}</iq>{more}")
        assert answer["type"] == "error"
        assert answer.condition in ("bad-request", "jid-malformed")
        assert answer.text(f"{{{ns.CLIENT}}}error/{{{ns.STANZAS}}}text")
    assert set(await memberships(client)) == {channel}


@pytest.mark.abuse(20)
async def test_nothing_loops(stack: Stack) -> None:
    """The component's own copies, sent back to it by a peer, are not fanned out again."""
    client, channel = await mix_member(stack)
    id_ = stack.fake.say(channel, client.bare, "once")
    copy = await client.expect(match("message", id=id_))
    before = stack.mixpam.mark()
    client.send(f"<message to='{client.bare}' type='groupchat' id='echo'><body>e</body></message>")
    client.send(
        f"<message to='{stack.component}' type='groupchat' id='echo2'><body>e</body></message>"
    )
    stack.fake.send(copy.raw.replace(f"to='{client.jid}'", f"to='{stack.component}'"))
    stack.fake.send(f"<iq type='error' id='{id_}' from='{channel}' to='{stack.component}'/>")
    await stack.settle(client)
    assert client.count(match("message", id=id_)) == 1
    client.none(match("message", id="echo2", type="groupchat"))
    assert stack.mixpam.mark() - before < 50
    assert stack.fake.count(match("message", type="error")) <= 1


@pytest.mark.abuse(28)
async def test_it_speaks_for_nobody_it_does_not_serve(stack: Stack) -> None:
    """Whatever strangers make it do, no stanza leaves in a foreign name."""
    client, channel = await mix_member(stack)
    elsewhere = f"victim@{stack.stranger.jid}"
    address = f"from='{elsewhere}/r' to='{stack.component}'"
    join = f"<client-join xmlns='{ns.PAM2}' channel='{channel}'><join xmlns='{ns.CORE1}'/>"
    said = f"<body>b</body><mix xmlns='{ns.CORE1}'/>"
    stack.stranger.send(f"<iq type='set' id='x1' {address}>{join}</client-join></iq>")
    stack.stranger.send(f"<message id='x2' type='groupchat' {address}>{said}</message>")
    stack.stranger.send(f"<presence {address}>{caps.element(caps.MIX)}</presence>")
    await stack.stranger.fence()
    await stack.settle(client)

    def foreign(stanza: Stanza) -> bool:
        domain = stanza["from"].partition("/")[0].rpartition("@")[2]
        return domain not in (stack.domain, stack.component, "")

    stack.fake.none(match(test=foreign))
    client.none(match("message"))


@pytest.mark.abuse(26)
@pytest.mark.slow
async def test_the_secret_is_never_shown(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(component=False, MIXPAM_SECRET="wrong-but-still-a-secret")
    await stack.mixpam.process.start()
    await stack.mixpam.process.line("(?i)secret|not-authorized|handshake|conflict", 15)
    await stack.mixpam.stop()
    assert "wrong-but-still-a-secret" not in "\n".join(stack.mixpam.process.lines)
    stack.mixpam.process.env["MIXPAM_SECRET"] = SECRET  # type: ignore[index]
    await stack.mixpam.start()
    await mix_member(stack)
    await stack.mixpam.stop()
    assert SECRET not in "\n".join(stack.mixpam.process.lines)


@pytest.mark.abuse(27)
async def test_logs_carry_no_bodies(stack: Stack) -> None:
    client, channel = await mix_member(stack)
    word = fresh("confidential-")
    stack.fake.say(channel, client.bare, word)
    stack.fake.say(stack.fake.channel().jid, client.bare, word)
    await client.expect(match("message", body=word))
    await stack.settle(client)
    assert word not in "\n".join(stack.mixpam.process.lines)
    stack.mixpam.events()


ODD = "a<b>&amp;'\"]]>\n\N{OCTOPUS} \N{LEFT-TO-RIGHT OVERRIDE}end"


@pytest.mark.abuse(19)
async def test_odd_characters_arrive_intact(stack: Stack) -> None:
    client, channel = await mix_member(stack)
    other = stack.fake.channel()
    joined = await client.iq(client_join(client.bare, other.jid, escape(ODD, {"'": "&apos;"})))
    assert joined["type"] == "result", joined.raw
    assert joined.need(f".//{{{ns.CORE1}}}nick").text == ODD
    id_ = stack.fake.say(channel, client.bare, escape(ODD))
    got = await client.expect(match("message", id=id_))
    assert got.need("{jabber:client}body").text == ODD
