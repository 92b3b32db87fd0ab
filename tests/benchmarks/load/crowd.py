"""Members of channels who stay, and the messages that each of their devices must have received.

Messages have numbers that only rise, and a member is in one channel, so a device that receives a
number not above its last has received one twice or out of order.
"""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.server import Server

from benchmarks.load import archive
from benchmarks.load.device import (
    Device,
    disco_answers,
    fresh_names,
    join,
    login,
    register,
    unregister,
)
from benchmarks.load.service import Service

_PARTIAL = re.compile(rb">(?:b\d{0,8})?\Z")
_LONGEST = 11
_AT_ONCE = 20
_BODY = "x" * 120


@dataclass(slots=True)
class Message:
    """One message: when it was due and was sent, how many devices still miss it."""

    due: float
    sent: float
    left: int
    latency: float | None = None


class Ear(asyncio.Protocol):
    """Takes a device's socket over and records arriving messages."""

    def __init__(self, device: Device, crowd: "Crowd", features: tuple[str, ...]) -> None:
        self.device = device
        self.got: set[int] = set()
        self.last = 0
        self.disorder: list[int] = []
        self._crowd = crowd
        self._features = features
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Find the messages' numbers; answer the component's queries."""
        if b"disco#info" in data:
            self.device.wire.write("".join(disco_answers(self._features, data)))
        data = self._rest + data
        for found in archive.NUMBER.findall(data):
            number = int(found)
            if number <= self.last:
                self.disorder.append(number)
            else:
                self.last = number
                self.got.add(number)
                self._crowd.delivered(number)
        partial = _PARTIAL.search(data, max(0, len(data) - _LONGEST))
        self._rest = partial[0] if partial else b""


@dataclass
class Member:
    """A user who stays in one channel, with the ears of all devices."""

    channel: str
    ears: list[Ear] = field(default_factory=list)

    @property
    def device(self) -> Device:
        """The first device."""
        return self.ears[0].device


@dataclass
class Verdict:
    """The findings at the end of a lap."""

    archived: int = 0
    not_archived: list[str] = field(default_factory=list)
    archived_twice: list[str] = field(default_factory=list)
    disorder: list[str] = field(default_factory=list)
    not_live: set[int] = field(default_factory=set)


class Crowd:
    """Members and the messages to them; `on_complete` is called for each complete message."""

    def __init__(self, server: Server, service: Service, features: tuple[str, ...]) -> None:
        self._server = server
        self._service = service
        self._features = features
        self.members: list[Member] = []
        self.channels: list[str] = []
        self.messages: dict[int, Message] = {}
        self.by_channel: defaultdict[str, list[int]] = defaultdict(list)
        self.on_complete: Callable[[], None] = lambda: None
        self._devices: defaultdict[str, int] = defaultdict(int)

    async def gather(self, users: int, per_user: int, channels: int) -> None:
        """Make accounts and devices, and let them join."""
        place = self._server.place
        names = fresh_names(users)
        self.channels = [self._service.channel() for _ in range(channels)]
        gate = asyncio.Semaphore(_AT_ONCE)

        async def come(number: int, name: str) -> None:
            async with gate:
                await register(place, name)
                devices = [
                    await login(place, name, f"d{k}", self._features) for k in range(per_user)
                ]
                member = Member(self.channels[number % channels])
                await join(devices[0], member.channel)
                for device in devices:
                    ear = Ear(device, self, self._features)
                    member.ears.append(ear)
                    assert device.wire.transport is not None
                    device.wire.transport.set_protocol(ear)
                self.members.append(member)
                self._devices[member.channel] += per_user

        # From the first one the component learns the capabilities of all.
        await come(0, names[0])
        await asyncio.sleep(0.5)
        await asyncio.gather(*[come(n, name) for n, name in enumerate(names) if n])
        await asyncio.sleep(1)

    def publish(self, number: int, due: float) -> None:
        """Let a channel send a message with a number; channels take turns."""
        channel = self.channels[number % len(self.channels)]
        self.messages[number] = Message(due, time.perf_counter(), self._devices[channel])
        self.by_channel[channel].append(number)
        self._service.say(channel, f"b{number} {_BODY}")

    def delivered(self, number: int) -> None:
        """Note that one device has received a message."""
        message = self.messages.get(number)
        if message is None:
            return
        message.left -= 1
        if not message.left:
            message.latency = time.perf_counter() - message.due
            self.on_complete()

    @property
    def under_way(self) -> set[int]:
        """The messages that have not reached all devices."""
        return {number for number, message in self.messages.items() if message.left > 0}

    async def settle(self, patience: float) -> None:
        """Wait until nothing arrives any more."""
        quiet, before = 0, -1
        until = time.perf_counter() + patience
        while quiet < 3 and time.perf_counter() < until:
            await asyncio.sleep(1)
            now = len(self.under_way)
            quiet = quiet + 1 if now in {0, before} else 0
            before = now

    async def verify(self) -> Verdict:
        """Compare devices and archives with the sent messages."""
        verdict = Verdict()
        gate = asyncio.Semaphore(4)

        async def one(member: Member) -> None:
            expected = self.by_channel[member.channel]
            for ear in member.ears:
                verdict.not_live |= set(expected) - ear.got
                verdict.disorder += [f"{ear.device.jid} {number}" for number in ear.disorder]
            async with gate:
                account(verdict, member.device, expected, await stored(member.device))

        await asyncio.gather(*[one(member) for member in self.members])
        return verdict

    async def scatter(self) -> None:
        """Remove all accounts, archives and all."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def go(member: Member) -> None:
            async with gate:
                await unregister(member.device)
                for ear in member.ears[1:]:
                    ear.device.wire.close()

        await asyncio.gather(*[go(member) for member in self.members])


async def stored(device: Device) -> list[int]:
    """Read a device's archive; its ear receives nothing from now on."""
    assert device.wire.transport is not None
    device.wire.transport.set_protocol(device.wire)
    return await archive.numbers(device)


def account(verdict: Verdict, device: Device, expected: list[int], found: list[int]) -> None:
    """Record the messages that an archive lacks or has twice."""
    verdict.archived += len(found)
    once = set(found)
    verdict.not_archived += [f"{device.bare} {each}" for each in expected if each not in once]
    if len(once) != len(found):
        verdict.archived_twice.append(f"{device.bare}: {len(found) - len(once)} times")
