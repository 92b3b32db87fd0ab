"""C2, T1 to T3 and T7 by the user's own blocking list (XEP-0191).

The kinds: whatever the component says in a user's name is judged as the user's own would be, by
every way an address can be blocked (the channel, a resource or participant of it, its domain);
the component is told of each change; the server itself tells channels nothing.
"""

import pytest
from harness import ns
from harness.client import RawClient
from harness.house import TapHouse, event
from harness.stanza import match
from harness.stream import fresh

BLOCKED = "{urn:xmpp:blocking:errors}blocked"
MARK = f"<blocked xmlns='{ns.TAP}'/>"


async def edit(client: RawClient, verb: str, *addresses: str) -> str:
    """Block or unblock addresses and return the type of the answer."""
    items = "".join(f"<item jid='{address}'/>" for address in addresses)
    answer = await client.iq(f"<iq type='set'><{verb} xmlns='{ns.BLOCKING}'>{items}</{verb}></iq>")
    return answer["type"]


def told(verb: str, client: RawClient, address: str | None) -> str:
    """Return the path of the event; without `address`, of one that has none."""
    if address is None:
        return event(verb, jid=client.bare)
    return event(verb, jid=client.bare, address=address)


def spellings(tap: TapHouse, channel: str) -> dict[str, str]:
    """Return the addresses by which a user may block a channel."""
    return {"channel": channel, "domain": tap.fake.jid}


WAYS = ["channel", "domain"]


@pytest.mark.req("K1")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["get", "set"])
@pytest.mark.parametrize("local", ["", "p1#"])
async def test_a_request_to_a_blocked_address_gets_the_users_own_error(
    tap: TapHouse, kind: str, way: str, local: str
) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    assert await edit(client, "block", spellings(tap, channel)[way]) == "result"
    to, id_ = f"{local}{channel}", fresh("q")
    tap.link.send(
        f"<iq type='{kind}' id='{id_}' from='{client.bare}' to='{to}'>"
        f"<leave xmlns='{ns.CORE1}'/></iq>"
    )
    error = await tap.link.expect(match("iq", type="error", id=id_, from_=to, to=client.bare))
    assert error.condition == "not-acceptable"
    assert error.find(f"{{{ns.CLIENT}}}error/{BLOCKED}") is not None
    await tap.fence(client)
    tap.fake.none(match("iq", id=id_))


@pytest.mark.req("K1")
@pytest.mark.parametrize("way", WAYS)
async def test_what_is_no_request_goes_nowhere_and_is_not_answered(tap: TapHouse, way: str) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await edit(client, "block", spellings(tap, channel)[way])
    tap.drop_idle()
    for to in (channel, f"p1#{channel}", f"{channel}/r"):
        tap.link.send(f"<presence from='{client.jid}' to='{to}'/>")
        tap.link.send(f"<presence from='{client.jid}' to='{to}' type='unavailable'/>")
        tap.link.send(
            f"<message type='error' from='{client.bare}' to='{to}' id='m'>"
            f"<error type='cancel'><service-unavailable xmlns='{ns.STANZAS}'/></error></message>"
        )
        tap.link.send(
            f"<message type='groupchat' from='{client.jid}' to='{to}'><body>b</body></message>"
        )
        tap.link.send(f"<iq type='result' id='r' from='{client.bare}' to='{to}'/>")
    await tap.fence(client)
    tap.fake.none(lambda s: s["from"].startswith(client.bare))
    tap.link.none(match(type="error"))


@pytest.mark.req("K1")
@pytest.mark.parametrize("blocked", [True, False])
async def test_the_marked_unavailable_goes_out_without_its_mark(
    tap: TapHouse, blocked: bool
) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    if blocked:
        await edit(client, "block", channel)
    tap.drop_idle()
    tap.link.send(
        f"<presence from='{client.jid}' to='{channel}' type='unavailable'>{MARK}</presence>"
    )
    got = await tap.fake.expect(match("presence", type="unavailable", from_=client.jid, to=channel))
    assert ns.TAP not in got.raw
    tap.link.send(f"<presence from='{client.jid}' to='{channel}'>{MARK}</presence>")
    await tap.fence(client)
    assert tap.fake.count(match("presence")) == (1 if blocked else 2)


async def test_others_users_channels_and_contacts_are_not_concerned(tap: TapHouse) -> None:
    client, neighbour = await tap.client(), await tap.client()
    channel, other = await tap.joined(client.bare), await tap.joined(client.bare)
    await edit(client, "block", channel, f"friend-{fresh()}@elsewhere.test")
    for sender, to in ((neighbour, channel), (client, other)):
        tap.link.send(f"<presence from='{sender.jid}' to='{to}'/>")
        await tap.fake.expect(match("presence", from_=sender.jid, to=to, type=None))


