"""Odd stanzas, from all who can send one: nothing raises in the tap, nothing behind it is lost.

The kinds: attributes that are missing, empty, huge or no address; children that are missing, in
other namespaces, or of other shapes than the contract's; the same by a client, a channel, a
stranger and the component. An error in a hook ends its stanza, and on some servers more: the log
must have none, and what comes next must arrive.
"""

from pathlib import Path

import pytest
from harness import ns
from harness.client import RawClient
from harness.house import TapHouse
from harness.stanza import match
from harness.stream import fresh

HUGE = "&quot;" * 1_000
"""Below what makes Debian's expat wait for more before it tells of the tag."""
JIDS = ["", " ", "@", "a@", "@b", "/", "a@b@c", "x" * 4000, "a@b/" + "r" * 2000, "é@ß/☃", HUGE]


def faults(log: Path) -> list[str]:
    """Return what the server's log has of errors in the tap's code."""
    signs = ("mixpam_tap.lua:", "crash", "badmatch", "_clause", "badarg", "exception")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [s for s in lines if "mixpam_tap" in s and any(sign in s for sign in signs)]


def of_a_channel(channel: str, to: str) -> list[str]:
    """Return what a channel service may send to a user."""
    event = f"<event xmlns='{ns.PUBSUB_EVENT}'>"
    return [
        f"<message from='{channel}' to='{to}'/>",
        f"<message from='{channel}' to='{to}' type='groupchat'/>",
        f"<message from='{channel}' to='{to}' type=''><x xmlns=''/></message>",
        f"<message from='{channel}' to='{to}'>{event}</event></message>",
        f"<message from='{channel}' to='{to}'>{event}<items/></event></message>",
        f"<message from='{channel}' to='{to}'>{event}<items node=''/></event></message>",
        f"<message from='{channel}' to='{to}'>{event}<items node='{HUGE}'/></event></message>",
        f"<message from='{channel}' to='{to}'><x xmlns='urn:xmpp:mix:'/></message>",
        f"<presence from='{channel}' to='{to}' type='{HUGE}'/>",
        f"<presence from='{channel}' to='{to}' id='{HUGE}'/>",
        f"<presence from='#{channel}' to='{to}'/>",
        f"<presence from='p#{channel}/{'r' * 1000}' to='{to}'/>",
        f"<iq from='{channel}' to='{to}'/>",
        f"<iq from='{channel}' to='{to}' type='result'/>",
        f"<iq from='{channel}' to='{to}' type='error' id='x'/>",
        f"<iq from='{channel}' to='{to}' type='result' id='{HUGE}'/>",
        f"<iq from='{channel}' to='{to}' type='get' id='g'/>",
        f"<iq from='{channel}' to='{to}' type='set' id='s'><x xmlns='{ns.PAM2}'/></iq>",
        f"<iq from='{channel}' to='{to}' type='set'><x xmlns='{ns.PAM2}'/><y xmlns='urn:e'/></iq>",
        f"<iq from='{channel}' to='{to}/nobody' type='result' id='mixpam-roster-x-1'/>",
        *(
            f"<message from='{channel}' to='{to}' type='groupchat'><body>b</body>"
            f"<stanza-id xmlns='{ns.SID}' by='{jid}' id='i'/><stanza-id xmlns='{ns.SID}'/>"
            "</message>"
            for jid in JIDS
        ),
        *(f"<presence from='{channel}' to='{to}'><x a='{jid}'/></presence>" for jid in JIDS),
    ]


def of_a_client(client: RawClient, channel: str) -> list[str]:
    """Return what a client may send to its own account and to a channel."""
    own = f"<iq type='set' id='%s' to='{client.bare}'>"
    block = f"<iq type='set' id='%s'><block xmlns='{ns.BLOCKING}'>"
    return [
        f"<iq type='get' id='%s'><query xmlns='{ns.ROSTER}'><annotate/></query></iq>",
        (
            f"<iq type='get' id='%s'><query xmlns='{ns.ROSTER}' ver='{HUGE}'>"
            f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
        ),
        f"{own}<x xmlns='{ns.PAM2}'/></iq>",
        f"{own}<x xmlns='{ns.PAM2}{HUGE}'/></iq>",
        f"{own}<query xmlns='{ns.ROSTER}'/></iq>",
        f"{own}<query xmlns='{ns.ROSTER}'><item/></query></iq>",
        (
            f"{own}<query xmlns='{ns.ROSTER}'><item jid='{channel}'>"
            f"<channel xmlns='{ns.MIX_ROSTER}'/></item></query></iq>"
        ),
        f"{block}<item/></block></iq>",
        f"{block}</block></iq>",
        f"{block}<item jid='{channel}'/><item jid='{channel}'/></block></iq>",
        f"<iq type='set' id='%s'><unblock xmlns='{ns.BLOCKING}'><item/></unblock></iq>",
        f"<iq type='set' id='%s'><unblock xmlns='{ns.BLOCKING}'/></iq>",
        f"<presence id='%s' to='{channel}'/>",
        f"<presence id='%s' to='{channel}' type='unavailable'/>",
        f"<iq type='get' id='%s' to='{channel}'><user-preference xmlns='{ns.MIX_ANON}'/></iq>",
        *(f"{block}<item jid='{jid}'/></block></iq>" for jid in JIDS[:8]),
        *(f"{own}<query xmlns='{ns.ROSTER}'><item jid='{jid}'/></query></iq>" for jid in JIDS[:10]),
    ]


