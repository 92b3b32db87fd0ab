"""Everything together: Redis, a server with the tap, the component, channel services."""

import asyncio
from collections.abc import Awaitable, Callable

from harness import ns
from harness.client import Account, RawClient, register
from harness.device import Device
from harness.ejabberd import Ejabberd
from harness.fake import FakeService, Script
from harness.house import archived, make_server
from harness.loopback import Block
from harness.machines import KINDS, host_suite
from harness.mixpam import Mixpam
from harness.redis import Redis
from harness.stanza import Stanza
from harness.stream import fresh
from harness.transports import make_client

#: The fixture `fresh_stack`: call it with component settings (MIXPAM_…) as keywords.
FreshStack = Callable[..., Awaitable["Stack"]]


def mix_kind() -> str:
    """Return the ejabberd that serves channels to Prosody's users: the host's if it can."""
    for kind in KINDS.values():
        if kind.software == "ejabberd" and kind.suite == host_suite():
            return kind.name
    return "ejabberd-24.12"


class MixHost:
    """An ejabberd with nothing but mod_mix, which Prosody reaches by s2s."""

    def __init__(self, block: Block) -> None:
        self.server = Ejabberd(KINDS[mix_kind()], block, tap=False)

    async def start(self) -> "MixHost":
        """Start the server."""
        await self.server.start()
        return self

    async def stop(self) -> None:
        """Stop the server."""
        await self.server.stop()


