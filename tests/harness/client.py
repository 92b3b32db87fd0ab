"""A small XMPP client that does only what the test tells it to."""

import base64
from dataclasses import dataclass

from harness import caps, ns
from harness.loopback import Place
from harness.stanza import Stanza, match
from harness.stream import Stream, fresh


@dataclass(frozen=True)
class Account:
    """A registered user: bare `jid`, `password`, and where the server is."""

    jid: str
    password: str
    place: Place

    @property
    def local(self) -> str:
        """Return the localpart."""
        return self.jid.partition("@")[0]

    @property
    def domain(self) -> str:
        """Return the domain."""
        return self.jid.partition("@")[2]


class RawClient(Stream):
    """A client session on one account."""

    def __init__(self, account: Account, resource: str) -> None:
        super().__init__(f"{account.jid}/{resource}")
        self.account = account
        self.resource = resource
        self.jid = f"{account.jid}/{resource}"
        self.bare = account.jid
        self.sm_id: str | None = None
        self.handled = 0
        self._acking = False
        # The answer to disco#info queries; None leaves them unanswered.
        self.features: tuple[str, ...] | None = None
        self.client_name = "test"
        self.components: list[str] = []

    async def _negotiate(self) -> Stanza:
        await self._connect(self.account.place.ip, 5222)
        await self._open(self.account.domain)
        await self.expect(match("features"))
        secret = f"\0{self.account.local}\0{self.account.password}".encode()
        self.send(
            f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>{base64.b64encode(secret).decode()}</auth>"
        )
        answer = await self.expect(lambda s: s.name in ("success", "failure"), 10)
        assert answer.name == "success", answer.raw
        await self._open(self.account.domain)
        return await self.expect(match("features"))

    async def login(self, *, smacks: bool = False) -> "RawClient":
        """Connect, authenticate with SASL PLAIN and bind; `smacks` enables XEP-0198."""
        await self._negotiate()
        bound = await self.iq(
            f"<iq type='set'><bind xmlns='{ns.BIND}'>"
            f"<resource>{self.resource}</resource></bind></iq>"
        )
        jid = bound.need(f"{{{ns.BIND}}}bind/{{{ns.BIND}}}jid").text
        assert jid == self.jid, f"asked for {self.jid}, bound to {jid}"
        if smacks:
            self.send(f"<enable xmlns='{ns.SM}' resume='true' max='5'/>")
            enabled = await self.expect(match("enabled"))
            self.sm_id = enabled["id"]
            self.handled = 0
            self._acking = True
        return self

    async def resume(self) -> Stanza:
        """Connect again and resume the XEP-0198 session; returns `<resumed/>`."""
        self._acking = False
        handled = self.handled
        await self._negotiate()
        self.handled = handled
        self._acking = True
        self.send(f"<resume xmlns='{ns.SM}' previd='{self.sm_id}' h='{handled}'/>")
        answer = await self.expect(lambda s: s.name in ("resumed", "failed"))
        assert answer.name == "resumed", answer.raw
        return answer

    def arrived(self, stanza: Stanza) -> None:
        """Count and acknowledge stanzas by XEP-0198, and record them."""
        if self._acking:
            if stanza.name == "r":
                self.send(f"<a xmlns='{ns.SM}' h='{self.handled}'/>")
                return
            if stanza.name in ("message", "presence", "iq"):
                self.handled += 1
        super().arrived(stanza)
        query = stanza.find(f"{{{ns.DISCO_INFO}}}query")
        if self.features is not None and query is not None and stanza["type"] == "get":
            inner = caps.info(self.features, self.client_name, query.get("node", ""))
            self.send(f"<iq type='result' id='{stanza['id']}' to='{stanza['from']}'>{inner}</iq>")

    def presence(self, children: str = "") -> None:
        """Broadcast available presence with `children`."""
        self.send(f"<presence>{children}</presence>")

    async def online(self, children: str = "") -> "RawClient":
        """Broadcast presence and wait until the server has taken it.

        If there is a component, its queries have been answered by then.
        """
        self.presence(children)
        await self.fence()
        if self.components:
            await self.fence()
        return self

    async def mix_online(
        self, features: tuple[str, ...] = caps.MIX, children: str = ""
    ) -> "RawClient":
        """Come online as a client with `features`, announced by XEP-0115."""
        self.features = features
        return await self.online(caps.element(features) + children)

    async def roster(self, *, annotate: bool = False, ver: str | None = None) -> Stanza:
        """Ask for the roster."""
        version = "" if ver is None else f" ver='{ver}'"
        inner = f"<annotate xmlns='{ns.MIX_ROSTER}'/>" if annotate else ""
        return await self.iq(
            f"<iq type='get'><query xmlns='{ns.ROSTER}'{version}>{inner}</query></iq>"
        )

    async def block(self, jid: str) -> None:
        """Block an address (XEP-0191)."""
        await self.set(f"<block xmlns='{ns.BLOCKING}'><item jid='{jid}'/></block>")

    async def archive_preference(self, default: str, *always: str) -> None:
        """Set archiving preferences (XEP-0313): `default`, and JIDs to archive `always`."""
        jids = "".join(f"<jid>{jid}</jid>" for jid in always)
        await self.set(
            f"<prefs xmlns='{ns.MAM}' default='{default}'><always>{jids}</always><never/></prefs>"
        )

    async def set(self, inner: str) -> None:
        """Send a request of type set to the own account; it must succeed."""
        answer = await self.iq(f"<iq type='set'>{inner}</iq>")
        assert answer["type"] == "result", answer.raw

    async def fence(self) -> None:
        """Make round trips to the server, and through each of `components` and back to it.

        Everything on its way to this session, also through a component, has arrived then.
        """
        last = [self.account.domain] if self.components else []
        for target in (self.account.domain, *self.components, *last):
            await self.iq(f"<iq type='get' to='{target}'><ping xmlns='{ns.PING}'/></iq>")


async def register(place: Place, domain: str | None = None, name: str | None = None) -> Account:
    """Make an account by in-band registration (XEP-0077) and return it."""
    account = Account(f"{name or fresh('u')}@{domain or place.domain}", "pw-of-a-test", place)
    stream = Stream(f"registration of {account.jid}")
    await stream._connect(place.ip, 5222)
    await stream._open(account.domain)
    await stream.expect(match("features"))
    answer = await stream.iq(
        f"<iq type='set' to='{account.domain}'><query xmlns='{ns.REGISTER}'>"
        f"<username>{account.local}</username><password>{account.password}</password>"
        "</query></iq>"
    )
    assert answer["type"] == "result", answer.raw
    await stream.cut()
    return account


async def unregister(client: RawClient) -> None:
    """Delete the account of `client` by in-band registration; the session ends with it."""
    client.send(
        f"<iq type='set' id='{fresh('gone')}'><query xmlns='{ns.REGISTER}'><remove/></query></iq>"
    )
    await client.expect(lambda s: s.name == "error" or s["type"] == "result", 10)
