"""What comes with a start or a new link, by whomever it was caused, and a neighbour beside it.

The kind: what the server, Redis and the channels say at once when the component is back: a
hostile presence again, a service that lies about all its participants;
and what keeps the link from coming back. The neighbour talks as soon as the component is ready.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from harness.bystander import MARGIN, Bystander, Neighbour, Report
from harness.detour import Listener, forwarder
from harness.mixpam import Mixpam
from harness.participants import refuses, tells
from harness.stack import Stack
from harness.steps import memberships, session

from component.store.keys import Keys
from schemas.records import MembershipRecord

pytestmark = [pytest.mark.slow, pytest.mark.abuse(11, 14), pytest.mark.timeout(120)]

DOMAINS = 2_500
CONNECTIONS = 1_200
HTTP_PORT = 5405
DETOUR = 5398
"""A port between component and server."""


async def beside(
    stack: Stack,
    neighbour: Neighbour,
    start: Callable[[], Awaitable[object]],
    lasts: float = 0.0,
    *,
    busy_server: bool = False,
) -> Report:
    """Have a quiet run, then what starts the component, and the run that counts right behind.

    If nothing but the latency was bad, all of it once more, as `withstood` does.
    """
    bystander = Bystander(stack, neighbour=neighbour)
    for retried in (False, True):
        await bystander.drop_idle()
        await start()
        await bystander.go()
        await asyncio.sleep(lasts)
        report = replace(await bystander.finish(busy_server=busy_server), retried=retried)
        report.keep()
        if report.hurt or report.later(busy_server=busy_server) < MARGIN:
            break
    return report.check(ready=False, busy_server=busy_server)


async def restart(stack: Stack) -> None:
    """Have the component be another process."""
    await stack.mixpam.stop()
    await stack.mixpam.start()


async def test_what_the_server_says_again(breakable: Stack, neighbour: Neighbour) -> None:
    """A hostile presence comes with every replay, for as long as its user is online."""
    hostile = (
        "<presence id='" + '"' * 200_000 + "'/>",
        f"<presence><x xmlns='urn:x' {'a' * 20_000}='1'/></presence>",
        f"<presence><x xmlns='urn:x'>{'<d>' * 500}{'</d>' * 500}</x></presence>",
        f"<presence><status>{chr(10) * 200_000}</status></presence>",
    )
    for presence in hostile:
        client = await breakable.raw(await breakable.user())
        await client.mix_online()
        await breakable.joined(client)
        client.send(presence)
        await client.fence()
    await beside(breakable, neighbour, lambda: restart(breakable), busy_server=True)


async def remember(stack: Stack, user: str, channels: list[str]) -> None:
    """Put memberships into Redis, as if the user had joined these channels."""
    records = [
        MembershipRecord(channel=channel, participant_id="p", nodes=[], core=1)
        for channel in channels
    ]
    fields = [part for each in records for part in (each.channel, each.model_dump_json())]
    await stack.redis.ask("HSET", Keys("mixpam").channels(user), *fields)


def long_domains(what: str) -> list[str]:
    """Name 2,500 domains of nobody, of 200 letters each."""
    label = "d" * 60
    return [f"{label}.{label}.{label}.{what}{number}.example" for number in range(DOMAINS)]


async def forgotten(stack: Stack, neighbour: Neighbour, users: dict[str, list[str]]) -> Report:
    """Restart with these channels in memory, beside the neighbour; forget them afterwards."""
    keys = Keys("mixpam")

    async def start() -> None:
        await stack.mixpam.stop()
        for user, channels in users.items():
            await remember(stack, user, channels)
        await stack.mixpam.start()

    try:
        return await beside(stack, neighbour, start, 2)
    finally:
        await stack.mixpam.stop()
        for user in users:
            await stack.redis.ask("DEL", keys.channels(user), keys.journal(user))
        await stack.mixpam.start()


async def test_channels_in_domains_of_their_own_that_one_roster_lacks(
    breakable: Stack, neighbour: Neighbour
) -> None:
    """All of them end, and each has a domain that is told to the tap and looked for in vain."""
    client = await breakable.raw(await breakable.user())
    await client.mix_online()
    channels = [f"c@{domain}" for domain in long_domains("own")]
    await forgotten(breakable, neighbour, {client.bare: channels})


async def test_channels_in_domains_of_their_own_of_accounts_that_are_gone(
    breakable: Stack, neighbour: Neighbour
) -> None:
    """The same, of fifty accounts that nobody has any more."""
    domains = long_domains("gone")
    users = {
        f"nobody{number}@{breakable.domain}": [f"c@{domain}" for domain in domains[number::50]]
        for number in range(50)
    }
    await forgotten(breakable, neighbour, users)


async def test_a_service_that_lies_at_the_roll_call(breakable: Stack, neighbour: Neighbour) -> None:
    """It says of everybody that they are gone, or refuses to say: nobody is taken out for it."""
    stack = breakable
    clients = [await session(stack) for _ in range(14)]
    for number, client in enumerate(clients):
        for _ in range(4):
            channel = await stack.joined(client)
            if number % 3:
                tells(channel, ("somebody", "somebody@else.example"))
            else:
                refuses(channel, "forbidden")
    await beside(stack, neighbour, lambda: restart(stack), 2)
    assert sum([len(await memberships(client)) for client in clients]) >= 4 * 14 // 2


async def test_half_requests_while_the_link_comes_back(
    breakable: Stack, neighbour: Neighbour
) -> None:
    """They can take no more descriptors than are theirs, so that there are some for the link."""
    stack, usual = breakable, breakable.mixpam
    ip, port = stack.server.place.ip, stack.server.component_port(stack.component)
    writers: list[asyncio.StreamWriter] = []

    def detour() -> Listener:
        return Listener(ip, DETOUR, forwarder(lambda: (ip, port)))

    detoured = Mixpam(stack.server, stack.redis.url, MIXPAM_SERVER_PORT=str(DETOUR))

    async def start() -> None:
        await stack.mixpam.stop()
        await again.aclose()
        stack.mixpam = detoured
        async with detour():
            await detoured.start()
            since = detoured.mark()
            for _ in range(CONNECTIONS):
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(0.5):
                        _, writer = await asyncio.open_connection(ip, HTTP_PORT)
                    writer.write(b"GET / HTTP/1.1\r\nHost: ")
                    writers.append(writer)
        await detoured.process.line(r'"event": ?"link-down"', 20, since=since)
        mark = detoured.mark()
        await again.enter_async_context(detour())
        await detoured.ready(mark)

    async with contextlib.AsyncExitStack() as again:
        try:
            await beside(stack, neighbour, start)
        finally:
            for writer in writers:
                writer.transport.abort()
            await detoured.stop()
            stack.mixpam = usual
            await usual.start()
