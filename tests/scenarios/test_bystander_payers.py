"""What one peer makes the service do or keep, and what a neighbour pays for it: nothing.

The kind: every table and every piece of work that a peer can grow is bounded in bytes and in
time, per user or per service. What grows here: presence of strangers, copies to many local
members, capabilities and their answers, nicks and nodes, rosters, joins, half requests.
"""

import asyncio
import contextlib

import pytest
from harness import caps, ns
from harness.bystander import LONG, Withstands
from harness.client import RawClient
from harness.fake import is_join
from harness.stack import Stack, client_join
from harness.stanza import match
from harness.steps import memberships, session
from harness.stream import fresh

pytestmark = [pytest.mark.slow, pytest.mark.abuse(8, 14), pytest.mark.timeout(120)]

MANY = 5 if LONG else 1
HTTP_PORT = 5405


def sized(size: int) -> str:
    """Return a child of so many bytes that is not compressible by repetition of names."""
    return f"<status>{'s' * size}</status>"


async def test_presences_of_any_size_for_somebody_who_is_away(
    stack: Stack, withstands: Withstands
) -> None:
    client = await session(stack)
    channel = await stack.joined(client)

    async def attack() -> None:
        for number in range(60 * MANY):
            stack.fake.send(
                f"<presence from='p{number}#{channel.jid}/r' to='{client.bare}'>"
                f"{sized(50_000)}</presence>"
            )
            await asyncio.sleep(0.05)

    await withstands(attack, busy_server=True)


async def test_presences_faster_than_anybody_reads(stack: Stack, withstands: Withstands) -> None:
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channel = await stack.joined(client)

    async def attack() -> None:
        for _ in range(3 * MANY):
            stack.fake.send(
                "".join(
                    f"<presence from='p{number}#{channel.jid}/r' to='{client.bare}'/>"
                    for number in range(300)
                )
            )
            await asyncio.sleep(0.5)

    await withstands(attack, busy_server=True)


async def test_a_device_that_is_seen_in_many_channels(stack: Stack, withstands: Withstands) -> None:
    """Each change of its presence, 20 kB of it, goes to every channel."""
    client = await stack.raw(await stack.user())
    await client.mix_online()
    for _ in range(60):
        await stack.joined(client)

    async def attack() -> None:
        for number in range(3 * MANY):
            client.presence(f"<priority>{number}</priority>{sized(20_000)}")
            await client.fence()
            await asyncio.sleep(0.5)

    await withstands(attack, busy_server=True)


async def test_capabilities_of_a_hash_that_means_two_things(
    stack: Stack, withstands: Withstands
) -> None:
    """XEP-0115's input can be cut differently; what is remembered helps the honest all the same."""
    features = (ns.DISCO_INFO, ns.CORE1, "urn:example:ambiguous")

    async def attack() -> None:
        name = fresh("ambiguous")
        element = caps.element(features, name)
        liar = await session(stack)
        liar.presence(element)
        asked = await liar.expect(match("iq", type="get", has=f"{{{ns.DISCO_INFO}}}query"))
        node = asked.need(f"{{{ns.DISCO_INFO}}}query").get("node", "")
        # As features they are hashed in this order; as a form, likewise.
        first, second, *others = sorted(features)
        rest = "".join(f"<value>{each}</value>" for each in others)
        liar.send(
            f"<iq type='result' id='{asked['id']}' to='{asked['from']}'>"
            f"<query xmlns='{ns.DISCO_INFO}' node='{node}'>"
            f"<identity category='client' type='pc' name='{name}'/>"
            f"<x xmlns='{ns.DATA}' type='result'><field var='FORM_TYPE' type='hidden'>"
            f"<value>{first}</value></field>"
            f"<field var='{second}'>{rest}</field></x></query></iq>"
        )
        await liar.fence()
        honest = await stack.raw(await stack.user())
        honest.client_name = name
        honest.features = features
        await honest.online(element)
        channel = await stack.joined(honest)
        id_ = stack.fake.say(channel.jid, honest.bare, "for an honest device")
        await honest.expect(match("message", id=id_))

    await withstands(attack)


