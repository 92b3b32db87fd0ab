"""The common part of Prosody and ejabberd instances."""

import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from harness.component import SECRET, Link
from harness.loopback import Block, Place
from harness.machines import REPOSITORY, Kind, Machine
from harness.process import Process

DEBUG: Final = bool(os.environ.get("MIXPAM_TEST_DEBUG"))


class Server(ABC):
    """One server process with its own address, domain, configuration and data.

    With `tap`, the configuration is the one shipped in ``deploy/``, changed only textually;
    without, a minimal server (for channels on real mod_mix).
    """

    tree: Path = REPOSITORY
    """The tree with tap and configuration, used at the start; it may be another version's."""

    def __init__(self, kind: Kind, block: Block, *, tap: bool = True) -> None:
        self.kind = kind
        self.block = block
        self.place: Place = block.place()
        self.domain = self.place.domain
        self.component = f"mixpam.{self.domain}"
        self.fake = f"fake.{self.domain}"
        self.stranger = f"stranger.{self.domain}"
        self.honest = f"honest.{self.domain}"
        self.tap = tap
        self.machine = Machine(kind.suite)
        self.folder: Path = self.machine.folder(kind.name)
        self.process = Process(
            kind.name,
            self.machine.command(
                "env", "-C", self.machine.inside(self.folder), *self.argv(), hosts=self.hosts()
            ),
            self.folder / "server.log",
            env=self.environment(),
        )

    @abstractmethod
    def argv(self) -> list[str]:
        """Return the command, as the machine sees it."""

    def hosts(self) -> Path | None:
        """Return the file to use as /etc/hosts, None for the machine's."""
        return None

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Return the process's environment."""

    @abstractmethod
    def write(self) -> None:
        """Write configuration and modules into the folder."""

    @abstractmethod
    def ports(self) -> list[int]:
        """Return the ports that answer when the server is ready."""

    def component_port(self, jid: str) -> int:
        """Return the port for the component `jid`."""
        del jid
        return 5347

    @property
    def archives(self) -> bool:
        """Tell whether the server archives by default, as in the examples."""
        return True

    def inside(self, name: str) -> str:
        """Return the server's own path of `name` in its folder."""
        return self.machine.inside(self.folder / name)

    async def start(self) -> "Server":
        """Start the server and return when all its ports answer."""
        self.write()
        await self.process.start()
        await self.process.answers(self.place.ip, *self.ports())
        return self

    async def stop(self, *, kill: bool = False) -> None:
        """Stop the server; its data stays."""
        await self.process.stop(kill=kill)

    def remove(self) -> None:
        """Delete configuration, data and logs."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def link(self, jid: str | None = None, secret: str = SECRET) -> Link:
        """Return a scripted component `jid`, by default in mixpam's place; not connected."""
        jid = jid or self.component
        return Link(jid, self.place, port=self.component_port(jid), secret=secret)
