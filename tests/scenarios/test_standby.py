"""A second process of the component waits, and takes over knowing what the first knew."""

import asyncio

import pytest
from harness.mixpam import Mixpam
from harness.stack import FreshStack, Stack
from harness.stanza import match
from harness.steps import memberships

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
