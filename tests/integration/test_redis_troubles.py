"""What a real Redis can refuse, and how that is told: in our words, with no word of its own.

The kind: whatever Redis, redis-py or the machine says may quote the command that failed,
which has addresses of users and channels, nicks and participant ids in it, or the URL with
its password. None of it may reach log, `/readyz`, status page or `mixpam check`; what an
operator is told depends on the class and code of the error alone.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
from commandline import mixpam
from harness.loopback import Block
from harness.memory import Taken
from harness.redis import Redis
from redis.asyncio import Redis as Client

from component.core.effects import PutMembership, Write
from component.store.store import Store
from schemas.records import MembershipRecord
from schemas.settings import Settings

pytestmark = [
    pytest.mark.family,
    pytest.mark.abuse(22),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is missing"),
]

USER, CHANNEL, NICK = "anna@a.example", "hidden@mix.example", "nobody-may-read-this"
PASSWORD = "hunter2-of-redis"
QUOTED = (USER, CHANNEL, NICK, PASSWORD)


@pytest_asyncio.fixture(loop_scope="session")
async def redis(block: Block, request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """Run a Redis for each test; it gets the further options of the test's parameter."""
    server = Redis(block)
    server.process.argv += getattr(request, "param", [])
    await server.start()
    yield server
    await server.stop(kill=True)
    server.remove()


def settings(url: str) -> Settings:
    return Settings(
        component_jid="mixpam.a.example",
        domains="a.example",  # type: ignore[arg-type]
        secret="s",  # type: ignore[arg-type]
        redis_url=url,  # type: ignore[arg-type]
        redis_timeout=2,
    )


class Writer:
    """A store that leads, and what it said."""

    def __init__(self, url: str) -> None:
        self.reports: list[dict[str, Any]] = []
        self.store = Store(settings(url), self._report, self)  # type: ignore[arg-type]
        self.outcomes: asyncio.Queue[bool] = asyncio.Queue()

    def _report(self, event: str, level: str = "info", **facts: object) -> None:
        self.reports.append({"event": event, "level": level, **facts})

    @property
    def snapshot(self) -> "Writer":
        """Remember nothing."""
        return self

    def users(self) -> list[str]:
        """List nobody."""
        return []

    of_all = users

    def of_user(self, _: str) -> list[Any]:
        """Give nothing."""
        return []

    def written(self, _: int, done: bool) -> None:
        """Take note."""
        self.outcomes.put_nowait(done)

    async def writes(self) -> bool:
        """Write a membership; tell whether that was done."""
        record = MembershipRecord(channel=CHANNEL, participant_id="9", nick=NICK)
        self.store.put(Write((PutMembership(USER, record),), 1))
        return await asyncio.wait_for(self.outcomes.get(), 10)


@pytest_asyncio.fixture(loop_scope="session")
async def writer(redis: Redis) -> AsyncIterator[Writer]:
    """Give a store that has written once."""
    made = Writer(redis.url)
    await made.store.load(Taken())  # type: ignore[arg-type]
    made.store.lead()
    running = asyncio.create_task(made.store.run())
    assert await made.writes()
    yield made
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await made.store._redis.aclose()


async def no_disk(redis: Redis) -> None:
    (redis.folder / "dump.rdb").mkdir()
    await redis.ask("CONFIG", "SET", "save", "3600 1")
    await redis.ask("BGSAVE")
    async with asyncio.timeout(10):
        while (await info(redis))["rdb_last_bgsave_status"] == "ok":  # noqa: ASYNC110 - Redis wakes nobody
            await asyncio.sleep(0.05)


async def info(redis: Redis) -> dict[str, Any]:
    """Ask for all there is to know."""
    async with Client.from_url(redis.url, decode_responses=True) as client:
        return dict(await client.info())


async def full(redis: Redis) -> None:
    await redis.ask("CONFIG", "SET", "maxmemory", "1")


async def replica(redis: Redis) -> None:
    await redis.ask("REPLICAOF", redis.place.ip, "1")


async def orphan(redis: Redis) -> None:
    await redis.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    await redis.ask("REPLICAOF", redis.place.ip, "1")


async def no_replicas(redis: Redis) -> None:
    await redis.ask("CONFIG", "SET", "min-replicas-to-write", "1")


async def forbidden(redis: Redis) -> None:
    await redis.ask("ACL", "SETUSER", "default", "-hset")


async def no_keys(redis: Redis) -> None:
    # Needs a rule for keys of the user alone, which no new connection changes.
    await redis.ask("ACL", "SETUSER", "default", "resetkeys", "~mixpam:mark", "~mixpam:changes")


async def password(redis: Redis) -> None:
    await redis.ask("CONFIG", "SET", "requirepass", PASSWORD)
    await redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", password=PASSWORD)


async def another_type(redis: Redis) -> None:
    name = "mixpam:{" + USER + "}:channels"
    await redis.ask("DEL", name)
    await redis.ask("SET", name, "x")


async def script(redis: Redis) -> None:
    await redis.ask("CONFIG", "SET", "lua-time-limit", "50")
    looping = asyncio.create_task(redis.ask("EVAL", "while true do end", "0"))
    looping.add_done_callback(lambda task: task.exception())
    await asyncio.sleep(0.5)


Sick = Callable[[Redis], Awaitable[None]]
MIDDLE: dict[str, tuple[Sick, str]] = {
    "MISCONF": (no_disk, "disk"),
    "OOM": (full, "full"),
    "READONLY": (replica, "read-only"),
    "MASTERDOWN": (orphan, "no-primary"),
    "NOREPLICAS": (no_replicas, "no-replicas"),
    "NOPERM command": (forbidden, "permission"),
    "NOPERM key": (no_keys, "permission"),
    "NOAUTH": (password, "password"),
    "WRONGTYPE": (another_type, "another-type"),
    "BUSY": (script, "busy"),
}


