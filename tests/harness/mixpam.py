"""The component under test, started as operators start it."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from harness.component import SECRET
from harness.container import CONTAINER, Contained
from harness.machines import REPOSITORY, temporary
from harness.process import Process
from harness.server import Server


class Mixpam:
    """One ``mixpam run`` process, from the tree or the image, configured by its environment.

    Another version always comes from `tree`.
    """

    def __init__(
        self, server: Server, redis_url: str, tree: Path = REPOSITORY, /, **settings: str
    ) -> None:
        self.server = server
        self.folder = temporary("component")
        self.settings = {
            "MIXPAM_COMPONENT_JID": server.component,
            "MIXPAM_SECRET": SECRET,
            "MIXPAM_SERVER_HOST": server.place.ip,
            "MIXPAM_SERVER_PORT": str(server.component_port(server.component)),
            "MIXPAM_DOMAINS": server.domain,
            "MIXPAM_REDIS_URL": redis_url,
            "MIXPAM_CHANNEL_TIMEOUT": "2",
            "MIXPAM_HTTP_HOST": server.place.ip,
            "MIXPAM_LOG_FORMAT": "json",
            "MIXPAM_LOG_LEVEL": "debug",
            # False stands for an older tap or an older component, with the same result.
            "MIXPAM_MULTICAST": os.environ.get("MIXPAM_TEST_MULTICAST", "true"),
            **settings,
        }
        env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PYTHONPATH": str(tree),
            "PYTHONUNBUFFERED": "1",
            **self.settings,
        }
        log = self.folder / "component.log"
        if CONTAINER and tree == REPOSITORY:
            self.process: Process = Contained(["mixpam", "run"], log, env)
        else:
            argv = [sys.executable, "-m", "component", "run"]
            self.process = Process("mixpam", argv, log, env=env, cwd=self.folder)

    async def start(self) -> "Mixpam":
        """Start the component and return when it is ready."""
        await self.process.start()
        await self.ready()
        return self

    async def ready(self, since: int = 0) -> None:
        """Wait until the log, from line number `since` on, reports the domain as ready."""
        await self.process.line(r'"event": ?"ready"', 20, since=since)

    def mark(self) -> int:
        """Return the number of log lines so far."""
        return len(self.process.lines)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the log records so far, of one event or all. Fails on a line that is not JSON."""
        records = [json.loads(line) for line in self.process.lines if line.strip()]
        return [record for record in records if name is None or record.get("event") == name]

    async def stop(self, *, kill: bool = False) -> None:
        """Stop the component; its records stay in Redis."""
        await self.process.stop(kill=kill)