class Stack:
    """One whole system on one kind of server.

    `mix_host` lends a Prosody stack its real channels; an ejabberd stack has its own.
    `settings` are further environment variables of the component.
    """

    def __init__(
        self, kind: str, block: Block, mix_host: MixHost | None = None, **settings: str
    ) -> None:
        self.kind = kind
        self.server = make_server(kind, block)
        self.domain = self.server.domain
        self.component = self.server.component
        self.redis = Redis(block)
        self.mixpam = Mixpam(self.server, self.redis.url, **settings)
        self.fake = FakeService(self.server.link(self.server.fake))
        self.stranger = self.server.link(self.server.stranger)
        host = self.server if isinstance(self.server, Ejabberd) else None
        self.mix = host or (mix_host.server if mix_host else None)
        self.devices: list[Device | RawClient] = []
        self.transport, self.resumable = "tcp", False

    async def start(self, *, component: bool = True) -> "Stack":
        """Start all parts, the component last and only if asked."""
        await self.redis.start()
        await self.server.start()
        await self.fake.connect()
        await self.stranger.connect()
        if component:
            await self.mixpam.start()
        return self

    async def stop(self) -> None:
        """Stop all parts."""
        await self.logout()
        await self.mixpam.stop()
        await self.fake.cut()
        await self.stranger.cut()
        await self.server.stop()
        await self.redis.stop()

    @property
    def folders(self) -> list:  # type: ignore[type-arg]
        """Return the folders with data and logs of all parts."""
        return [self.server.folder, self.redis.folder, self.mixpam.folder]

    async def logout(self) -> None:
        """End every session that is open."""
        while self.devices:
            await self.devices.pop().close()

    async def user(self) -> Account:
        """Make a fresh account."""
        return await register(self.server.place)

    async def device(self, account: Account, resource: str = "", *, mix: bool = True) -> Device:
        """Return an online slixmpp device, with the MIX plugins if `mix`."""
        device = Device(account, resource or fresh("dev"), mix=mix)
        device.components = [self.component] if self.mixpam.process.running else []
        self.devices.append(device)
        return await device.online()

    async def raw(
        self,
        account: Account,
        resource: str = "",
        *,
        smacks: bool = False,
    ) -> RawClient:
        """Return a hand-driven client that is logged in and has sent no presence.

        It travels as `transport` says, with XEP-0198 where `smacks` or `resumable` says so.
        """
        client = make_client(self.transport, account, resource or fresh("raw"))
        await client.login(smacks=smacks or self.resumable)
        client.components = [self.component] if self.mixpam.process.running else []
        self.devices.append(client)
        return client

    async def channel(self) -> str:
        """Make a channel on real mod_mix and return its address."""
        assert self.mix is not None
        owner = RawClient(await register(self.mix.place), fresh("owner"))
        await owner.login()
        name = fresh("room")
        made = await owner.iq(
            f"<iq type='set' to='{self.mix.mix}'><create xmlns='{ns.CORE1}' channel='{name}'/></iq>"
        )
        assert made["type"] == "result", made.raw
        await owner.close()
        return f"{name}@{self.mix.mix}"

    async def join(
        self, device: Device | RawClient, channel: Script | str, nick: str = "n"
    ) -> Stanza:
        """Join as current clients do and return the result. Fails on an error."""
        jid = channel if isinstance(channel, str) else channel.jid
        answer = await device.iq(client_join(device.bare, jid, nick), 15)
        assert answer["type"] == "result", answer.raw
        return answer

    async def joined(self, device: Device | RawClient, **script: object) -> Script:
        """Join a fresh scripted channel and return it."""
        channel = self.fake.channel(**script)
        await self.join(device, channel)
        return channel

    async def settle(self, *devices: Device | RawClient) -> None:
        """Make round trips channel - server - component - devices: nothing is on its way then."""
        await self.fake.fence()
        # The tap may hold a batch back for a few milliseconds; a ping to the component does not
        # wait.
        await asyncio.sleep(0.02)
        await self.fake.iq(
            f"<iq type='get' from='{self.fake.jid}' to='{self.component}'>"
            f"<ping xmlns='{ns.PING}'/></iq>"
        )
        await self.fake.fence()
        for device in devices:
            await device.fence()

    async def archive(self, account: Account, with_: str) -> list[Stanza]:
        """Return the user's archived messages of a channel, queried by a session of its own."""
        client = RawClient(account, fresh("mam"))
        await client.login()
        query = fresh("mam")
        answer = await client.iq(
            f"<iq type='set'><query xmlns='{ns.MAM}' queryid='{query}'>"
            f"<x xmlns='{ns.DATA}' type='submit'><field var='FORM_TYPE' type='hidden'>"
            f"<value>{ns.MAM}</value></field><field var='with'><value>{with_}</value></field>"
            "</x></query></iq>"
        )
        assert answer["type"] == "result", answer.raw
        found = archived(client, query)
        await client.close()
        return found

    async def roster(self, account: Account, jid: str) -> dict[str, str] | None:
        """Return the attributes of the server's roster item, None if there is none."""
        client = RawClient(account, fresh("roster"))
        await client.login()
        answer = await client.roster()
        await client.close()
        found = answer.find(f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item[@jid='{jid}']")
        return None if found is None else dict(found.attrib)

    async def probe(self, query: str) -> Stanza:
        """Send the component an iq get as a stranger."""
        return await self.stranger.iq(
            f"<iq type='get' from='{self.stranger.jid}' to='{self.component}'>{query}</iq>"
        )


def client_join(
    bare: str,
    channel: str,
    nick: str = "n",
    *,
    pam: str = ns.PAM2,
    core: str = ns.CORE1,
    nodes: tuple[str, ...] = ("messages", "participants", "info"),
) -> str:
    """Return a client-join request without an id."""
    subscriptions = "".join(f"<subscribe node='{ns.NODES}{node}'/>" for node in nodes)
    return (
        f"<iq type='set' to='{bare}'><client-join xmlns='{pam}' channel='{channel}'>"
        f"<join xmlns='{core}'><nick>{nick}</nick>{subscriptions}</join></client-join></iq>"
    )


def client_leave(bare: str, channel: str, *, pam: str = ns.PAM2, core: str = ns.CORE1) -> str:
    """Return a client-leave request without an id."""
    return (
        f"<iq type='set' to='{bare}'><client-leave xmlns='{pam}' channel='{channel}'>"
        f"<leave xmlns='{core}'/></client-leave></iq>"
    )
