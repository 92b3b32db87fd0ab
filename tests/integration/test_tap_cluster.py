"""A real cluster of two ejabberd nodes: users on both, the component's link on one of them.

The kind: what one node knows holds for the service. Where a session, the link or a channel's
connection is makes no difference to anybody; and of a node that ends, killed or in order, at
once or to come back at once, all is found gone within seconds that was on it, and nothing else.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from harness import ns
from harness.client import RawClient
from harness.cluster import Cluster, Node, session
from harness.component import Link
from harness.container import CONTAINER
from harness.fake import FakeService
from harness.house import TapHouse, event
from harness.loopback import Block
from harness.machines import Machine, host_suite
from harness.mixpam import Mixpam
from harness.redis import Redis
from harness.stack import client_join
from harness.stanza import match

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SECONDS = 10


class House(TapHouse):
    """A tap's house of two nodes; its link and its channels are where the test has put them."""

    def __init__(self, kind: str, block: Block) -> None:
        self.cluster = Cluster(kind, block)
        super().__init__(kind, block, self.cluster.first)
        self.multicast = f"{self.component}/{'m' * 32}"

    async def start(self) -> "House":
        """Start both nodes and connect all components to the first."""
        await self.cluster.second.start()
        await self.server.start()
        await self.cluster.second.join(self.cluster.first)
        await self.fake.connect()
        await self.stranger.connect()
        await self.move(self.cluster.first)
        return self

    async def stop(self) -> None:
        """Stop everything."""
        await super().stop()
        await self.cluster.second.stop()

    async def move(self, node: Node) -> None:
        """Bring the component's link to `node`, and the domain to the state *up*."""
        await self.link.cut()
        self.server = node
        await self.linked()
        await self.services(self.fake.jid, complete=True, multicast=self.multicast)

    async def linked(self) -> None:
        """Connect the link as soon as its node takes it: the other has to see the last one end."""
        replayed = match("message", has=event("replayed"))
        for _ in range(SECONDS * 10):
            self.link = self.server.link()
            await self.link.connect()
            answer = await self.link.expect(lambda s: s.name == "error" or replayed(s), SECONDS)
            if answer.name != "error":
                return
            await self.link.cut()
            await asyncio.sleep(0.1)
        raise AssertionError("the link is refused for good")

    async def on(self, node: Node, like: RawClient | None = None, **how: Any) -> RawClient:
        """Log in on `node`, on a fresh account or on that of another session."""
        account = like.account if like else await self.user()
        client = await session(node, account, **how)
        self.clients.append(client)
        return await client.online()

    async def gone(self, client: RawClient) -> None:
        """Wait until the component is told that a session is gone."""
        await self.link.expect(match("presence", from_=client.jid, type="unavailable"), SECONDS)

    async def rows(self, client: RawClient) -> int:
        """Return how many nodes have the session in the tap's table."""
        key = f'{{<<"{self.domain}">>,<<"{client.jid}">>}}'
        return [
            await node.ask(f"ets:member(mixpam_online, {key})")
            for node in self.cluster.nodes
            if node.process.running
        ].count("true")

    async def copies(self, id_: str, *clients: RawClient) -> None:
        """Have the component send a channel's message to several sessions at once (C6)."""
        addresses = "".join(f"<address type='to' jid='{c.jid}' id='7'/>" for c in clients)
        self.link.send(
            f"<message from='c@{self.fake.jid}/p' to='{self.domain}' type='groupchat' id='{id_}'>"
            f"<addresses xmlns='{ns.ADDRESS}'>{addresses}</addresses><body>x</body></message>"
        )
        await self.link.fence()

    async def served(self, client: RawClient) -> None:
        """Show that a session has all that the tap does, wherever link and channels are."""
        channel = await self.joined(client.bare)
        request = client_join(client.bare, channel).replace("<iq", f"<iq id='{channel}'", 1)
        client.send(request)
        await self.link.expect(match("iq", id=channel, from_=client.jid))
        self.link.send(f"<iq type='result' id='{channel}' from='{client.bare}' to='{client.jid}'/>")
        await client.expect(match("iq", id=channel, type="result"))
        for id_ in (f"{channel}1", f"{channel}2"):
            self.fake.send(
                f"<message from='{channel}' to='{client.bare}' type='groupchat' id='{id_}'>"
                "<body>x</body></message>"
            )
            await self.link.expect(match("message", id=id_))
        assert len(await self.archive(client, channel)) == 2
        await self.copies(f"{channel}3", client)
        await client.expect(match("message", id=f"{channel}3"))
        await client.block(channel)
        blocked = event("blocked", jid=client.bare, address=channel)
        await self.link.expect(match("message", has=blocked))
        self.fake.send(
            f"<message from='{channel}' to='{client.bare}' type='groupchat' id='{channel}4'/>"
        )
        await self.fence()
        self.link.none(match("message", id=f"{channel}4"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(server_kind: str, block: Block, logs: Any) -> AsyncIterator[House]:
    """Run a cluster for this module."""
    if not server_kind.startswith("ejabberd"):
        pytest.skip("Prosody has no cluster")
    house = House(server_kind, block)
    folders = [node.folder for node in house.cluster.nodes]
    for folder in folders:
        logs.add(folder)
    try:
        with logs.kept_on_error(*folders):
            await house.start()
        yield house
    finally:
        await house.stop()
        for folder in folders:
            logs.done(folder)


@pytest_asyncio.fixture(loop_scope="session")
async def house(running: House) -> AsyncIterator[House]:
    """Give a test both nodes, and the link and the channels on the first."""
    for node in running.cluster.nodes:
        if not node.process.running:
            await node.start()
    first = running.cluster.first
    for stream in (running.fake, running.stranger):
        if not stream.connected:
            stream.place = first.place
            await stream.connect()
    if running.server is not first or not running.link.connected:
        await running.move(first)
    running.drop_idle()
    yield running
    await running.close_clients()


async def test_users_on_both_nodes_are_served_alike(house: House) -> None:
    first, second = house.cluster.nodes
    here = await house.on(first)
    there = await house.on(second)
    also = await house.on(second, here)
    for client in (here, there, also):
        await house.link.expect(match("presence", from_=client.jid))
        await house.served(client)
    channel = await house.joined(here.bare)
    answer = await also.roster()
    assert answer.find(f".//*[@jid='{channel}']") is not None


async def test_a_second_link_on_the_other_node_is_refused(house: House) -> None:
    second = Link(house.component, house.cluster.second.place)
    await second.connect()
    await second.expect(match("error", has="{*}conflict"))
    await second.cut()
    await house.served(await house.on(house.cluster.second))


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
async def test_sessions_of_a_node_that_ends_are_gone_and_nothing_else(
    house: House, *, kill: bool
) -> None:
    first, second = house.cluster.nodes
    stays = await house.on(first)
    goes = await house.on(second, stays)
    house.drop_idle()
    await second.stop(kill=kill)
    await house.gone(goes)
    assert await house.rows(goes) == 0
    assert await house.rows(stays) == 1
    await house.copies("after", stays, goes)
    await stays.expect(match("message", id="after"))
    house.link.none(match("presence", from_=stays.jid, type="unavailable"))
    await house.served(stays)


async def test_a_node_that_is_back_at_once_has_not_kept_its_sessions(house: House) -> None:
    first, second = house.cluster.nodes
    stays, goes, again = await house.on(first), await house.on(second), await house.on(second)
    house.drop_idle()
    await second.stop(kill=True)
    instead = await house.on(first, again, resource=again.resource)
    await second.start()
    await house.gone(goes)
    assert await house.rows(goes) == 0
    assert await house.rows(instead) == 2
    await house.fence()
    house.link.none(match("presence", from_=instead.jid, type="unavailable"))
    house.link.none(match("presence", from_=stays.jid, type="unavailable"))
    await house.served(await house.on(second, goes, resource=goes.resource))


async def test_the_links_node_is_killed(house: House) -> None:
    first, second = house.cluster.nodes
    there = await house.on(second)
    goes = await house.on(first, there)
    there.send(client_join(there.bare, house.channel()).replace("<iq", "<iq id='open'", 1))
    await house.link.expect(match("iq", id="open"))
    await first.stop(kill=True)
    answer = await there.expect(match("iq", id="open", type="error"), SECONDS)
    assert answer.find("{*}error/{*}service-unavailable") is not None
    refused = await there.iq(client_join(there.bare, house.channel()))
    assert refused.find("{*}error/{*}service-unavailable") is not None
    house.fake.place = second.place
    await house.fake.connect()
    await house.move(second)
    house.link.none(match("presence", from_=goes.jid, type=None))
    await house.served(there)
    await first.start()
    await house.served(await house.on(first))


async def test_mixpam_finds_the_other_node_by_a_name_with_both_addresses(
    house: House, block: Block, logs: Any
) -> None:
    if CONTAINER:
        pytest.skip("the container has names of its own")
    first, second = house.cluster.nodes
    await house.link.cut()
    await house.fake.cut()
    redis, fake = Redis(block), FakeService(second.link(second.fake))
    mixpam = Mixpam(first, redis.url, MIXPAM_SERVER_HOST="both.test")
    names = mixpam.folder / "hosts"
    names.write_text("".join(f"{node.place.ip} both.test\n" for node in house.cluster.nodes))
    mixpam.process.argv = Machine(host_suite()).command(*mixpam.process.argv, hosts=names)
    try:
        with logs.kept_on_error(mixpam.folder):
            await redis.start()
            await fake.connect()
            await mixpam.start()
            client, channel = await house.on(second), fake.channel()
            answer = await client.iq(client_join(client.bare, channel.jid), 15)
            assert answer["type"] == "result", answer.raw
            mark = mixpam.mark()
            await first.stop(kill=True)
            await mixpam.ready(since=mark)
            client.components = [house.component]
            await client.fence()
            answer = await client.iq(client_join(client.bare, fake.channel().jid), 15)
            assert answer["type"] == "result", answer.raw
    finally:
        await fake.cut()
        await mixpam.stop()
        await redis.stop()
        redis.remove()
