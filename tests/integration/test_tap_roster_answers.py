"""T4: what may come back, what may not, and what is not a roster of the account at all.

The kinds: of what comes back only the annotation of what was sent counts; what looks like a
roster and is none goes by; a session's end leaves nothing behind.
"""

import asyncio
import re
import time

import pytest
from harness import ns
from harness.client import RawClient
from harness.house import TapHouse
from harness.stanza import match
from harness.stream import fresh
from test_tap_roster import CHANNEL, ITEM, QUERY, ask, diverted, give_back, item


def channel_of(jid: str, mark: str) -> str:
    """Return the path of the annotation that `give_back` made for an item."""
    return f"{item(jid)}/{{{ns.MIX_ROSTER}}}channel[@participant-id='{mark}']"


async def contact_set(client: RawClient, jid: str, inner: str = "") -> None:
    """Put a contact into the client's roster, as the client does."""
    await client.set(
        f"<query xmlns='{ns.ROSTER}'><item jid='{jid}' name='n'>{inner}</item></query>"
    )


async def test_a_roster_without_channels_does_not_travel(tap: TapHouse) -> None:
    client = await tap.client()
    friend = f"friend-{fresh()}@elsewhere.test"
    await contact_set(client, friend)
    got = await client.roster(annotate=True)
    assert got.find(item(friend)) is not None
    await tap.fence(client)
    tap.link.none(match("iq", to=client.jid))


async def test_an_older_component_gives_the_part_back_as_it_came(tap: TapHouse) -> None:
    """It takes out `<annotate/>`, adds its element to the items it knows and keeps the rest."""
    client = await tap.client()
    known, unknown = await tap.joined(client.bare), await tap.joined(client.bare)
    id_ = ask(client)
    raw = (await diverted(tap, client.jid)).raw
    raw = re.sub(r"<annotate [^>]*?/>", "", raw, count=1)
    mark = f"<channel xmlns='{ns.MIX_ROSTER}' participant-id='p1'/>"
    quoted = re.escape(known)
    raw = re.sub(rf"(<item [^>]*{quoted}[^>]*?)/>", rf"\1>{mark}</item>", raw)
    tap.link.send(raw)
    got = await client.expect(match("iq", id=id_, type="result"))
    assert got.find(channel_of(known, "p1")) is not None
    assert got.find(item(unknown)) is not None
    assert len(got.all(CHANNEL)) == 1


async def test_what_the_component_may_not_touch_stays(tap: TapHouse) -> None:
    """Of what comes back only the annotation of the items that were sent counts."""
    client = await tap.client()
    channel = await tap.joined(client.bare)
    friend = f"friend-{fresh()}@elsewhere.test"
    await contact_set(client, friend)
    id_ = ask(client)
    part = await diverted(tap, client.jid)
    mark = f"<channel xmlns='{ns.MIX_ROSTER}' participant-id='p'/>"
    tap.link.send(
        f"<iq type='result' id='{part['id']}' from='{client.bare}' to='{client.jid}'>"
        f"<query xmlns='{ns.ROSTER}'><item jid='{friend}' name='forged'/>"
        f"<item jid='{channel}' name='forged' subscription='both'>{mark}<x xmlns='urn:e'/></item>"
        f"<item jid='nobody@elsewhere.test'>{mark}</item></query></iq>"
    )
    got = await client.expect(match("iq", id=id_, type="result"))
    assert len(got.all(ITEM)) == 2
    assert "forged" not in got.raw
    assert got.find(f"{item(channel)}/{{urn:e}}x") is None
    assert len(got.all(CHANNEL)) == 1
    assert got.need(item(channel)).get("subscription") == "none"


async def test_an_error_for_a_part_delivers_the_original_at_once(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    id_ = ask(client)
    part = await diverted(tap, client.jid)
    started = time.monotonic()
    tap.link.send(
        f"<iq type='error' id='{part['id']}' from='{client.bare}' to='{client.jid}'>"
        f"<error type='wait'><resource-constraint xmlns='{ns.STANZAS}'/></error></iq>"
    )
    got = await client.expect(match("iq", id=id_, type="result"))
    assert time.monotonic() - started < 4.0
    assert got.find(item(channel)) is not None
    assert got.find(CHANNEL) is None
    client.none(match("iq", type="error"))


async def test_nothing_overtakes_a_roster_on_its_way(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    tap.drop_idle()
    id_ = ask(client)
    part = await diverted(tap, client.jid)
    friend = f"friend-{fresh()}@elsewhere.test"
    await contact_set(client, friend)
    await tap.roster_set(client.bare, channel, "from")
    push = await diverted(tap, client.jid, "set")
    give_back(tap, push, "second")
    await tap.fence(client)
    client.none(match("iq", has=item(friend)))
    client.none(match("iq", has=item(channel)))
    give_back(tap, part, "first")
    await client.expect(match("iq", type="set", has=channel_of(channel, "second")))
    places = [
        client.inbox.position(match("iq", id=id_, type="result")),
        client.inbox.position(match("iq", type="set", has=item(friend))),
        client.inbox.position(match("iq", type="set", has=item(channel))),
    ]
    assert places == sorted(places)


async def test_a_contacts_roster_is_not_the_accounts(tap: TapHouse) -> None:
    """An IQ of anyone else that looks like a roster result goes by: it is no roster of ours."""
    client = await tap.client()
    await client.roster(annotate=True)
    tap.stranger.send(
        f"<iq type='result' id='odd' from='{tap.stranger.jid}' to='{client.jid}'>"
        f"<query xmlns='{ns.ROSTER}'><item jid='{tap.channel()}' subscription='none'/></query></iq>"
    )
    await client.expect(match("iq", id="odd", type="result"))
    await tap.fence(client)
    tap.link.none(match("iq", to=client.jid))


async def test_the_push_of_a_removed_channel_travels_and_comes_back(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    tap.drop_idle()
    id_ = ask(client)
    give_back(tap, await diverted(tap, client.jid), "p")
    await client.expect(match("iq", id=id_, type="result"))
    await tap.roster_set(client.bare, channel, "remove")
    push = await diverted(tap, client.jid, "set")
    assert push.need(item(channel)).get("subscription") == "remove"
    tap.link.send(
        f"<iq type='set' id='{push['id']}' from='{client.bare}' to='{client.jid}'>"
        f"<query xmlns='{ns.ROSTER}'><item jid='{channel}' subscription='remove'/></query></iq>"
    )
    got = await client.expect(match("iq", type="set", has=item(channel)))
    assert got.need(item(channel)).get("subscription") == "remove"


@pytest.mark.slow
async def test_a_session_that_ends_leaves_nothing_behind(tap: TapHouse) -> None:
    """Its part comes back to nobody, and the next session of that name gets only its own."""
    client = await tap.client()
    await tap.joined(client.bare)
    ask(client)
    part = await diverted(tap, client.jid)
    await client.close()
    tap.clients.remove(client)
    again = RawClient(client.account, client.resource)
    tap.clients.append(await again.login())
    give_back(tap, part, "late")
    await again.fence()
    await asyncio.sleep(6)
    await tap.fence(again)
    again.none(match("iq", has=QUERY))
