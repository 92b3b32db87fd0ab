"""Large tags on the link: the server has them at once, however quiet the link is otherwise.

The kind: what is written whole is read whole. A parser that waits for twice the bytes of a tag
that came in pieces keeps that stanza, and everybody's behind it, on a link that is silent.
"""

import pytest
from harness.stack import Stack
from harness.stanza import match


@pytest.mark.abuse(11)
@pytest.mark.parametrize("size", [3_000, 9_000, 20_000, 70_000, 200_000])
async def test_a_large_tag_keeps_nothing_behind_it(stack: Stack, size: int) -> None:
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channel = await stack.joined(client)
    large = f"<x xmlns='urn:x' a='{'v' * size}'/>"
    ids = [stack.fake.say(channel.jid, client.bare, "large", large)]
    # The channel's own server has the same parser.
    stack.fake.write(" " * size * 2)
    got = await client.expect(match("message", id=ids[0]))
    assert got.need("{urn:x}x").get("a") == "v" * size
    small = stack.fake.say(channel.jid, client.bare, "small")
    await client.expect(match("message", id=small))
