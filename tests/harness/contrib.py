"""An ejabberd that has the tap by `module_install`, as operators have, and obeys a test."""

import asyncio
import shutil
import struct
from pathlib import Path

from harness.ejabberd import Ejabberd
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
        """Start without the tap, install it, and configure it then."""
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
        """Put the sources where the installer looks, with literals changed."""
        sources = self.folder / "modules/sources/mod_mixpam_tap"
        tap = REPOSITORY / "deploy/ejabberd"
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
