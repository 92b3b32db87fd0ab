"""T4: rosters on their way to flagged sessions."""

import re
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
    """Return the next roster stanza (T4) that came over the link for a session."""
    stanza = await tap.link.expect(match("iq", to=to, type=type_, has=ANNOTATE))
    assert stanza.need(QUERY)[0].tag == f"{{{ns.MIX_ROSTER}}}annotate", stanza.raw
    return stanza


def give_back(tap: TapHouse, stanza: Stanza, mark: str) -> None:
    """Hand a diverted roster stanza back without `<annotate/>`, with `mark` added to its query."""
    raw = re.sub(r"<annotate [^>]*?/>", "", stanza.raw, count=1)
    if "</query>" in raw:
        raw = raw.replace("</query>", f"<mark xmlns='urn:example:{mark}'/></query>", 1)
    else:
        raw = re.sub(
            r"<query ([^>]*?)/>", rf"<query \1><mark xmlns='urn:example:{mark}'/></query>", raw
        )
    tap.link.send(raw)


def marked(mark: str) -> str:
    """Return the path of what `give_back` added."""
    return f"{QUERY}/{{urn:example:{mark}}}mark"


async def flag(tap: TapHouse, client: RawClient) -> Stanza:
    """Ask for an annotated roster as the client does; returns what the client got."""
    id_ = fresh("flag")
    client.send(
        f"<iq type='get' id='{id_}'><query xmlns='{ns.ROSTER}'>"
        f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
    )
    give_back(tap, await diverted(tap, client.jid), id_)
    return await client.expect(match("iq", id=id_, type="result", has=marked(id_)))


async def test_an_annotated_get_goes_over_the_link_and_back(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    got = await flag(tap, client)
    assert got.need(item(channel)).get("subscription") == "none"
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


async def test_pushes_for_other_contacts_are_diverted_too(tap: TapHouse) -> None:
    client = await tap.client()
    await flag(tap, client)
    contact = f"friend-{fresh()}@elsewhere.test"
    client.send(
        f"<iq type='set' id='{fresh('rs')}'><query xmlns='{ns.ROSTER}'><item jid='{contact}'/>"
        "</query></iq>"
    )
    push = await diverted(tap, client.jid, "set")
    assert push.find(item(contact)) is not None


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
    tap.calm()
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
    full = await diverted(tap, client.jid)
    assert full["id"] == "v1"
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
    client.send(
        f"<iq type='get' id='g1'><query xmlns='{ns.ROSTER}'>"
        f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
    )
    late = await diverted(tap, client.jid)
    got = await client.expect(match("iq", id="g1", type="result", has=item(channel)), 10)
    assert 4.0 < time.monotonic() - started < 8.0
    assert got.find(ANNOTATE) is None
    give_back(tap, late, "late")
    await tap.fence(client)
    assert client.count(match("iq", id="g1", type="result")) == 1


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
    client.send(
        f"<iq type='get' id='g1'><query xmlns='{ns.ROSTER}'>"
        f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
    )
    await diverted(tap, client.jid)
    await tap.down()
    got = await client.expect(match("iq", id="g1", type="result", has=item(channel)), 10)
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


async def test_pushes_come_before_the_result(tap: TapHouse) -> None:
    """Order: seen on the one link, where a flagged session's push passes too."""
    client = await tap.client()
    await flag(tap, client)
    tap.calm()
    answer = await tap.roster_set(client.bare, tap.channel())
    push = tap.link.inbox.position(match("iq", to=client.jid, type="set", has=ANNOTATE))
    assert push < tap.link.inbox.position(match("iq", id=answer["id"], type="result"))
