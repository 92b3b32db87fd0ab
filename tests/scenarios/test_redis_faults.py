"""Redis in every state it should not be in: what goes on, what a user sees, what mends it.

Each test is a row of the table "When Redis fails" in the README.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from harness import caps, ns
from harness.client import RawClient
from harness.detour import Listener, Peer, forwarder
from harness.fake import Script, is_join
from harness.http import Http, value
from harness.loopback import Block
from harness.machines import REPOSITORY
from harness.participants import tells
from harness.redis import Redis
from harness.stack import FreshStack, Stack, client_join, client_leave
from harness.stanza import match
from harness.steps import leaves, memberships

pytestmark = [pytest.mark.family, pytest.mark.abuse(22), pytest.mark.timeout(120)]
TIMEOUT = 5.0
"""Seconds of MIXPAM_REDIS_TIMEOUT, as it is by default."""
PORT = 6380
"""Where something else than the stack's own Redis listens."""


class Member:
    """An online MIX client that is in a channel, on a system whose Redis will fail."""

    def __init__(self, stack: Stack, client: RawClient, channel: Script) -> None:
        self.stack = stack
        self.redis = stack.redis
        self.client = client
        self.channel = channel
        self.http = Http(stack)
        self.mark = stack.mixpam.mark()

    async def event(self, name: str, within: float = 20) -> dict[str, Any]:
        """Wait for an event of the log, from when the test began."""
        line = await self.stack.mixpam.process.line(f'"event": ?"{name}"', within, since=self.mark)
        return dict(json.loads(line))

    async def is_away(self, kind: str) -> None:
        """Wait until the operator is told by log, readiness and metric what is wrong."""
        line = f'"kind": ?"{kind}".*"event": ?"redis-away"'
        away = json.loads(await self.stack.mixpam.process.line(line, 20, since=self.mark))
        assert away["remedy"]
        ready = await self.http.until("/readyz", lambda reply: away["reason"] in reply.text)
        assert ready.status == 503
        assert ready.json["reasons"] == [away["reason"]]
        metrics = await self.http.metrics()
        assert value(metrics, "mixpam_redis_up") == 0
        assert value(metrics, "mixpam_redis_troubles_total", kind=kind) >= 1

    async def is_back(self) -> None:
        """Wait until all is well by itself."""
        await self.event("redis-back")
        await self.http.until("/readyz", lambda reply: reply.status == 200)

    async def hears(self) -> None:
        """See that messages go on, and without delay."""
        id_ = self.stack.fake.say(self.channel.jid, self.client.bare, "still here")
        await self.client.expect(match("message", id=id_), 2)

    async def is_refused(self, within: float = 20) -> None:
        """See that joins and leaves are refused before the channel hears of them."""
        other = self.stack.fake.channel()
        for request in (
            client_join(self.client.bare, other.jid),
            client_leave(self.client.bare, self.channel.jid),
        ):
            refused = await self.client.iq(request, within)
            assert refused.condition == "internal-server-error"
            error = refused.need("{jabber:client}error")
            assert error.get("type") == "wait"
            assert "try again later" in (error.findtext(f"{{{ns.STANZAS}}}text") or "")
        self.stack.fake.none(is_join(other.jid))
        self.stack.fake.none(leaves(self.channel.jid))

    async def is_sound(self) -> None:
        """See that joining works, and that a new process knows all that this one does."""
        other = await self.stack.joined(self.client)
        expected = {self.channel.jid: self.channel.pid, other.jid: other.pid}
        assert await memberships(self.client) == expected
        await self.stack.mixpam.stop(kill=True)
        await self.stack.mixpam.start()
        assert await memberships(self.client) == expected


async def member(stack: Stack) -> Member:
    """Let a fresh user join a channel."""
    client = await stack.raw(await stack.user())
    await client.mix_online()
    await client.roster(annotate=True)
    return Member(stack, client, await stack.joined(client))


