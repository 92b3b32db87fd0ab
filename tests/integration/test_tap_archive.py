"""T1, C4: the server archives a joined channel's messages, once, before the component sees them."""

import pytest
from harness import ns
from harness.client import RawClient
from harness.house import TapHouse
from harness.stanza import Stanza, match
from harness.stream import fresh


def groupchat(channel: str, to: str, body: str, extra: str = "") -> str:
    """Return a channel's message."""
    return (
        f"<message from='{channel}' to='{to}' id='{fresh('m')}' type='groupchat'>"
        f"<body>{body}</body><mix xmlns='{ns.CORE1}'><nick>n</nick></mix>{extra}</message>"
    )


def own_id(stanza: Stanza, bare: str) -> str | None:
    """Return the id of `<stanza-id by=bare>`; fails when there are several."""
    ids = stanza.all(f"{{{ns.SID}}}stanza-id[@by='{bare}']")
    assert len(ids) <= 1, stanza.raw
    return ids[0].get("id") if ids else None


async def bodies(tap: TapHouse, client: RawClient, channel: str) -> list[str | None]:
    """Return the bodies in the user's archive for a channel."""
    return [stanza.body for stanza in await tap.archive(client, channel)]


@pytest.mark.req("A1", "A2")
@pytest.mark.parametrize("online", [True, False])
async def test_a_joined_channels_message_is_archived_and_carries_the_id(
    tap: TapHouse, online: bool
) -> None:
    client = await tap.client(online=online)
    channel = await tap.joined(client.bare)
    tap.fake.send(
        groupchat(
            channel, client.bare, "hi", f"<stanza-id xmlns='{ns.SID}' by='{channel}' id='c1'/>"
        )
    )
    live = await tap.link.expect(match("message", from_=channel, body="hi"))
    archive = await tap.archive(client, channel)
    assert [stanza.body for stanza in archive] == ["hi"]
    assert archive[0]["archive-id"]
    assert own_id(live, client.bare) == archive[0]["archive-id"]
    assert archive[0]["type"] == "groupchat"
    assert archive[0]["from"] == channel
    assert live.find(f"{{{ns.SID}}}stanza-id[@by='{channel}'][@id='c1']") is not None


@pytest.mark.req("A1")
async def test_nobody_at_home_is_archived_too(tap: TapHouse) -> None:
    account = await tap.user()
    channel = await tap.joined(account.jid)
    tap.fake.send(groupchat(channel, account.jid, "while away"))
    live = await tap.link.expect(match("message", from_=channel, body="while away"))
    client = await tap.client(account)
    archive = await tap.archive(client, channel)
    assert [s["archive-id"] for s in archive] == [own_id(live, account.jid)]
    # … and nothing waits in offline storage.
    await client.fence()
    client.none(match("message", from_=channel))


@pytest.mark.req("A4")
@pytest.mark.abuse(1)
async def test_a_channel_not_in_the_roster_cannot_write(tap: TapHouse) -> None:
    client = await tap.client()
    channel = tap.channel()
    await tap.joined(client.bare)
    tap.fake.send(groupchat(channel, client.bare, "spam"))
    live = await tap.link.expect(match("message", from_=channel, body="spam"))
    assert own_id(live, client.bare) is None
    assert await bodies(tap, client, channel) == []


@pytest.mark.parametrize("state", ["connected", "down"])
@pytest.mark.req("A1")
async def test_archiving_needs_no_component(tap: TapHouse, state: str) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await tap.down()
    if state == "connected":
        await tap.connected()
    tap.fake.send(groupchat(channel, client.bare, "in between"))
    await tap.fence(client)
    assert await bodies(tap, client, channel) == ["in between"]
    client.none(match("message", body="in between", type="groupchat"))
    tap.fake.none(match("message", type="error"))


