"""The component in a container of its image, when ``tests/run --image`` has made one.

The container is buildah's: it has its own file system, but the machine's network and processes. It
is named by the environment variable MIXPAM_TEST_CONTAINER.
"""

import contextlib
import os
from pathlib import Path

from harness.machines import cache
from harness.process import Process

#: Name of the container, empty if the component is to run from the tree.
CONTAINER = os.environ.get("MIXPAM_TEST_CONTAINER", "")


class Contained(Process):
    """Run ``mixpam`` in the container; only its settings are passed on from `env`.

    buildah is the component's parent process: signals go to the component itself.
    """

    def __init__(self, argv: list[str], log: Path, env: dict[str, str]) -> None:
        super().__init__("mixpam", [], log, env=env)
        self._command = argv
        self._prefix = self.argv

    async def start(self) -> None:
        """Start the component with the current settings."""
        assert self.env is not None
        images = cache() / "images"
        settings = [
            f"--env={name}={value}"
            for name, value in self.env.items()
            if name.startswith("MIXPAM_")
        ]
        self.argv = [
            *self._prefix,
            "buildah", f"--root={images}/storage", f"--runroot={images}/run",
            "--storage-driver=vfs",
            "run", "--isolation=chroot", *settings, CONTAINER, "--", *self._command,
        ]  # fmt: skip
        await super().start()

    @property
    def pid(self) -> int:
        """Return the process id of the component, the innermost child."""
        pid = super().pid
        while children := _children(pid):
            pid = children[0]
        return pid


def _children(pid: int) -> list[int]:
    """Return the children of a process, started by any of its threads."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in tasks.read_text(encoding="ascii").split()]
    return found
