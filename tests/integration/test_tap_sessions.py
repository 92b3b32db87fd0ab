"""C1 and XEP-0198: what the component sends to a session goes there and nowhere else."""

import pytest
from harness import ns
from harness.client import RawClient, unregister
from harness.house import TapHouse, event
from harness.stanza import canonical, match, parse
from harness.stream import fresh


def copy(channel: str, to: str, body: str, kind: str = "groupchat", extra: str = "") -> str:
    """Return a fanned-out copy."""
    return (
        f"<message from='{channel}' to='{to}' id='{fresh('m')}' type='{kind}'>"
        f"<body>{body}</body><mix xmlns='{ns.CORE1}'><nick>n</nick></mix>{extra}</message>"
    )


async def carbons(client: RawClient) -> None:
    """Switch carbon copies on."""
    answer = await client.iq(f"<iq type='set'><enable xmlns='{ns.CARBONS}'/></iq>")
    assert answer["type"] == "result", answer.raw


@pytest.mark.req("F2", "W1")
@pytest.mark.parametrize("kind", ["groupchat", "chat", "normal", "headline"])
async def test_one_session_gets_it_and_no_other(tap: TapHouse, kind: str) -> None:
    one = await tap.client()
    two = await tap.client(one.account)
    for client in (one, two):
        await carbons(client)
    channel = tap.channel()
    tap.link.send(copy(channel, one.jid, "for one", kind))
    await one.expect(match("message", from_=channel, to=one.jid, body="for one"))
    await tap.fence(one, two)
    assert one.count(match("message")) == 1
    two.none(match("message"))
    tap.fake.none(match("message"))


