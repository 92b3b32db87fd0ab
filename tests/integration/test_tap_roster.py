"""T4: rosters on their way to flagged sessions."""

import time

import pytest
from harness import ns
from harness.client import RawClient
from harness.house import TapHouse
from harness.stanza import Stanza, match
from harness.stream import fresh

QUERY = f"{{{ns.ROSTER}}}query"
ITEM = f"{QUERY}/{{{ns.ROSTER}}}item"
ANNOTATE = f"{QUERY}/{{{ns.MIX_ROSTER}}}annotate"
CHANNEL = f"{ITEM}/{{{ns.MIX_ROSTER}}}channel"


def item(jid: str) -> str:
    """Return the path of one roster item."""
    return f"{ITEM}[@jid='{jid}']"


async def diverted(tap: TapHouse, to: str, type_: str = "result") -> Stanza:
    """Return the next part of a roster (T4) that came over the link for a session."""
    stanza = await tap.link.expect(match("iq", to=to, type=type_, has=ANNOTATE))
    assert stanza.need(QUERY)[0].tag == f"{{{ns.MIX_ROSTER}}}annotate", stanza.raw
    for child in stanza.need(QUERY)[1:]:
        assert child.tag == f"{{{ns.ROSTER}}}item"
        assert set(child.keys()) <= {"jid", "subscription"}
        assert not len(child)
    return stanza


def give_back(tap: TapHouse, stanza: Stanza, mark: str) -> None:
    """Hand a part back without `<annotate/>`, with `<channel/>` in each item."""
    items = "".join(
        f"<item jid='{child.get('jid')}' subscription='{child.get('subscription')}'>"
        f"<channel xmlns='{ns.MIX_ROSTER}' participant-id='{mark}'/></item>"
        for child in stanza.all(ITEM)
    )
    tap.link.send(
        f"<iq type='{stanza['type']}' id='{stanza['id']}' from='{stanza['from']}' "
        f"to='{stanza['to']}'><query xmlns='{ns.ROSTER}'>{items}</query></iq>"
    )


def marked(mark: str) -> str:
    """Return the path of what `give_back` added."""
    return f"{CHANNEL}[@participant-id='{mark}']"


def ask(client: RawClient) -> str:
    """Send an annotated roster get and return its id."""
    id_ = fresh("get")
    client.send(
        f"<iq type='get' id='{id_}'><query xmlns='{ns.ROSTER}'>"
        f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
    )
    return id_


async def flag(tap: TapHouse, client: RawClient) -> Stanza:
    """Join a channel and ask for an annotated roster; returns what the client got."""
    await tap.joined(client.bare)
    id_ = ask(client)
    give_back(tap, await diverted(tap, client.jid), id_)
    return await client.expect(match("iq", id=id_, type="result", has=marked(id_)))


async def test_an_annotated_get_goes_over_the_link_and_back(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    got = await flag(tap, client)
    assert got.need(item(channel)).get("subscription") == "none"
    assert got.find(ANNOTATE) is None
    await tap.fence(client)
    assert client.count(match("iq", has=QUERY, type="result")) == 1


async def test_without_annotate_nothing_is_diverted(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    got = await client.roster()
    assert got.find(item(channel)) is not None
    await tap.roster_set(client.bare, tap.channel())
    await tap.fence(client)
    tap.link.none(match("iq", to=client.jid))


async def test_pushes_to_a_flagged_session_are_diverted(tap: TapHouse) -> None:
    client = await tap.client()
    await flag(tap, client)
    channel = tap.channel()
    await tap.roster_set(client.bare, channel)
    push = await diverted(tap, client.jid, "set")
    assert push.find(item(channel)) is not None
    give_back(tap, push, "push")
    got = await client.expect(match("iq", type="set", has=item(channel)))
    assert got.find(marked("push")) is not None
    await tap.fence(client)
    assert client.count(match("iq", type="set", has=item(channel))) == 1


async def test_a_push_for_another_contact_goes_at_once(tap: TapHouse) -> None:
    client = await tap.client()
    await flag(tap, client)
    tap.drop_idle()
    contact = f"friend-{fresh()}@elsewhere.test"
    answer = await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{contact}'/></query></iq>"
    )
    assert answer["type"] == "result"
    await client.expect(match("iq", type="set", has=item(contact)))
    await tap.fence(client)
    tap.link.none(match("iq", to=client.jid))


async def test_a_push_for_another_contact_does_not_overtake(tap: TapHouse) -> None:
    client = await tap.client()
    await flag(tap, client)
    channel = tap.channel()
    await tap.roster_set(client.bare, channel)
    part = await diverted(tap, client.jid, "set")
    contact = f"friend-{fresh()}@elsewhere.test"
    await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{contact}'/></query></iq>"
    )
    await client.fence()
    client.none(match("iq", type="set", has=item(contact)))
    give_back(tap, part, "push")
    await client.expect(match("iq", type="set", has=item(contact)))
    first = client.inbox.position(match("iq", type="set", has=marked("push")))
    assert first < client.inbox.position(match("iq", type="set", has=item(contact)))


