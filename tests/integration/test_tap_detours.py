"""T1, T2, T3, T9: what a channel sends goes to the component, unchanged, and nowhere else."""

import pytest
from harness import ns
from harness.house import TapHouse
from harness.stanza import canonical, match, parse
from harness.stream import fresh

EVENT = (
    f"<event xmlns='{ns.PUBSUB_EVENT}'><items node='%s'><item id='1'>"
    "<thing xmlns='urn:example:thing'/></item></items></event>"
)

CHANNEL_MESSAGES = {
    "groupchat": "type='groupchat'><body>b</body>",
    "groupchat-with-mix": "type='groupchat'><body>b</body>"
    f"<mix xmlns='{ns.CORE1}'><nick>n</nick></mix>",
    "mix-child": f"><mix xmlns='{ns.CORE0}'/>",
    "mix-presence-child": f"><x xmlns='{ns.MIX_PRESENCE}'/>",
    "participants-event": ">" + EVENT % f"{ns.NODES}participants",
    "info-event": ">" + EVENT % f"{ns.NODES}info",
    "headline-event": "type='headline'>" + EVENT % f"{ns.NODES}config",
}


@pytest.mark.parametrize("content", CHANNEL_MESSAGES.values(), ids=CHANNEL_MESSAGES)
async def test_a_channel_message_goes_to_the_component_only(tap: TapHouse, content: str) -> None:
    client = await tap.client()
    channel = tap.channel()
    tap.fake.send(f"<message from='{channel}' to='{client.bare}' id='m1' {content}</message>")
    got = await tap.link.expect(match("message", id="m1"))
    assert (got["from"], got["to"]) == (channel, client.bare)
    await tap.fence(client)
    client.none(match("message"))
    tap.fake.none(match("message"))
    assert tap.link.count(match("message", id="m1")) == 1


@pytest.mark.parametrize("sender", ["%s", "p1#%s", "p1#%s/res", "%s/res"])
async def test_every_jid_of_a_mix_domain_is_a_channel(tap: TapHouse, sender: str) -> None:
    client = await tap.client()
    sender %= tap.channel()
    tap.fake.send(
        f"<message from='{sender}' to='{client.bare}' type='groupchat'><body>x</body></message>"
    )
    await tap.link.expect(match("message", from_=sender, to=client.bare))