async def test_devices_that_are_silent_about_themselves(
    stack: Stack, withstands: Withstands
) -> None:
    """They hold up nobody who has the same hash and answers."""
    features = (*caps.MIX, f"urn:example:{fresh('popular')}")

    async def attack() -> None:
        for _ in range(6 * MANY):
            silent = await session(stack)
            silent.presence(caps.element(features))
        honest = await stack.raw(await stack.user())
        channel = await stack.joined(honest)
        await honest.mix_online(features)
        async with asyncio.timeout(10):
            while not honest.count(match("message")):
                stack.fake.say(channel.jid, honest.bare, "for an honest device")
                await asyncio.sleep(0.3)

    await withstands(attack)


async def test_an_answer_of_thirteen_thousand_features(
    stack: Stack, withstands: Withstands
) -> None:
    async def attack() -> None:
        for _ in range(3 * MANY):
            client = await session(stack)
            client.features = tuple(f"urn:{number}" for number in range(10_000))
            client.presence(caps.element(client.features))
            await client.fence()
            await asyncio.sleep(0.7)

    await withstands(attack, busy_server=True)


async def test_nicks_and_nodes_of_any_size(stack: Stack, withstands: Withstands) -> None:
    """What is asked for and what the channel answers: neither fills memory or Redis."""
    before = int((await stack.redis.ask("INFO", "memory"))["used_memory"])

    async def attack() -> None:
        client = await session(stack)
        for _ in range(10 * MANY):
            large = fresh("n") + "n" * 60_000
            channel = stack.fake.channel(grant=tuple(f"urn:{n}:{'x' * 200}" for n in range(200)))
            await client.iq(client_join(client.bare, channel.jid, large), 15)
            await asyncio.sleep(0.1)
        await memberships(client)

    await withstands(attack, busy_server=True)
    grown = int((await stack.redis.ask("INFO", "memory"))["used_memory"]) - before
    assert grown < 1_000_000 * MANY


async def test_rosters_of_somebody_in_many_channels(stack: Stack, withstands: Withstands) -> None:
    client = await session(stack)
    for _ in range(90):
        await stack.joined(client)

    async def attack() -> None:
        for _ in range(10 * MANY):
            answer = await client.roster(annotate=True)
            assert answer.raw.count("participant-id") == 90
            await asyncio.sleep(0.2)

    await withstands(attack)


async def test_a_hundred_joins_at_once(stack: Stack, withstands: Withstands) -> None:
    """As a client does that moves house: none is refused, none holds others up."""

    async def attack() -> None:
        client = await session(stack)
        ids = [fresh("move") for _ in range(100)]
        for id_ in ids:
            request = client_join(client.bare, stack.fake.channel().jid)
            client.send(request.replace("<iq", f"<iq id='{id_}'", 1))
        answers = [await client.expect(match("iq", id=id_), 30) for id_ in ids]
        assert {answer["type"] for answer in answers} == {"result"}

    await withstands(attack)


async def test_joins_that_nobody_answers(stack: Stack, withstands: Withstands) -> None:
    async def attack() -> None:
        silent = [stack.fake.channel(join=lambda _: None) for _ in range(10)]
        clients: list[RawClient] = [await session(stack) for _ in range(5)]
        for client in clients:
            for channel in silent:
                request = client_join(client.bare, channel.jid)
                client.send(request.replace("<iq", f"<iq id='{fresh('nobody')}'", 1))
        await stack.fake.expect(is_join(silent[0].jid))
        await asyncio.sleep(2.5)

    await withstands(attack)


async def test_half_requests_to_the_http_port(stack: Stack, withstands: Withstands) -> None:
    """They can take no more descriptors than are theirs; `/readyz` may have to wait."""

    async def attack() -> None:
        writers: list[asyncio.StreamWriter] = []
        for number in range(300 * MANY):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.5):
                    _, writer = await asyncio.open_connection(stack.server.place.ip, HTTP_PORT)
                writer.write(b"GET / HTTP/1.1\r\nHost: ")
                writers.append(writer)
            if number % 50 == 0:
                await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        client = await session(stack)
        await stack.joined(client)
        for writer in writers:
            writer.transport.abort()

    await withstands(attack, ready=False)
