"""What ejabberd alone has: lists of XEP-0016, also those that one session uses."""

import pytest
from harness import ns
from harness.client import RawClient
from harness.house import TapHouse
from harness.stanza import match

ALONE = "ejabberd has the lists of XEP-0016"


async def with_list(client: RawClient, jid: str, inner: str, use: str) -> None:
    """Make a list that denies something towards an address, and use it."""
    await client.set(
        "<query xmlns='jabber:iq:privacy'><list name='l'>"
        f"<item type='jid' value='{jid}' action='deny' order='1'>{inner}</item></list></query>"
    )
    await client.set(f"<query xmlns='jabber:iq:privacy'><{use} name='l'/></query>")


async def reaches(tap: TapHouse, who: str, channel: str) -> bool:
    """Tell whether presence of the component in a user's name reaches a channel."""
    tap.calm()
    tap.link.send(f"<presence from='{who}' to='{channel}'/>")
    await tap.fence()
    return bool(tap.fake.count(match("presence", from_=who, to=channel)))


async def test_the_list_that_a_session_uses_is_its_own(tap: TapHouse) -> None:
    if tap.prosody:
        pytest.skip(ALONE)
    client = await tap.client()
    other = await tap.client(client.account)
    channel = await tap.joined(client.bare)
    await with_list(client, channel, "", "active")
    assert not await reaches(tap, client.jid, channel)
    assert await reaches(tap, other.jid, channel)
    await client.set("<query xmlns='jabber:iq:privacy'><active/></query>")
    assert await reaches(tap, client.jid, channel)


async def test_the_default_list_is_everybodys(tap: TapHouse) -> None:
    if tap.prosody:
        pytest.skip(ALONE)
    client = await tap.client()
    channel = await tap.joined(client.bare)
    await with_list(client, channel, "<presence-out/>", "default")
    assert not await reaches(tap, client.jid, channel)
    tap.link.send(
        f"<iq type='get' id='i1' from='{client.bare}' to='{channel}'><q xmlns='{ns.PING}'/></iq>"
    )
    await tap.fake.expect(match("iq", id="i1"))
