"""T10, C6: one stanza on the link for many users, and for many devices, both ways."""

import asyncio
from dataclasses import dataclass

import pytest
import pytest_asyncio
from harness import ns
from harness.client import register
from harness.house import TapHouse, event
from harness.stanza import canonical, match, parse
from harness.stream import fresh

ADDRESSES = f"{{{ns.ADDRESS}}}addresses"
ADDRESS = f"{{{ns.ADDRESS}}}address"
OWN_ID = f"{{{ns.SID}}}stanza-id"
MIX = f"<mix xmlns='{ns.CORE1}'><nick>Tom &amp; Jerry</nick><jid>t@x.test</jid></mix>"
FOREIGN = (
    f"<x xmlns='urn:example:0'><addresses xmlns='{ns.ADDRESS}'>"
    "<address type='to' jid='%s'/></addresses></x>"
)
MOST, MOST_BYTES = 500, 65536


@pytest_asyncio.fixture(loop_scope="session")
async def gathering(tap: TapHouse) -> str:
    """Let the tap gather, and return the address it sends to."""
    address = f"{tap.component}/{fresh('secret')}"
    await tap.services(tap.fake.jid, complete=True, multicast=address)
    return address


def groupchat(channel: str, to: str, body: str, extra: str = "", id_: str = "m1") -> str:
    """Return a channel's message, the same for all users but for `to`."""
    return (
        f"<message xml:lang='en' from='{channel}' to='{to}' id='{id_}' type='groupchat'>"
        f"<body>{body}</body>{MIX}{extra}</message>"
    )


async def speak(tap: TapHouse, channel: str, stanzas: str) -> None:
    """Let a channel send, and wait until the component has it all.

    What is gathered may wait a little, but an answer of the same channel does not overtake it.
    """
    end = fresh("end")
    tap.fake.send(f"{stanzas}<iq type='result' id='{end}' from='{channel}' to='x@{tap.domain}'/>")
    await tap.link.expect(match("iq", id=end))


@dataclass(frozen=True)
class Arrival:
    """One T1, or one address of a T10."""

    to: str
    archive_id: str | None
    body: str | None
    gathered: int


def arrivals(tap: TapHouse, channel: str) -> list[Arrival]:
    """Return a channel's messages at the component; checks the shape of each T10."""
    found = []
    for stanza in tap.link.inbox.matching(match("message", from_=channel)):
        if "/" not in stanza["to"]:
            own = stanza.find(f"{OWN_ID}[@by='{stanza['to']}']")
            id_ = None if own is None else own.get("id")
            found.append(Arrival(stanza["to"], id_, stanza.body, 1))
            continue
        assert stanza.xml[0].tag == ADDRESSES, stanza.raw
        batch = list(stanza.xml[0])
        assert 1 < len(batch) <= MOST, f"{len(batch)} addresses"
        for each in batch:
            assert each.tag == ADDRESS
            assert each.get("type") == "to"
            to = each.get("jid", "")
            assert not stanza.all(f"{OWN_ID}[@by='{to}']"), stanza.raw
            found.append(Arrival(to, each.get("id"), stanza.body, len(batch)))
    return found


async def test_hello_says_that_the_tap_knows_how(tap: TapHouse) -> None:
    await tap.down()
    await tap.connected()
    hello = tap.link.inbox.matching(match("message", has=event("hello")))[0]
    assert hello.need(event("hello")).get("multicast") == "true"


async def test_nothing_is_gathered_before_the_component_says_where(tap: TapHouse) -> None:
    users = [(await tap.user()).jid for _ in range(5)]
    channel = tap.channel()
    await speak(tap, channel, "".join(groupchat(channel, user, "b") for user in users))
    assert [(a.to, a.gathered) for a in arrivals(tap, channel)] == [(user, 1) for user in users]


