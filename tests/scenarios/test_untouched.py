"""Nothing of a session that never asked for MIX changes in any byte.

The same plain clients do the same on the same server twice, from an empty data folder:
without tap and component, and with both. What each of them was sent is compared, stanza
by stanza, after taking out what differs from one run to the next anyway: ids that the
server invents (each becomes its number in the order of appearance, so that a reference
still has to fit), time stamps, and the order of attributes, stream features,
disco entries and parts of a result set, which Lua and Erlang leave to chance.

What must differ, and is taken out by name: an operator has one more component
(disco#items), and the account offers MIX-PAM (disco#info, XEP-0405 §4).
"""

import difflib
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from itertools import count, groupby

import pytest
from harness import caps, ns
from harness.client import Account, RawClient, register
from harness.examples import replaced
from harness.server import Server
from harness.stack import Stack
from harness.stanza import Stanza, match

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
FreshStack = Callable[..., Awaitable[Stack]]
UNORDERED = {
    f"{{{ns.STREAM}}}features",
    f"{{{ns.SASL}}}mechanisms",
    f"{{{ns.DISCO_INFO}}}query",
    f"{{{ns.DISCO_ITEMS}}}query",
    "{http://jabber.org/protocol/rsm}set",
}
INVENTED = {
    (f"{{{ns.CLIENT}}}iq", "id"),
    (f"{{{ns.MAM}}}result", "id"),
    (f"{{{ns.SID}}}stanza-id", "id"),
    (f"{{{ns.SID}}}origin-id", "id"),
    (f"{{{ns.SM}}}enabled", "id"),
    (f"{{{ns.SM}}}resumed", "previd"),
    ("{urn:xmpp:mam:tmp}archived", "id"),
}
INVENTED_TEXTS = {"{http://jabber.org/protocol/rsm}first", "{http://jabber.org/protocol/rsm}last"}
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
PAM_FEATURES = (ns.PAM0, ns.PAM2, f"{ns.PAM2}#archive")


class Plain:
    """Writes one client's stanzas so that two runs can be compared."""

    def __init__(self, component: str) -> None:
        self._component = component
        self._ids: dict[str, str] = {}
        self._numbers = count(1)

    def transcript(self, client: RawClient) -> list[str]:
        """Return what a client received, one stanza each.

        Order is promised for what comes from one sender only (RFC 6120 §10.1).
        """
        stanzas: list[Stanza] = []
        for sorts, run in groupby(client.inbox.all, lambda s: s.name in ("message", "presence")):
            found = list(run)
            if sorts:
                found.sort(key=lambda s: (s["from"], s.name))
            stanzas += found
        return [self._write(stanza.xml) for stanza in stanzas]

    def _number(self, invented: str) -> str:
        if invented not in self._ids:
            self._ids[invented] = f"#{next(self._numbers)}"
        return self._ids[invented]

    def _write(self, element: ET.Element) -> str:
        attributes = "".join(
            f" {key}={self._value(element.tag, key, value)!r}"
            for key, value in sorted(element.items())
        )
        children = [self._write(e) + (e.tail or "") for e in element if not self._expected(e)]
        if element.tag in UNORDERED:
            children.sort()
        text = element.text or ""
        if element.tag in INVENTED_TEXTS:
            text = self._number(text)
        text = STAMP.sub("NOW", text)
        return f"<{element.tag}{attributes}>{text}{''.join(children)}</>"

    def _value(self, tag: str, key: str, value: str) -> str:
        return self._number(value) if (tag, key) in INVENTED else STAMP.sub("NOW", value)

    def _expected(self, element: ET.Element) -> bool:
        """Tell what an operator who installs mixpam asks for."""
        if element.tag == f"{{{ns.DISCO_ITEMS}}}item":
            return element.get("jid") == self._component
        feature = element.tag == f"{{{ns.DISCO_INFO}}}feature"
        return feature and element.get("var") in PAM_FEATURES


async def ask(client: RawClient, type_: str, inner: str, to: str = "") -> None:
    """Send an iq and wait for whatever answers it."""
    address = f" to='{to}'" if to else ""
    await client.iq(f"<iq type='{type_}'{address}>{inner}</iq>")


