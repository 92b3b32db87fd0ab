"""A child process that ends with the demo, however the demo ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from tour.screen import Trouble

POLL = 0.05
"""Seconds between two looks at what a child does."""


class Process:
    """Run `argv`, write what it prints to `log`, and stop it by its pid."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, env: dict[str, str]) -> None:
        self.name = name
        # The kernel ends the child should the demo itself be killed.
        self.argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        self.log = log
        self.env = env
        self.child: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Tell whether the child is alive."""
        return self.child is not None and self.child.returncode is None

    async def start(self) -> None:
        """Start the child, out of reach of the terminal's Ctrl-C: the demo ends it in order."""
        with self.log.open("ab") as output:
            self.child = await asyncio.create_subprocess_exec(
                *self.argv,
                env=self.env,
                cwd=self.log.parent,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )

    async def answers(self, ip: str, *ports: int, seconds: float = 60) -> None:
        """Wait until all `ports` accept connections. Raises Trouble when they do not."""
        for port in ports:
            await self._until(partial(_connects, ip, port), f"{ip}:{port} to answer", seconds)

    async def says(self, text: str, *, seconds: float = 30) -> None:
        """Wait until the log contains `text`. Raises Trouble when it does not come."""

        async def said() -> bool:
            return text in self.log.read_text("utf-8", "replace")

        await self._until(said, f"its log to say {text!r}", seconds)

    async def _until(self, done: Callable[[], Awaitable[bool]], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not await done():
            if not self.running:
                raise Trouble(f"{self.name} ended early: {self.last_words()} (see {self.log})")
            if time.monotonic() > deadline:
                raise Trouble(f"waited {seconds:.0f} s for {what} (see {self.log})")
            await asyncio.sleep(POLL)

    def last_words(self) -> str:
        """Return the last line the child has printed."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else "without a word"

    async def stop(self, seconds: float = 4) -> None:
        """End the child with SIGTERM, after `seconds` with SIGKILL: its data is not kept."""
        if self.child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.child.wait(), seconds)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.child.kill()
            await self.child.wait()


async def _connects(ip: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(ip, port)
    except OSError:
        return False
    writer.close()
    return True
