"""Members: whose messages are archived is what the component says by C3, not what a roster has.

The kinds: an item by the user's own hand makes no member, whenever and however it is set; the end
of an item by anybody's hand ends it; what is remembered outlives restarts and reloads, and no
account; who comes from an older tap keeps what the roster had.
"""

import pytest
from harness import ns
from harness.client import RawClient, register, unregister
from harness.house import TapHouse, event
from harness.stanza import match
from harness.stream import fresh


async def own_set(client: RawClient, jid: str, inner: str = "") -> None:
    """Change the client's own roster as a client does."""
    await client.set(f"<query xmlns='{ns.ROSTER}'><item jid='{jid}'{inner}/></query>")


async def said(tap: TapHouse, channel: str, to: str, body: str) -> None:
    """Have a channel say something, and wait until it is where it goes."""
    tap.fake.send(
        f"<message from='{channel}' to='{to}' id='{fresh('m')}' type='groupchat'>"
        f"<body>{body}</body></message>"
    )
    await tap.link.expect(match("message", from_=channel, body=body))


async def kept(tap: TapHouse, client: RawClient, channel: str) -> list[str | None]:
    """Return the bodies that the archive has of a channel."""
    return [stanza.body for stanza in await tap.archive(client, channel)]


@pytest.mark.req("A4")
async def test_an_item_of_the_users_own_hand_makes_no_member(tap: TapHouse) -> None:
    client = await tap.client()
    member = await tap.joined(client.bare)
    never = tap.channel()
    await own_set(client, never)
    await said(tap, never, client.bare, "spam")
    await said(tap, member, client.bare, "news")
    assert await kept(tap, client, never) == []
    assert await kept(tap, client, member) == ["news"]


@pytest.mark.req("A4")
async def test_nor_is_it_of_a_user_who_was_in_no_channel(tap: TapHouse) -> None:
    """Of whom nothing is remembered; and a second change finds the first in the roster."""
    client = await tap.client()
    never = tap.channel()
    await own_set(client, never)
    await own_set(client, never, " name='changed'")
    await own_set(client, tap.channel())
    await said(tap, never, client.bare, "spam")
    assert await kept(tap, client, never) == []


@pytest.mark.req("A4")
@pytest.mark.parametrize("by", ["component", "user"])
async def test_the_end_of_the_item_by_anybody_ends_it(tap: TapHouse, by: str) -> None:
    client = await tap.client()
    channel, other = await tap.joined(client.bare), await tap.joined(client.bare)
    await said(tap, channel, client.bare, "member")
    if by == "user":
        await own_set(client, channel, " subscription='remove'")
    else:
        await tap.roster_set(client.bare, channel, "remove")
    await said(tap, channel, client.bare, "no member")
    # Put there again by the user it is what any item of the user's is.
    await own_set(client, channel)
    await said(tap, channel, client.bare, "still none")
    await said(tap, other, client.bare, "other")
    assert await kept(tap, client, channel) == ["member"]
    assert await kept(tap, client, other) == ["other"]


@pytest.mark.req("A4")
async def test_c3_makes_a_member_of_what_the_user_had_put_there(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    await own_set(client, channel, " name='mine'")
    await said(tap, channel, client.bare, "before")
    answer = await tap.roster_set(client.bare, channel, "from")
    assert answer["type"] == "result", answer.raw
    await said(tap, channel, client.bare, "after")
    assert await kept(tap, client, channel) == ["after"]


@pytest.mark.req("A4")
async def test_a_users_change_of_a_members_item_changes_nothing(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await own_set(client, channel, " name='renamed'")
    await said(tap, channel, client.bare, "kept")
    assert await kept(tap, client, channel) == ["kept"]


@pytest.mark.req("A4")
async def test_members_are_members_while_nobody_is_at_home(tap: TapHouse) -> None:
    account = await tap.user()
    channel, never = await tap.joined(account.jid), tap.channel()
    client = await tap.client(account)
    await own_set(client, never)
    await client.close()
    tap.clients.remove(client)
    for one in (channel, never):
        await said(tap, one, account.jid, f"to {one}")
    again = await tap.client(account)
    assert await kept(tap, again, channel) == [f"to {channel}"]
    assert await kept(tap, again, never) == []


@pytest.mark.req("A4")
async def test_removed_while_the_component_is_away(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await tap.down()
    await own_set(client, channel, " subscription='remove'")
    await own_set(client, channel)
    await tap.up()
    await said(tap, channel, client.bare, "no member")
    assert await kept(tap, client, channel) == []


@pytest.mark.abuse(29)
async def test_who_registers_the_name_again_inherits_nothing(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await said(tap, channel, client.bare, "to the first")
    await unregister(client)
    await tap.link.expect(match("message", has=event("user-removed", jid=client.bare)))
    tap.clients.remove(client)
    await client.cut()
    account = await register(tap.server.place, name=client.account.local)
    heir = await tap.client(account)
    await own_set(heir, channel)
    await said(tap, channel, heir.bare, "to the heir")
    assert await kept(tap, heir, channel) == []


@pytest.mark.slow
@pytest.mark.req("A4")
async def test_members_outlive_the_server(tap: TapHouse) -> None:
    client = await tap.client()
    channel, never = await tap.joined(client.bare), tap.channel()
    await own_set(client, never)
    await tap.close_clients()
    for link in (tap.link, tap.fake, tap.stranger):
        await link.close()
    await tap.server.stop()
    await tap.server.start()
    await tap.fake.connect()
    await tap.stranger.connect()
    await tap.up()
    for one in (channel, never):
        await said(tap, one, client.bare, f"to {one}")
    again = await tap.client(client.account)
    assert await kept(tap, again, channel) == [f"to {channel}"]
    assert await kept(tap, again, never) == []
