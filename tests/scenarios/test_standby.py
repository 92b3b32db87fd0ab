"""A second process of the component waits, and takes over knowing what the first knew."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness import caps
from harness.client import RawClient
from harness.fake import Script
from harness.mixpam import Mixpam
from harness.stack import FreshStack, Stack, client_leave
from harness.stanza import match
from harness.steps import leaves, memberships
from sharing import gone, here

from component.store.keys import Keys

pytestmark = pytest.mark.family
CONFLICT = r'"reason": ?"conflict"'


def links(component: Mixpam, since: int) -> list[str]:
    """Return what the log says of the link from line number `since` on."""
    names = [record["event"] for record in component.events()[since:]]
    return [name for name in names if name in {"link-up", "link-down"}]


@pytest.mark.abuse(23)
async def test_a_standby_takes_over(breakable: Stack) -> None:
    stack = breakable
    client = await stack.raw(await stack.user())
    await client.mix_online()
    standby = Mixpam(stack.server, stack.redis.url, MIXPAM_HTTP_PORT="0")
    try:
        await standby.process.start()
        await standby.process.line(CONFLICT, 20)
        # Joined after the standby has read the store.
        channel = await stack.joined(client)
        # It asks every second, and has said so once.
        mark = standby.mark()
        await asyncio.sleep(4)
        assert links(standby, mark) == []
        await stack.mixpam.stop(kill=True)
        await standby.ready()
        assert links(standby, mark) == ["link-up"]
        # What was joined meanwhile was followed, not read.
        assert len(standby.events("loaded")) == 1
        assert standby.events("taken-over")[0]["changes"] > 0
        await stack.settle(client)
        assert await memberships(client) == {channel.jid: channel.pid}
        stack.fake.say(channel.jid, client.bare, "who is there")
        await client.expect(match("message", body="who is there"))
        # The first one comes back, and now is the one that waits.
        await stack.mixpam.process.start()
        await stack.mixpam.process.line(CONFLICT, 20)
        stack.fake.say(channel.jid, client.bare, "still there")
        await client.expect(match("message", body="still there"))
        await stack.settle(client)
        assert client.count(match("message")) == 2
    finally:
        await standby.stop()
        await stack.mixpam.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def standby(breakable: Stack) -> AsyncIterator[Mixpam]:
    """Give a second process, which waits."""
    made = Mixpam(breakable.server, breakable.redis.url, MIXPAM_HTTP_PORT="0")
    await made.process.start()
    await made.process.line(CONFLICT, 20)
    yield made
    await made.stop()
    await breakable.mixpam.stop()


async def kicked(stack: Stack, client: RawClient, channel: Script) -> None:
    """Throw a user out, and wait until the roster has followed."""
    retract = f"<retract id='{channel.pid}'/>"
    stack.fake.event(channel.jid, client.bare, "participants", retract)
    await client.expect(match("iq", type="set", has=f"*/*[@jid='{channel.jid}']"), 20)
    await stack.settle(client)


async def remembered(stack: Stack, user: str, resources: set[str]) -> None:
    """Wait until Redis knows for certain how channels were shown some of a user's devices."""
    found: dict[str, str] = {}
    async with asyncio.timeout(20):
        # Redis wakes nobody.
        while not all(map(found.get, resources)):
            await asyncio.sleep(0.05)
            found = await stack.redis.ask("HGETALL", Keys("mixpam").shown(user))