@pytest_asyncio.fixture(loop_scope="session")
async def user(breakable: Stack) -> AsyncIterator[Member]:
    """Give a test a member, and Redis back as it was."""
    redis = breakable.redis
    yield await member(breakable)
    if redis.process.running:
        redis.process.thaw()
        await redis.ask("CONFIG", "SET", "maxmemory", "0")
        await redis.ask("REPLICAOF", "NO", "ONE")
    else:
        await redis.start()


async def starting(fresh_stack: FreshStack, url: str = "") -> tuple[Stack, dict[str, Any]]:
    """Start a system whose component cannot use its Redis; give what the log says."""
    stack = await fresh_stack(component=False, **({"MIXPAM_REDIS_URL": url} if url else {}))
    if not url:
        await stack.redis.stop()
    return stack, await begins(stack)


async def begins(stack: Stack) -> dict[str, Any]:
    """Start the component and give the first thing it says of Redis."""
    http = Http(stack)
    await stack.mixpam.process.start()
    line = await stack.mixpam.process.line(r'"event": ?"redis-away"', 20)
    away = dict(json.loads(line))
    ready = await http.until("/readyz", lambda reply: reply.status == 503)
    assert ready.json["reasons"][0] == away["reason"]
    # Nobody is served by halves: the server answers for a component that is not there.
    assert stack.mixpam.events("link-up") == []
    client = await stack.raw(await stack.user())
    refused = await client.iq(client_join(client.bare, stack.fake.channel().jid))
    assert refused.condition == "service-unavailable"
    return away


# -- at the start --------------------------------------------------------------------------


async def test_down_at_the_start(fresh_stack: FreshStack) -> None:
    stack, away = await starting(fresh_stack)
    assert away["kind"] == "unreachable"
    await stack.redis.start()
    await stack.mixpam.ready()
    await stack.settle()
    await stack.joined(stack.devices[0])


async def test_wrong_password(fresh_stack: FreshStack) -> None:
    """At the start nothing is served; in the middle only joins and leaves suffer."""
    stack = await fresh_stack(component=False)
    await stack.redis.ask("CONFIG", "SET", "requirepass", "secret")
    away = await begins(stack)
    assert away["kind"] == "password"
    assert "MIXPAM_REDIS_URL" in away["remedy"]
    await stack.redis.ask("CONFIG", "SET", "requirepass", "", password="secret")
    await stack.mixpam.ready()
    user = await member(stack)
    await stack.redis.ask("CONFIG", "SET", "requirepass", "other")
    # Those who are connected stay so: they find out when the connection ends.
    await stack.redis.ask("CLIENT", "KILL", "TYPE", "normal", password="other")
    await user.is_away("password")
    await user.hears()
    await user.is_refused()
    await stack.redis.ask("CONFIG", "SET", "requirepass", "", password="other")
    await user.is_back()
    await user.is_sound()


async def old_redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as Redis 5.0 does, as far as it is asked."""
    info = "# Server\r\nredis_version:5.0.14\r\n"
    while line := await reader.readline():
        words = []
        for _ in range(int(line[1:])):
            length = int((await reader.readline())[1:])
            words.append((await reader.readexactly(length + 2))[:-2].decode().upper())
        if words[0] == "INFO":
            answer = f"${len(info)}\r\n{info}\r\n"
        elif words[:2] == ["CLIENT", "SETNAME"]:
            answer = "+OK\r\n"
        else:
            answer = f"-ERR unknown command `{words[0]}`, with args beginning with: \r\n"
        writer.write(answer.encode())
        await writer.drain()


async def test_wrong_version(fresh_stack: FreshStack, block: Block) -> None:
    async with Listener(block.place().ip, PORT, old_redis) as old:
        _, away = await starting(fresh_stack, old.url)
    assert away["kind"] == "too-old"
    assert away["reason"] == "Redis 5.0.14 is too old: 6.0 or newer is needed"


async def web_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as a web server does to what is no HTTP."""
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with bytes that mean nothing."""
    await reader.read(100)
    writer.write(b"$x\r\n\xff\xfe\x00:\r\n*-7\r\n")
    await writer.drain()


async def hangs_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing and close."""
    writer.close()


