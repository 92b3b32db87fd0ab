"""A channel that floods: memory stays bounded, and nobody else waits for it."""

import asyncio
import re
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import ns
from harness.client import RawClient
from harness.fake import FakeService, Script
from harness.process import Process
from harness.stack import Stack, client_join
from harness.stanza import match

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FreshStack = Callable[..., Awaitable[Stack]]
PEOPLE = 10_000
CHUNK = 100
GROWTH = 24 * 1024
"""KiB the component may grow while it meets 10,000 people; 1,000 are remembered."""
CREEP = 8 * 1024
"""KiB it may grow when they all come and go once more."""
PATIENCE = 0.5
"""Seconds that another user's message may take longer while as much as possible is sent.

All that a server and a component tell each other stands in one line, so a flood is felt:
2 ms become some 20. The bound is wide because machines that run tests are busy; without
the taps' and the component's bounds it would be seconds.
"""


def resident(process: Process) -> int:
    """Return the KiB of memory a process has in use."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


async def member(stack: Stack, channel: Script) -> RawClient:
    """Return an online MIX client of a fresh user who is in the channel, with presence."""
    client = await stack.raw(await stack.user())
    await client.mix_online()
    request = client_join(client.bare, channel.jid, nodes=("messages", "presence"))
    answer = await client.iq(request)
    assert answer["type"] == "result", answer.raw
    return client


async def sink(client: RawClient) -> None:
    """Let a client take all it gets without looking: reading is not what is measured."""
    assert client._task is not None
    client._task.cancel()
    await asyncio.wait({client._task})
    reader = client._reader
    assert reader is not None

    async def discard() -> None:
        while await reader.read(1 << 20):
            pass

    client._task = asyncio.create_task(discard())


async def crowd(fake: FakeService, channel: Script, to: str, era: int) -> None:
    """Have everybody come and go again, each announced by an event and by presence."""
    assert fake._writer is not None
    for type_ in ("", " type='unavailable'"):
        for start in range(0, PEOPLE, CHUNK):
            stanzas = []
            for number in range(start, start + CHUNK):
                pid = f"p{era}x{number}"
                stanzas.append(
                    f"<presence from='{pid}#{channel.jid}/r' to='{to}'{type_}>"
                    f"<mix xmlns='{ns.MIX_PRESENCE}'><nick>{pid}</nick></mix></presence>"
                )
                inner = f"<retract id='{pid}'/>" if type_ else f"<item id='{pid}'/>"
                stanzas.append(
                    f"<message from='{channel.jid}' to='{to}'><event xmlns='{ns.PUBSUB_EVENT}'>"
                    f"<items node='{ns.NODES}participants'>{inner}</items></event></message>"
                )
            fake.send("".join(stanzas))
            await fake._writer.drain()
            await asyncio.sleep(0)


async def worked_off(stack: Stack) -> None:
    """Wait until server and component have nothing left of what the channel sent."""
    for _ in range(2):
        await stack.fake.iq(
            f"<iq type='get' from='{stack.fake.jid}' to='{stack.component}'>"
            f"<ping xmlns='{ns.PING}'/></iq>",
            120,
        )


@dataclass(frozen=True)
class Latency:
    """Median seconds of a message by way of the component, and of one that goes straight."""

    through: float
    straight: float


async def latency(
    service: FakeService, channel: Script, client: RawClient, until: Callable[[int], bool]
) -> Latency:
    """Send pairs of messages to a client, ten a second, and see how long each takes."""
    loop = asyncio.get_running_loop()
    taken: dict[str, list[float]] = {client.bare: [], client.jid: []}
    while not until(len(taken[client.jid])):
        for to, times in taken.items():
            began = loop.time()
            id_ = service.say(channel.jid, to, "tick")
            await client.expect(match("message", id=id_), 60)
            times.append(loop.time() - began)
        await asyncio.sleep(0.1)
    return Latency(statistics.median(taken[client.bare]), statistics.median(taken[client.jid]))


@pytest.mark.abuse(8)
async def test_ten_thousand_people_come_and_go(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(MIXPAM_LOG_LEVEL="info")
    loud = stack.fake.channel()
    victim = await member(stack, loud)
    # The other user's channel is on a service, and so on a connection, of its own.
    await stack.stranger.cut()
    service = FakeService(stack.server.link(stack.server.stranger))
    await service.connect()
    calm = service.channel()
    other = await member(stack, calm)
    await sink(victim)
    stack.devices.remove(victim)

    quiet = await latency(service, calm, other, lambda pairs: pairs >= 15)
    before = resident(stack.mixpam.process)
    flood = asyncio.create_task(crowd(stack.fake, loud, victim.bare, 1))
    busy = await latency(service, calm, other, lambda _: flood.done())
    await flood
    await worked_off(stack)
    first = resident(stack.mixpam.process)
    await crowd(stack.fake, loud, victim.bare, 2)
    await worked_off(stack)
    second = resident(stack.mixpam.process)

    print(f"{stack.kind}: quiet {quiet}, flood {busy}; {before}, {first}, {second} KiB")
    assert first - before < GROWTH
    assert second - first < CREEP
    assert busy.through < quiet.through + PATIENCE
    await victim.cut()
    await service.cut()


@pytest.mark.abuse(8)
@pytest.mark.req("P4")
async def test_a_crowd_too_large_to_remember_is_asked_for(fresh_stack: FreshStack) -> None:
    """Half a memory is not told for the whole."""
    stack = await fresh_stack(MIXPAM_PRESENCE_MEMORY="50")
    channel = stack.fake.channel()
    client = await member(stack, channel)
    for number in range(60):
        sender = f"p{number}#{channel.jid}/r"
        stack.fake.send(f"<presence from='{sender}' to='{client.bare}'/>")
    await stack.settle(client)
    theirs = match("presence", test=lambda s: channel.jid in s["from"])
    assert client.count(theirs) == 60
    asked = match("presence", from_=client.bare, to=channel.jid, type=None)
    stack.fake.none(asked)
    second = await stack.raw(client.account)
    await second.mix_online()
    await stack.fake.expect(asked)
    await stack.settle(second)
    second.none(theirs)
    assert stack.fake.count(asked) == 1