async def test_stanza_ids_are_kept(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    ids = (
        f"<stanza-id xmlns='{ns.SID}' by='{client.bare}' id='a1'/>"
        f"<stanza-id xmlns='{ns.SID}' by='{channel}' id='c1'/>"
    )
    tap.link.send(copy(channel, client.jid, "b", extra=ids))
    got = await client.expect(match("message", from_=channel))
    found = {(e.get("by"), e.get("id")) for e in got.all(f"{{{ns.SID}}}stanza-id")}
    assert found == {(client.bare, "a1"), (channel, "c1")}


async def test_the_copy_is_what_the_server_makes_of_it_anyway(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    sent = (
        f"<message xml:lang='fr' from='{channel}' to='{client.jid}' id='m1' type='groupchat'>"
        "<body>&lt;é&gt; &amp; \U0001f9ed</body><x xmlns='urn:example:0'><y a='&quot;'/></x>"
        "</message>"
    )
    tap.link.send(sent)
    got = await client.expect(match("message", id="m1"))
    assert canonical(got.xml) == canonical(parse(sent))


@pytest.mark.parametrize("priority", [-1, 0])
async def test_priority_does_not_matter(tap: TapHouse, priority: int) -> None:
    client = await tap.client(online=False)
    await client.online(f"<priority>{priority}</priority>")
    channel = tap.channel()
    tap.link.send(copy(channel, client.jid, "b"))
    await client.expect(match("message", from_=channel))


async def test_presence_and_iq_go_to_the_session(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    tap.link.send(f"<presence from='p1#{channel}/r' to='{client.jid}'/>")
    await client.expect(match("presence", from_=f"p1#{channel}/r"))
    tap.link.send(f"<presence from='p1#{channel}/r' to='{client.jid}' type='unavailable'/>")
    await client.expect(match("presence", from_=f"p1#{channel}/r", type="unavailable"))
    tap.link.send(f"<iq type='result' id='j1' from='{client.bare}' to='{client.jid}'/>")
    await client.expect(match("iq", id="j1", from_=client.bare))


async def test_the_component_can_ask_a_client(tap: TapHouse) -> None:
    client = await tap.client()
    tap.link.send(
        f"<iq type='get' id='d1' from='{tap.component}' to='{client.jid}'>"
        f"<query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    asked = await client.expect(match("iq", type="get", id="d1"))
    client.send(
        f"<iq type='result' id='d1' to='{asked['from']}'><query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    await tap.link.expect(match("iq", type="result", id="d1", from_=client.jid))


@pytest.mark.req("F9")
@pytest.mark.parametrize("kind", ["groupchat", "chat", "normal"])
async def test_for_a_session_that_is_gone_it_is_dropped(tap: TapHouse, kind: str) -> None:
    other = await tap.client()
    channel = await tap.joined(other.bare)
    gone = f"{other.bare}/gone-{fresh()}"
    tap.link.send(copy(channel, gone, "lost", kind))
    await tap.fence(other)
    tap.fake.none(match("message"))
    tap.link.none(match("message", type="error"))
    other.none(match("message"))
    assert await tap.archive(other, channel) == []


@pytest.mark.parametrize("kind", ["groupchat", "chat", "normal"])
async def test_nothing_of_it_waits_in_offline_storage(tap: TapHouse, kind: str) -> None:
    account = await tap.user()
    channel = tap.channel()
    tap.link.send(copy(channel, f"{account.jid}/gone", "lost", kind))
    await tap.fence()
    tap.fake.none(match("message"))
    client = await tap.client(account)
    await client.fence()
    client.none(match("message"))


async def test_order_to_one_session(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    for number in range(30):
        tap.link.send(copy(channel, client.jid, str(number)))
        tap.link.send(f"<presence from='{channel}/{number}' to='{client.jid}'/>")
    await client.expect(match("presence", from_=f"{channel}/29"))
    seen = [
        stanza.body if stanza.name == "message" else stanza["from"].rpartition("/")[2]
        for stanza in client.inbox.all
        if stanza["from"].startswith(channel)
    ]
    assert seen == [str(number) for number in range(30) for _ in range(2)]


@pytest.mark.abuse(10)
async def test_another_component_gets_the_ordinary_treatment(tap: TapHouse) -> None:
    """C1 is for the configured component: others' stanza-ids of the user are no archive ids."""
    client = await tap.client()
    tap.stranger.send(
        f"<message from='{tap.stranger.jid}' to='{client.bare}/gone' id='m1'>"
        "<body>b</body></message>"
    )
    await tap.stranger.fence()
    await client.expect(match("message", id="m1"))


async def test_hibernation_is_told(tap: TapHouse) -> None:
    client = await tap.hibernated()
    tap.link.none(match("presence", from_=client.jid, type="unavailable"))
    await client.resume()
    told = await tap.link.expect(match("message", has=event("resumed", jid=client.jid)))
    assert (told["from"], told["to"]) == (tap.domain, tap.component)


@pytest.mark.req("F8")
async def test_a_hibernated_session_gets_it_at_resumption_once(tap: TapHouse) -> None:
    client = await tap.hibernated()
    channel = tap.channel()
    for body in ("1", "2"):
        tap.link.send(copy(channel, client.jid, body))
    await tap.fence()
    await client.resume()
    await client.expect(match("message", body="2"))
    tap.link.send(copy(channel, client.jid, "3"))
    await client.expect(match("message", body="3"))
    await client.fence()
    got = client.inbox.matching(match("message", from_=channel))
    assert [stanza.body for stanza in got] == ["1", "2", "3"]


@pytest.mark.slow
@pytest.mark.req("F9")
async def test_an_expired_session_bounces_and_stores_nothing(tap: TapHouse) -> None:
    client = await tap.hibernated()
    channel = await tap.joined(client.bare)
    for kind in ("groupchat", "chat", "normal"):
        tap.link.send(copy(channel, client.jid, f"lost {kind}", kind))
    tap.link.send(f"<presence from='p1#{channel}/r' to='{client.jid}'/>")
    await tap.fence()
    await tap.link.expect(match("presence", from_=client.jid, type="unavailable"), 20)
    await tap.fence()
    tap.fake.none(match(type="error"))
    tap.link.none(match("message", type="error"))
    again = await tap.client(client.account)
    await again.fence()
    again.none(match("message"))
    assert await tap.archive(again, channel) == []


async def test_a_removed_account_is_told(tap: TapHouse) -> None:
    client = await tap.client()
    await unregister(client)
    told = await tap.link.expect(match("message", has=event("user-removed", jid=client.bare)))
    assert (told["from"], told["to"]) == (tap.domain, tap.component)
    tap.clients.remove(client)
    await client.cut()