def is_in_our_words(said: object) -> None:
    text = json.dumps(said, default=str)
    assert not [word for word in QUOTED if word.lower() in text.lower()], text


@pytest.mark.parametrize(("sick", "kind"), MIDDLE.values(), ids=MIDDLE)
async def test_refused_in_the_middle(redis: Redis, writer: Writer, sick: Sick, kind: str) -> None:
    await sick(redis)
    try:
        async with asyncio.timeout(10):
            while await writer.writes():  # noqa: ASYNC110 - Redis wakes nobody
                await asyncio.sleep(0.05)
        away = next(each for each in writer.reports if each["event"] == "redis-away")
        assert away["kind"] == kind
        assert away["remedy"]
        checked = await mixpam("check", "--json", env=environment(redis.url))
    finally:
        if kind == "busy":
            await redis.ask("SCRIPT", "KILL")
    is_in_our_words(writer.reports)
    is_in_our_words(checked.out)
    levels = [each["level"] for each in checked.json["results"] if "redis" in each["check"]]
    # Of one key that has another type only the writer can know.
    assert ("wrong" in levels) == (kind != "another-type")


def environment(url: str) -> dict[str, str]:
    """Give the settings for a command; there is no server."""
    return {
        "MIXPAM_COMPONENT_JID": "mixpam.a.example",
        "MIXPAM_SECRET": "a-secret-that-is-long-enough",
        "MIXPAM_DOMAINS": "a.example",
        "MIXPAM_REDIS_URL": url,
        "MIXPAM_REDIS_TIMEOUT": "2",
        "MIXPAM_SERVER_PORT": "1",
        "MIXPAM_HTTP_PORT": "0",
    }


async def begins(url: str) -> dict[str, Any]:
    """Load from a Redis that cannot be used; give what is said."""
    made = Writer(url)
    loading = asyncio.create_task(made.store.load(Taken()))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(10):
            while not made.reports:  # noqa: ASYNC110 - Redis wakes nobody
                await asyncio.sleep(0.05)
    finally:
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        await made.store._redis.aclose()
    is_in_our_words(made.reports)
    return made.reports[0]


async def test_too_many_connections(redis: Redis) -> None:
    async with Client.from_url(redis.url) as admin:
        await admin.config_set("maxclients", 1)
        assert (await begins(redis.url))["kind"] == "clients"
        await admin.config_set("maxclients", 100)
    checked = await mixpam("check", "--json", env=environment(redis.url))
    assert checked.result("redis-owner")["level"] == "ok"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda url: url.replace("/0", "/99"), "database"),
        (lambda url: url.replace("redis://", "rediss://"), "silent"),
        (lambda url: url.replace("redis://", f"redis://nobody:{PASSWORD}@"), "password"),
        (lambda url: url.replace("6379", "6378"), "unreachable"),
    ],
    ids=["database", "TLS", "user", "port"],
)
async def test_a_url_that_is_wrong(redis: Redis, change: Callable[[str], str], kind: str) -> None:
    url = change(redis.url)
    assert (await begins(url))["kind"] == kind
    checked = await mixpam("check", "--json", env=environment(url))
    assert checked.result("redis")["level"] == "wrong"
    is_in_our_words(checked.out)


@pytest.mark.parametrize("redis", [["--cluster-enabled", "yes"]], indirect=True, ids=["cluster"])
async def test_a_cluster(redis: Redis) -> None:
    assert (await begins(redis.url))["kind"] == "cluster"


@pytest.mark.parametrize(
    "redis", [["--rename-command", "HGETALL", ""]], indirect=True, ids=["renamed"]
)
async def test_a_command_that_was_taken_away(redis: Redis) -> None:
    assert (await begins(redis.url))["kind"] == "unknown-command"


@pytest.mark.parametrize(
    "redis",
    [["--enable-debug-command", "yes", "--key-load-delay", "20000",
      "--loading-process-events-interval-bytes", "1024"]],
    indirect=True, ids=["loading"],
)  # fmt: skip
async def test_reading_its_data(redis: Redis) -> None:
    await redis.ask("DEBUG", "POPULATE", "400", "key", "1000")
    reload = asyncio.create_task(redis.ask("DEBUG", "RELOAD"))
    reload.add_done_callback(lambda task: task.exception())
    await asyncio.sleep(1)
    assert (await begins(redis.url))["kind"] == "loading"
    reload.cancel()


@pytest.mark.parametrize("options", ["no_such=1", "ssl_ca_certs=x", f"ssl_password={PASSWORD}"])
async def test_options_in_the_url_that_no_client_has(redis: Redis, options: str) -> None:
    env = environment(f"{redis.url}?{options}")
    checked = await mixpam("check", "--json", env=env)
    assert "MIXPAM_REDIS_URL" in checked.result("redis")["text"]
    done = await mixpam("run", env=env)
    assert done.code == 2
    assert "MIXPAM_REDIS_URL: " in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    is_in_our_words([checked.out, done.err])


async def test_a_fault_of_ours_in_a_write_costs_that_write(writer: Writer) -> None:
    """Whoever waits is told, and the next one is done."""
    record = MembershipRecord.model_construct(channel=b"no text", participant_id=object())
    writer.store.put(Write((PutMembership(USER, record),), 2))
    assert not await asyncio.wait_for(writer.outcomes.get(), 10)
    assert any(each["event"] == "fault" for each in writer.reports)
    async with asyncio.timeout(20):
        while not await writer.writes():
            pass