def of_the_component(tap: TapHouse, client: RawClient, channel: str) -> list[str]:
    """Return what only a broken component sends."""
    me, it, full, bare = tap.component, tap.domain, client.jid, client.bare
    roster = f"<iq type='set' id='c' from='{me}' to='{bare}'><query xmlns='{ns.ROSTER}'>"
    services = f"<services xmlns='{ns.TAP}'>"
    addresses = f"<addresses xmlns='{ns.ADDRESS}'>"
    return [
        f"<message from='{me}' to='{it}'><services xmlns='{ns.TAP}'/></message>",
        f"<message from='{me}' to='{it}'>{services}<service/></services></message>",
        f"<message from='{me}' to='{it}'>{services}<service jid='{HUGE}'/></services></message>",
        f"<message from='{channel}' to='{it}'>{addresses}</addresses></message>",
        (
            f"<message from='{channel}' to='{it}'>{addresses}<address/><x/>"
            f"<address jid='{HUGE}'/><address jid='{full}' id='{HUGE}'/></addresses></message>"
        ),
        f"{roster}</query></iq>",
        f"{roster}<item/></query></iq>",
        f"{roster}<item jid='{channel}'/></query></iq>",
        f"{roster}<item jid='{channel}/r' subscription='none'/></query></iq>",
        f"{roster}<item jid='{bare}' subscription='none'/></query></iq>",
        (
            f"{roster}<item jid='{channel}' subscription='none'><group/><x xmlns='urn:e'/></item>"
            "</query></iq>"
        ),
        (
            f"<iq type='get' id='c' from='{me}' to='{bare}'><query xmlns='{ns.ROSTER}'>"
            f"<page xmlns='{ns.TAP}' after='{HUGE}'/></query></iq>"
        ),
        (
            f"<iq type='get' id='c' from='{me}' to='nobody@{it}'><query xmlns='{ns.ROSTER}'>"
            f"<page xmlns='{ns.TAP}'/></query></iq>"
        ),
        f"<iq type='result' id='mixpam-roster-x-1' from='{bare}' to='{full}'/>",
        f"<iq type='result' from='{bare}' to='{full}'/>",
        (
            f"<presence from='{full}' to='{channel}' type='unavailable'><blocked xmlns='{ns.TAP}'/>"
            f"<blocked xmlns='{ns.TAP}'/><blocked/></presence>"
        ),
        f"<presence from='nobody@{it}/r' to='{channel}'/>",
        f"<iq type='get' from='{bare}' to='{channel}'/>",
    ]


async def all_goes_on(tap: TapHouse, client: RawClient, before: list[str]) -> None:
    """Assert that nothing has raised, and that what comes now goes through."""
    channel = tap.channel()
    tap.fake.send(
        f"<message from='{channel}' to='{client.bare}' type='groupchat'><body>on</body></message>"
    )
    await tap.link.expect(match("message", from_=channel, body="on"))
    tap.link.send(f"<message from='{channel}' to='{client.jid}'><body>on</body></message>")
    await client.expect(match("message", from_=channel, body="on"))
    assert faults(tap.server.folder / "server.log")[len(before) :] == []


@pytest.mark.parametrize("who", ["fake", "stranger"])
async def test_odd_stanzas_of_channels_and_strangers(tap: TapHouse, who: str) -> None:
    client = await tap.client()
    before = faults(tap.server.folder / "server.log")
    stream = tap.fake if who == "fake" else tap.stranger
    for stanza in of_a_channel(f"{fresh('chan')}@{stream.jid}", client.bare):
        stream.send(stanza)
        await stream.fence()
    await all_goes_on(tap, client, before)


async def test_odd_stanzas_of_a_client(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    before = faults(tap.server.folder / "server.log")
    for stanza in of_a_client(client, channel):
        client.send(stanza.replace("%s", fresh("odd"), 1))
        await client.fence()
    await client.set(f"<unblock xmlns='{ns.BLOCKING}'/>")
    await all_goes_on(tap, client, before)


async def test_odd_stanzas_of_the_component(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    before = faults(tap.server.folder / "server.log")
    for stanza in of_the_component(tap, client, channel):
        tap.link.send(stanza)
        await tap.link.fence()
    await all_goes_on(tap, client, before)