async def test_the_item_of_the_channels_bare_jid_decides(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    tap.fake.send(groupchat(f"{channel}/p1", client.bare, "from a resource"))
    live = await tap.link.expect(match("message", body="from a resource"))
    assert own_id(live, client.bare)
    tap.fake.send(groupchat(f"p1#{channel}", client.bare, "of another"))
    live = await tap.link.expect(match("message", body="of another"))
    assert own_id(live, client.bare) is None
    assert await bodies(tap, client, channel) == ["from a resource"]


OTHER = {
    "event": f"><event xmlns='{ns.PUBSUB_EVENT}'><items node='{ns.NODES}info'/></event>",
    "chat": f"type='chat'><body>b</body><mix xmlns='{ns.CORE1}'/>",
    "untyped": f"><body>b</body><mix xmlns='{ns.CORE1}'/>",
}


@pytest.mark.parametrize("content", OTHER.values(), ids=OTHER)
async def test_only_groupchat_is_archived(tap: TapHouse, content: str) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    tap.fake.send(f"<message from='{channel}' to='{client.bare}' id='e1' {content}</message>")
    event = await tap.link.expect(match("message", id="e1"))
    assert own_id(event, client.bare) is None
    assert await bodies(tap, client, channel) == []


@pytest.mark.req("A3")
@pytest.mark.parametrize("hint", ["no-store", "no-permanent-store"])
async def test_hints_are_obeyed(tap: TapHouse, hint: str) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    tap.fake.send(groupchat(channel, client.bare, "secret", f"<{hint} xmlns='{ns.HINTS}'/>"))
    live = await tap.link.expect(match("message", body="secret"))
    assert own_id(live, client.bare) is None
    assert await bodies(tap, client, channel) == []


@pytest.mark.req("A3")
async def test_the_users_preference_never_is_obeyed(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await client.archive_preference("never")
    tap.fake.send(groupchat(channel, client.bare, "not kept"))
    live = await tap.link.expect(match("message", body="not kept"))
    assert own_id(live, client.bare) is None
    assert await bodies(tap, client, channel) == []


@pytest.mark.req("A3")
async def test_the_users_preference_always_for_one_channel_is_obeyed(tap: TapHouse) -> None:
    client = await tap.client()
    kept, other = await tap.joined(client.bare), await tap.joined(client.bare)
    await client.archive_preference("never", kept)
    for channel in (kept, other):
        tap.fake.send(groupchat(channel, client.bare, "text"))
        await tap.link.expect(match("message", from_=channel))
    assert await bodies(tap, client, kept) == ["text"]
    assert await bodies(tap, client, other) == []


async def test_handed_over_messages_are_archived_and_come_back(tap: TapHouse) -> None:
    """C4: what came while the join was under way."""
    client = await tap.client()
    channel = await tap.joined(client.bare)
    tap.link.send(
        groupchat(
            channel, client.bare, "early", f"<stanza-id xmlns='{ns.SID}' by='{channel}' id='c1'/>"
        )
    )
    back = await tap.link.expect(match("message", from_=channel, to=client.bare, body="early"))
    archive = await tap.archive(client, channel)
    assert [stanza["archive-id"] for stanza in archive] == [own_id(back, client.bare)]
    assert back.find(f"{{{ns.SID}}}stanza-id[@by='{channel}'][@id='c1']") is not None
    await tap.fence(client)
    client.none(match("message", body="early", type="groupchat"))
    assert tap.link.count(match("message", body="early")) == 1


async def test_what_goes_to_a_session_is_not_archived_again(tap: TapHouse) -> None:
    """C1 after T1: the archive has one copy, and the live one keeps its id."""
    client = await tap.client()
    channel = await tap.joined(client.bare)
    tap.fake.send(groupchat(channel, client.bare, "once"))
    live = await tap.link.expect(match("message", body="once"))
    tap.link.send(live.raw.replace(f"to='{client.bare}'", f"to='{client.jid}'"))
    copy = await client.expect(match("message", from_=channel, to=client.jid, body="once"))
    archive = await tap.archive(client, channel)
    assert [stanza["archive-id"] for stanza in archive] == [own_id(copy, client.bare)]


async def test_chat_copies_to_a_session_are_not_archived(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    for kind in ("chat", "normal", "headline", "groupchat"):
        tap.link.send(
            f"<message from='{channel}' to='{client.jid}' type='{kind}'>"
            f"<body>{kind}</body></message>"
        )
        await client.expect(match("message", from_=channel, body=kind))
    assert await bodies(tap, client, channel) == []
