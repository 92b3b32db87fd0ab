"""Server kinds, and the Debian release that has each.

A kind whose release is the host's runs on the host; the others run in a debootstrap
root that ``tests/run`` makes and caches outside the tree.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Kind:
    """One server in one version, as Debian `suite` has it."""

    name: str
    software: str
    suite: str


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("prosody-0.12", "prosody", "bookworm"),
        Kind("prosody-13", "prosody", "trixie"),
        Kind("ejabberd-23.01", "ejabberd", "bookworm"),
        Kind("ejabberd-24.12", "ejabberd", "trixie"),
    )
}


def cache() -> Path:
    """Return the folder outside the tree that caches expensive results."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mixpam"


def host_suite() -> str:
    """Return the code name of the host's Debian release, or ''."""
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    return ""


def temporary(name: str, where: Path | None = None) -> Path:
    """Make a folder for `name` below `where`, by default where temporary files go."""
    return Path(tempfile.mkdtemp(prefix=f"mixpam-{name}-", dir=where))


class Machine:
    """A file system to run a server in: the host's own, or a chroot."""

    def __init__(self, suite: str) -> None:
        """Find the machine of `suite`. Raises FileNotFoundError when it is not made yet."""
        self.root = Path("/") if suite == host_suite() else cache() / suite
        if self.root != Path("/") and not (self.root / "usr/bin").is_dir():
            raise FileNotFoundError(f"{self.root} is missing: ./tests/run makes it")

    def folder(self, name: str) -> Path:
        """Make a folder for one instance; the path is the host's."""
        return temporary(name, None if self.root == Path("/") else self.root / "tmp")

    def inside(self, path: Path) -> str:
        """Return the path by which a process in this machine knows `path`."""
        return "/" + str(path.relative_to(self.root))

    def headers(self) -> list[str]:
        """Return erlc's options for the header files of this machine's ejabberd."""
        found = [
            *self.root.glob("usr/lib/erlang/lib/p1_xmpp-*/include"),
            *self.root.glob("usr/lib/*/ejabberd-*/include"),
        ]
        return [word for path in found for word in ("-I", self.inside(path))]

    def command(self, *argv: str, hosts: Path | None = None) -> list[str]:
        """Return the host's command that runs `argv` in this machine.

        `hosts` becomes the process's own /etc/hosts, in a mount namespace of its own, where the C
        library looks for names nowhere else.
        """
        command = list(argv)
        if self.root != Path("/"):
            chroot = shutil.which("chroot") or "/usr/sbin/chroot"
            command = [chroot, str(self.root), *argv]
        if hosts is not None:
            # Erlang looks names up within a scheduler: while a name server is silent, all that the
            # scheduler runs stands still.
            only = hosts.with_name("nsswitch.conf")
            only.write_text("hosts: files\n", encoding="utf-8")
            for own in (hosts, only):
                target = self.root / "etc" / own.name
                target.touch()
                mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
                command = ["sh", "-c", mount, str(own), str(target), *command]
            command = ["unshare", "-m", *command]
        return command
