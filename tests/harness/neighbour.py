"""An honest channel and a user with two devices, in a process of their own.

A separate process, because the test's own load must not affect the measurement. Run as ``python -m
harness.neighbour JSON``; `harness.bystander` does. Lines come on standard input (``go PACE``,
``stop MESSAGES TAIL``, ``leave``) and go, one JSON each, to standard output.
"""

import asyncio
import json
import sys
from typing import Final

from harness.client import Account, RawClient, register
from harness.component import Link
from harness.fake import FakeService, Script
from harness.loopback import Place
from harness.stack import client_join
from harness.stanza import Stanza
from harness.stream import fresh

PATIENCE: Final = 10.0
"""Seconds that the last messages have to arrive."""
READY_EVERY: Final = 0.1
"""Seconds between two queries whether the component is ready."""


class Ear(RawClient):
    """A device that records when each message of a run came."""

    heard: list[tuple[int, float]]
    straight: list[tuple[int, float]]

    def arrived(self, stanza: Stanza) -> None:
        """Record a numbered message, and take all others as any client does."""
        id_ = stanza["id"]
        if stanza.name == "message" and id_.startswith(("by-", "st-")):
            heard = self.heard if id_.startswith("by-") else self.straight
            heard.append((int(id_[3:]), asyncio.get_running_loop().time()))
            return
        super().arrived(stanza)


class Neighbour:
    """The channel, its one member, and the member's measurements."""

    def __init__(self, place: Place, honest: str, port: int, component: str) -> None:
        self.place = place
        self.component = component
        self.pace = 0.0
        self.service = FakeService(Link(honest, place, port=port))
        self.ears: list[Ear] = []
        self.channel: Script | None = None
        self.sent: dict[int, float] = {}
        self.numbers = 0
        self.unready = 0
        self.asked = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def settle_in(self, name: str) -> None:
        """Create a user of that name, log in both devices and let one join."""
        await self.service.connect()
        account: Account = await register(self.place, name=name)
        for _ in range(2):
            ear = Ear(account, fresh("ear"))
            ear.heard = []
            ear.straight = []
            await ear.login()
            ear.components = [self.component]
            await ear.mix_online()
            self.ears.append(ear)
        self.channel = Script(f"{name}@{self.service.jid}")
        self.service.channels[self.channel.jid] = self.channel
        answer = await self.ears[0].iq(client_join(account.jid, self.channel.jid), 20)
        assert answer["type"] == "result", answer.raw
        for ear in self.ears:
            await ear.fence()

    def go(self, pace: float) -> None:
        """Begin a run, with the given seconds from one message to the next."""
        self.pace = pace
        self.sent = {}
        self.unready = self.asked = 0
        for ear in self.ears:
            ear.heard = []
            ear.straight = []
        self._tasks = [asyncio.create_task(self._talk()), asyncio.create_task(self._watch())]

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        assert self.channel is not None
        due = loop.time()
        while True:
            self.numbers += 1
            self.sent[self.numbers] = loop.time()
            self._say(self.ears[0].bare, "by")
            # mixpam never sees messages to a full JID: they show how busy the server is.
            self._say(self.ears[0].jid, "st")
            due = max(due + self.pace, loop.time())
            await asyncio.sleep(due - loop.time())

    def _say(self, to: str, kind: str) -> None:
        assert self.channel is not None
        self.service.send(
            f"<message from='{self.channel.jid}' to='{to}' type='groupchat' "
            f"id='{kind}-{self.numbers}'><body>message {self.numbers}</body>"
            "<mix xmlns='urn:xmpp:mix:core:1'><nick>Hecate</nick></mix>"
            # Mnesia's archive searches all of a user's messages for each new one: thousands of
            # these would be an attack of their own.
            "<no-store xmlns='urn:xmpp:hints'/></message>"
        )

    async def _watch(self) -> None:
        while True:
            self.asked += 1
            if await ready(self.place.ip) is False:
                self.unready += 1
            await asyncio.sleep(READY_EVERY)

    async def stop(self, at_least: int, tail: float) -> dict[str, object]:
        """End a run after at least so many messages and seconds, and return the outcome."""
        await asyncio.sleep(tail)
        await asyncio.sleep(max(0, at_least - len(self.sent)) * self.pace)
        while len(self.sent) < at_least:  # noqa: ASYNC110 - a paced sender wakes nobody
            await asyncio.sleep(self.pace)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(int(PATIENCE / self.pace)):
            if all(len(ear.heard) >= len(self.sent) for ear in self.ears):
                break
            await asyncio.sleep(self.pace)
        expected = list(self.sent)
        return {
            "sent": len(expected),
            "live": [len({number for number, _ in ear.heard}) for ear in self.ears],
            "in_order_once": [_in_order_once(ear.heard) for ear in self.ears],
            "latencies": [taken for ear in self.ears for taken in self._latencies(ear.heard)],
            "straight": self._latencies(self.ears[0].straight),
            "asked": self.asked,
            "unready": self.unready,
        }

    def _latencies(self, heard: list[tuple[int, float]]) -> list[float]:
        return [round(at - self.sent[number], 5) for number, at in heard if number in self.sent]

    async def leave(self) -> None:
        """Log out in order."""
        for ear in self.ears:
            await ear.close()
        await self.service.close()


def _in_order_once(heard: list[tuple[int, float]]) -> bool:
    numbers = [number for number, _ in heard]
    return numbers == sorted(set(numbers))


async def ready(ip: str, port: int = 5405) -> bool | None:
    """Query `/readyz`; None if nothing answers, which says nothing about the link."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(ip, port)
            try:
                writer.write(
                    b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                )
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    return b" 200 " in status


async def main(given: str) -> None:
    """Execute the commands on standard input."""
    facts = json.loads(given)
    neighbour = Neighbour(
        Place(facts["ip"], facts["domain"]),
        facts["honest"],
        facts["port"],
        facts["component"],
    )
    await neighbour.settle_in(facts["name"])
    say({"settled": True})
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().split():
        if line[0] == "go":
            neighbour.go(float(line[1]))
            say({"going": True})
        elif line[0] == "stop":
            say(await neighbour.stop(int(line[1]), float(line[2])))
        elif line[0] == "leave":
            break
    await neighbour.leave()


def say(what: dict[str, object]) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
