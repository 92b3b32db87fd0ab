"""The taps' test stage: a real server with the tap, and a scripted component on the link."""

from harness import ns
from harness.client import Account, RawClient, register
from harness.component import Link
from harness.ejabberd import Ejabberd
from harness.loopback import Block
from harness.machines import KINDS
from harness.prosody import Prosody
from harness.server import Server
from harness.stanza import Stanza, match
from harness.stream import fresh
from harness.transports import make_client

SOFTWARE = {"prosody": Prosody, "ejabberd": Ejabberd}


def make_server(kind: str, block: Block, *, tap: bool = True) -> Server:
    """Return an instance of `kind`, not started."""
    return SOFTWARE[KINDS[kind].software](KINDS[kind], block, tap=tap)


def event(name: str, **attributes: str) -> str:
    """Return the path of a T7 event, for `match(has=…)`."""
    conditions = "".join(f"[@{key}='{value}']" for key, value in attributes.items())
    return f"{{{ns.TAP}}}{name}{conditions}"


class TapHouse:
    """Server and tap, with `link` as the component and `fake` as a channel service."""

    def __init__(self, kind: str, block: Block, server: Server | None = None) -> None:
        self.server = server or make_server(kind, block)
        self.kind = kind
        self.domain = self.server.domain
        self.component = self.server.component
        self.link: Link = self.server.link()
        self.fake: Link = self.server.link(self.server.fake)
        self.stranger: Link = self.server.link(self.server.stranger)
        self.clients: list[RawClient] = []

    @property
    def prosody(self) -> bool:
        """Tell whether the server is Prosody."""
        return self.server.kind.software == "prosody"

    async def start(self) -> "TapHouse":
        """Start the server and connect all three components."""
        await self.server.start()
        await self.fake.connect()
        await self.stranger.connect()
        await self.up()
        return self

    async def stop(self) -> None:
        """Stop everything."""
        await self.close_clients()
        for link in (self.link, self.fake, self.stranger):
            await link.cut()
        await self.server.stop()

    async def connected(self) -> None:
        """Bring the domain to the state *connected*: the replay has arrived."""
        if not self.link.connected:
            self.link = self.server.link()
            await self.link.connect()
            await self.link.expect(match("message", has=event("replayed")), 10)

    async def up(self) -> None:
        """Bring the domain to the state *up*, with `fake` as the only MIX domain."""
        await self.connected()
        await self.services(self.fake.jid, complete=True)

    async def services(self, *domains: str, complete: bool, multicast: str = "") -> None:
        """Send MIX domains to the tap (C5) and wait until it has them."""
        flag = " complete='true'" if complete else ""
        flag += f" multicast='{multicast}'" if multicast else ""
        self.link.send(
            f"<message from='{self.component}' to='{self.domain}'>"
            f"<services xmlns='{ns.TAP}'{flag}>"
            + "".join(f"<service jid='{domain}'/>" for domain in domains)
            + "</services></message>"
        )
        await self.link.fence()

    async def down(self) -> None:
        """Break the component's link and wait until the server has noticed."""
        await self.link.close()

    def drop_idle(self) -> None:
        """Forget all stanzas received so far."""
        for stream in (self.link, self.fake, self.stranger, *self.clients):
            stream.inbox.clear()

    async def user(self) -> Account:
        """Make a fresh account."""
        return await register(self.server.place)

    async def client(
        self,
        account: Account | None = None,
        *,
        online: bool = True,
        smacks: bool = False,
        transport: str = "tcp",
    ) -> RawClient:
        """Log in to `account` or a fresh one; `online` broadcasts presence."""
        client = make_client(transport, account or await self.user(), fresh("r"))
        await client.login(smacks=smacks)
        self.clients.append(client)
        if online:
            await client.online()
        return client

    async def hibernated(self) -> RawClient:
        """Log in to a fresh account, and break the connection of the resumable session."""
        client = await self.client(smacks=True)
        await client.fence()
        await client.cut()
        await self.link.expect(match("message", has=event("hibernated", jid=client.jid)))
        return client

    async def close_clients(self) -> None:
        """End every session the test has opened."""
        while self.clients:
            await self.clients.pop().close()

    async def fence(self, *streams: RawClient | Link) -> None:
        """Make round trips from channel to component to clients: nothing is on its way then."""
        for stream in (self.fake, self.link, self.fake, *streams):
            if stream.connected:
                await stream.fence()

    def channel(self) -> str:
        """Return the address of an unused channel."""
        return f"{fresh('chan')}@{self.fake.jid}"

    async def roster_set(
        self, account: str, jid: str, subscription: str = "none", inner: str = "", name: str = ""
    ) -> Stanza:
        """Change an account's roster by C3 and return the answer."""
        label = f" name='{name}'" if name else ""
        return await self.link.iq(
            f"<iq type='set' from='{self.component}' to='{account}'><query xmlns='{ns.ROSTER}'>"
            f"<item jid='{jid}' subscription='{subscription}'{label}>{inner}</item>"
            "</query></iq>"
        )

    async def joined(self, account: str) -> str:
        """Put a fresh channel into the account's roster and return its address."""
        channel = self.channel()
        answer = await self.roster_set(account, channel)
        assert answer["type"] == "result", answer.raw
        return channel

    async def archive(self, client: RawClient, with_: str) -> list[Stanza]:
        """Return the user's archived messages exchanged with `with_`, oldest first.

        Each has the `<result/>`'s id as attribute ``archive-id`` of its `xml`.
        """
        query = fresh("mam")
        answer = await client.iq(
            f"<iq type='set'><query xmlns='{ns.MAM}' queryid='{query}'>"
            f"<x xmlns='{ns.DATA}' type='submit'><field var='FORM_TYPE' type='hidden'>"
            f"<value>{ns.MAM}</value></field><field var='with'><value>{with_}</value></field>"
            "</x></query></iq>"
        )
        assert answer["type"] == "result", answer.raw
        return archived(client, query)


def archived(client: RawClient, query: str) -> list[Stanza]:
    """Return the messages that answered the archive query with queryid `query`."""
    path = f"{{{ns.MAM}}}result[@queryid='{query}']"
    found = []
    for stanza in client.inbox.matching(match("message", has=path)):
        result = stanza.need(path)
        message = result.find(f"{{{ns.FORWARD}}}forwarded/{{{ns.CLIENT}}}message")
        assert message is not None, stanza.raw
        message.set("archive-id", result.get("id", ""))
        found.append(Stanza(stanza.raw, message))
    return found
