"""The symptoms of deploy/docs/troubleshooting.md that no other test makes, on real servers.

What `mixpam check` says of them is shown by test_doctor.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from commandline import mixpam
from harness.fake import is_join
from harness.stack import Stack, client_join, client_leave
from harness.stanza import match
from harness.steps import session

FreshStack = Callable[..., Awaitable[Stack]]


async def link_down(stack: Stack, since: int = 0) -> dict[str, Any]:
    """Return the next event `link-down` that the log has from line number `since` on."""
    line = await stack.mixpam.process.line(r'"event": ?"link-down"', 20, since=since)
    return dict(json.loads(line))


@pytest.mark.parametrize(
    ("changes", "reason", "variable"),
    [
        ({"MIXPAM_SERVER_PORT": "5499"}, "unreachable", "MIXPAM_SERVER_PORT"),
        ({"MIXPAM_SECRET": "another-secret-than-the-servers"}, "not-authorized", "MIXPAM_SECRET"),
        ({"MIXPAM_COMPONENT_JID": "other.example"}, "host-unknown", "MIXPAM_COMPONENT_JID"),
    ],
    ids=["port", "secret", "name"],
)
async def test_it_does_not_connect(
    fresh_stack: FreshStack, changes: dict[str, str], reason: str, variable: str
) -> None:
    stack = await fresh_stack(component=False, **changes)
    await stack.mixpam.process.start()
    down = await link_down(stack)
    if reason == "host-unknown" and stack.server.kind.software == "ejabberd":
        # ejabberd says of a name that it does not have that its secret is wrong.
        reason, variable = "not-authorized", "MIXPAM_SECRET"
    assert down["reason"] == reason
    assert variable in down["remedy"]


@pytest.mark.slow
async def test_the_server_ends_and_freezes(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(MIXPAM_KEEPALIVE="1")
    mark = stack.mixpam.mark()
    stack.server.process.freeze()
    try:
        assert (await link_down(stack, mark))["reason"] == "silent"
        done = await mixpam("check", "--json", env=stack.mixpam.settings)
        assert "took the connection and did not answer" in done.result("handshake")["text"]
    finally:
        stack.server.process.thaw()
    mark = stack.mixpam.mark()
    await stack.mixpam.ready(mark)
    mark = stack.mixpam.mark()
    await stack.server.stop()
    assert (await link_down(stack, mark))["reason"] in {"closed", "system-shutdown"}
    done = await mixpam("check", "--json", env=stack.mixpam.settings)
    assert "nothing listens on" in done.result("server-port")["text"]


@pytest.mark.abuse(11)
async def test_a_stanza_that_is_too_large(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(MIXPAM_MAX_STANZA_BYTES="10000")
    client = await session(stack)
    await client.mix_online()
    channel = await stack.joined(client)
    mark = stack.mixpam.mark()
    stack.fake.say(channel.jid, client.bare, "x" * 12_000)
    stack.fake.say(channel.jid, client.bare, "and on")
    # One stanza costs that stanza, and nobody else notices.
    await client.expect(match("message", body="and on"))
    told = json.loads(
        await stack.mixpam.process.line(r'"event": ?"stanza-oversized"', 5, since=mark)
    )
    assert (told["kind"], told["sender"]) == ("message", channel.jid)
    assert not [each for each in stack.mixpam.events()[mark:] if each["event"] == "link-down"]
    client.none(lambda stanza: len(stanza.raw) > 10_000)


async def test_it_waits_for_redis_and_says_so(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(component=False)
    await stack.redis.stop()
    await stack.mixpam.process.start()
    for _ in range(2):
        mark = stack.mixpam.mark()
        line = await stack.mixpam.process.line(r'"event": ?"redis-away"', 15, since=mark)
        assert "MIXPAM_REDIS_URL" in json.loads(line)["reason"]
    assert stack.mixpam.events("link-up") == []
    await stack.redis.start()
    await stack.mixpam.ready()


@pytest.mark.abuse(14)
async def test_limits_of_a_user(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(
        MIXPAM_MAX_CHANNELS="1",
        MIXPAM_MAX_PENDING="1",
        MIXPAM_JOIN_RATE="0.001",
        MIXPAM_JOIN_BURST="4",
    )
    client = await session(stack)
    mute, other = stack.fake.channel(join=lambda _: None), stack.fake.channel()
    client.send(client_join(client.bare, mute.jid).replace("<iq", "<iq id='first'", 1))
    await stack.fake.expect(is_join(mute.jid))
    # It waits for its turn, which comes when the first has ended.
    await stack.join(client, other)
    await client.expect(lambda stanza: stanza["id"] == "first")
    for _ in range(2):
        answer = await client.iq(client_join(client.bare, stack.fake.channel().jid))
        assert answer.condition == "policy-violation"
    # That was the fourth of those that were allowed in a row; leaving counts, too.
    answer = await client.iq(client_leave(client.bare, other.jid))
    assert answer.condition == "policy-violation"
    assert "too many joins and leaves" in answer.raw
    another = await session(stack)
    await stack.joined(another)


async def test_joins_that_wait_are_limited(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(
        MIXPAM_MAX_PENDING="1", MIXPAM_JOIN_RATE="1000000", MIXPAM_JOIN_BURST="1"
    )
    client = await session(stack)
    mute = [stack.fake.channel(join=lambda _: None) for _ in range(3)]
    for number, channel in enumerate(mute[:2]):
        request = client_join(client.bare, channel.jid)
        client.send(request.replace("<iq", f"<iq id='join{number}'", 1))
        await client.fence()
    await stack.fake.expect(is_join(mute[0].jid))
    answer = await client.iq(client_join(client.bare, mute[2].jid))
    assert answer.condition == "resource-constraint"
