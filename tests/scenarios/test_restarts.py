"""Redis or the server goes away and comes back: what works meanwhile, what afterwards."""

from collections.abc import Awaitable, Callable

import pytest
from harness.stack import Stack
from harness.stanza import match
from harness.steps import memberships

FreshStack = Callable[..., Awaitable[Stack]]


@pytest.mark.abuse(22)
async def test_a_restart_of_redis_that_nobody_saw(breakable: Stack) -> None:
    """The first join afterwards finds a dead connection, and opens another."""
    stack = breakable
    client = await stack.raw(await stack.user())
    channel = await stack.joined(client)
    await stack.redis.stop(kill=True)
    await stack.redis.start()
    other = await stack.joined(client)
    assert await memberships(client) == {channel.jid: channel.pid, other.jid: other.pid}


@pytest.mark.slow
@pytest.mark.abuse(25)
async def test_the_server_is_restarted(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack()
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channel = await stack.joined(client)
    mark = stack.mixpam.mark()
    await stack.logout()
    await stack.fake.cut()
    await stack.server.stop()
    await stack.server.start()
    await stack.fake.connect()
    await stack.mixpam.ready(since=mark)
    again = await stack.raw(client.account)
    await again.mix_online()
    assert await memberships(again) == {channel.jid: channel.pid}
    stack.fake.say(channel.jid, again.bare, "after the restart")
    await again.expect(match("message", body="after the restart"))


@pytest.mark.abuse(25)
async def test_a_server_that_falls_silent(fresh_stack: FreshStack) -> None:
    """A half-open link looks like this: connected, and nothing comes any more."""
    stack = await fresh_stack(MIXPAM_KEEPALIVE="1")
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channel = await stack.joined(client)
    mark = stack.mixpam.mark()
    stack.server.process.freeze()
    try:
        await stack.mixpam.process.line(r'"reason": ?"silent"', 10, since=mark)
    finally:
        stack.server.process.thaw()
    await stack.mixpam.ready(since=mark)
    stack.fake.say(channel.jid, client.bare, "heard again")
    await client.expect(match("message", body="heard again"))
    assert await memberships(client) == {channel.jid: channel.pid}
