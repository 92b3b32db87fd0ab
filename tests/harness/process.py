"""A child process of the tests or the demo, whose output is kept and can be waited for."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Awaitable, Sequence
from pathlib import Path

from harness.loopback import answering

TAIL_LINES = 30


class ProcessDied(Exception):  # noqa: N818 - an event, not a bug
    """The process ended while something was expected of it."""


class Process:
    """Run `argv`, keep its output in `log`, and stop it by its pid.

    The kernel kills the child if its parent is killed. The terminal's Ctrl-C does not reach it: the
    parent stops it in order.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        self.log = log
        self.env = env
        self.cwd = cwd
        self.lines: list[str] = []
        self._changed = asyncio.Condition()
        self._child: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Tell whether the child is alive."""
        return self._child is not None and self._child.returncode is None

    @property
    def pid(self) -> int:
        """Return the child's process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Return the child's exit status, None while it runs."""
        return self._child.returncode if self._child else None

    async def start(self) -> None:
        """Start the child; its earlier output is forgotten, its log file continued."""
        self.lines = []
        self._child = await asyncio.create_subprocess_exec(
            *self.argv,
            env=self.env,
            cwd=self.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=2**24,
        )
        self._pump = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        with self.log.open("ab", buffering=0) as log:
            while data := await self._child.stdout.readline():
                log.write(data)
                async with self._changed:
                    self.lines.append(data.decode("utf-8", "replace").rstrip("\n"))
                    self._changed.notify_all()
        await self._child.wait()
        async with self._changed:
            self._changed.notify_all()

    async def line(self, pattern: str, within: float = 30.0, *, since: int = 0) -> str:
        """Return the first output line from number `since` on that matches `pattern`.

        Raises ProcessDied when the child ends first, TimeoutError after `within` seconds.
        """
        wanted = re.compile(pattern)
        position = since

        def found() -> str | None:
            nonlocal position
            while position < len(self.lines):
                position += 1
                if wanted.search(self.lines[position - 1]):
                    return self.lines[position - 1]
            return None

        async with self._changed:
            try:
                async with asyncio.timeout(within):
                    while (hit := found()) is None:
                        if not self.running:
                            raise ProcessDied(f"{self.name} ended early:\n{self.tail()}")
                        await self._changed.wait()
            except TimeoutError:
                raise TimeoutError(
                    f"{self.name} did not print {pattern!r} in {within} s:\n{self.tail()}"
                ) from None
            return hit

    async def answers(self, ip: str, *ports: int, within: float = 30.0) -> None:
        """Wait until all `ports` of `ip` accept connections.

        Raises ProcessDied when the child ends first, TimeoutError after `within` seconds.
        """
        for port in ports:
            await self.until(answering(ip, port, within))

    async def until(self, sign: Awaitable[object]) -> None:
        """Wait for a sign that the child is ready. Raises ProcessDied when it ends first."""
        assert self._pump is not None
        ready = asyncio.ensure_future(sign)
        await asyncio.wait({ready, self._pump}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            raise ProcessDied(f"{self.name} ended early:\n{self.tail()}")
        await ready

    @property
    def last_words(self) -> str:
        """Return the last line of output."""
        return self.lines[-1] if self.lines else "without a word"

    def tail(self) -> str:
        """Return the last lines of output, and where the rest is."""
        return "\n".join([*self.lines[-TAIL_LINES:], f"(all of it: {self.log})"])

    async def stop(self, *, kill: bool = False, within: float = 10.0) -> None:
        """Stop the child with SIGTERM; with SIGKILL after `within` seconds, or if `kill`."""
        if self._child is None:
            return
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL if kill else signal.SIGTERM)
        try:
            await asyncio.wait_for(self._child.wait(), within)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            await self._child.wait()
        if self._pump is not None:
            await self._pump

    async def ended(self) -> None:
        """Wait for the end of a child that was killed elsewhere."""
        if self._child is not None:
            await self._child.wait()
        if self._pump is not None:
            await self._pump

    def freeze(self) -> None:
        """Suspend the child (SIGSTOP): alive, but silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume a suspended child."""
        os.kill(self.pid, signal.SIGCONT)