@pytest.mark.abuse(23)
async def test_all_that_changed_while_it_waited_is_known(breakable: Stack, standby: Mixpam) -> None:
    """Joins, leaves, kicks and devices; the first process is killed right after the last."""
    stack = breakable
    client = await stack.raw(await stack.user())
    await client.mix_online()
    await client.roster(annotate=True)
    second = await stack.raw(client.account)
    await second.mix_online()
    stays, left, throws = [await stack.joined(client) for _ in range(3)]
    for device in (client, second):
        await stack.fake.expect(here(device.jid, stays.jid))
    assert (await client.iq(client_leave(client.bare, left.jid)))["type"] == "result"
    await kicked(stack, client, throws)
    await second.close()
    await stack.fake.expect(gone(second.jid, stays.jid))
    third = await stack.raw(client.account)
    await third.mix_online(caps.MIX)
    await stack.fake.expect(here(third.jid, stays.jid))
    await remembered(
        stack, client.bare, {device.jid.partition("/")[2] for device in (client, third)}
    )
    last = await stack.joined(client)
    await stack.mixpam.stop(kill=True)
    stack.fake.inbox.clear()
    await standby.ready()
    assert len(standby.events("loaded")) == 1
    assert len(standby.events("taken-over")) == 1
    await stack.settle(client, third)
    assert await memberships(client) == {stays.jid: stays.pid, last.jid: last.pid}
    # The channels are told of no device that they know.
    for device in (client, third):
        stack.fake.none(gone(device.jid, stays.jid))
        stack.fake.none(here(device.jid, stays.jid))
    for channel in (stays, last):
        id_ = stack.fake.say(channel.jid, client.bare, "still here")
        for device in (client, third):
            await device.expect(match("message", id=id_))
    for channel in (left, throws):
        id_ = stack.fake.say(channel.jid, client.bare, "not for you")
        await stack.settle(client)
        client.none(match("message", id=id_))


@pytest.mark.abuse(23)
async def test_a_change_cut_off_while_it_waited_is_finished(
    breakable: Stack, standby: Mixpam
) -> None:
    """The journal is followed, too."""
    stack = breakable
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channel = await stack.joined(client)
    channel.leave = lambda _: None
    client.send(client_leave(client.bare, channel.jid).replace("<iq", "<iq id='cut'", 1))
    await stack.fake.expect(leaves(channel.jid))
    await stack.mixpam.stop(kill=True)
    channel.leave = None
    await standby.ready()
    assert len(standby.events("loaded")) == 1
    assert standby.events("journal-recovered")[0]["channel"] == channel.jid
    await standby.process.line('"event": ?"change-done"', 20)
    assert await memberships(client) == {}


@pytest.mark.abuse(23)
async def test_what_cannot_be_followed_is_read_again(breakable: Stack, standby: Mixpam) -> None:
    stack = breakable
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channel = await stack.joined(client)
    standby.process.freeze()
    await stack.mixpam.stop(kill=True)
    await stack.redis.ask("XTRIM", Keys("mixpam").changes, "MAXLEN", "0")
    standby.process.thaw()
    await standby.ready()
    assert len(standby.events("loaded")) == 2
    assert standby.events("taken-over") == []
    await stack.settle(client)
    assert await memberships(client) == {channel.jid: channel.pid}


@pytest.mark.abuse(22, 23)
async def test_redis_goes_and_comes_back_while_it_waits(breakable: Stack, standby: Mixpam) -> None:
    """The append-only file has the stream, too: it is followed on."""
    stack = breakable
    client = await stack.raw(await stack.user())
    await client.mix_online()
    first = await stack.joined(client)
    mark = standby.mark()
    await stack.redis.stop(kill=True)
    await standby.process.line('"event": ?"redis-away"', 20, since=mark)
    await stack.redis.start()
    await standby.process.line('"event": ?"redis-back"', 20, since=mark)
    second = await stack.joined(client)
    await stack.mixpam.stop(kill=True)
    await standby.ready()
    assert await memberships(client) == {first.jid: first.pid, second.jid: second.pid}


@pytest.mark.slow
async def test_a_standby_that_loses_the_server_says_so_again(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack()
    standby = Mixpam(stack.server, stack.redis.url, MIXPAM_HTTP_PORT="0")
    try:
        await standby.process.start()
        await standby.process.line(CONFLICT, 20)
        mark = standby.mark()
        await stack.server.stop()
        await standby.process.line(r'"reason": ?"(unreachable|closed|system-shutdown)"', since=mark)
        mark = standby.mark()
        # Whoever comes first when the server is back, one of the two has to say that it waits.
        first = stack.mixpam.mark()
        await stack.server.start()
        waits = [
            asyncio.create_task(each.process.line(CONFLICT, 40, since=since))
            for each, since in ((standby, mark), (stack.mixpam, first))
        ]
        done, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert all(task.exception() is None for task in done)
    finally:
        await standby.stop()
