"""The users' presence at channels, and the channels' people at the users' devices."""

import pytest
from harness import caps, ns
from harness.client import RawClient
from harness.fake import Script
from harness.stack import Stack, client_join, client_leave
from harness.stanza import match
from sharing import gone, here, preference, shown

PRESENT = ("messages", "participants", "presence")


async def mix_client(stack: Stack, like: RawClient | None = None, children: str = "") -> RawClient:
    """Return an online MIX client of a fresh user, or of the user of another client."""
    client = await stack.raw(like.account if like else await stack.user())
    return await client.mix_online(children=children)


async def present(stack: Stack, client: RawClient, **script: object) -> Script:
    """Join a fresh scripted channel with its presence node and return it."""
    channel = stack.fake.channel(**script)
    answer = await client.iq(client_join(client.bare, channel.jid, nodes=PRESENT))
    assert answer["type"] == "result", answer.raw
    return channel


def people(stack: Stack, channel: Script, to: str, *names: str, type_: str = "") -> list[str]:
    """Send the presence of participants and return their full JIDs."""
    senders = [f"{name}#{channel.jid}/r" for name in names]
    kind = f" type='{type_}'" if type_ else ""
    for sender in senders:
        stack.fake.send(
            f"<presence from='{sender}' to='{to}'{kind}><mix xmlns='{ns.MIX_PRESENCE}'>"
            "<nick>n</nick></mix></presence>"
        )
    return senders


@pytest.mark.req("P1", "P2")
async def test_a_join_shows_every_mix_device_and_no_other(stack: Stack) -> None:
    phone = await mix_client(stack, children="<show>dnd</show><status>a &amp; b</status>")
    laptop = await mix_client(stack, phone, "<priority>-3</priority>")
    plain = await stack.raw(phone.account)
    await plain.mix_online(caps.PLAIN)
    silent = await stack.raw(phone.account)
    channel = await stack.joined(phone)
    first = await stack.fake.expect(here(phone.jid, channel.jid))
    assert first.text(f"{{{ns.CLIENT}}}show") == "dnd"
    assert first.text(f"{{{ns.CLIENT}}}status") == "a & b"
    assert first.find(f"{{{ns.CAPS}}}c") is not None
    second = await stack.fake.expect(here(laptop.jid, channel.jid))
    assert second.text(f"{{{ns.CLIENT}}}priority") == "-3"
    await stack.settle(phone, laptop, plain, silent)
    for client in (plain, silent):
        stack.fake.none(match("presence", from_=client.jid))
    assert stack.fake.count(match("presence", to=channel.jid)) == 2


@pytest.mark.req("P1")
@pytest.mark.parametrize("end", ["unavailable", "logout", "cut"])
async def test_every_change_and_the_end(stack: Stack, end: str) -> None:
    client = await mix_client(stack)
    channels = [await stack.joined(client) for _ in range(2)]
    client.presence(caps.element(caps.MIX) + "<show>away</show>")
    client.presence(caps.element(caps.MIX) + "<show>xa</show>")
    for channel in channels:
        await stack.fake.expect(here(client.jid, channel.jid, shown("away")))
        await stack.fake.expect(here(client.jid, channel.jid, shown("xa")))
    if end == "unavailable":
        client.send("<presence type='unavailable'><status>bye</status></presence>")
    elif end == "logout":
        await client.close()
    else:
        await client.cut()
    for channel in channels:
        bye = await stack.fake.expect(gone(client.jid, channel.jid))
        if end == "unavailable":
            assert bye.text(f"{{{ns.CLIENT}}}status") == "bye"
    await stack.settle()
    for channel in channels:
        shows = [
            s.text(f"{{{ns.CLIENT}}}show")
            for s in stack.fake.inbox.matching(match("presence", to=channel.jid, type=None))
        ]
        assert shows == [None, "away", "xa"]
        assert stack.fake.count(gone(client.jid, channel.jid)) == 1


@pytest.mark.slow
@pytest.mark.req("P1")
async def test_an_expired_session_ends(stack: Stack) -> None:
    client = await stack.raw(await stack.user(), smacks=True)
    await client.mix_online()
    channel = await stack.joined(client)
    await stack.fake.expect(here(client.jid, channel.jid))
    await client.cut()
    await stack.settle()
    stack.fake.none(gone(client.jid, channel.jid))
    await stack.fake.expect(gone(client.jid, channel.jid), 15)


@pytest.mark.req("P1")
async def test_a_device_that_comes_later_is_shown_once(stack: Stack) -> None:
    first = await mix_client(stack)
    channel = await stack.joined(first)
    second = await mix_client(stack, first)
    await stack.fake.expect(here(second.jid, channel.jid))
    await stack.settle(first, second)
    for client in (first, second):
        assert stack.fake.count(match("presence", from_=client.jid)) == 1


@pytest.mark.req("P1", "P2")
async def test_a_channel_that_was_left_learns_no_more(stack: Stack) -> None:
    client = await mix_client(stack)
    channel = await stack.joined(client)
    await stack.fake.expect(here(client.jid, channel.jid))
    assert (await client.iq(client_leave(client.bare, channel.jid)))["type"] == "result"
    client.presence(caps.element(caps.MIX) + "<show>away</show>")
    await stack.settle(client)
    stack.fake.none(here(client.jid, channel.jid, shown("away")))


