"""Which devices count as MIX (XEP-0369 "Discovering Client MIX Capability", XEP-0115)."""

import pytest
from harness import caps, ns
from harness.client import RawClient
from harness.stack import FreshStack, Stack
from harness.stanza import Match, match
from harness.stream import fresh

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def asked(stack: Stack) -> Match:
    """Return a matcher for the component's disco#info query."""
    return match("iq", type="get", from_=stack.component, has=f"{{{ns.DISCO_INFO}}}query")


async def reached(stack: Stack, client: RawClient, channel: str) -> bool:
    """Say something in the channel and tell whether the client got it."""
    id_ = stack.fake.say(channel, client.bare, fresh("word"))
    await stack.settle(client)
    return client.count(match("message", id=id_)) == 1


async def member(stack: Stack) -> tuple[RawClient, str]:
    """Return a client without presence of a fresh user who is in a channel, and the channel."""
    client = await stack.raw(await stack.user())
    channel = await stack.joined(client)
    return client, channel.jid


@pytest.mark.req("C1")
async def test_a_hash_is_learnt_once_for_all_users(stack: Stack) -> None:
    one, first = await member(stack)
    two, second = await member(stack)
    name = fresh("client")
    features = (ns.DISCO_INFO, ns.CORE1, f"urn:example:{name}")
    for client in (one, two):
        client.features = features
    await one.online(caps.element(features))
    assert one.count(asked(stack)) == 1
    assert await reached(stack, one, first)
    await two.online(caps.element(features))
    assert await reached(stack, two, second)
    two.none(asked(stack))


@pytest.mark.req("C1")
@pytest.mark.slow
async def test_a_hash_is_remembered_over_a_restart(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack()
    one, _ = await member(stack)
    two, second = await member(stack)
    await one.mix_online()
    assert one.count(asked(stack)) == 1
    await stack.mixpam.stop()
    await stack.mixpam.start()
    await two.mix_online()
    assert await reached(stack, two, second)
    two.none(asked(stack))


@pytest.mark.req("C2")
async def test_a_device_without_caps_is_asked(stack: Stack) -> None:
    client, channel = await member(stack)
    client.features = caps.MIX
    await client.online()
    assert client.count(asked(stack)) == 1
    assert await reached(stack, client, channel)
    client.presence("<show>away</show>")
    await client.fence()
    assert client.count(asked(stack)) == 1


@pytest.mark.req("C2")
async def test_a_device_without_caps_and_without_mix(stack: Stack) -> None:
    client, channel = await member(stack)
    client.features = caps.PLAIN
    await client.online()
    assert not await reached(stack, client, channel)


@pytest.mark.req("C3")
@pytest.mark.abuse(16)
async def test_a_wrong_hash_counts_for_that_session_only(stack: Stack) -> None:
    """A liar claims another client's hash: it harms nobody who has that hash honestly."""
    name = fresh("client")
    honest = (ns.DISCO_INFO, f"urn:example:{name}")
    claimed = caps.version(honest)
    liar, hers = await member(stack)
    victim, his = await member(stack)
    liar.features = (*honest, ns.CORE1)
    await liar.online(caps.element((), ver=claimed))
    assert await reached(stack, liar, hers)
    victim.features = honest
    await victim.online(caps.element(honest))
    assert victim.count(asked(stack)) == 1
    assert not await reached(stack, victim, his)
    assert await reached(stack, liar, hers)


@pytest.mark.req("C3")
@pytest.mark.abuse(16)
async def test_a_wrong_hash_cannot_silence_others(stack: Stack) -> None:
    name = fresh("client")
    honest = (ns.DISCO_INFO, ns.CORE1, f"urn:example:{name}")
    liar, hers = await member(stack)
    victim, his = await member(stack)
    liar.features = caps.PLAIN
    await liar.online(caps.element((), ver=caps.version(honest)))
    assert not await reached(stack, liar, hers)
    victim.features = honest
    await victim.online(caps.element(honest))
    assert await reached(stack, victim, his)


@pytest.mark.req("C4")
@pytest.mark.abuse(17)
@pytest.mark.parametrize("with_caps", [True, False])
async def test_a_device_that_does_not_answer_is_not_mix(stack: Stack, with_caps: bool) -> None:
    client, channel = await member(stack)
    client.features = None
    hash_ = caps.element((ns.CORE1, fresh("unknown"))) if with_caps else ""
    await client.online(hash_)
    assert client.count(asked(stack)) == 1
    assert not await reached(stack, client, channel)


@pytest.mark.req("C4")
async def test_a_device_that_answers_with_an_error_is_not_mix(stack: Stack) -> None:
    client, channel = await member(stack)
    client.presence()
    query = await client.expect(asked(stack))
    client.send(
        f"<iq type='error' id='{query['id']}' to='{query['from']}'><error type='cancel'>"
        f"<service-unavailable xmlns='{ns.STANZAS}'/></error></iq>"
    )
    assert not await reached(stack, client, channel)


@pytest.mark.abuse(5)
@pytest.mark.req("C4")
async def test_nobody_answers_for_another_device(stack: Stack) -> None:
    client, channel = await member(stack)
    other = await stack.raw(client.account)
    client.presence()
    query = await client.expect(asked(stack))
    other.send(
        f"<iq type='result' id='{query['id']}' to='{query['from']}'>{caps.info(caps.MIX)}</iq>"
    )
    await other.fence()
    assert not await reached(stack, client, channel)


@pytest.mark.req("P5")
async def test_a_device_that_changes_its_mind(stack: Stack) -> None:
    client, channel = await member(stack)
    await client.mix_online(caps.PLAIN)
    assert not await reached(stack, client, channel)
    await client.mix_online(caps.MIX)
    assert await reached(stack, client, channel)
    await client.mix_online(caps.PLAIN)
    assert not await reached(stack, client, channel)