@pytest.mark.req("K1")
async def test_each_change_is_told_once_it_is_in_force(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    friend = f"friend-{fresh()}@elsewhere.test"
    addresses = [channel, tap.fake.jid, f"p1#{tap.channel()}", f"{tap.channel()}/res"]
    tap.drop_idle()
    assert await edit(client, "block", friend, *addresses) == "result"
    for address in addresses:
        got = await tap.link.expect(match("message", has=told("blocked", client, address)))
        assert (got["from"], got["to"]) == (tap.domain, tap.component)
    assert await edit(client, "unblock", friend, *addresses) == "result"
    for address in addresses:
        await tap.link.expect(match("message", has=told("unblocked", client, address)))
    await tap.fence(client)
    assert tap.link.count(match("message", has=event("blocked"))) == len(addresses)
    assert tap.link.count(match("message", has=event("unblocked"))) == len(addresses)
    assert friend not in "".join(stanza.raw for stanza in tap.link.inbox.all)


@pytest.mark.req("K1")
async def test_unblocking_everything_is_told_without_an_address(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await edit(client, "block", channel, tap.fake.jid)
    tap.drop_idle()
    assert await edit(client, "unblock") == "result"
    got = await tap.link.expect(match("message", has=told("unblocked", client, None)))
    assert got.need(event("unblocked")).get("address") is None
    tap.link.send(f"<presence from='{client.jid}' to='{channel}'/>")
    await tap.fake.expect(match("presence", from_=client.jid, to=channel))


async def test_a_change_that_is_refused_is_not_told(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    tap.drop_idle()
    assert await edit(client, "block", channel, "a@b@c") == "error"
    assert await edit(client, "block") == "error"
    await tap.fence(client)
    tap.link.none(match("message", has=event("blocked")))
    tap.link.send(f"<presence from='{client.jid}' to='{channel}'/>")
    await tap.fake.expect(match("presence", from_=client.jid, to=channel))


@pytest.mark.req("K1")
@pytest.mark.parametrize("way", WAYS)
async def test_the_server_itself_tells_channels_nothing(tap: TapHouse, way: str) -> None:
    """Neither unavailable at the block nor a probe at the unblock, of any session."""
    account = await tap.user()
    channel = tap.channel()
    await tap.roster_set(account.jid, channel, "from")
    clients = [await tap.client(account) for _ in range(2)]
    address = spellings(tap, channel)[way]
    tap.drop_idle()
    for verb in ("block", "unblock"):
        assert await edit(clients[0], verb, address) == "result"
        await tap.link.expect(match("message", has=told(f"{verb}ed", clients[0], address)))
    await tap.fence(*clients)
    tap.fake.none(match("presence"))
    tap.link.none(match("presence", from_=channel))


async def test_contacts_are_told_as_ever(tap: TapHouse) -> None:
    if not tap.prosody:
        pytest.skip("ejabberd itself tells nobody of a block")
    account = await tap.user()
    contact = f"friend-{fresh()}@{tap.stranger.jid}"
    await tap.roster_set(account.jid, contact, "from")
    client = await tap.client(account)
    await tap.stranger.expect(match("presence", from_=client.jid, to=contact, type=None))
    await edit(client, "block", contact)
    await tap.stranger.expect(match("presence", from_=client.jid, type="unavailable"))


async def test_a_long_list_costs_the_component_a_line_each(tap: TapHouse) -> None:
    client = await tap.client()
    addresses = [tap.channel() for _ in range(500)]
    tap.drop_idle()
    assert await edit(client, "block", *addresses) == "result"
    await tap.link.expect(match("message", has=told("blocked", client, addresses[-1])), 10)
    await tap.fence(client)
    assert tap.link.count(match("message", has=event("blocked"))) == 500
    # One at a time.
    tap.link.send(f"<presence from='{client.jid}' to='{addresses[250]}'/>")
    await tap.fence(client)
    tap.fake.none(match("presence"))


@pytest.mark.req("K1", "P6")
@pytest.mark.parametrize("way", WAYS)
async def test_what_is_blocked_is_told_before_a_sessions_first_presence(
    tap: TapHouse, way: str
) -> None:
    """At its begin and in the replay, for channels that the user is a member of, and no others."""
    client = await tap.client()
    channel, other = await tap.joined(client.bare), await tap.joined(client.bare)
    await edit(client, "block", spellings(tap, channel)[way], tap.channel())
    blocked = [channel] if way == "channel" else [channel, other]
    await tap.fence(client)
    tap.drop_idle()

    async def is_told(client: RawClient, first: str) -> None:
        for address in blocked:
            await tap.link.expect(match("message", has=told("blocked", client, address)))
        await tap.link.expect(match("presence", from_=client.jid))
        said = [stanza.raw for stanza in tap.link.inbox.all]
        presence = next(n for n, raw in enumerate(said) if first in raw and "<presence" in raw)
        lists = [n for n, raw in enumerate(said) if "<blocked" in raw and client.bare in raw]
        assert lists
        assert min(lists) < presence

    second = await tap.client(client.account)
    await is_told(second, second.jid)
    assert tap.link.count(match("message", has=event("blocked"))) == len(blocked)
    tap.drop_idle()
    await tap.down()
    tap.link = tap.server.link()
    await tap.link.connect()
    await is_told(second, second.jid)
