"""The servers of the `path` benchmark: the shipped examples, changed only where necessary.

Both sides of a comparison have the same modules, archive or not, and differ only in the object of
the comparison.
"""

import shutil
from pathlib import Path

from harness.ejabberd import Ejabberd
from harness.examples import replaced
from harness.loopback import Block
from harness.machines import KINDS
from harness.mixpam import Mixpam
from harness.prosody import Prosody
from harness.redis import Redis
from harness.server import Server

_NO_ARCHIVE = Path(__file__).with_name("mod_bench_no_archive.erl")


class QuietEjabberd(Ejabberd):
    """ejabberd with the tap, or with its own mod_mix_pam in the tap's place.

    With `spin` its schedulers busy-wait, which is Erlang's default and the setup of operators.
    """

    def __init__(self, kind: str, block: Block, *, native: bool, archive: bool, spin: bool) -> None:
        # Before the command is made.
        if spin:
            self.schedulers = ()
        super().__init__(KINDS[kind], block)
        self.native = native
        self.archive = archive

    async def start(self) -> Server:
        """Compile the module that disables archiving, and start."""
        await self.compile(_NO_ARCHIVE)
        return await super().start()

    def _with_tap(self) -> str:
        changes = {}
        if not self.archive:
            changes["default: always"] = "default: never"
            changes["modules:\n"] = "modules:\n  mod_bench_no_archive: {}\n"
        if self.native:
            tap = f"  mod_mixpam_tap:\n    component: {self.component}\n"
            changes[tap] = "  mod_mix_pam: {}\n"
        return replaced(super()._with_tap(), changes)


class QuietProsody(Prosody):
    """Prosody with or without the tap; `gc` is its collector's threshold."""

    def __init__(
        self, kind: str, block: Block, *, native: bool, archive: bool, gc: str | None = None
    ) -> None:
        super().__init__(KINDS[kind], block)
        self.native = native
        self.archive = archive
        self.gc = gc

    def write(self) -> None:
        """Write the configuration."""
        super().write()
        path = self.folder / "prosody.cfg.lua"
        # Otherwise archives are read in pages of 50 entries, each search taking as long as all
        # others.
        policy = "default_archive_policy = true\n"
        larger = {policy: policy + "max_archive_query_results = 5000\n"}
        changes = larger if self.archive else {'"mam"; ': ""}
        if self.gc is not None:
            changes["gc = { threshold = 150 }"] = f"gc = {{ threshold = {self.gc} }}"
        if self.native:
            changes['\t"mixpam_tap";\n'] = ""
        path.write_text(replaced(path.read_text(encoding="utf-8"), changes), encoding="utf-8")


class Site:
    """A server, and, unless it is native, Redis and the component."""

    def __init__(
        self,
        kind: str,
        block: Block,
        *,
        native: bool,
        archive: bool = False,
        gc: str | None = None,
        spin: bool = False,
    ) -> None:
        self.server: QuietEjabberd | QuietProsody = (
            QuietEjabberd(kind, block, native=native, archive=archive, spin=spin)
            if KINDS[kind].software == "ejabberd"
            else QuietProsody(kind, block, native=native, archive=archive, gc=gc)
        )
        self.native = native
        self.redis = Redis(block)
        self.mixpam = Mixpam(
            self.server,
            self.redis.url,
            MIXPAM_LOG_LEVEL="info",
            MIXPAM_CHANNEL_TIMEOUT="30",
        )

    async def start(self) -> "Site":
        """Start all parts."""
        await self.server.start()
        if not self.native:
            await self.redis.start()
            await self.mixpam.start()
        return self

    async def stop(self) -> None:
        """Stop all parts and delete their folders."""
        if not self.native:
            await self.mixpam.stop()
            await self.redis.stop()
        await self.server.stop()
        for folder in (self.server.folder, self.redis.folder, self.mixpam.folder):
            shutil.rmtree(folder, ignore_errors=True)

    def processes(self) -> dict[str, int]:
        """Return the pids whose CPU time counts."""
        found = {"server": self.server.process.pid}
        if not self.native:
            found["component"] = self.mixpam.process.pid
            found["redis"] = self.redis.process.pid
        return found