async def online(client: RawClient, *friends: RawClient) -> None:
    """Come online as the client that all of these users have, and see who is there."""
    client.features = caps.PLAIN
    client.presence(caps.element(caps.PLAIN))
    for friend in friends:
        await client.expect(match("presence", from_=friend.jid))
    await client.fence()
    if client.components:
        await client.fence()


async def befriend(one: RawClient, other: RawClient) -> None:
    """Have two users see each other's presence."""
    for asks, grants in ((one, other), (other, one)):
        asks.send(f"<presence type='subscribe' to='{grants.bare}'/>")
        await grants.expect(match("presence", type="subscribe"))
        grants.send(f"<presence type='subscribed' to='{asks.bare}'/>")
        await asks.expect(match("presence", from_=grants.jid, type=None))
        await asks.fence()
        await grants.fence()


async def rosters(client: RawClient) -> None:
    """Use the roster in every way."""
    answer = await client.roster(ver="")
    item = "<item jid='nurse@capulet.test' name='Nurse &amp; Co'><group>a</group></item>"
    await ask(client, "set", f"<query xmlns='{ns.ROSTER}'>{item}</query>")
    await client.fence()
    answer = await client.roster()
    await client.roster(ver=answer.need(f"{{{ns.ROSTER}}}query").get("ver"))
    push = match("iq", type="set", has=f"{{{ns.ROSTER}}}query")
    ver = client.inbox.matching(push)[-1].need(f"{{{ns.ROSTER}}}query").get("ver")
    await client.roster(ver=ver)
    await client.roster(ver="of long ago")
    item = "<item jid='nurse@capulet.test' subscription='remove'/>"
    await ask(client, "set", f"<query xmlns='{ns.ROSTER}'>{item}</query>")
    await ask(client, "set", f"<query xmlns='{ns.ROSTER}'/>")


async def talk(one: RawClient, other: RawClient, second: RawClient) -> None:
    """Exchange messages, with carbons to `second`, a device of `other`."""
    for client in (other, second):
        await ask(client, "set", f"<enable xmlns='{ns.CARBONS}'/>")
    for number, to in enumerate((other.bare, other.jid, second.jid)):
        one.send(
            f"<message type='chat' id='m{number}' to='{to}'><body>Wherefore &amp; {number}</body>"
            "<x xmlns='urn:example:0'>kept</x></message>"
        )
        await one.fence()
        await other.fence()
    other.send(f"<message id='back' to='{one.jid}'><body>art thou</body></message>")
    await one.expect(match("message", id="back"))
    one.send(f"<message type='groupchat' id='g' to='{other.bare}'><body>no room</body></message>")
    for client in (one, other, second):
        await client.fence()
    one.send(f"<message type='chat' id='lost' to='nobody@{one.account.domain}'><body/></message>")
    await one.fence()


async def look_around(client: RawClient, friend: RawClient) -> None:
    """Ask for all that clients ask for."""
    for to in (client.bare, client.account.domain, friend.bare):
        for query in (ns.DISCO_INFO, ns.DISCO_ITEMS):
            await ask(client, "get", f"<query xmlns='{query}'/>", to)
    await ask(client, "get", f"<query xmlns='{ns.DISCO_INFO}'/>", friend.jid)
    await ask(client, "get", f"<query xmlns='{ns.MAM}'/>", client.bare)
    await ask(client, "get", "<query xmlns='jabber:iq:unheard-of'/>", client.bare)
    await ask(client, "get", f"<ping xmlns='{ns.PING}'/>", client.bare)
    await ask(client, "get", "<vCard xmlns='vcard-temp'/>")
    publish = "<publish node='urn:example:node'><item id='i'><x xmlns='urn:example:0'/></item>"
    await ask(client, "set", f"<pubsub xmlns='{ns.PUBSUB}'>{publish}</publish></pubsub>")
    items = f"<pubsub xmlns='{ns.PUBSUB}'><items node='urn:example:node'/></pubsub>"
    await ask(client, "get", items, client.bare)
    await client.fence()


