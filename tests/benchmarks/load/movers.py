"""Users who come and go: they join, stay a moment, change their presence, leave, join again.

A channel's messages between the join's result and the leave request must be in the archive.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from harness import caps
from harness.server import Server

from benchmarks.load import archive
from benchmarks.load.crowd import Verdict, account, stored
from benchmarks.load.device import (
    Device,
    disco_answers,
    fresh_names,
    join,
    leave,
    login,
    register,
    unregister,
)
from benchmarks.load.wire import RefusedError, Wire

_STAY = (2.0, 6.0)
_RETRY = 1.0


class Mover:
    """One such user; `now` gives the number of the last message that was sent."""

    def __init__(self, device: Device, features: tuple[str, ...], now: Callable[[], int]) -> None:
        self._device = device
        self._features = features
        self._now = now
        self._last = 0
        self._stopped = asyncio.Event()
        self._disorder: list[int] = []
        # Channel, first and last number of each stay.
        self._stays: list[tuple[str, int, int]] = []
        self.counts: Counter[str] = Counter()
        device.wire.overhear = self._hear

    def _hear(self, wire: Wire, data: bytes) -> None:
        if b"disco#info" in data:
            wire.write("".join(disco_answers(self._features, data)))
        for found in archive.NUMBER.findall(data):
            number = int(found)
            if number <= self._last:
                self._disorder.append(number)
            self._last = max(self._last, number)

    async def live(self, channels: list[str]) -> None:
        """Come and go until stopped."""
        rng = random.Random(self._device.bare)  # noqa: S311 - spreads, hides nothing
        while not self._stopped.is_set():
            channel = rng.choice(channels)
            if not await self._done("joins", join(self._device, channel)):
                # Whether it succeeded is not known.
                await self._out(channel)
                continue
            first = self._now() + 1
            await asyncio.sleep(rng.uniform(*_STAY))
            if rng.random() < 0.5:
                await self._be_away(rng.uniform(0.5, 2))
            self._stays.append((channel, first, self._now()))
            await self._out(channel)

    async def _be_away(self, seconds: float) -> None:
        self._device.wire.write("<presence type='unavailable'/>")
        await asyncio.sleep(seconds)
        self._device.wire.write(f"<presence>{caps.element(self._features)}</presence>")
        self.counts["presence changes"] += 2

    async def _out(self, channel: str) -> None:
        done = False
        while not done:
            done = await self._done("leaves", leave(self._device, channel))

    async def _done(self, what: str, wish: Awaitable[None]) -> bool:
        try:
            await wish
        except RefusedError as error:
            if what == "leaves" and "item-not-found" in str(error):
                return True
            self.counts[f"{what} refused"] += 1
            await asyncio.sleep(_RETRY)
            return False
        self.counts[what] += 1
        return True

    def stop(self) -> None:
        """Stop after the next leave."""
        self._stopped.set()

    async def verify(self, verdict: Verdict, by_channel: dict[str, list[int]]) -> None:
        """Compare the archive with the stays."""
        expected = [
            number
            for channel, first, last in self._stays
            for number in by_channel[channel]
            if first <= number <= last
        ]
        self._device.wire.overhear = None
        verdict.disorder += [f"{self._device.jid} {number}" for number in self._disorder]
        account(verdict, self._device, expected, await stored(self._device))
        await unregister(self._device)


async def movers(
    server: Server, features: tuple[str, ...], count: int, now: Callable[[], int]
) -> list[Mover]:
    """Make accounts that come and go."""
    made = []
    for name in fresh_names(count):
        await register(server.place, name)
        made.append(Mover(await login(server.place, name, "m", features), features, now))
    return made
