"""All parts of the demo together: started one after the other, stopped in any state."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Awaitable
from pathlib import Path

from harness.process import Process, ProcessDied

from tour import certificate, servers
from tour.names import NameServer
from tour.ports import COMPONENT, DOMAIN, IP, REMOTE, choose
from tour.screen import Trouble, step
from tour.servers import Layout
from tour.story import ALICE, BOB, Cast

PORTS = {"c2s": 5222, "s2s": 5269, "component": 5347, "remote": 0, "redis": 6379, "http": 5405}


class Stage:
    """Redis, the server (two with Prosody), the component, in one temporary folder."""

    def __init__(self, software: str) -> None:
        self.software = software
        self.folder = Path(tempfile.mkdtemp(prefix="mixpam-demo-"))
        self.processes: list[Process] = []
        self.names: NameServer | None = None
        self.passwords = {user: secrets.token_hex(4) for user in (ALICE, BOB)}

    @property
    def remote(self) -> bool:
        """Tell whether the channel is on another server."""
        return self.software == "prosody"

    async def build(self) -> Cast:
        """Start everything, showing progress. Raises Trouble when a part does not start."""
        taken: set[int] = set()
        names = [DOMAIN, COMPONENT, f"mix.{DOMAIN}", REMOTE, f"mix.{REMOTE}"]
        layout = Layout(
            folder=self.folder,
            certificate=certificate.make(self.folder, names),
            secret=servers.new_secret(),
            **{name: choose(port, taken) for name, port in PORTS.items()},
        )
        async with step("Redis") as words:
            await self._start(servers.redis(self.folder, layout.redis), layout.redis)
            words.append(f"where mixpam remembers who is in which channel ({IP}:{layout.redis})")
        if self.remote:
            await self._start_prosody(layout)
        else:
            async with step("ejabberd") as words:
                server = await servers.ejabberd(layout)
                await self._start(server, layout.c2s, layout.s2s, layout.component)
                words.append("with the tap, and with channels of its own (mod_mix)")
        async with step("mixpam") as words:
            mixpam = servers.component(layout, sys.executable)
            await self._start(mixpam)
            await _awaited(mixpam, mixpam.line('"event": "ready"'))
            words.append(f"the component, connected to the tap in {_software(mixpam)}")
        return Cast(
            port=layout.c2s,
            certificate=layout.certificate,
            service=f"mix.{REMOTE if self.remote else DOMAIN}",
            passwords=self.passwords,
            register=not self.remote,
            status=layout.http,
        )

    async def _start_prosody(self, layout: Layout) -> None:
        async with step("Prosody") as words:
            server = servers.prosody(layout)
            for user, password in self.passwords.items():
                await servers.prosody_account(layout, user.partition("@")[0], password)
            await self._start(server, layout.c2s, layout.s2s, layout.component)
            words.append("with the tap; it knows nothing of MIX by itself")
        async with step("ejabberd") as words:
            self.names = NameServer([DOMAIN, COMPONENT], layout.s2s)
            server = servers.remote_ejabberd(layout, await self.names.start())
            await self._start(server, layout.remote)
            words.append(f"another server, {REMOTE}, where the channel is (mod_mix)")

    async def _start(self, process: Process, *ports: int) -> None:
        self.processes.append(process)
        await process.start()
        await _awaited(process, process.answers(IP, *ports, within=60))

    async def watch(self) -> Process:
        """Wait until some part ends, and return it."""
        while True:
            for process in self.processes:
                if not process.running:
                    return process
            await asyncio.sleep(0.5)

    async def strike(self, *, keep: bool) -> None:
        """Stop everything, mixpam first; delete the folder unless `keep`."""
        while self.processes:
            last = self.processes.pop()
            await last.stop(within=4)
        if self.names is not None:
            self.names.stop()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


async def _awaited(process: Process, sign: Awaitable[object]) -> None:
    """Wait until a process is ready. Raises Trouble with its last words when it is not."""
    try:
        await sign
    except ProcessDied:
        raise Trouble(
            f"{process.name} ended early: {process.last_words[:200]} (see {process.log})"
        ) from None
    except TimeoutError as error:
        raise Trouble(f"{str(error).splitlines()[0].rstrip(':')} (see {process.log})") from None


def _software(mixpam: Process) -> str:
    """Return what the tap said of its server: name and version."""
    records = [json.loads(text) for text in mixpam.lines]
    return next(str(r["software"]) for r in records if r["event"] == "tap")
