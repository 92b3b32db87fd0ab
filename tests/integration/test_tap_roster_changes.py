"""C3, T8: roster changes by the component, and roster changes told to it."""

import pytest
from harness import ns
from harness.house import TapHouse
from harness.stanza import match
from harness.stream import fresh

ITEM = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"


def item(jid: str) -> str:
    """Return the path of one roster item."""
    return f"{ITEM}[@jid='{jid}']"


@pytest.mark.parametrize("subscription", ["from", "none"])
async def test_c3_stores_the_subscription_as_asked(tap: TapHouse, subscription: str) -> None:
    client = await tap.client()
    await client.roster()
    channel = tap.channel()
    answer = await tap.roster_set(client.bare, channel, subscription, name="Coven")
    assert answer["type"] == "result", answer.raw
    assert (answer["from"], answer["to"]) == (client.bare, tap.component)
    push = await client.expect(match("iq", type="set", has=item(channel)))
    for stanza in (push, await client.roster()):
        stored = stanza.need(item(channel))
        assert stored.get("subscription") == subscription
        assert stored.get("name") == "Coven"
        assert stored.get("ask") is None
    await tap.fence(client)
    tap.fake.none(match("presence"))


async def test_c3_changes_the_subscription_and_keeps_name_and_groups(tap: TapHouse) -> None:
    client = await tap.client()
    await client.roster()
    channel = await tap.joined(client.bare)
    renamed = await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{channel}' name='Mine'>"
        "<group>Work</group><group>Fun</group></item></query></iq>"
    )
    assert renamed["type"] == "result"
    await tap.roster_set(client.bare, channel, "from", "<group>Channels</group>", name="Theirs")
    stored = (await client.roster()).need(item(channel))
    assert stored.get("name") == "Mine"
    assert sorted(g.text or "" for g in stored) == ["Fun", "Work"]
    assert stored.get("subscription") == "from"


async def test_c3_uses_groups_for_a_new_item(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    await tap.roster_set(client.bare, channel, "none", "<group>Channels</group>")
    stored = (await client.roster()).need(item(channel))
    assert [g.text for g in stored] == ["Channels"]


async def test_a_user_renaming_the_item_keeps_the_subscription(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    await tap.roster_set(client.bare, channel, "from")
    await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{channel}' name='Mine'/>"
        "</query></iq>"
    )
    assert (await client.roster()).need(item(channel)).get("subscription") == "from"


async def test_c3_clears_a_pending_request(tap: TapHouse) -> None:
    client = await tap.client()
    await client.roster()
    channel = tap.channel()
    client.send(f"<presence to='{channel}' type='subscribe'/>")
    await client.expect(match("iq", type="set", has=f"{item(channel)}[@ask='subscribe']"))
    await tap.roster_set(client.bare, channel, "from")
    stored = (await client.roster()).need(item(channel))
    assert stored.get("ask") is None
    assert stored.get("subscription") == "from"


async def test_c3_removes(tap: TapHouse) -> None:
    client = await tap.client()
    await client.roster()
    channel = await tap.joined(client.bare)
    answer = await tap.roster_set(client.bare, channel, "remove")
    assert answer["type"] == "result", answer.raw
    await client.expect(match("iq", type="set", has=f"{item(channel)}[@subscription='remove']"))
    assert (await client.roster()).find(item(channel)) is None
    await tap.fence(client)
    tap.fake.none(match("presence"))


async def test_removing_what_is_not_there_succeeds(tap: TapHouse) -> None:
    client = await tap.client()
    assert (await tap.roster_set(client.bare, tap.channel(), "remove"))["type"] == "result"


async def test_c3_gets_the_whole_roster(tap: TapHouse) -> None:
    account = await tap.user()
    channels = [await tap.joined(account.jid) for _ in range(3)]
    answer = await tap.link.iq(
        f"<iq type='get' from='{tap.component}' to='{account.jid}'>"
        f"<query xmlns='{ns.ROSTER}'/></iq>"
    )
    assert answer["type"] == "result", answer.raw
    assert sorted(e.get("jid", "") for e in answer.all(ITEM)) == sorted(channels)
    assert {e.get("subscription") for e in answer.all(ITEM)} == {"none"}


@pytest.mark.parametrize("what", ["get", "set"])
async def test_c3_on_an_unknown_account_is_item_not_found(tap: TapHouse, what: str) -> None:
    nobody = f"nobody-{fresh()}@{tap.domain}"
    if what == "set":
        answer = await tap.roster_set(nobody, tap.channel())
    else:
        answer = await tap.link.iq(
            f"<iq type='get' from='{tap.component}' to='{nobody}'><query xmlns='{ns.ROSTER}'/></iq>"
        )
    assert answer["type"] == "error"
    assert answer.condition == "item-not-found"


@pytest.mark.abuse(10)
async def test_another_component_has_no_power_over_rosters(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    tap.stranger.send(
        f"<iq type='set' id='evil' from='{tap.stranger.jid}' to='{client.bare}'>"
        f"<query xmlns='{ns.ROSTER}'><item jid='{channel}' subscription='from'/></query></iq>"
    )
    await tap.stranger.fence()
    assert (await client.roster()).find(item(channel)) is None
    tap.stranger.none(match("iq", id="evil", type="result"))


async def changes(tap: TapHouse, bare: str, jid: str) -> list[str | None]:
    """Return the subscription of each T8 change of one item, in order."""
    await tap.fence()
    return [
        stanza.need(item(jid)).get("subscription")
        for stanza in tap.link.inbox.matching(
            match("iq", type="set", from_=bare, to=tap.component, has=item(jid))
        )
    ]


async def test_t8_tells_changes_made_by_c3(tap: TapHouse) -> None:
    account = await tap.user()
    channel = tap.channel()
    for subscription in ("none", "from", "remove"):
        await tap.roster_set(account.jid, channel, subscription)
    assert await changes(tap, account.jid, channel) == ["none", "from", "remove"]


async def test_t8_tells_changes_made_by_the_user(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    for attributes in ("", " name='n'", " subscription='remove'"):
        answer = await client.iq(
            f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{channel}'{attributes}/>"
            "</query></iq>"
        )
        assert answer["type"] == "result"
    assert await changes(tap, client.bare, channel) == ["none", "none", "remove"]


async def test_t8_has_exactly_one_item(tap: TapHouse) -> None:
    account = await tap.user()
    await tap.joined(account.jid)
    channel = await tap.joined(account.jid)
    await tap.fence()
    (change,) = tap.link.inbox.matching(match("iq", from_=account.jid, has=item(channel)))
    assert len(change.all(ITEM)) == 1


async def test_t8_is_about_mix_domains_only(tap: TapHouse) -> None:
    client = await tap.client()
    await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='friend@elsewhere.test'/>"
        "</query></iq>"
    )
    await tap.fence()
    tap.link.none(match("iq", from_=client.bare, type="set"))