@pytest.mark.req("R3")
@pytest.mark.abuse(18)
async def test_the_flag_is_the_sessions_own(tap: TapHouse) -> None:
    flagged = await tap.client()
    plain = await tap.client(flagged.account)
    await flag(tap, flagged)
    await plain.roster()
    channel = tap.channel()
    await tap.roster_set(flagged.bare, channel)
    give_back(tap, await diverted(tap, flagged.jid, "set"), "push")
    mine = await flagged.expect(match("iq", type="set", has=item(channel)))
    other = await plain.expect(match("iq", type="set", has=item(channel)))
    assert mine.find(marked("push")) is not None
    assert other.find(marked("push")) is None
    assert other.find(ANNOTATE) is None
    tap.link.none(match("iq", to=plain.jid))


@pytest.mark.req("R3")
@pytest.mark.abuse(18)
async def test_a_get_without_annotate_takes_the_flag_away(tap: TapHouse) -> None:
    client = await tap.client()
    await flag(tap, client)
    tap.drop_idle()
    await client.roster()
    channel = tap.channel()
    await tap.roster_set(client.bare, channel)
    await client.expect(match("iq", type="set", has=item(channel)))
    await tap.fence()
    tap.link.none(match("iq", to=client.jid))


@pytest.mark.req("R5")
async def test_the_version_of_an_annotated_get_is_ignored(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    current = (await client.roster(ver="")).need(QUERY).get("ver")
    assert current
    client.send(
        f"<iq type='get' id='v1'><query xmlns='{ns.ROSTER}' ver='{current}'>"
        f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
    )
    part = await diverted(tap, client.jid)
    assert part["id"] != "v1"
    give_back(tap, part, "full")
    full = await client.expect(match("iq", id="v1", has=marked("full")))
    assert full.find(item(channel)) is not None


@pytest.mark.req("R5")
async def test_versioning_of_a_plain_get_goes_on(tap: TapHouse) -> None:
    client = await tap.client()
    await tap.joined(client.bare)
    current = (await client.roster(ver="")).need(QUERY).get("ver")
    unchanged = await client.roster(ver=current)
    assert unchanged["type"] == "result"
    assert unchanged.find(ITEM) is None


@pytest.mark.req("R5")
async def test_the_flag_survives_resumption(tap: TapHouse) -> None:
    client = await tap.client(smacks=True)
    await flag(tap, client)
    await client.cut()
    await tap.link.expect(match("message", has=f"{{{ns.TAP}}}hibernated[@jid='{client.jid}']"))
    await client.resume()
    await tap.link.expect(match("message", has=f"{{{ns.TAP}}}resumed[@jid='{client.jid}']"))
    channel = tap.channel()
    await tap.roster_set(client.bare, channel)
    give_back(tap, await diverted(tap, client.jid, "set"), "push")
    await client.expect(match("iq", type="set", has=marked("push")))
    await client.fence()
    assert client.count(match("iq", type="set", has=item(channel))) == 1


async def test_diversion_keeps_the_count_of_stanzas(tap: TapHouse) -> None:
    """XEP-0198: what was diverted and came back is counted once; nothing is repeated."""
    client = await tap.client(smacks=True)
    await flag(tap, client)
    for _ in range(3):
        await tap.roster_set(client.bare, tap.channel())
        give_back(tap, await diverted(tap, client.jid, "set"), "push")
    await tap.fence(client)
    client.inbox.clear()
    await client.cut()
    await client.resume()
    await client.fence()
    client.none(match("iq", type="set"))


async def test_a_push_while_hibernated_arrives_at_resumption(tap: TapHouse) -> None:
    client = await tap.client(smacks=True)
    await flag(tap, client)
    await client.cut()
    await tap.link.expect(match("message", has=f"{{{ns.TAP}}}hibernated[@jid='{client.jid}']"))
    channel = tap.channel()
    await tap.roster_set(client.bare, channel)
    give_back(tap, await diverted(tap, client.jid, "set"), "push")
    await tap.fence()
    await client.resume()
    await client.expect(match("iq", type="set", has=item(channel)))
    await client.fence()
    assert client.count(match("iq", type="set", has=item(channel))) == 1


@pytest.mark.slow
async def test_what_does_not_come_back_is_delivered_as_it_was(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    started = time.monotonic()
    id_ = ask(client)
    late = await diverted(tap, client.jid)
    got = await client.expect(match("iq", id=id_, type="result", has=item(channel)), 10)
    assert 4.0 < time.monotonic() - started < 8.0
    assert got.find(ANNOTATE) is None
    give_back(tap, late, "late")
    await tap.fence(client)
    assert client.count(match("iq", id=id_, type="result")) == 1


@pytest.mark.slow
async def test_what_came_back_is_not_delivered_again(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    first = await flag(tap, client)
    await tap.roster_set(client.bare, channel)
    give_back(tap, await diverted(tap, client.jid, "set"), "push")
    push = await client.expect(match("iq", type="set", has=marked("push")))
    # A later one is kept back: when it is delivered, the others' time is over, too.
    other = tap.channel()
    await tap.roster_set(client.bare, other)
    await diverted(tap, client.jid, "set")
    await client.expect(match("iq", type="set", has=item(other)), 10)
    await client.fence()
    assert client.count(match("iq", id=first["id"], type="result")) == 1
    assert client.count(match("iq", id=push["id"], type="set")) == 1


async def test_what_came_back_is_not_delivered_again_when_the_link_dies(tap: TapHouse) -> None:
    client = await tap.client()
    first = await flag(tap, client)
    await tap.down()
    await client.fence()
    assert client.count(match("iq", id=first["id"], type="result")) == 1


async def test_a_dying_link_gives_everything_back(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    started = time.monotonic()
    id_ = ask(client)
    await diverted(tap, client.jid)
    await tap.down()
    got = await client.expect(match("iq", id=id_, type="result", has=item(channel)), 10)
    assert time.monotonic() - started < 4.0
    assert got.find(ANNOTATE) is None


async def test_rosters_pass_untouched_while_down(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await tap.down()
    got = await client.roster(annotate=True)
    assert got.find(item(channel)) is not None
    assert got.find(ANNOTATE) is None


async def test_the_flag_is_noted_while_down(tap: TapHouse) -> None:
    client = await tap.client()
    await tap.down()
    await client.roster(annotate=True)
    await tap.up()
    await tap.roster_set(client.bare, tap.channel())
    await diverted(tap, client.jid, "set")


async def many(tap: TapHouse, client: RawClient, count: int) -> list[str]:
    """Put that many channels into a roster and return them."""
    return [await tap.joined(client.bare) for _ in range(count)]


async def test_a_long_roster_goes_in_parts(tap: TapHouse) -> None:
    client = await tap.client()
    channels = await many(tap, client, 120)
    contact = f"friend-{fresh()}@elsewhere.test"
    await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{contact}'><group>G</group></item>"
        "</query></iq>"
    )
    id_ = ask(client)
    parts = [await diverted(tap, client.jid) for _ in range(3)]
    assert all(len(part.all(ITEM)) <= 50 for part in parts)
    assert sorted(e.get("jid", "") for part in parts for e in part.all(ITEM)) == sorted(channels)
    assert len({part["id"] for part in parts} | {id_}) == 4
    # In whatever order; the original waits for the last.
    for part in reversed(parts[1:]):
        give_back(tap, part, "long")
    await tap.fence(client)
    client.none(match("iq", id=id_))
    give_back(tap, parts[0], "long")
    got = await client.expect(match("iq", id=id_, type="result"))
    assert len(got.all(marked("long"))) == len(channels)
    friend = got.need(item(contact))
    assert [e.text for e in friend] == ["G"]


async def test_parts_are_bounded_in_bytes(tap: TapHouse) -> None:
    client = await tap.client()
    for _ in range(40):
        channel = f"{fresh('c')}{'x' * 980}@{fresh('h')}.{tap.fake.jid}"
        await tap.services(channel.partition("@")[2], complete=False)
        assert (await tap.roster_set(client.bare, channel))["type"] == "result"
    id_ = ask(client)
    seen = 0
    while seen < 40:
        part = await diverted(tap, client.jid)
        assert len(part.raw.encode()) < 66_000
        seen += len(part.all(ITEM))
        give_back(tap, part, "bytes")
    got = await client.expect(match("iq", id=id_, type="result"))
    assert len(got.all(marked("bytes"))) == 40


@pytest.mark.slow
async def test_one_part_that_is_missing_leaves_the_original(tap: TapHouse) -> None:
    client = await tap.client()
    channels = await many(tap, client, 60)
    id_ = ask(client)
    parts = [await diverted(tap, client.jid) for _ in range(2)]
    give_back(tap, parts[0], "half")
    got = await client.expect(match("iq", id=id_, type="result"), 10)
    assert len(got.all(ITEM)) == len(channels)
    assert got.find(CHANNEL) is None
    give_back(tap, parts[1], "half")
    await tap.fence(client)
    assert client.count(match("iq", type="result", has=QUERY)) == 1


async def test_a_forged_channel_is_taken_out(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{channel}' name='x'>"
        f"<channel xmlns='{ns.MIX_ROSTER}' participant-id='forged'/></item></query></iq>"
    )
    id_ = ask(client)
    part = await diverted(tap, client.jid)
    tap.link.send(
        f"<iq type='result' id='{part['id']}' from='{client.bare}' to='{client.jid}'>"
        f"<query xmlns='{ns.ROSTER}'><item jid='{channel}' subscription='none'/></query></iq>"
    )
    got = await client.expect(match("iq", id=id_, type="result"))
    assert got.need(item(channel)).get("name") == "x"
    assert got.find(CHANNEL) is None


async def test_a_second_get_meanwhile_is_answered_at_once(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    first = ask(client)
    part = await diverted(tap, client.jid)
    others = [ask(client) for _ in range(20)]
    for id_ in others:
        got = await client.expect(match("iq", id=id_, type="result", has=item(channel)))
        assert got.find(CHANNEL) is None
    await tap.fence()
    assert tap.link.count(match("iq", to=client.jid, type="result")) == 1
    give_back(tap, part, "first")
    await client.expect(match("iq", id=first, has=marked("first")))


async def test_pushes_behind_a_result_arrive_in_order(tap: TapHouse) -> None:
    """However many: what there is no room for goes as it is, and before what comes later."""
    client = await tap.client()
    await flag(tap, client)
    id_ = ask(client)
    await diverted(tap, client.jid)
    channels = await many(tap, client, 150)
    for channel in channels:
        await client.expect(match("iq", type="set", has=item(channel)), 10)
    places = [client.inbox.position(match("iq", type="set", has=item(c))) for c in channels]
    assert places == sorted(places)
    assert client.inbox.position(match("iq", id=id_, type="result")) < places[0]
    assert all(client.count(match("iq", type="set", has=item(c))) == 1 for c in channels)


async def test_what_waits_survives_resumption(tap: TapHouse) -> None:
    client = await tap.client(smacks=True)
    await flag(tap, client)
    id_ = ask(client)
    result = await diverted(tap, client.jid)
    channel = tap.channel()
    await tap.roster_set(client.bare, channel)
    await client.cut()
    await tap.link.expect(match("message", has=f"{{{ns.TAP}}}hibernated[@jid='{client.jid}']"))
    await client.resume()
    give_back(tap, result, "result")
    got = await client.expect(match("iq", id=id_, type="result"), 10)
    assert client.count(match("iq", id=id_)) == 1
    await client.expect(match("iq", type="set", has=item(channel)), 10)
    assert got.find(ITEM) is not None


async def test_pushes_come_before_the_result(tap: TapHouse) -> None:
    """Order: seen on the one link, where a flagged session's push passes too."""
    client = await tap.client()
    await flag(tap, client)
    tap.drop_idle()
    answer = await tap.roster_set(client.bare, tap.channel())
    push = tap.link.inbox.position(match("iq", to=client.jid, type="set", has=ANNOTATE))
    assert push < tap.link.inbox.position(match("iq", id=answer["id"], type="result"))
