"""The commands of deploy/redis/README.md, run as they stand there, on a real Redis.

Only the folder, Redis's address and what systemd would do are the test's own.
"""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from harness.loopback import Block
from harness.machines import REPOSITORY, Machine
from harness.memory import Taken
from harness.process import Process
from redis.asyncio import Redis as Client

from component.core.effects import (
    Change,
    PutCapability,
    PutJournal,
    PutMembership,
    PutShown,
    Write,
)
from component.store.store import Store
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord
from schemas.settings import Settings

FOLDER = REPOSITORY / "deploy/redis"
USERS = 200

pytestmark = pytest.mark.skipif(
    shutil.which("redis-cli") is None, reason="redis-cli is missing: apt-get install redis-tools"
)


def blocks(title: str) -> list[list[str]]:
    """Return the indented blocks of commands below a heading of the page."""
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    _, found, rest = page.partition(f"\n## {title}\n")
    assert found, title
    section = rest.partition("\n## ")[0]
    return [
        [line.strip() for line in block.splitlines()]
        for block in re.findall(r"(?:^ {4}.+\n)+", section, re.MULTILINE)
    ]


class Server:
    """redis-server with the configuration of `deploy/redis`, and an administrator's account."""

    def __init__(self, block: Block, suite: str) -> None:
        machine = Machine(suite)
        self.place = block.place()
        self.folder: Path = machine.folder("backup-redis")
        (self.folder / "redis.conf").write_bytes((FOLDER / "redis.conf").read_bytes())
        # Where the page's commands run, with a redis-cli that knows the address.
        self.desk = self.folder / "desk"
        self.desk.mkdir()
        cli = self.desk / "redis-cli"
        cli.write_text(f'#!/bin/sh\nexec {shutil.which("redis-cli")} -h {self.place.ip} "$@"\n')
        cli.chmod(0o755)
        inside = machine.inside(self.folder)
        self.process = Process(
            "redis",
            machine.command(
                "redis-server", f"{inside}/redis.conf", "--dir", inside, "--bind", self.place.ip
            ),
            self.folder / "redis.log",
        )
        self.url = f"redis://{self.place.ip}:6379/0"

    async def start(self) -> None:
        """Start Redis and return when it answers."""
        await self.process.start()
        await self.process.answers(self.place.ip, 6379)

    async def follow(self, lines: list[str]) -> str:
        """Run commands of the page one by one; return what they print. Fails if one fails."""
        printed = ""
        for line in lines:
            match line.split():
                case ["systemctl", "stop", "redis-server"]:
                    await self.process.stop()
                case ["systemctl", "start", "redis-server"]:
                    await self.start()
                case ["systemctl", _, "mixpam"]:
                    pass  # the test's store comes and goes instead
                case _:
                    printed += await asyncio.to_thread(self._run, line)
        return printed

    def _run(self, line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line.replace("/var/lib/redis", str(self.folder))],
            cwd=self.desk, capture_output=True, text=True, check=False, timeout=30,
            env={"PATH": f"{self.desk}:/usr/local/bin:/usr/bin:/bin"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), (line, done.stdout, done.stderr)
        return done.stdout


@pytest_asyncio.fixture(params=["bookworm", "trixie"], loop_scope="session")
async def server(request: pytest.FixtureRequest, block: Block, logs: Any) -> AsyncIterator[Server]:
    """Run Redis 7.0 or 8.0."""
    try:
        made = Server(block, request.param)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    logs.add(made.folder)
    await made.start()
    yield made
    await made.process.stop()
    logs.done(made.folder)


def store_of(server: Server) -> tuple[Store, list[str]]:
    """Return a component's store, and the list of what it reports."""
    settings = Settings.model_validate(
        {
            "component_jid": "mixpam.example.org",
            "secret": "unused",
            "domains": "example.org",
            "redis_url": server.url,
        }
    )
    reported: list[str] = []
    return Store(
        settings, lambda event, *_, **__: reported.append(event), lambda *_: None
    ), reported


def changes() -> list[Change]:
    """Return one record of each kind, and memberships of many."""
    channel, other = "coven@mix.example.org", "other@mix.example.org"
    made: list[Change] = [
        PutMembership(
            f"user{number}@example.org",
            MembershipRecord(channel=channel, participant_id=f"p{number}", nick="\u2615 'n'"),
        )
        for number in range(USERS)
    ]
    return [
        *made,
        PutJournal("user0@example.org", JournalRecord(kind="join", channel=other, step="ask")),
        PutShown("user0@example.org", "phone", "digest"),
        PutCapability("hash", CapabilityRecord(features=["urn:xmpp:mix:core:1"])),
    ]


async def load(server: Server) -> list[list[str]]:
    """Read everything as a component that starts does."""
    store, reported = store_of(server)
    memory = Taken()
    loaded = await store.load(memory)
    await store.close()
    assert reported == []
    assert (loaded.memberships, loaded.set_aside) == (USERS, 0)
    return memory.ordered()


async def grow(server: Server, enough: asyncio.Event) -> None:
    """Let the append-only file grow; not cancelled, which Python 3.11's wait_for can lose."""
    async with Client.from_url(server.url) as client:
        number = 0
        while not enough.is_set():
            await client.hset(f"somebody-else:{number % 50}", "field", "x" * 2_000)
            number += 1


@pytest.mark.parametrize("how", ["while it runs", "stopped"])
async def test_back_up_wipe_restore(server: Server, how: str) -> None:
    running, stopped = blocks("Back up")
    (restoring,) = blocks("Restore")
    store, reported = store_of(server)
    for change in changes():
        store.put(Write((change,)))
    await store.close()  # writes what waits
    assert reported == []
    before = await load(server)
    assert [len(kind) for kind in before] == [USERS, 1, 1, 1]

    if how == "while it runs":
        enough = asyncio.Event()
        growing = asyncio.create_task(grow(server, enough))
        await asyncio.sleep(0.2)
        printed = await server.follow(running)
        assert not growing.done(), "nothing was written meanwhile"
        enough.set()
        await growing
        assert "aof_rewrite_in_progress:0" in printed
        assert printed.split().count("OK") == 2
    else:
        await server.follow(stopped)

    async with Client.from_url(server.url) as client:
        await client.flushall()
        await client.hset("mixpam:{late@example.org}:shown", "phone", "after the backup")
    await server.follow(restoring)
    assert await load(server) == before
    async with Client.from_url(server.url) as client:
        configured = await client.config_get("auto-aof-rewrite-percentage")
        assert configured == {"auto-aof-rewrite-percentage": "100"}
        # It goes on from there, and remembers that, too.
        await client.hdel("mixpam:{user0@example.org}:journal", "other@mix.example.org")
    await server.process.stop(kill=True)
    await server.start()
    assert [len(kind) for kind in await load(server)] == [USERS, 0, 1, 1]