async def block(client: RawClient, enemy: RawClient, *, answered: bool) -> None:
    """Block a contact, be spared, and forgive; `answered` tells whether the contact learns."""
    await ask(client, "get", f"<blocklist xmlns='{ns.BLOCKING}'/>")
    item = f"<item jid='{enemy.bare}'/>"
    await ask(client, "set", f"<block xmlns='{ns.BLOCKING}'>{item}</block>")
    enemy.send(f"<message type='chat' id='spared' to='{client.bare}'><body>!</body></message>")
    if answered:
        await enemy.expect(match("message", id="spared", type="error"))
    await enemy.fence()
    await client.fence()
    await ask(client, "get", f"<blocklist xmlns='{ns.BLOCKING}'/>")
    await ask(client, "set", f"<unblock xmlns='{ns.BLOCKING}'>{item}</unblock>")
    await client.fence()
    await enemy.fence()


async def archive(client: RawClient, friend: RawClient) -> None:
    """Read the archive and its preferences."""
    await ask(client, "get", f"<prefs xmlns='{ns.MAM}'/>")
    form = (
        f"<x xmlns='{ns.DATA}' type='submit'><field var='FORM_TYPE' type='hidden'>"
        f"<value>{ns.MAM}</value></field><field var='with'><value>{friend.bare}</value></field></x>"
    )
    for inner in ("", form):
        await ask(client, "set", f"<query xmlns='{ns.MAM}' queryid='q'>{inner}</query>")


async def paused(account: Account, friend: RawClient, other: RawClient) -> RawClient:
    """Pause and resume a session, with messages meanwhile."""
    client = RawClient(account, "paused")
    await client.login(smacks=True)
    await online(client, friend, other)
    for each in (friend, other):
        await each.expect(match("presence", from_=client.jid))
        await each.fence()
    await client.cut()
    await friend.fence()
    friend.send(f"<message type='chat' id='slept' to='{client.jid}'><body>z</body></message>")
    await friend.fence()
    await client.resume()
    await client.expect(match("message", id="slept"))
    await client.fence()
    return client


async def play(server: Server, components: list[str]) -> dict[str, list[str]]:
    """Have two users do what users do, and return what each session was sent."""
    accounts = [await register(server.place, name=n) for n in ("nurse", "romeo", "juliet")]
    # The first to have that client is asked what it can do, by whomever; she is not compared.
    nurse = await RawClient(accounts[0], "desk").login()
    nurse.components = components
    await online(nurse)
    romeo = await RawClient(accounts[1], "garden").login()
    await romeo.roster()
    await online(romeo)
    juliet = await RawClient(accounts[2], "balcony").login()
    await rosters(juliet)
    await online(juliet)
    # Without presence: in which order two available sessions are told is left to chance.
    second = await RawClient(accounts[2], "chamber").login()
    await second.roster()
    await befriend(romeo, juliet)
    await juliet.fence()
    juliet.presence(caps.element(caps.PLAIN) + "<show>away</show><priority>-1</priority>")
    await romeo.expect(match("presence", has=f"{{{ns.CLIENT}}}show"))
    juliet.presence(caps.element(caps.PLAIN))
    await juliet.fence()
    romeo.send(f"<presence to='{juliet.bare}'><status>directed</status></presence>")
    await romeo.fence()
    await talk(romeo, juliet, second)
    await look_around(juliet, romeo)
    await block(juliet, romeo, answered=server.kind.name != "prosody-13")
    await archive(juliet, romeo)
    await second.close()
    await juliet.fence()
    asleep = await paused(accounts[2], romeo, juliet)
    await asleep.close()
    await romeo.fence()
    await juliet.close()
    await romeo.fence()
    romeo.send(f"<message type='chat' id='late' to='{juliet.bare}'><body>adieu</body></message>")
    await romeo.fence()
    back = await RawClient(accounts[2], "tomb").login()
    await online(back, romeo)
    await back.expect(match("message", id="late"))
    await back.fence()
    await romeo.fence()
    clients = {
        "romeo": romeo, "juliet": juliet, "second": second, "paused": asleep, "back": back
    }  # fmt: skip
    plain = Plain(f"mixpam.{server.domain}")
    said = {name: plain.transcript(client) for name, client in clients.items()}
    for client in (nurse, romeo, back):
        await client.close()
    return said


