"""What ejabberd alone has: lists of XEP-0016, and hooks that are passed over when they fail.

An odd stanza must not make one fail: what the tap keeps from clients would go to them.
"""

import re

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
    tap.drop_idle()
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


FROM_CHANNELS = [
    "<message type='groupchat'/>",
    "<message><mix xmlns='urn:xmpp:mix:core:1'/></message>",
    "<message type='groupchat'><stanza-id xmlns='urn:xmpp:sid:0'/></message>",
    "<message type='groupchat'><stanza-id xmlns='urn:xmpp:sid:0' by='@@'/></message>",
    "<message type='groupchat'><stanza-id xmlns='urn:xmpp:sid:0' by='' id=''/></message>",
    "<message><event xmlns='http://jabber.org/protocol/pubsub#event'/></message>",
    "<message><event xmlns='http://jabber.org/protocol/pubsub#event'><items/></event></message>",
    (
        "<message><event xmlns='http://jabber.org/protocol/pubsub#event'>x<items node=''/>"
        "</event></message>"
    ),
    "<message type='groupchat'><addresses xmlns='http://jabber.org/protocol/address'/></message>",
    "<message type='groupchat'><delay xmlns='urn:xmpp:delay' stamp='never'/></message>",
    "<presence type='probe'/>",
    "<presence type='error'/>",
    "<presence><priority>x</priority></presence>",
    "<presence type='subscribed'/>",
    "<presence type='unsubscribed'/>",
    "<iq type='result' id='mixpam:'/>",
    "<iq type='error' id='mixpam:x'><error/></iq>",
    "<iq type='result' id='x'><a xmlns='u:a'/><b xmlns='u:b'/></iq>",
    (
        "<iq type='result' id='x'><x xmlns='u:x'><user-preference xmlns='urn:xmpp:mix:anon:0'/>"
        "</x></iq>"
    ),
]

FROM_COMPONENT = [
    (
        "<message to='{domain}'><services xmlns='mixpam:tap:1'><service/><service jid='@'/>x"
        "</services></message>"
    ),
    "<message to='{domain}'><addresses xmlns='http://jabber.org/protocol/address'/></message>",
    (
        "<message to='{domain}'><addresses xmlns='http://jabber.org/protocol/address'>x<address/>"
        "<address jid='@'/><address jid='{bare}'/><address jid='a@elsewhere/x'/><other/>"
        "</addresses></message>"
    ),
    "<presence to='{domain}'/>",
    "<message to='{full}'/>",
    "<presence to='{full}' type='subscribe'/>",
    "<iq to='{full}' type='result' id='tap-1'><query xmlns='jabber:iq:roster'><item/></query></iq>",
    "<iq to='{full}' type='set' id='tap-1'><query xmlns='jabber:iq:roster'/></iq>",
    "<iq to='{bare}' type='set' id='c3'><query xmlns='jabber:iq:roster'/></iq>",
    "<iq to='{bare}' type='set' id='c3'><query xmlns='jabber:iq:roster'><item/></query></iq>",
    (
        "<iq to='{bare}' type='set' id='c3'><query xmlns='jabber:iq:roster'><item jid='@'/>"
        "</query></iq>"
    ),
    (
        "<iq to='{bare}' type='set' id='c3'><query xmlns='jabber:iq:roster'><item jid='a@b'/>"
        "<item jid='c@d'/></query></iq>"
    ),
    (
        "<iq to='{bare}' type='get' id='c3'><query xmlns='jabber:iq:roster'>"
        "<page xmlns='mixpam:tap:1' after='@@'/><page xmlns='mixpam:tap:1'/></query></iq>"
    ),
    "<message from='@' to='{bare}'/>",
]

FROM_CLIENTS = [
    "<iq type='set' id='i'><block xmlns='urn:xmpp:blocking'/></iq>",
    "<iq type='set' id='i'><block xmlns='urn:xmpp:blocking'><item/><item jid='@'/>x</block></iq>",
    "<iq type='set' id='i'><unblock xmlns='urn:xmpp:blocking'><item jid='@'/></unblock></iq>",
    "<iq type='set' id='i'><query xmlns='jabber:iq:privacy'/></iq>",
    "<iq type='get' id='i'><query xmlns='jabber:iq:roster'><annotate/>x</query></iq>",
    (
        "<iq type='get' id='i'><query xmlns='jabber:iq:roster'>"
        "<annotate xmlns='urn:xmpp:mix:roster:0'/><annotate xmlns='urn:xmpp:mix:roster:0'/>"
        "</query></iq>"
    ),
    "<iq type='set' id='i'><query xmlns='jabber:iq:roster'><item jid='{channel}'/></query></iq>",
    "<iq type='set' id='i' to='{bare}'><client-join xmlns='urn:xmpp:mix:pam:2'/></iq>",
    "<iq type='get' id='i' to='{channel}'><x xmlns='u:x'/></iq>",
    "<iq type='result' id='i' to='{channel}'/>",
    "<presence to='{channel}' type='subscribe'/>",
    "<presence to='{channel}'/>",
    "<presence to='p#{channel}/x' type='unavailable'/>",
    "<message to='{channel}'/>",
]


def addressed(stanza: str, **attributes: str) -> str:
    """Add attributes to a start tag, those that it has not."""
    tag = stanza.partition(">")[0]
    more = "".join(f" {k}='{v}'" for k, v in attributes.items() if f" {k}=" not in tag)
    return re.sub(r"^<\w+", lambda name: name[0] + more, stanza)


async def test_odd_stanzas_cost_nothing(tap: TapHouse) -> None:
    if tap.prosody:
        pytest.skip(ALONE)
    client, channel = await tap.client(), tap.channel()
    await tap.roster_set(client.bare, channel)
    started = len(tap.server.process.lines)
    names = {"domain": tap.domain, "bare": client.bare, "full": client.jid, "channel": channel}
    for sender in (channel, tap.fake.jid, f"p#{channel}", f"#{channel}", f"{channel}/x"):
        for stanza in FROM_CHANNELS:
            tap.fake.send(addressed(stanza.format(**names), **{"from": sender, "to": client.bare}))
    for stanza in FROM_COMPONENT:
        tap.link.send(addressed(stanza.format(**names), **{"from": tap.component}))
    for stanza in FROM_CLIENTS:
        client.send(stanza.format(**names))
    await tap.fence(client)
    await tap.up()
    tap.drop_idle()
    tap.fake.send(
        f"<message from='{channel}' to='{client.bare}' type='groupchat' id='last'><body>x</body>"
        "</message>"
    )
    await tap.link.expect(match("message", id="last"))
    said = "\n".join(tap.server.process.lines[started:])
    for word in ("mod_mixpam_tap", "crash", "[error]"):
        assert word not in said, said
