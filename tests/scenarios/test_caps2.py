"""Capabilities by XEP-0390, whose hash is another and whose node is too."""

import base64
import hashlib

import pytest
from harness import caps, ns
from harness.client import RawClient
from harness.stack import Stack
from harness.stanza import match

CAPS2 = "urn:xmpp:caps"


def digest(features: tuple[str, ...], name: str, algorithm: str = "sha-256") -> str:
    """Return the hash of a client as `caps.info` describes it (XEP-0390 §4.1)."""
    listed = "".join(f"{feature}\x1f" for feature in sorted(features))
    text = f"{listed}\x1cclient\x1fpc\x1f\x1f{name}\x1f\x1e\x1c\x1c"
    made = hashlib.new(algorithm.replace("sha-", "sha"), text.encode())
    return base64.b64encode(made.digest()).decode()


def element(*hashes: tuple[str, str]) -> str:
    """Return `<c/>` for presence with these (algorithm, digest)."""
    inner = "".join(f"<hash xmlns='urn:xmpp:hashes:2' algo='{a}'>{d}</hash>" for a, d in hashes)
    return f"<c xmlns='{CAPS2}'>{inner}</c>"


def asked(stack: Stack, node: str) -> object:
    """Return a matcher for the component's question about a node."""
    path = f"{{{ns.DISCO_INFO}}}query[@node='{node}']"
    return match("iq", type="get", from_=stack.component, has=path)


async def online(stack: Stack, name: str, children: str) -> RawClient:
    """Return a client that answers as MIX client `name`, with `children` in its presence."""
    client = await stack.raw(await stack.user())
    client.features, client.client_name = caps.MIX, name
    return await client.online(children)


async def hears(stack: Stack, client: RawClient) -> bool:
    """Tell whether a channel's message reaches the client."""
    channel = await stack.joined(client)
    stack.fake.say(channel.jid, client.bare, "heard")
    await stack.settle(client)
    return client.count(match("message", body="heard")) == 1


@pytest.mark.req("C5", "C1")
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
async def test_a_hash_is_learnt_once_for_all(stack: Stack, algorithm: str) -> None:
    name = f"caps2 {algorithm}"
    hashed = digest(caps.MIX, name, algorithm)
    node = f"{CAPS2}#{algorithm}.{hashed}"
    first = await online(stack, name, element((algorithm, hashed)))
    second = await online(stack, name, element((algorithm, hashed)))
    assert await hears(stack, first)
    assert await hears(stack, second)
    assert first.count(asked(stack, node)) == 1
    second.none(asked(stack, node))


@pytest.mark.req("C5", "C3")
@pytest.mark.abuse(16)
async def test_a_false_hash_counts_for_that_session_only(stack: Stack) -> None:
    hashed = digest(caps.PLAIN, "honest caps2 client")
    node = f"{CAPS2}#sha-256.{hashed}"
    liar = await online(stack, "liar", element(("sha-256", hashed)))
    assert await hears(stack, liar)
    honest = await stack.raw(await stack.user())
    honest.features, honest.client_name = caps.PLAIN, "honest caps2 client"
    await honest.online(element(("sha-256", hashed)))
    assert not await hears(stack, honest)
    assert honest.count(asked(stack, node)) == 1


@pytest.mark.req("C5")
async def test_an_unknown_algorithm_is_passed_over(stack: Stack) -> None:
    name = "caps2 of the future"
    children = element(("sha5-1024", "AAAA"), ("sha-256", digest(caps.MIX, name)))
    client = await online(stack, name, children)
    assert await hears(stack, client)
    # None that can be verified: the session is asked about itself.
    other = await online(stack, name, element(("sha5-1024", "AAAA")))
    assert await hears(stack, other)
    path = f"{{{ns.DISCO_INFO}}}query"
    assert other.count(match("iq", type="get", from_=stack.component, has=path)) == 1
