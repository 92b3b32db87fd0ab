"""Logs of instances: deleted with them, unless a test has failed."""

import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from harness.house import TapHouse


class KeptLogs:
    """Folders of instances, and which of them saw a test fail."""

    def __init__(self) -> None:
        self.live: list[Path] = []
        self.failed: set[Path] = set()

    def add(self, folder: Path) -> None:
        """Register the folder of a running instance."""
        self.live.append(folder)

    @contextlib.contextmanager
    def kept_on_error(self, *folders: Path) -> Iterator[None]:
        """Keep the folders if what happens inside fails: no test is there to say so."""
        try:
            yield
        except BaseException:
            self.failed.update(folders)
            raise

    def done(self, folder: Path) -> None:
        """Delete the folder of a stopped instance unless a test failed on it."""
        self.live.remove(folder)
        if folder not in self.failed:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def running(house: TapHouse, logs: KeptLogs) -> AsyncIterator[TapHouse]:
    """Start a house, and stop it at the end; its logs are kept if it fails."""
    logs.add(house.server.folder)
    try:
        with logs.kept_on_error(house.server.folder):
            await house.start()
        yield house
    finally:
        await house.stop()
        logs.done(house.server.folder)
