"""A user's device: slixmpp, as real users run it, with an inbox beside it."""

import asyncio
import xml.etree.ElementTree as ET
from typing import Any

import slixmpp

from harness import ns
from harness.client import Account
from harness.inbox import Inbox, Matcher
from harness.stanza import Stanza, match, parse
from harness.stream import fresh

MIX_PLUGINS = ("xep_0369", "xep_0403", "xep_0404", "xep_0405")
BASE_PLUGINS = ("xep_0030", "xep_0115", "xep_0199")


class Recording(slixmpp.ClientXMPP):
    """slixmpp's client, which also records each stanza as received."""

    inbox: Inbox

    def _spawn_event(self, xml: ET.Element) -> None:
        raw = ET.tostring(xml, encoding="unicode")
        self.inbox.put(Stanza(raw, parse(raw)))
        super()._spawn_event(xml)


class Device:
    """One online resource of an account; `xmpp` is the slixmpp client itself."""

    def __init__(self, account: Account, resource: str, *, mix: bool = True) -> None:
        self.account = account
        self.bare = account.jid
        self.jid = f"{account.jid}/{resource}"
        self.mix = mix
        self.xmpp = Recording(self.jid, account.password)
        self.xmpp.inbox = Inbox(self.jid)
        self.inbox = self.xmpp.inbox
        self.components: list[str] = []
        self.xmpp.enable_direct_tls = False
        self.xmpp.enable_starttls = False
        self.xmpp.enable_plaintext = True
        self.xmpp.plugin["feature_mechanisms"].config["unencrypted_scram"] = True
        self.xmpp.plugin["feature_mechanisms"].config["unencrypted_plain"] = True
        for plugin in BASE_PLUGINS + (MIX_PLUGINS if mix else ()):
            self.xmpp.register_plugin(plugin)

    @property
    def pam(self) -> Any:
        """Return slixmpp's XEP-0405 plugin."""
        return self.xmpp.plugin["xep_0405"]

    async def online(self, children: str = "") -> "Device":
        """Log in, ask for the roster (annotated on a MIX device) and broadcast presence.

        Returns when the server, and every component in `components`, has processed it.
        """
        started = asyncio.get_running_loop().create_future()
        self.xmpp.add_event_handler("session_start", lambda _: started.set_result(None))
        self.xmpp.connect(self.account.place.ip, 5222)
        await asyncio.wait_for(started, 15)
        if self.mix:
            await self.pam.get_mix_roster(ito=self.bare)
        else:
            await self.xmpp.get_roster()
        self.presence(children)
        # Twice: slixmpp answers the component's disco#info query in a task of its own.
        await self.fence()
        await self.fence()
        return self

    def presence(self, children: str = "") -> None:
        """Broadcast available presence; slixmpp adds its capabilities."""
        presence = self.xmpp.make_presence()
        for child in parse(f"<presence>{children}</presence>"):
            presence.append(child)
        presence.send()

    def send(self, xml: str) -> None:
        """Send a stanza as it is written."""
        self.xmpp.send_raw(xml)

    async def iq(self, xml: str, within: float = 10.0) -> Stanza:
        """Send an `<iq/>` as it is written, with an id, and return what answers it."""
        id_ = fresh("iq")
        self.send(xml.replace("<iq", f"<iq id='{id_}'", 1))
        return await self.expect(
            match("iq", id=id_, test=lambda s: s["type"] in ("result", "error")), within
        )

    async def expect(self, matcher: Matcher, within: float = 5.0) -> Stanza:
        """Return the first matching stanza not yet expected; see `Inbox.expect`."""
        return await self.inbox.expect(matcher, within)

    def count(self, matcher: Matcher) -> int:
        """Return how many stanzas ever received match."""
        return self.inbox.count(matcher)

    def none(self, matcher: Matcher) -> None:
        """Assert that nothing received matches. Ask for a fence first."""
        self.inbox.none(matcher)

    async def fence(self) -> None:
        """Make round trips to the server and through the component, and to the server again.

        Everything on its way to this device, also through the component, has arrived then.
        """
        for target in (self.account.domain, *self.components, self.account.domain):
            await self.iq(f"<iq type='get' to='{target}'><ping xmlns='{ns.PING}'/></iq>")

    async def close(self) -> None:
        """Log out."""
        if self.xmpp.is_connected():
            await self.xmpp.disconnect(wait=3.0)
        self.inbox.close("the device is offline")

    def cut(self) -> None:
        """Break the connection without closing the stream."""
        self.xmpp.abort()