def strip(server: Server) -> None:
    """Take what mixpam needs out of a server's configuration."""
    if server.kind.software == "prosody":
        path = server.folder / "prosody.cfg.lua"
        text = path.read_text(encoding="utf-8")
        text = replaced(
            text,
            {'\t"mixpam_tap";\n': "", f'\tmixpam_component = "{server.component}"\n': ""},
        )
        text, found = re.subn(
            rf'^Component "{re.escape(server.component)}"\n(\t.*\n)+', "", text, flags=re.MULTILINE
        )
    else:
        path = server.folder / "ejabberd.yml"
        text = path.read_text(encoding="utf-8")
        text = replaced(text, {f"  mod_mixpam_tap:\n    component: {server.component}\n": ""})
        listener = r"^  # \[mixpam\] The mixpam component alone.*?(?=^\S)"
        text, found = re.subn(listener, "", text, flags=re.MULTILINE | re.DOTALL)
    assert found == 1
    settings = [line for line in text.splitlines() if line.strip()[:1] not in ("#", "-")]
    assert not [line for line in settings if "mixpam_tap" in line or server.component in line]
    path.write_text(text, encoding="utf-8")


async def without_mixpam(stack: Stack) -> None:
    """Start the stack's server anew, empty, without the tap and without a component."""
    server = stack.server
    await stack.mixpam.stop()
    await stack.fake.cut()
    await stack.stranger.cut()
    await server.stop()
    for folder in ("data", "mnesia"):
        shutil.rmtree(server.folder / folder, ignore_errors=True)
    write, ports = server.write, server.ports

    def plain() -> None:
        write()
        strip(server)

    # ejabberd had a listener for mixpam alone.
    gone = [5347] if server.kind.software == "ejabberd" else []
    server.write = plain  # type: ignore[method-assign]
    server.ports = lambda: [port for port in ports() if port not in gone]  # type: ignore[method-assign]
    await server.start()
    await stack.fake.connect()
    await stack.stranger.connect()


def compare(without: dict[str, list[str]], with_: dict[str, list[str]]) -> None:
    """Assert that all sessions were sent the same."""
    for name, expected in without.items():
        assert len(expected) > 3
        difference = list(
            difflib.unified_diff(expected, with_[name], "without", "with", lineterm="", n=1)
        )
        assert not difference, f"{name}:\n" + "\n".join(difference)


async def test_plain_clients_notice_nothing(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack()
    with_ = await play(stack.server, [stack.component])
    await without_mixpam(stack)
    compare(await play(stack.server, []), with_)


async def lonely(server: Server, component: str | None) -> list[str]:
    """Have a client without capabilities come and go, and return what it was sent."""
    client = await RawClient(await register(server.place, name="hermit"), "cell").login()
    await client.roster()
    client.presence()
    if component is not None:
        await client.expect(match("iq", type="get", from_=component))
    await client.fence()
    client.send("<presence><show>dnd</show></presence>")
    await client.fence()
    await client.fence()
    said = Plain(f"mixpam.{server.domain}").transcript(client)
    await client.close()
    return said


async def test_a_client_without_capabilities_is_asked_once(fresh_stack: FreshStack) -> None:
    """The one stanza more: whether it speaks MIX can only be asked of it (XEP-0369 §6)."""
    stack = await fresh_stack()
    with_ = await lonely(stack.server, stack.component)
    question = [line for line in with_ if f"'{stack.component}'" in line]
    assert len(question) == 1
    assert f"<{{{ns.DISCO_INFO}}}query></>" in question[0]
    await without_mixpam(stack)
    without = await lonely(stack.server, None)
    # Without the question, ids have other numbers.
    numbers = re.compile(r"'#\d+'")
    rest = [numbers.sub("#", line) for line in with_ if line != question[0]]
    assert rest == [numbers.sub("#", line) for line in without]