async def test_what_is_alike_goes_together_in_order_and_with_archive_ids(
    tap: TapHouse, gathering: str
) -> None:
    clients = [await tap.client() for _ in range(6)]
    channel = await tap.joined(clients[0].bare)
    for client in clients[1:5]:
        await tap.roster_set(client.bare, channel)
    await clients[2].archive_preference("never")
    extra = f"<stanza-id xmlns='{ns.SID}' by='{channel}' id='c1'/>"
    await speak(tap, channel, "".join(groupchat(channel, c.bare, "b", extra) for c in clients))
    found = arrivals(tap, channel)
    assert [a.to for a in found] == [client.bare for client in clients]
    assert any(a.gathered > 1 for a in found)
    for client, arrival in zip(clients, found, strict=True):
        kept = [stanza["archive-id"] for stanza in await tap.archive(client, channel)]
        assert kept == ([arrival.archive_id] if arrival.archive_id else [])
    without_id = [c for c, a in zip(clients, found, strict=True) if not a.archive_id]
    assert without_id == [clients[2], clients[5]]
    for stanza in tap.link.inbox.matching(match("message", from_=channel)):
        assert stanza["to"] in {gathering, *[client.bare for client in clients]}
        assert len(stanza.all(f"{OWN_ID}[@by='{channel}'][@id='c1']")) == 1


async def test_the_content_is_what_a_single_user_gets(tap: TapHouse, gathering: str) -> None:
    users = [(await tap.user()).jid for _ in range(3)]
    channel = tap.channel()
    extra = "<empty xmlns='urn:example:1'/>1 &lt; 2" + FOREIGN % users[0]
    await speak(tap, channel, "".join(groupchat(channel, user, "é", extra) for user in users))
    assert [a.to for a in arrivals(tap, channel)] == users
    one = await tap.link.expect(match("message", from_=channel, to=gathering))
    one.xml.remove(one.xml[0])
    sent = parse(groupchat(channel, gathering, "é", extra))
    assert canonical(one.xml) == canonical(sent)
    await tap.services(tap.fake.jid, complete=True)
    tap.fake.send(groupchat(channel, users[0], "é", extra))
    single = await tap.link.expect(match("message", from_=channel, to=users[0]))
    assert canonical(single.xml) == canonical(parse(groupchat(channel, users[0], "é", extra)))


@pytest.mark.usefixtures("gathering")
async def test_nothing_waits_for_long(tap: TapHouse) -> None:
    users = [(await tap.user()).jid for _ in range(3)]
    channel = tap.channel()
    tap.fake.send("".join(groupchat(channel, user, "b") for user in users))
    for _ in range(20):
        if len(arrivals(tap, channel)) == len(users):
            break
        await asyncio.sleep(0.05)
    assert [a.to for a in arrivals(tap, channel)] == users