async def test_the_detoured_message_is_unchanged(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    inner = (
        "<body xml:lang='de'>1 &lt; 2 &amp; \"drei\" 'vier' \U0001f9ed ünïcödé</body>"
        f"<mix xmlns='{ns.CORE1}'><nick>Tom &amp; Jerry</nick><jid>t@x.test</jid></mix>"
        f"<stanza-id xmlns='{ns.SID}' by='{channel}' id='of-the-channel'/>"
        "<unknown xmlns='urn:example:0' a='&apos;&quot;'><deep><er/></deep>text</unknown>"
    )
    # Prosody gives a stanza without a language that of the stream.
    sent = (
        f"<message xml:lang='en' from='{channel}' to='{client.bare}' type='groupchat' id='m1'>"
        f"{inner}</message>"
    )
    tap.fake.send(sent)
    got = await tap.link.expect(match("message", id="m1"))
    assert canonical(got.xml) == canonical(parse(sent))


async def test_messages_keep_their_order(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    for number in range(50):
        tap.fake.send(
            f"<message from='{channel}' to='{client.bare}' type='groupchat'>"
            f"<body>{number}</body></message>"
        )
    await tap.link.expect(match("message", body="49"))
    bodies = [s.body for s in tap.link.inbox.matching(match("message", type="groupchat"))]
    assert bodies == [str(number) for number in range(50)]


@pytest.mark.abuse(4)
@pytest.mark.parametrize("in_roster", [True, False])
async def test_a_forged_stanza_id_of_the_user_is_removed(tap: TapHouse, in_roster: bool) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare) if in_roster else tap.channel()
    tap.fake.send(
        f"<message from='{channel}' to='{client.bare}' type='groupchat' id='m1'><body>x</body>"
        f"<stanza-id xmlns='{ns.SID}' by='{client.bare}' id='forged'/>"
        f"<stanza-id xmlns='{ns.SID}' by='{channel}' id='genuine'/></message>"
    )
    got = await tap.link.expect(match("message", id="m1"))
    assert "forged" not in got.raw
    assert got.find(f"{{{ns.SID}}}stanza-id[@by='{channel}'][@id='genuine']") is not None


PASSING = {
    "plain-chat": "type='chat'><body>b</body>",
    "invitation": f"><body>b</body><invitation xmlns='{ns.MIX_MISC}'/>",
    "other-event": ">" + EVENT % "urn:example:node",
}


@pytest.mark.parametrize("content", PASSING.values(), ids=PASSING)
async def test_what_is_no_channel_message_reaches_the_client(tap: TapHouse, content: str) -> None:
    client = await tap.client()
    tap.fake.send(f"<message from='{tap.channel()}' to='{client.bare}' id='m1' {content}</message>")
    await client.expect(match("message", id="m1"))
    await tap.fence()
    tap.link.none(match("message", id="m1"))


async def test_an_error_is_no_channel_message(tap: TapHouse) -> None:
    client = await tap.client()
    tap.fake.send(
        f"<message from='{tap.channel()}' to='{client.bare}' id='m1' type='error'>"
        f"<mix xmlns='{ns.CORE1}'/><error type='cancel'><gone xmlns='{ns.STANZAS}'/></error>"
        "</message>"
    )
    await tap.fence()
    tap.link.none(match("message", id="m1"))


async def test_a_full_jid_is_not_detoured(tap: TapHouse) -> None:
    client = await tap.client()
    tap.fake.send(
        f"<message from='{tap.channel()}' to='{client.jid}' id='m1' type='groupchat'>"
        "<body>b</body></message>"
    )
    await client.expect(match("message", id="m1"))
    await tap.fence()
    tap.link.none(match("message", id="m1"))


async def test_other_domains_are_no_channels(tap: TapHouse) -> None:
    client = await tap.client()
    sender = f"room@{tap.stranger.jid}"
    for content in CHANNEL_MESSAGES.values():
        tap.stranger.send(f"<message from='{sender}' to='{client.bare}' {content}</message>")
    tap.stranger.send(f"<presence from='{sender}' to='{client.bare}'/>")
    tap.stranger.send(f"<iq from='{sender}' to='{client.bare}' type='result' id='r1'/>")
    await tap.stranger.fence()
    await tap.fence()
    tap.link.none(match(from_=sender))


async def test_an_account_that_does_not_exist_answers_for_itself(tap: TapHouse) -> None:
    channel = tap.channel()
    tap.fake.send(
        f"<message from='{channel}' to='nobody-{fresh()}@{tap.domain}' id='m1' type='groupchat'>"
        "<body>b</body></message>"
    )
    bounce = await tap.fake.expect(match("message", type="error", id="m1"))
    assert bounce.condition == "service-unavailable"
    await tap.fence()
    tap.link.none(match("message", id="m1"))


@pytest.mark.req("K1")
async def test_what_the_user_has_blocked_is_neither_archived_nor_detoured(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await client.block(channel)
    tap.fake.send(
        f"<message from='{channel}' to='{client.bare}' id='m1' type='groupchat'>"
        "<body>b</body></message>"
    )
    tap.fake.send(f"<presence from='{channel}' to='{client.bare}' id='p1'/>")
    await tap.fence(client)
    tap.link.none(match("message", id="m1"))
    tap.link.none(match("presence", id="p1"))
    client.none(match("message", id="m1"))
    assert await tap.archive(client, channel) == []


async def test_blocking_one_channel_does_not_touch_another(tap: TapHouse) -> None:
    client = await tap.client()
    await client.block(tap.channel())
    tap.fake.send(
        f"<message from='{tap.channel()}' to='{client.bare}' id='m1' type='groupchat'>"
        "<body>b</body></message>"
    )
    await tap.link.expect(match("message", id="m1"))


@pytest.mark.parametrize("type_", [None, "unavailable", "error", "probe"])
async def test_channel_presence_goes_to_the_component_only(
    tap: TapHouse, type_: str | None
) -> None:
    client = await tap.client()
    sender = f"p1#{tap.channel()}/r"
    attribute = f" type='{type_}'" if type_ else ""
    error = f"<error type='cancel'><gone xmlns='{ns.STANZAS}'/></error>" if type_ == "error" else ""
    tap.fake.send(
        f"<presence from='{sender}' to='{client.bare}'{attribute}>"
        f"<mix xmlns='{ns.MIX_PRESENCE}'><nick>n</nick></mix>{error}</presence>"
    )
    got = await tap.link.expect(match("presence", from_=sender, to=client.bare, type=type_))
    assert got.text(f"{{{ns.MIX_PRESENCE}}}mix/{{{ns.MIX_PRESENCE}}}nick") == "n"
    await tap.fence(client)
    client.none(match("presence", from_=sender))
    tap.fake.none(match("presence"))


@pytest.mark.parametrize("type_", ["subscribe", "subscribed", "unsubscribe", "unsubscribed"])
async def test_subscription_stanzas_are_the_servers(tap: TapHouse, type_: str) -> None:
    client = await tap.client()
    tap.fake.send(f"<presence from='{tap.channel()}' to='{client.bare}' type='{type_}'/>")
    await tap.fence()
    tap.link.none(match("presence", type=type_))


async def test_a_subscription_request_reaches_the_client(tap: TapHouse) -> None:
    client = await tap.client()
    await client.roster()
    channel = tap.channel()
    tap.fake.send(f"<presence from='{channel}' to='{client.bare}' type='subscribe'/>")
    await client.expect(match("presence", type="subscribe", from_=channel))


@pytest.mark.parametrize("type_", ["result", "error"])
async def test_answers_to_the_bare_jid_go_to_the_component(tap: TapHouse, type_: str) -> None:
    client = await tap.client()
    channel = tap.channel()
    inner = (
        f"<join xmlns='{ns.CORE1}' id='p1'/>"
        if type_ == "result"
        else f"<error type='auth'><forbidden xmlns='{ns.STANZAS}'/><text xmlns='{ns.STANZAS}'>no"
        "</text></error>"
    )
    sent = (
        f"<iq xml:lang='en' from='{channel}' to='{client.bare}' type='{type_}' id='i1'>{inner}</iq>"
    )
    tap.fake.send(sent)
    got = await tap.link.expect(match("iq", id="i1", type=type_))
    assert canonical(got.xml) == canonical(parse(sent))
    await tap.fence(client)
    client.none(match("iq", id="i1"))


@pytest.mark.parametrize("type_", ["result", "error"])
async def test_what_the_component_asked_in_a_users_name_comes_back_to_it(
    tap: TapHouse, type_: str
) -> None:
    """From a domain that is on no list, too: the id says whose question it was."""
    client = await tap.client()
    for to, id_ in (
        (client.bare, "mixpam:1"),
        (client.bare, "mixpam"),
        (client.jid, "mixpam:2"),
    ):
        tap.stranger.send(f"<iq from='{tap.stranger.jid}' to='{to}' type='{type_}' id='{id_}'/>")
    await tap.link.expect(match("iq", id="mixpam:1", type=type_, from_=tap.stranger.jid))
    await client.expect(match("iq", id="mixpam:2"))
    await tap.stranger.fence()
    await tap.fence(client)
    tap.link.none(match("iq", id="mixpam"))
    tap.link.none(match("iq", id="mixpam:2"))
    client.none(match("iq", id="mixpam:1"))


async def test_questions_to_the_bare_jid_are_the_servers(tap: TapHouse) -> None:
    client = await tap.client()
    answer = await tap.fake.iq(
        f"<iq from='{tap.channel()}' to='{client.bare}' type='get'>"
        f"<query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    await tap.fence()
    tap.link.none(match("iq", id=answer["id"]))


async def test_answers_to_a_full_jid_reach_the_client(tap: TapHouse) -> None:
    client = await tap.client()
    tap.fake.send(
        f"<iq from='{tap.channel()}' to='{client.jid}' type='result' id='i1'>"
        f"<setnick xmlns='{ns.CORE1}'><nick>n</nick></setnick></iq>"
    )
    await client.expect(match("iq", id="i1"))
    await tap.fence()
    tap.link.none(match("iq", id="i1"))


PREFERENCE = (
    f"<user-preference xmlns='{ns.MIX_ANON}'><x xmlns='{ns.DATA}' type='%s'/></user-preference>"
)


@pytest.mark.parametrize("wrapped", [False, True])
async def test_preferences_are_copied_both_ways(tap: TapHouse, wrapped: bool) -> None:
    client = await tap.client()
    channel = tap.channel()
    has = f"{{{ns.MIX_ANON}}}user-preference"
    asked, answered = PREFERENCE % "submit", PREFERENCE % "result"
    if wrapped:
        asked = f"<join xmlns='{ns.CORE1}'>{asked}</join>"
        answered = f"<join xmlns='{ns.CORE1}'>{answered}</join>"
        has = f"{{{ns.CORE1}}}join/{has}"
    client.send(f"<iq type='set' to='{channel}' id='pref'>{asked}</iq>")
    await tap.fake.expect(match("iq", type="set", id="pref", from_=client.jid, has=has))
    await tap.link.expect(match("iq", type="set", from_=client.jid, to=channel, has=has))
    tap.fake.send(f"<iq type='result' from='{channel}' to='{client.jid}' id='pref'>{answered}</iq>")
    await client.expect(match("iq", type="result", id="pref", has=has))
    await tap.link.expect(match("iq", type="result", from_=channel, to=client.jid, has=has))
    await tap.fence(client)
    assert tap.link.count(match("iq", has=has)) == 2
    assert tap.fake.count(match("iq", has=has)) == 1
    assert client.count(match("iq", has=has)) == 1


async def test_other_iqs_between_client_and_channel_are_not_copied(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    client.send(
        f"<iq type='set' to='{channel}' id='nick'>"
        f"<setnick xmlns='{ns.CORE1}'><nick>n</nick></setnick></iq>"
    )
    await tap.fake.expect(match("iq", id="nick"))
    await tap.fence(client)
    tap.link.none(match("iq", to=channel))
