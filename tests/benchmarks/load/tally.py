"""Counts deliveries: which message, when, and that each device had each exactly once."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.load.device import Device

_TOKEN = re.compile(rb">b(\d+) ")
# Less than a token at the end of a read.
_PARTIAL = re.compile(rb">(?:b\d{0,7})?\Z")
_LONGEST = 10
PADDING = "x" * 300
"""Text that brings a message to the size of a talkative one (some 600 bytes)."""


class LostError(RuntimeError):
    """Messages did not arrive, or arrived twice."""


@dataclass
class Phase:
    """The results of one phase; `latencies` are seconds from sending to the last device."""

    messages: int = 0
    deliveries: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


class _Counter(asyncio.Protocol):
    """Takes a device's socket over and counts."""

    def __init__(self, tally: "Tally") -> None:
        self._tally = tally
        self._rest = b""
        self.count = 0

    def data_received(self, data: bytes) -> None:
        """Find the messages' tokens."""
        if self._rest:
            data = self._rest + data
        found = _TOKEN.findall(data)
        if found:
            self.count += len(found)
            self._tally.got(found)
        partial = _PARTIAL.search(data, max(0, len(data) - _LONGEST))
        self._rest = partial[0] if partial else b""


class Tally:
    """Sends messages by `publish` in a closed loop and counts them at `devices`."""

    def __init__(self, devices: list[Device], publish: Callable[[str], None]) -> None:
        self._publish = publish
        self._expected = len(devices)
        self._counters = []
        for device in devices:
            counter = _Counter(self)
            assert device.wire.transport is not None
            device.wire.transport.set_protocol(counter)
            self._counters.append(counter)
        self._number = 0
        self._left: dict[bytes, int] = {}
        self._sent: dict[bytes, float] = {}
        self._phase = Phase()
        self._until = 0.0
        self._last = 0.0
        self._drained: asyncio.Future[None] | None = None
        self._primed = 0

    def got(self, tokens: list[bytes]) -> None:
        """Take the data of one read of one device."""
        left = self._left
        for token in tokens:
            still = left.get(token, 0) - 1
            if still > 0:
                left[token] = still
            elif still == 0:
                del left[token]
                self._complete(token)
            elif int(token) > self._primed:
                self._fail(LostError(f"message {token!r} came too often"))

    def _complete(self, token: bytes) -> None:
        now = time.perf_counter()
        phase = self._phase
        phase.messages += 1
        phase.deliveries += self._expected
        phase.latencies.append(now - self._sent.pop(token))
        self._last = now
        if now < self._until:
            self._send()
        elif not self._left and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _fail(self, error: LostError) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(error)

    def _send(self) -> None:
        self._number += 1
        token = b"%d" % self._number
        self._left[token] = self._expected
        self._sent[token] = time.perf_counter()
        self._publish(f"b{self._number} {PADDING}")

    @property
    def newest(self) -> str:
        """Return the beginning of the last message."""
        return f">b{self._number} "

    async def prime(self) -> None:
        """Send messages until one has reached every device: all is ready.

        Raises LostError when none does.
        """
        for _ in range(15):
            self._primed = self._number + 1
            phase = self._phase = Phase()
            self._until = 0.0
            self._send()
            for _ in range(40):
                await asyncio.sleep(0.05)
                if phase.messages:
                    break
            if phase.messages:
                await self._quiet()
                self._left.clear()
                self._sent.clear()
                return
        missing = [counter.count for counter in self._counters]
        raise LostError(f"no message reached all devices; counts {min(missing)}..{max(missing)}")

    async def _quiet(self) -> None:
        """Wait until no copies of earlier messages arrive any more."""
        before = -1
        while (now := sum(counter.count for counter in self._counters)) != before:
            before = now
            await asyncio.sleep(1)

    async def run(self, seconds: float, window: int) -> Phase:
        """Keep `window` messages under way for `seconds`, then wait for the last.

        Raises LostError when a device missed one.
        """
        phase = self._phase = Phase()
        before = [counter.count for counter in self._counters]
        self._drained = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        self._until = start + seconds
        for _ in range(window):
            self._send()
        try:
            await asyncio.wait_for(self._drained, seconds + 60)
        except TimeoutError:
            raise LostError(f"{len(self._left)} messages did not reach all devices") from None
        phase.seconds = self._last - start
        for counter, was in zip(self._counters, before, strict=True):
            if counter.count - was != phase.messages:
                raise LostError(f"a device got {counter.count - was} of {phase.messages} messages")
        return phase