async def listens(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Take everything and say nothing."""
    while await reader.read(100):
        pass


@pytest.mark.parametrize(
    ("peer", "kind"),
    [(web_server, "not-redis"), (garbage, "not-redis"), (hangs_up, "closed"), (listens, "silent")],
    ids=["web server", "garbage", "hangs up", "silent"],
)
async def test_not_redis_at_all(
    fresh_stack: FreshStack, block: Block, peer: Peer, kind: str
) -> None:
    async with Listener(block.place().ip, PORT, peer) as other:
        _, away = await starting(fresh_stack, other.url)
    assert away["kind"] == kind


async def test_lost_while_mixpam_was_away(breakable: Stack) -> None:
    """What nobody remembers is said, and brought back by one command."""
    user = await member(breakable)
    tells(user.channel, (user.channel.pid, user.client.bare))
    await breakable.mixpam.stop()
    await breakable.redis.lose()
    await breakable.mixpam.start()
    user.mark = 0
    assert (await user.event("memory-empty"))["channel"] == user.channel.jid
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "component", "rebuild", "--online",
        env={"PYTHONPATH": str(REPOSITORY), **breakable.mixpam.settings},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await child.communicate()
    assert b"restore the membership" in said, said
    await user.hears()
    await user.is_sound()


# -- in the middle -------------------------------------------------------------------------


async def test_down_in_the_middle(user: Member) -> None:
    await user.redis.stop()
    await user.is_away("unreachable")
    await user.hears()
    await user.is_refused()
    # What nobody waits for is done when Redis is back: the channel has thrown the user out.
    second = user.stack.fake.channel()
    await user.redis.start()
    await user.is_back()
    await user.stack.join(user.client, second)
    await user.redis.stop()
    user.stack.fake.event(
        second.jid, user.client.bare, "participants", f"<retract id='{second.pid}'/>"
    )
    await user.client.expect(match("iq", type="set", has=f"*/*[@jid='{second.jid}']"), 20)
    await user.stack.settle(user.client)
    assert await memberships(user.client) == {user.channel.jid: user.channel.pid}
    await user.redis.start()
    await user.is_sound()


@pytest.mark.slow
async def test_slow(user: Member) -> None:
    """Five seconds are the bound: a join waits for less, and is refused after more."""
    loop = asyncio.get_running_loop()
    patient = user.stack.fake.channel()
    user.redis.process.freeze()
    began = loop.time()
    request = client_join(user.client.bare, patient.jid).replace("<iq", "<iq id='slow'", 1)
    user.client.send(request)
    await user.hears()
    await asyncio.sleep(TIMEOUT * 0.4)
    user.redis.process.thaw()
    answer = await user.client.expect(match("iq", id="slow"))
    assert answer["type"] == "result"
    assert TIMEOUT * 0.4 <= loop.time() - began < TIMEOUT
    user.redis.process.freeze()
    await user.is_refused(TIMEOUT * 2 + 2)
    await user.hears()
    await user.is_away("silent")
    user.redis.process.thaw()
    await user.is_back()
    await user.client.iq(client_leave(user.client.bare, patient.jid))
    await user.is_sound()


async def test_full(user: Member) -> None:
    await user.redis.ask("CONFIG", "SET", "maxmemory", "1")
    await user.is_away("full")
    await user.hears()
    await user.is_refused()
    await user.redis.ask("CONFIG", "SET", "maxmemory", "0")
    await user.is_back()
    await user.is_sound()


async def following(primary: Redis, block: Block) -> Redis:
    """Start a replica and wait until it has everything."""
    await primary.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    replica = await Redis(block).start()
    await replica.ask("REPLICAOF", primary.place.ip, "6379")
    await replica.process.line("REPLICA sync: Finished with success", 20)
    return replica


async def test_a_replica_after_a_failover(fresh_stack: FreshStack, block: Block, logs: Any) -> None:
    """While the address still leads to the old primary, joins wait; then all goes on.

    A new primary that missed the last writes is given them.
    """
    target = ""
    async with Listener(block.place().ip, PORT, forwarder(lambda: (target, 6379))) as proxy:
        stack = await fresh_stack(component=False, MIXPAM_REDIS_URL=proxy.url)
        target = stack.redis.place.ip
        await stack.mixpam.start()
        user = await member(stack)
        replica = await following(stack.redis, block)
        logs.add(replica.folder)
        await replica.ask("REPLICAOF", "NO", "ONE")
        missed = await stack.joined(user.client)
        assert missed.jid not in str(await replica.contents())
        await stack.redis.ask("REPLICAOF", replica.place.ip, "6379")
        await user.is_away("read-only")
        await user.hears()
        await user.is_refused()
        target = replica.place.ip
        await user.is_back()
        await user.event("memory-rewritten")
        assert missed.jid in str(await replica.contents())
        left = await user.client.iq(client_leave(user.client.bare, missed.jid))
        assert left["type"] == "result"
        await user.is_sound()
        await stack.mixpam.stop()
    await replica.stop()
    logs.done(replica.folder)


@pytest.mark.parametrize("how", ["flushed", "restarted empty"])
async def test_emptied_in_the_middle(user: Member, how: str) -> None:
    """Memory has everything: it is written anew within seconds, without anybody's help."""
    await user.stack.settle(user.client)
    before = await user.redis.contents("mixpam:")
    assert user.channel.jid in str(before)
    if how == "flushed":
        await user.redis.ask("FLUSHALL")
    else:
        await user.redis.lose()
    await user.event("memory-lost")
    await user.event("memory-rewritten")
    after = await user.redis.contents("mixpam:")
    del before["mixpam:mark"], after["mixpam:mark"]
    assert after == before
    await user.hears()
    await user.is_sound()


async def test_an_old_copy_brought_back(user: Member) -> None:
    """A membership that ended since does not come back with it."""
    left = await user.stack.joined(user.client)
    old = await user.redis.contents("mixpam:")
    assert left.jid in str(old)
    assert (await user.client.iq(client_leave(user.client.bare, left.jid)))["type"] == "result"
    await user.redis.ask(
        "EVAL",
        "redis.call('FLUSHALL') for _, key in ipairs(KEYS) do for field, text in"
        " pairs(cjson.decode(ARGV[_])) do redis.call('HSET', key, field, text) end end",
        str(len(old)), *old, *(json.dumps(fields) for fields in old.values()),
    )  # fmt: skip
    await user.event("memory-lost")
    await user.event("memory-rewritten")
    assert left.jid not in str(await user.redis.contents())
    await user.is_sound()


@pytest.mark.slow
async def test_away_for_very_long(fresh_stack: FreshStack) -> None:
    """Beyond its bound the queue is given up, and nothing is lost by that."""
    stack = await fresh_stack(MIXPAM_MAX_WAITING_WRITES="100")
    user = await member(stack)
    await stack.redis.stop()
    await user.is_away("unreachable")
    for number in range(120):
        status = f"<status>{number}</status>"
        user.client.send(f"<presence>{caps.element(caps.MIX)}{status}</presence>")
    assert (await user.event("writes-given-up"))["writes"] > 90
    await stack.settle(user.client)
    metrics = await user.http.metrics()
    assert value(metrics, "mixpam_store_behind") == 1
    assert value(metrics, "mixpam_store_waiting") <= 100
    await user.hears()
    await stack.redis.start()
    await user.event("memory-rewritten")
    assert value(await user.http.metrics(), "mixpam_store_behind") == 0
    await user.is_sound()
