"""A second process of the component waits, and takes over knowing what the first knew."""

import pytest
from harness.mixpam import Mixpam
from harness.stack import Stack
from harness.stanza import match
from harness.steps import memberships

CONFLICT = r'"reason": ?"conflict"'


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
        await stack.mixpam.stop(kill=True)
        await standby.ready()
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