@pytest.mark.req("P2")
async def test_not_shared_is_never_shown(stack: Stack) -> None:
    client = await mix_client(stack)
    channel = stack.fake.channel()
    request = client_join(client.bare, channel.jid)
    request = request.replace("</join>", f"{preference('not share')}</join>")
    answer = await client.iq(request)
    assert answer["type"] == "result", answer.raw
    client.presence(caps.element(caps.MIX) + "<show>away</show>")
    client.send(f"<presence to='{channel.jid}'/>")
    await stack.settle(client)
    client.send("<presence type='unavailable'/>")
    await stack.settle(client)
    stack.fake.send(f"<presence type='probe' from='{channel.jid}' to='{client.bare}'/>")
    await stack.settle(client)
    stack.fake.none(match("presence", to=channel.jid))


@pytest.mark.req("P2")
async def test_what_others_see_stays_the_servers_business(stack: Stack) -> None:
    """A plain contact still gets the broadcasts of every device, MIX or not."""
    client = await mix_client(stack)
    await stack.joined(client)
    friend = await stack.raw(await stack.user())
    await friend.online()
    friend.send(f"<presence type='subscribe' to='{client.bare}'/>")
    await client.expect(match("presence", type="subscribe"))
    client.send(f"<presence type='subscribed' to='{friend.bare}'/>")
    await friend.expect(match("presence", from_=client.jid, type=None))
    client.presence(caps.element(caps.MIX) + "<show>away</show>")
    await friend.expect(match("presence", from_=client.jid, type=None, test=shown("away")))


@pytest.mark.req("P3")
async def test_a_probe_is_answered_for_mix_devices_only(stack: Stack) -> None:
    client = await mix_client(stack, children="<show>chat</show>")
    plain = await stack.raw(client.account)
    await plain.mix_online(caps.PLAIN)
    channel = await stack.joined(client)
    await stack.settle(client)
    stack.fake.inbox.clear()
    stack.fake.send(f"<presence type='probe' from='{channel.jid}' to='{client.bare}'/>")
    await stack.fake.expect(here(client.jid, channel.jid, shown("chat")))
    other = stack.fake.channel()
    stack.fake.send(f"<presence type='probe' from='{other.jid}' to='{client.bare}'/>")
    await stack.settle(client, plain)
    assert stack.fake.count(match("presence")) == 1


@pytest.mark.req("P4")
async def test_a_device_coming_online_is_served_from_memory(stack: Stack) -> None:
    """Also what changed while no device was there; the channel is not asked."""
    first = await mix_client(stack)
    channel = await present(stack, first)
    anna, ben = people(stack, channel, first.bare, "anna", "ben")
    await first.expect(match("presence", from_=ben))
    await first.close()
    people(stack, channel, first.bare, "anna", type_="unavailable")
    (cleo,) = people(stack, channel, first.bare, "cleo")
    await stack.settle()
    stack.fake.inbox.clear()
    second = await mix_client(stack, first)
    for sender in (ben, cleo):
        got = await second.expect(match("presence", from_=sender, to=second.jid, type=None))
        assert got.find(f"{{{ns.MIX_PRESENCE}}}mix") is not None
    await stack.settle(second)
    second.none(match("presence", from_=anna))
    assert second.count(match("presence", test=lambda s: channel.jid in s["from"])) == 2
    stack.fake.none(match("presence", from_=first.bare))


@pytest.mark.req("P4")
async def test_a_device_without_mix_gets_no_ones_presence(stack: Stack) -> None:
    first = await mix_client(stack)
    channel = await present(stack, first)
    (anna,) = people(stack, channel, first.bare, "anna")
    plain = await stack.raw(first.account)
    await plain.mix_online(caps.PLAIN)
    await stack.settle(first, plain)
    plain.none(match("presence", from_=anna))


@pytest.mark.req("P5")
async def test_a_device_starts_and_stops_to_speak_mix(stack: Stack) -> None:
    client = await stack.raw(await stack.user())
    await client.mix_online(caps.PLAIN)
    channel = await present(stack, client)
    (anna,) = people(stack, channel, client.bare, "anna")
    await stack.settle(client)
    client.none(match("presence", from_=anna))
    stack.fake.none(match("presence", from_=client.jid))

    await client.mix_online(caps.MIX)
    await stack.fake.expect(here(client.jid, channel.jid))
    await client.expect(match("presence", from_=anna))
    stack.fake.say(channel.jid, client.bare, "hears")
    await client.expect(match("message", body="hears"))

    await client.mix_online(caps.PLAIN)
    await stack.fake.expect(gone(client.jid, channel.jid))
    stack.fake.say(channel.jid, client.bare, "deaf")
    people(stack, channel, client.bare, "ben")
    await stack.settle(client)
    client.none(match("message", body="deaf"))
    client.none(match("presence", from_=f"ben#{channel.jid}/r"))
    client.presence(caps.element(caps.PLAIN) + "<show>away</show>")
    await stack.settle(client)
    stack.fake.none(here(client.jid, channel.jid, shown("away")))
