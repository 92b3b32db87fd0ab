"""The Redis that deploy/redis describes, with no right more than the line gives."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from commandline import mixpam
from harness.loopback import Block, Place
from harness.machines import REPOSITORY, Machine
from harness.process import Process
from redis.asyncio import Redis as Client
from redis.exceptions import AuthenticationError, NoPermissionError

FOLDER = REPOSITORY / "deploy/redis"
PASSWORD = "of-a-test"


class Confined:
    """redis-server of one Debian release, started with the files of `deploy/redis`."""

    def __init__(self, place: Place, suite: str) -> None:
        machine = Machine(suite)
        self.place = place
        self.folder: Path = machine.folder("confined-redis")
        digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
        users = (FOLDER / "users.acl").read_text(encoding="utf-8").splitlines()
        (self.folder / "users.acl").write_text(
            "".join(
                f"{line.replace('PASSWORD_SHA256', digest)}\n"
                for line in users
                if not line.startswith("#")
            )
        )
        (self.folder / "redis.conf").write_bytes((FOLDER / "redis.conf").read_bytes())
        inside = machine.inside(self.folder)
        self.process = Process(
            "redis",
            machine.command(
                "redis-server", f"{inside}/redis.conf", "--aclfile", f"{inside}/users.acl",
                "--dir", inside, "--bind", place.ip,
            ),
            self.folder / "redis.log",
            env={"PATH": os.environ["PATH"]},
        )  # fmt: skip

    def url(self, user: str = f"mixpam:{PASSWORD}") -> str:
        """Return the URL for MIXPAM_REDIS_URL."""
        return f"redis://{user}@{self.place.ip}:6379/0"


@pytest_asyncio.fixture(params=["bookworm", "trixie"], loop_scope="session")
async def confined(
    request: pytest.FixtureRequest, block: Block, logs: Any
) -> AsyncIterator[Confined]:
    """Run Redis 7.0 or 8.0."""
    try:
        made = Confined(block.place(), request.param)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    logs.add(made.folder)
    await made.process.start()
    await made.process.answers(made.place.ip, 6379)
    yield made
    await made.process.stop()
    logs.done(made.folder)


@pytest.mark.abuse(21)
async def test_nobody_else_and_nothing_else(confined: Confined) -> None:
    async with Client.from_url(confined.url()) as ours:
        assert await ours.hset("mixpam:{a@b}:channels", "c", "d") == 1
        for refused in (
            ours.hset("other:key", "a", "b"),
            ours.get("mixpam:x"),
            ours.flushall(),
            ours.config_set("appendonly", "no"),
            ours.acl_list(),
            ours.eval("return 1", 0),
        ):
            with pytest.raises(NoPermissionError):
                await refused
        info: dict[str, Any] = await ours.info()
        assert info["aof_enabled"] == 1
        assert info["maxmemory_policy"] == "noeviction"
    for user in ("mixpam:wrong", ":"):
        async with Client.from_url(confined.url(user).replace(":@", "")) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.ping()


async def test_the_component_can_do_its_work(fresh_stack: Any, confined: Confined) -> None:
    stack = await fresh_stack(MIXPAM_REDIS_URL=confined.url())
    device = await stack.device(await stack.user())
    channel = await stack.joined(device)
    assert await stack.roster(device.account, channel.jid) is not None
    checked = await mixpam("check", "--json", env=stack.mixpam.settings)
    allowed = checked.result("redis-permissions"), checked.result("redis-eviction")
    assert [result["level"] for result in allowed] == ["ok", "ok"]
    await stack.mixpam.stop()
    await stack.mixpam.start()
    assert stack.mixpam.events("loaded")[-1]["memberships"] == 1
    assert stack.mixpam.events("redis-away") == []


async def test_the_rights_of_an_older_version_are_not_enough_and_that_is_said(
    fresh_stack: Any,
) -> None:
    """The stream of changes came later; nobody is served by halves without it."""
    stack = await fresh_stack(component=False)
    rights = next(
        line.split("resetchannels ")[1]
        for line in (FOLDER / "users.acl").read_text(encoding="utf-8").splitlines()
        if line.startswith("user mixpam")
    ).split()
    before = [right for right in rights if not right.startswith("+x")]
    ours = ["ACL", "SETUSER", "mixpam", "on", f">{PASSWORD}", "~mixpam:*"]
    await stack.redis.ask(*ours, *before)
    url = f"redis://mixpam:{PASSWORD}@{stack.redis.place.ip}:6379/0"
    stack.mixpam.process.env["MIXPAM_REDIS_URL"] = url
    await stack.mixpam.process.start()
    await stack.mixpam.process.line('"event": ?"redis-away"', 20)
    (away,) = stack.mixpam.events("redis-away")
    assert away["kind"] == "permission"
    assert "xrevrange" in away["reason"]
    assert "mixpam check" in away["remedy"]
    checked = await mixpam(
        "check", "--json", env={**stack.mixpam.settings, "MIXPAM_REDIS_URL": url}
    )
    assert "+xadd +xrange +xrevrange" in checked.result("redis-permissions")["redis"]
    await stack.redis.ask(*ours, *rights)
    await stack.mixpam.ready()
    await stack.joined(await stack.device(await stack.user()))
