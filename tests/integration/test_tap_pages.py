"""C3 in pages: a roster of any size reaches the component in stanzas of bounded size."""

from harness import ns
from harness.client import RawClient
from harness.house import TapHouse, event
from harness.stanza import Stanza, match
from harness.stream import fresh

QUERY = f"{{{ns.ROSTER}}}query"
ITEM = f"{QUERY}/{{{ns.ROSTER}}}item"
PAGE = f"{QUERY}/{{{ns.TAP}}}page"


async def page(tap: TapHouse, client: RawClient, after: str | None = None) -> Stanza:
    """Ask for one page of a roster."""
    behind = "" if after is None else f' after="{after}"'
    return await tap.link.iq(
        f"<iq type='get' from='{tap.component}' to='{client.bare}'><query xmlns='{ns.ROSTER}'>"
        f"<page xmlns='{ns.TAP}'{behind}/></query></iq>"
    )


def jids(stanza: Stanza) -> list[str]:
    """Return the items' addresses in their order."""
    return [e.get("jid", "") for e in stanza.all(ITEM)]


async def put(client: RawClient, jid: str) -> None:
    """Have the user put a contact with name and group into the roster."""
    answer = await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{jid}' name='N'><group>G</group>"
        "</item></query></iq>"
    )
    assert answer["type"] == "result", answer.raw


async def pages(tap: TapHouse, client: RawClient) -> list[Stanza]:
    """Read a whole roster page by page."""
    got = [await page(tap, client)]
    while got[-1].need(PAGE).get("more") == "true":
        assert len(got[-1].raw.encode()) < 70_000
        got.append(await page(tap, client, jids(got[-1])[-1]))
    return got


async def test_hello_says_that_pages_are_known(tap: TapHouse) -> None:
    await tap.down()
    await tap.connected()
    hello = tap.link.inbox.matching(match("message", has=event("hello")))[0].need(event("hello"))
    assert hello.get("pages") == "true"
    assert hello.get("limit") is None or int(hello.get("limit", "")) > 10_000


async def test_an_empty_roster_is_one_page(tap: TapHouse) -> None:
    client = await tap.client()
    got = await page(tap, client)
    assert got["type"] == "result"
    assert (got["from"], got["to"]) == (client.bare, tap.component)
    assert not jids(got)
    assert got.need(PAGE).get("more") != "true"


async def test_a_page_has_items_in_the_order_of_their_bytes(tap: TapHouse) -> None:
    client = await tap.client()
    names = [f"{local}@elsewhere.test" for local in ("b", "a", "ab", "z", "é", "a.b", "10", "9")]
    for name in names:
        await put(client, name)
    channel = tap.channel()
    await tap.roster_set(client.bare, channel, "from")
    wanted = sorted([*names, channel], key=str.encode)
    got = await page(tap, client)
    assert jids(got) == wanted
    assert got.need(PAGE).get("more") != "true"
    for element in got.all(ITEM):
        assert set(element.keys()) <= {"jid", "subscription", "ask"}
        assert not len(element)
    assert got.need(f"{ITEM}[@jid='{channel}']").get("subscription") == "from"
    for place, jid in enumerate(wanted):
        assert jids(await page(tap, client, jid)) == wanted[place + 1 :]
    # What is behind need not be there itself.
    assert jids(await page(tap, client, "a@elsewhere.tesu")) == [
        jid for jid in wanted if jid.encode() > b"a@elsewhere.tesu"
    ]


async def test_many_items_come_in_several_pages(tap: TapHouse) -> None:
    client = await tap.client()
    await client.roster()
    wanted = []
    for _ in range(130):
        jid = f"{fresh('c')}{'x' * 900}@{fresh('h')}.test"
        wanted.append(jid)
        client.send(
            f"<iq type='set' id='{fresh('rs')}'><query xmlns='{ns.ROSTER}'><item jid='{jid}'/>"
            "</query></iq>"
        )
    await client.expect(match("iq", type="set", has=f"{ITEM}[@jid='{wanted[-1]}']"), 30)
    got = await pages(tap, client)
    assert len(got) > 1
    assert [jid for one in got for jid in jids(one)] == sorted(wanted, key=str.encode)


async def test_a_page_of_nobodys_roster_is_not_found(tap: TapHouse) -> None:
    answer = await tap.link.iq(
        f"<iq type='get' from='{tap.component}' to='nobody-{fresh()}@{tap.domain}'>"
        f"<query xmlns='{ns.ROSTER}'><page xmlns='{ns.TAP}'/></query></iq>"
    )
    assert answer.condition == "item-not-found"
