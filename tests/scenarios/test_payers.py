"""Somebody fills what can be filled, and somebody else must not pay.

Of the kind: whatever a peer can grow (what is known of clients, presence kept, told or waiting,
requests, answers) is bounded for that peer alone. Each attack is shown beside a neighbour,
who loses nothing, or beside the honest one of the same sort.
"""

import asyncio

import pytest
from harness import caps, ns
from harness.bystander import Withstands
from harness.client import RawClient
from harness.stack import Stack, client_join
from harness.stanza import Match, match
from harness.stream import fresh

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LARGE = "<status>" + 150_000 * "x" + "</status>"


async def member(stack: Stack) -> tuple[RawClient, str]:
    """Return a client without presence of a fresh user who is in a channel, and the channel."""
    client = await stack.raw(await stack.user())
    channel = await stack.joined(client)
    return client, channel.jid


def question(stack: Stack) -> Match:
    """Match the component's disco#info query."""
    return match("iq", type="get", from_=stack.component, has=f"{{{ns.DISCO_INFO}}}query")


async def reached(stack: Stack, client: RawClient, channel: str) -> bool:
    """Say something in the channel and tell whether the client got it."""
    id_ = stack.fake.say(channel, client.bare, fresh("word"))
    await stack.settle(client)
    return client.count(match("message", id=id_)) == 1


@pytest.mark.req("C3")
@pytest.mark.abuse(16)
async def test_features_hidden_in_a_form_harm_nobody(stack: Stack) -> None:
    """The bytes that are hashed are the same; what they mean must be, too."""
    honest = (ns.DISCO_INFO, ns.CORE1, f"urn:xmpp:zz:{fresh('client')}")
    first, *others = sorted(honest)
    values = "".join(f"<value>{each}</value>" for each in others[1:])
    liar, _ = await member(stack)
    victim, channel = await member(stack)
    liar.features = None
    liar.presence(caps.element(honest))
    asked = await liar.expect(
        match("iq", type="get", from_=stack.component, has=f"{{{ns.DISCO_INFO}}}query")
    )
    liar.send(
        f"<iq type='result' id='{asked['id']}' to='{asked['from']}'>"
        f"<query xmlns='{ns.DISCO_INFO}'><identity category='client' type='pc' name='test'/>"
        f"<feature var='{first}'/><x xmlns='jabber:x:data' type='result'>"
        f"<field var='FORM_TYPE' type='hidden'><value>{others[0]}</value></field>"
        f"<field var='{others[1]}'>{values.replace(f'<value>{others[1]}</value>', '')}</field>"
        "</x></query></iq>"
    )
    await stack.settle(liar)
    victim.features = honest
    await victim.online(caps.element(honest))
    assert await reached(stack, victim, channel)


@pytest.mark.req("C1")
@pytest.mark.abuse(17)
async def test_silent_devices_of_a_hash_cost_only_themselves(stack: Stack) -> None:
    honest = (ns.DISCO_INFO, ns.CORE1, f"urn:example:{fresh('client')}")
    for _ in range(7):
        silent = await stack.raw(await stack.user())
        silent.features = None
        silent.presence(caps.element(honest))
    victim, channel = await member(stack)
    victim.features = honest
    victim.presence(caps.element(honest))
    await victim.expect(question(stack), 5)
    await stack.settle(victim)
    assert await reached(stack, victim, channel)


@pytest.mark.abuse(8)
async def test_large_presence_to_many_channels(stack: Stack, withstands: Withstands) -> None:
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channels = [await stack.joined(client) for _ in range(60)]

    async def attack() -> None:
        for number in range(20):
            client.presence(f"{caps.element(caps.MIX)}<show>away</show>{LARGE}<a>{number}</a>")
            await asyncio.sleep(0.05)
        await stack.settle(client)

    (await withstands(attack)).check()
    last = match(
        "presence",
        from_=client.jid,
        to=channels[-1].jid,
        test=lambda s: s.text(f"{{{ns.CLIENT}}}show") == "away" and "xxx" not in s.raw,
    )
    await stack.fake.expect(last, 20)


@pytest.mark.abuse(14)
async def test_one_users_thousand_requests(stack: Stack, withstands: Withstands) -> None:
    client = await stack.raw(await stack.user())
    await client.mix_online()

    async def attack() -> None:
        padding = 200 * "x"
        for number in range(1_000):
            client.send(
                f"<iq type='get' id='r{number}' to='{stack.component}'>"
                f"<query xmlns='{ns.DISCO_INFO}' a='{padding}'/></iq>"
            )
            if number % 100 == 0:
                await asyncio.sleep(0.02)
        await stack.settle(client)

    (await withstands(attack)).check()


@pytest.mark.abuse(8)
async def test_large_presence_of_a_channels_people(stack: Stack, withstands: Withstands) -> None:
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channel = stack.fake.channel()
    request = client_join(client.bare, channel.jid, nodes=("messages", "presence"))
    assert (await client.iq(request))["type"] == "result"
    client.presence("<show>away</show>")
    await client.close()

    async def attack() -> None:
        for number in range(150):
            stack.fake.send(
                f"<presence from='{number}#{channel.jid}/r' to='{client.bare}'>{LARGE}</presence>"
            )
            await asyncio.sleep(0.01)
        await stack.settle()

    (await withstands(attack)).check()


@pytest.mark.abuse(16)
async def test_ever_new_hashes(stack: Stack, withstands: Withstands) -> None:
    client = await stack.raw(await stack.user())
    await client.mix_online()

    async def attack() -> None:
        for _ in range(150):
            await asyncio.sleep(0.01)
            client.presence(caps.element((), ver=caps.version((fresh("urn:x"),))))
        await stack.settle(client)

    (await withstands(attack)).check()
    assert client.count(question(stack)) < 130


@pytest.mark.abuse(16)
async def test_an_answer_of_ten_thousand_features(stack: Stack, withstands: Withstands) -> None:
    client = await stack.raw(await stack.user())
    client.features = tuple(f"u:{number}" for number in range(8_000))
    client.presence()

    async def attack() -> None:
        for _ in range(10):
            client.presence(caps.element((), ver=caps.version((fresh("urn:x"),))))
            await asyncio.sleep(0.1)
        await stack.settle(client)

    (await withstands(attack)).check()
