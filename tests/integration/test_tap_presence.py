"""T6 and "Presence towards channels": who sees a session's presence."""

import pytest
from harness import ns
from harness.house import TapHouse
from harness.stanza import match
from harness.stream import fresh

CAPS = f"<c xmlns='{ns.CAPS}' node='urn:example' ver='v%s' hash='sha-1'/>"


async def test_every_broadcast_goes_to_the_component_with_all_children(tap: TapHouse) -> None:
    client = await tap.client(online=False)
    client.presence(
        f"<show>away</show><status>b &amp; b</status><priority>-1</priority>{CAPS % 1}"
        "<unknown xmlns='urn:example:0'/>"
    )
    got = await tap.link.expect(match("presence", from_=client.jid, to=tap.component, type=None))
    assert got.text(f"{{{ns.CLIENT}}}show") == "away"
    assert got.text(f"{{{ns.CLIENT}}}status") == "b & b"
    assert got.text(f"{{{ns.CLIENT}}}priority") == "-1"
    assert got.need(f"{{{ns.CAPS}}}c").get("ver") == "v1"
    assert got.find("{urn:example:0}unknown") is not None


async def test_each_broadcast_goes_once(tap: TapHouse) -> None:
    client = await tap.client(online=False)
    for number in range(3):
        client.presence(CAPS % number)
    await client.fence()
    await tap.fence()
    mine = match("presence", from_=client.jid, to=tap.component)
    versions = [s.need(f"{{{ns.CAPS}}}c").get("ver") for s in tap.link.inbox.matching(mine)]
    assert versions == ["v0", "v1", "v2"]


async def test_unavailable_by_the_client_goes_to_the_component(tap: TapHouse) -> None:
    client = await tap.client()
    client.send("<presence type='unavailable'/>")
    gone = match("presence", from_=client.jid, to=tap.component, type="unavailable")
    await tap.link.expect(gone)
    await client.close()
    tap.clients.remove(client)
    await tap.fence()
    assert tap.link.count(gone) == 1


@pytest.mark.parametrize("politely", [True, False])
async def test_the_end_of_an_available_session_is_told(tap: TapHouse, politely: bool) -> None:
    client = await tap.client()
    tap.clients.remove(client)
    await (client.close() if politely else client.cut())
    gone = match("presence", from_=client.jid, to=tap.component, type="unavailable")
    await tap.link.expect(gone)
    await tap.fence()
    assert tap.link.count(gone) == 1


async def test_the_end_of_a_session_that_was_not_available_is_not_told(tap: TapHouse) -> None:
    client = await tap.client(online=False)
    tap.clients.remove(client)
    await client.close()
    await tap.fence()
    tap.link.none(match("presence", from_=client.jid))


async def test_directed_presence_is_no_broadcast(tap: TapHouse) -> None:
    client = await tap.client()
    await tap.fence()
    before = tap.link.count(match("presence", from_=client.jid))
    client.send(f"<presence to='someone@{tap.domain}'/>")
    await tap.fence(client)
    assert tap.link.count(match("presence", from_=client.jid)) == before


async def test_two_sessions_are_told_apart(tap: TapHouse) -> None:
    one = await tap.client()
    two = await tap.client(one.account)
    for client in (one, two):
        await tap.link.expect(match("presence", from_=client.jid, to=tap.component, type=None))


async def test_the_component_needs_no_roster_entry_to_see_presence(tap: TapHouse) -> None:
    client = await tap.client()
    await tap.link.expect(match("presence", from_=client.jid))
    roster = await client.roster()
    assert tap.component not in roster.raw


@pytest.mark.parametrize("state", ["up", "down"])
@pytest.mark.parametrize("subscription", ["from", "none"])
async def test_no_presence_of_a_session_reaches_a_channel_in_the_roster(
    tap: TapHouse, state: str, subscription: str
) -> None:
    account = await tap.user()
    channel = tap.channel()
    answer = await tap.roster_set(account.jid, channel, subscription)
    assert answer["type"] == "result"
    if state == "down":
        await tap.down()
    client = await tap.client(account)
    client.presence("<show>away</show>")
    client.send(f"<presence to='{channel}'/>")
    client.send(f"<presence to='{channel}' type='probe'/>")
    client.send(f"<presence to='{channel}' type='unavailable'/>")
    client.send("<presence type='unavailable'/>")
    client.presence()
    await client.fence()
    tap.clients.remove(client)
    await client.close()
    await tap.fence()
    tap.fake.none(match("presence"))


async def test_presence_to_a_channel_not_in_the_roster_is_ordinary(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    client.send(f"<presence to='{channel}'/>")
    await tap.fake.expect(match("presence", from_=client.jid, to=channel))


async def test_presence_to_other_contacts_is_ordinary(tap: TapHouse) -> None:
    account = await tap.user()
    contact = f"room-{fresh()}@{tap.stranger.jid}"
    await tap.roster_set(account.jid, contact, "from")
    client = await tap.client(account)
    await tap.stranger.expect(match("presence", from_=client.jid, to=contact, type=None))


async def test_a_subscription_stanza_to_a_channel_is_ordinary(tap: TapHouse) -> None:
    """Siskin sends `subscribe` to a channel it has joined."""
    client = await tap.client()
    await client.roster()
    channel = tap.channel()
    client.send(f"<presence to='{channel}' type='subscribe'/>")
    await tap.fake.expect(match("presence", type="subscribe", to=channel))


async def test_a_probe_of_a_channel_gets_no_answer_from_the_server(tap: TapHouse) -> None:
    account = await tap.user()
    channel = tap.channel()
    await tap.roster_set(account.jid, channel, "from")
    client = await tap.client(account)
    tap.fake.send(f"<presence from='{channel}' to='{client.bare}' type='probe'/>")
    await tap.link.expect(match("presence", type="probe", from_=channel, to=client.bare))
    await tap.fence(client)
    tap.fake.none(match("presence"))


async def test_presence_in_a_users_name_goes_out(tap: TapHouse) -> None:
    """C2: the component speaks to the channel from the full JID."""
    account = await tap.user()
    channel = tap.channel()
    await tap.roster_set(account.jid, channel, "from")
    client = await tap.client(account)
    tap.link.send(f"<presence from='{client.jid}' to='{channel}'><show>dnd</show></presence>")
    got = await tap.fake.expect(match("presence", from_=client.jid, to=channel, type=None))
    assert got.text(f"{{{ns.CLIENT}}}show") == "dnd"
    tap.link.send(f"<presence from='{client.jid}' to='{channel}' type='unavailable'/>")
    await tap.fake.expect(match("presence", from_=client.jid, to=channel, type="unavailable"))
    await tap.fence(client)
    client.none(match("presence", type="error"))
