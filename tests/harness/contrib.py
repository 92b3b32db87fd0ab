"""An ejabberd that installs the tap by `module_install`, as operators do, and evaluates Erlang."""

import asyncio
import contextlib
import shutil
import struct
from collections.abc import AsyncIterator
from pathlib import Path

from harness.ejabberd import Ejabberd
from harness.house import TapHouse
from harness.loopback import answering
from harness.machines import REPOSITORY

CONTROL_PORT = 5399


class ContribEjabberd(Ejabberd):
    """ejabberd with the tap among its contributed modules."""

    def argv(self) -> list[str]:
        """Return the command: without the tap's folder, with `erlang_control`."""
        return [*super().argv(), "-erlang_control", self.place.ip, "-s", "erlang_control"]

    def environment(self) -> dict[str, str]:
        """Return the process's environment."""
        return super().environment() | {"CONTRIB_MODULES_PATH": self.inside("modules")}

    def ports(self) -> list[int]:
        """Return the ports that answer before there is a tap."""
        return [*super().ports(), CONTROL_PORT]

    async def start(self) -> "ContribEjabberd":
        """Start without the tap, then install and configure it."""
        self.configured = False
        self.lay_out()
        await super().start()
        assert await self.erlang("ext_mod:install(mod_mixpam_tap)") == "ok"
        self.configured = True
        self.write()
        assert await self.erlang("ejabberd_config:reload()") == "ok"
        for port in self.ports():
            await answering(self.place.ip, port)
        return self

    def lay_out(self, *changes: tuple[str, str]) -> None:
        """Put the sources where the installer expects them, with literals replaced."""
        sources = self.folder / "modules/sources/mod_mixpam_tap"
        tap = self.tree / "deploy/ejabberd"
        shutil.copytree(tap / "src", sources / "src", dirs_exist_ok=True)
        shutil.copy(tap / "mod_mixpam_tap.spec", sources)
        for old, new in changes:
            for file in (sources / "src").glob("*.erl"):
                file.write_text(file.read_text("utf-8").replace(old, new), "utf-8")

    async def erlang(self, expression: str) -> str:
        """Evaluate an expression in the server and return its value as text."""
        reader, writer = await asyncio.open_connection(self.place.ip, CONTROL_PORT)
        text = f"{expression}.".encode()
        writer.write(struct.pack(">I", len(text)) + text)
        await writer.drain()
        (length,) = struct.unpack(">I", await reader.readexactly(4))
        value = (await reader.readexactly(length)).decode()
        writer.close()
        return value

    def _with_tap(self) -> str:
        text = super()._with_tap()
        if self.configured:
            return text
        tap = f"  mod_mixpam_tap:\n    component: {self.component}\n"
        assert tap in text
        return text.replace(tap, "")

    def _sources(self) -> list[Path]:
        return [REPOSITORY / "tests/harness/erlang_control.erl"]


def server(house: TapHouse) -> ContribEjabberd:
    """Return the server of a house with its precise type."""
    assert isinstance(house.server, ContribEjabberd)
    return house.server


@contextlib.asynccontextmanager
async def standing_still(house: TapHouse, process: str) -> AsyncIterator[None]:
    """Suspend a process of the server, given as an Erlang expression."""
    holds = (
        f"begin register(holds, self()), erlang:suspend_process({process}), "
        "receive go -> erlang:resume_process(" + process + ") end end"
    )
    held = asyncio.create_task(server(house).erlang(holds))
    status = f"erlang:process_info({process}, status)"
    while "suspended" not in await server(house).erlang(status):
        assert not held.done(), held.result()
    try:
        yield
    finally:
        await server(house).erlang("holds ! go")
        assert await held == "true"