@pytest.mark.usefixtures("gathering")
async def test_one_alone_is_an_ordinary_message(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    tap.fake.send(groupchat(channel, client.bare, "alone"))
    await tap.link.expect(match("message", to=client.bare, body="alone"))
    archive = await tap.archive(client, channel)
    found = arrivals(tap, channel)
    assert [(a.archive_id, a.gathered) for a in found] == [(archive[0]["archive-id"], 1)]


@pytest.mark.usefixtures("gathering")
async def test_what_differs_does_not_go_together(tap: TapHouse) -> None:
    users = [(await tap.user()).jid for _ in range(2)]
    channel = tap.channel()
    variants = [
        groupchat(channel, "%s", "1"),
        groupchat(channel, "%s", "2"),
        groupchat(channel, "%s", "2", id_="m2"),
        groupchat(channel, "%s", "2", "<x xmlns='urn:example:0'><y a='1'/></x>", "m2"),
        groupchat(channel, "%s", "2", "<x xmlns='urn:example:0'><y a='2'/></x>", "m2"),
        groupchat(channel, "%s", "2", "<x xmlns='urn:example:0'><y a='2'>z</y></x>", "m2"),
        groupchat(f"{channel}/p1", "%s", "2", id_="m2"),
        groupchat(channel, "%s", "2", id_="m2").replace("'en'", "'de'"),
        groupchat(channel, "%s", "2", id_="m2").replace(" type='groupchat'", ""),
    ]
    await speak(tap, channel, "".join(each % user for each in variants for user in users))
    bodies = [parse(each % users[0]) for each in variants]
    got = tap.link.inbox.matching(
        match("message", test=lambda s: s["from"].partition("/")[0] == channel)
    )
    whole = []
    for stanza in got:
        batch = [e.get("jid") for e in stanza.all(f"{ADDRESSES}/{ADDRESS}")] or [stanza["to"]]
        for child in stanza.all(ADDRESSES):
            stanza.xml.remove(child)
        for to in batch:
            stanza.xml.set("to", users[0])
            whole.append((to, canonical(stanza.xml)))
    assert whole == [(user, canonical(body)) for body in bodies for user in users]


@pytest.mark.req("K1")
@pytest.mark.usefixtures("gathering")
async def test_blocked_and_unknown_are_not_among_the_addresses(tap: TapHouse) -> None:
    clients = [await tap.client() for _ in range(3)]
    channel = tap.channel()
    await clients[1].block(channel)
    nobody = f"nobody-{fresh()}@{tap.domain}"
    users = [clients[0].bare, clients[1].bare, nobody, clients[2].bare]
    tap.fake.send("".join(groupchat(channel, user, "b") for user in users))
    bounce = await tap.fake.expect(match("message", type="error", from_=nobody))
    assert bounce.condition == "service-unavailable"
    await speak(tap, channel, "")
    await tap.fence(*clients)
    assert [a.to for a in arrivals(tap, channel)] == [clients[0].bare, clients[2].bare]
    clients[1].none(match("message"))


@pytest.mark.abuse(4)
@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize("in_roster", [True, False])
async def test_forged_ids_are_removed(tap: TapHouse, in_roster: bool) -> None:
    clients = [await tap.client() for _ in range(3)]
    channel = await tap.joined(clients[0].bare)
    for client in clients[1:] if in_roster else []:
        await tap.roster_set(client.bare, channel)
    forged = f"<stanza-id xmlns='{ns.SID}' by='%s' id='forged'/>"
    messages = [groupchat(channel, c.bare, "b", forged % c.bare) for c in clients]
    await speak(tap, channel, "".join(messages))
    found = arrivals(tap, channel)
    assert [a.to for a in found] == [client.bare for client in clients]
    assert [a.archive_id is not None for a in found] == [True, in_roster, in_roster]
    for stanza in tap.link.inbox.matching(match("message", from_=channel)):
        assert "forged" not in stanza.raw


@pytest.mark.usefixtures("gathering")
async def test_it_neither_overtakes_nor_is_overtaken(tap: TapHouse) -> None:
    users = [(await tap.user()).jid for _ in range(3)]
    channel = tap.channel()
    expected = []
    for number in range(6):
        messages = "".join(groupchat(channel, u, str(number), id_=f"m{number}") for u in users)
        other = (
            f"<presence from='{channel}' to='{users[0]}'/>"
            if number % 2
            else f"<iq type='error' id='i{number}' from='{channel}' to='{users[0]}'/>"
        )
        tap.fake.send(messages + other)
        expected += [str(number)] * 3 + ["presence" if number % 2 else "iq"]
    await speak(tap, channel, "")
    seen = []
    for stanza in tap.link.inbox.matching(match(from_=channel))[:-1]:
        count = len(stanza.all(f"{ADDRESSES}/{ADDRESS}")) or 1
        seen += [stanza.body if stanza.name == "message" else stanza.name] * count
    assert seen == expected


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize(("count", "length"), [(2 * MOST + 10, 8), (600, 150)])
async def test_a_batch_has_its_limits(tap: TapHouse, count: int, length: int) -> None:
    name = fresh("u").ljust(length, "x")
    user = (await register(tap.server.place, name=name)).jid
    channel = tap.channel()
    await speak(tap, channel, "".join(groupchat(channel, user, "b") for _ in range(count)))
    found = arrivals(tap, channel)
    assert [a.to for a in found] == [user] * count
    assert max(a.gathered for a in found) > 1
    for stanza in tap.link.inbox.matching(match("message", from_=channel)):
        start, end = stanza.raw.find("<address "), stanza.raw.find("</addresses>")
        assert end - start <= MOST_BYTES


@pytest.mark.usefixtures("gathering")
async def test_a_new_link_begins_without(tap: TapHouse) -> None:
    users = [(await tap.user()).jid for _ in range(5)]
    channel = tap.channel()
    await tap.down()
    tap.fake.send("".join(groupchat(channel, user, "lost") for user in users))
    await tap.fake.fence()
    await tap.connected()
    await speak(tap, channel, "".join(groupchat(channel, user, "connected") for user in users))
    await tap.services(tap.fake.jid, complete=True)
    await speak(tap, channel, "".join(groupchat(channel, user, "up") for user in users))
    assert [(a.to, a.body, a.gathered) for a in arrivals(tap, channel)] == [
        (user, body, 1) for body in ("connected", "up") for user in users
    ]


def typed(kind: str) -> str:
    """Return a message's type attribute; the default is left out, as ejabberd does."""
    return "" if kind == "normal" else f" type='{kind}'"


def multicast(
    tap: TapHouse,
    channel: str,
    targets: dict[str, str | None],
    *,
    body: str = "b",
    kind: str = "groupchat",
    extra: str = "",
) -> str:
    """Return a C6 message to full JIDs, each with its archive id or None."""
    addresses = "".join(
        f"<address type='to' jid='{to}'" + (f" id='{id_}'/>" if id_ else "/>")
        for to, id_ in targets.items()
    )
    return (
        groupchat(channel, tap.domain, body, extra)
        .replace(
            f"<body>{body}",
            f"<addresses xmlns='{ns.ADDRESS}'>{addresses}</addresses><body>{body}",
            1,
        )
        .replace(" type='groupchat'", typed(kind))
    )


@pytest.mark.req("F2", "W1")
@pytest.mark.parametrize("kind", ["groupchat", "chat", "normal", "headline"])
async def test_each_address_gets_its_copy_once(tap: TapHouse, kind: str) -> None:
    romeo = await tap.client()
    juliet = await tap.client()
    devices = [romeo, await tap.client(romeo.account), juliet, await tap.client(juliet.account)]
    bystander = await tap.client(juliet.account)
    for client in (*devices, bystander):
        await client.set(f"<enable xmlns='{ns.CARBONS}'/>")
    channel = await tap.joined(romeo.bare)
    extra = f"<stanza-id xmlns='{ns.SID}' by='{channel}' id='c1'/>" + FOREIGN % bystander.jid
    ids = {c.jid: "of-romeo" if c.bare == romeo.bare else None for c in devices}
    tap.link.send(multicast(tap, channel, ids, kind=kind, extra=extra))
    copies = [await c.expect(match("message", from_=channel, to=c.jid)) for c in devices]
    await tap.fence(*devices, bystander)
    for client, copy in zip(devices, copies, strict=True):
        assert client.count(match("message")) == 1
        own = f"<stanza-id xmlns='{ns.SID}' by='{romeo.bare}' id='of-romeo'/>"
        straight = groupchat(
            channel, client.jid, "b", extra + (own if client.bare == romeo.bare else "")
        ).replace(" type='groupchat'", typed(kind))
        client.inbox.clear()
        tap.link.send(straight)
        reference = await client.expect(match("message", from_=channel, to=client.jid))
        assert canonical(copy.xml) == canonical(reference.xml) == canonical(parse(straight))
    bystander.none(match("message"))
    tap.fake.none(match("message"))
    assert await tap.archive(romeo, channel) == []


async def test_a_hibernated_session_gets_it_at_resumption_once(tap: TapHouse) -> None:
    sleeper = await tap.hibernated()
    awake = await tap.client(smacks=True)
    channel = tap.channel()
    for body in ("1", "2"):
        tap.link.send(multicast(tap, channel, {sleeper.jid: "a1", awake.jid: "a2"}, body=body))
    await awake.expect(match("message", body="2"))
    await tap.fence()
    await sleeper.resume()
    await sleeper.expect(match("message", body="2"))
    await sleeper.fence()
    got = sleeper.inbox.matching(match("message", from_=channel))
    assert [(s.body, s["to"]) for s in got] == [("1", sleeper.jid), ("2", sleeper.jid)]
    for stanza in got:
        ids = [(e.get("by"), e.get("id")) for e in stanza.all(OWN_ID)]
        assert ids == [(sleeper.bare, "a1")]
        assert not stanza.all(ADDRESSES)


@pytest.mark.req("F9")
@pytest.mark.parametrize("kind", ["groupchat", "chat", "normal"])
async def test_sessions_that_are_gone_are_left_out(tap: TapHouse, kind: str) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    offline = await tap.user()
    ids = {
        f"{client.bare}/gone": None,
        f"nobody-{fresh()}@{tap.domain}/r": None,
        f"{offline.jid}/gone": "a",
    }
    tap.link.send(multicast(tap, channel, {**ids, client.jid: None}, kind=kind))
    tap.link.send(multicast(tap, channel, ids, kind=kind))
    await client.expect(match("message", to=client.jid))
    await tap.fence(client)
    assert client.count(match("message")) == 1
    tap.fake.none(match("message"))
    tap.link.none(match("message", type="error"))
    later = await tap.client(offline)
    await later.fence()
    later.none(match("message"))
    assert await tap.archive(client, channel) == []


@pytest.mark.slow
@pytest.mark.req("F9")
async def test_an_expired_session_bounces_and_stores_nothing(tap: TapHouse) -> None:
    client = await tap.hibernated()
    channel = await tap.joined(client.bare)
    for kind in ("groupchat", "chat", "normal"):
        tap.link.send(multicast(tap, channel, {client.jid: "a1"}, kind=kind))
    await tap.link.expect(match("presence", from_=client.jid, type="unavailable"), 20)
    await tap.fence()
    tap.fake.none(match(type="error"))
    tap.link.none(match("message", type="error"))
    again = await tap.client(client.account)
    await again.fence()
    again.none(match("message"))
    assert await tap.archive(again, channel) == []


async def test_order_with_what_goes_to_one_session(tap: TapHouse) -> None:
    one, two = await tap.client(), await tap.client(smacks=True)
    channel = tap.channel()
    for number in range(20):
        tap.link.send(multicast(tap, channel, {one.jid: None, two.jid: "a"}, body=str(number)))
        for client in (one, two):
            tap.link.send(f"<presence from='{channel}/{number}' to='{client.jid}'/>")
    for client in (one, two):
        await client.expect(match("presence", from_=f"{channel}/19"))
        seen = [
            stanza.body if stanza.name == "message" else stanza["from"].rpartition("/")[2]
            for stanza in client.inbox.all
            if stanza["from"].startswith(channel)
        ]
        assert seen == [str(number) for number in range(20) for _ in range(2)]


@pytest.mark.parametrize("type_", [None, "unavailable"])
async def test_presence_goes_to_each_address(tap: TapHouse, type_: str | None) -> None:
    clients = [await tap.client(), await tap.client(smacks=True)]
    bystander = await tap.client(clients[0].account)
    sender = f"p1#{tap.channel()}/r"
    attribute = f" type='{type_}'" if type_ else ""
    tap.link.send(
        f"<presence from='{sender}' to='{tap.domain}'{attribute}>"
        f"<addresses xmlns='{ns.ADDRESS}'>"
        + "".join(f"<address type='to' jid='{client.jid}'/>" for client in clients)
        + f"</addresses><show>away</show>{MIX}</presence>"
    )
    for client in clients:
        got = await client.expect(match("presence", from_=sender, to=client.jid, type=type_))
        assert got.text(f"{{{ns.CLIENT}}}show") == "away"
        assert not got.all(ADDRESSES)
    await tap.fence(*clients, bystander)
    bystander.none(match("presence", from_=sender))
    assert [client.count(match("presence", from_=sender)) for client in clients] == [1, 1]


async def test_malformed_addresses_are_dropped(tap: TapHouse) -> None:
    client = await tap.client()
    other = await tap.client()
    channel = tap.channel()
    bad = (
        "<address type='to'/><address type='to' jid=''/><address type='to' jid='@/'/>"
        f"<address type='to' jid='a@b@c/d'/><address type='to' jid='{client.bare}'/>"
        f"<address type='to' jid='{tap.domain}'/><address type='to' jid='{channel}'/>"
        f"<address type='to' jid='x@{tap.stranger.jid}/r'/><unknown xmlns='urn:example:0'/>text"
    )
    sent = multicast(tap, channel, {client.jid: None, other.jid: None})
    tap.link.send(sent.replace("<address ", f"{bad}<address ", 1))
    tap.link.send(sent.replace("<address ", "<nothing ").replace(">b<", ">none<"))
    for each in (client, other):
        await each.expect(match("message", from_=channel, to=each.jid))
    await tap.fence(client, other)
    for each in (client, other):
        assert each.count(match("message")) == 1
    for stream in (tap.fake, tap.stranger):
        stream.none(match("message"))
    tap.link.none(match("message", type="error"))


@pytest.mark.abuse(10)
async def test_from_anybody_else_it_is_an_ordinary_stanza(tap: TapHouse) -> None:
    victim = await tap.client()
    client = await tap.client()
    channel = tap.channel()
    for stream, sender in ((tap.fake, channel), (tap.stranger, tap.stranger.jid), (client, None)):
        message = multicast(tap, channel, {victim.jid: "forged"})
        presence = (
            f"<presence from='{channel}' to='{tap.domain}'><addresses xmlns='{ns.ADDRESS}'>"
            f"<address type='to' jid='{victim.jid}'/></addresses></presence>"
        )
        for each in (message, presence):
            by = f"from='{sender}'" if sender else ""
            stream.send(each.replace(f"from='{channel}'", by))
        await stream.fence()
    await tap.fence(victim)
    victim.none(match("message"))
    victim.none(match("presence", test=lambda s: s["from"].partition("/")[0] != victim.bare))


@pytest.mark.abuse(10)
async def test_a_strangers_addresses_are_no_batch(tap: TapHouse, gathering: str) -> None:
    """What looks like a T10 already stays what it is: the user's message, addresses and all."""
    users = [(await tap.user()).jid for _ in range(2)]
    channel = tap.channel()
    inner = (
        f"<addresses xmlns='{ns.ADDRESS}'><address type='to' jid='{users[1]}' id='f'/></addresses>"
    )
    sent = groupchat(channel, "%s", "b").replace("<body>", inner + "<body>", 1)
    tap.fake.send(sent % users[0])
    got = await tap.link.expect(match("message", from_=channel))
    assert got["to"] == users[0]
    assert canonical(got.xml) == canonical(parse(sent % users[0]))
    await speak(tap, channel, sent % users[0] + sent % users[1])
    for stanza in tap.link.inbox.matching(match("message", from_=channel, to=gathering)):
        first = [each.get("jid") for each in stanza.xml[0]]
        assert first == users
        assert [e.tag for e in stanza.xml].count(ADDRESSES) == 2
