"""Whose records they are: two components, or what another one left, on a real Redis.

The kind: a process that comes to a Redis in which something is that it has not written
itself: another component's, with or without an owner in its mark; one's own of an earlier
version, or under an earlier name; a copy of another's that was restored under a running
process; records of users of domains that it does not serve. Whatever it is, records that
are not ours to judge are neither removed, nor set aside, nor written over, and what was ours
goes on being used.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
from commandline import mixpam
from harness.loopback import Block
from harness.memory import Taken
from harness.redis import Redis

from component.core.effects import Change, PutMembership, Write
from component.store.ownership import FIRST
from component.store.reading import Loaded
from component.store.store import Store
from schemas.records import MembershipRecord
from schemas.settings import Settings

pytestmark = [
    pytest.mark.abuse(21),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is missing"),
]

COVEN = "coven@mix.example"
RECORD = '{"channel":"coven@mix.example","participant_id":"1"}'
A, B = "mixpam.a.example", "mixpam.b.example"


@pytest_asyncio.fixture(loop_scope="session")
async def redis(block: Block) -> AsyncIterator[Redis]:
    """Run an empty Redis for each test."""
    server = await Redis(block).start()
    yield server
    await server.stop()
    server.remove()


class Process:
    """One component's store, which leads as soon as it has loaded; its memory is what it took."""

    def __init__(self, redis: Redis, jid: str, domains: str, prefix: str | None = None) -> None:
        self.settings = Settings(
            component_jid=jid,
            domains=domains,  # type: ignore[arg-type]
            secret="s",  # type: ignore[arg-type]
            redis_url=redis.url,  # type: ignore[arg-type]
            redis_prefix=prefix,
            redis_timeout=2,
        )
        self.reports: list[dict[str, Any]] = []
        self.store = Store(self.settings, self._report, self)  # type: ignore[arg-type]
        self.taken = Taken()
        self.put: list[Change] = []
        self.outcome: asyncio.Queue[bool] = asyncio.Queue()
        self._tasks: list[asyncio.Task[Any]] = []

    def _report(self, event: str, level: str = "info", **facts: object) -> None:
        self.reports.append({"event": event, "level": level, **facts})

    def written(self, _: int, done: bool) -> None:
        """Take note."""
        self.outcome.put_nowait(done)

    def loaded(self, _: Loaded) -> None:
        """Do nothing."""

    def superseded(self) -> None:
        """Resign."""
        self.store.resign()

    @property
    def snapshot(self) -> "Process":
        """Be what is remembered."""
        return self

    def users(self) -> list[str]:
        """List the users who were loaded or written."""
        return [user for user, _ in self.taken.memberships] + [
            each.user for each in self.put if isinstance(each, PutMembership)
        ]

    def of_user(self, user: str) -> list[Change]:
        """Give a user's memberships."""
        loaded: list[Change] = [
            PutMembership(user, record)
            for (name, _), record in self.taken._memberships.items()
            if name == user
        ]
        return loaded + [each for each in self.put if each.user == user]  # type: ignore[union-attr]

    def of_all(self) -> list[Change]:
        """Give nothing else."""
        return []

    async def starts(self) -> "Process":
        """Load, lead and write for as long as the test goes on."""
        await asyncio.wait_for(self.store.load(self.taken), 10)  # type: ignore[arg-type]
        self.store.lead()
        self._tasks.append(asyncio.create_task(self.store.run()))
        await self.joins(f"first@{self.settings.domains[0]}")
        return self

    async def joins(self, user: str) -> bool:
        """Write a membership; tell whether that was done."""
        change = PutMembership(user, MembershipRecord(channel=COVEN, participant_id="9"))
        self.store.put(Write((change,), 1))
        done = await asyncio.wait_for(self.outcome.get(), 10)
        if done:
            self.put.append(change)
        return done

    async def is_refused(self) -> dict[str, Any]:
        """Try to load; give what is said of it."""
        loading = asyncio.create_task(self.store.load(self.taken))  # type: ignore[arg-type]
        self._tasks.append(loading)
        return await self.event("redis-away")

    async def event(self, name: str) -> dict[str, Any]:
        """Wait for a report."""
        async with asyncio.timeout(15):
            while True:
                for report in self.reports:
                    if report["event"] == name:
                        return report
                await asyncio.sleep(0.02)

    async def ends(self) -> None:
        """End without another word."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.store._redis.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def process(redis: Redis) -> AsyncIterator[Any]:
    """Make processes on one Redis."""
    made: list[Process] = []

    def make(jid: str, domains: str, prefix: str | None = None) -> Process:
        made.append(Process(redis, jid, domains, prefix))
        return made[-1]

    yield make
    for each in made:
        await each.ends()


async def old_install(redis: Redis, *users: str, prefix: str = FIRST, mark: str = "3:7") -> None:
    """Leave what an earlier version does: a mark without owner."""
    await redis.ask("HSET", f"{prefix}:mark", "written", mark)
    for user in users:
        await redis.ask("HSET", f"{prefix}:{{{user}}}:channels", COVEN, RECORD)
        await redis.ask("HSET", f"{prefix}:{{{user}}}:shown", "phone", "digest")


async def everything(redis: Redis, prefix: str = "mixpam") -> dict[str, Any]:
    """Give all that is below a prefix, hashes and others."""
    found: dict[str, Any] = {}
    for name in sorted(await redis.ask("KEYS", "*")):
        if name.startswith(f"{prefix}:"):
            is_hash = await redis.ask("TYPE", name) == "hash"
            read = ("HGETALL", name) if is_hash else ("XRANGE", name, "-", "+")
            found[name] = await redis.ask(*read)
    return found


async def test_two_with_the_same_settings_keep_apart(redis: Redis, process: Any) -> None:
    one = await process(A, "a.example").starts()
    two = await process(B, "b.example").starts()
    for each, user in ((one, "anna@a.example"), (two, "boris@b.example")):
        assert await each.joins(user)
    assert set(await redis.contents("mixpam:{")) == {
        "mixpam:{first@a.example}:channels",
        "mixpam:{anna@a.example}:channels",
    }
    assert set(await redis.contents(f"mixpam:{B}:{{")) == {
        f"mixpam:{B}:{{first@b.example}}:channels",
        f"mixpam:{B}:{{boris@b.example}}:channels",
    }
    # Each finds its own again, in whichever order they come.
    for each in (one, two):
        await each.ends()
    for jid, domain in ((B, "b.example"), (A, "a.example")):
        again = await process(jid, domain).starts()
        assert {user.partition("@")[2] for user, _ in again.taken.memberships} == {domain}
        assert len(again.taken.memberships) == 2


async def test_emptied_under_both_each_writes_its_own_anew(redis: Redis, process: Any) -> None:
    one = await process(A, "a.example").starts()
    two = await process(B, "b.example").starts()
    before = await redis.contents("mixpam:")
    await redis.ask("FLUSHALL")
    for each in (one, two):
        await each.event("memory-rewritten")
    after = await redis.contents("mixpam:")
    for contents in (before, after):
        for name in list(contents):
            if name.endswith(":mark"):
                contents[name].pop("written")
    assert after == before


@pytest.mark.parametrize("prefix", ["mixpam", "ours"])
async def test_a_foreign_mark_is_an_error_and_nothing_is_touched(
    redis: Redis, process: Any, prefix: str
) -> None:
    one = await process(A, "a.example", prefix).starts()
    assert await one.joins("anna@a.example")
    await one.ends()
    before = await everything(redis, prefix)
    two = process(B, "b.example,a.example", prefix)
    away = await two.is_refused()
    assert away["kind"] == "foreign"
    assert A in away["reason"]
    assert "MIXPAM_REDIS_PREFIX" in away["remedy"]
    checked = await mixpam("check", "--json", env=environment(redis, B, prefix))
    assert checked.result("redis-owner")["level"] == "wrong"
    assert A in checked.result("redis-owner")["text"]
    assert "MIXPAM_REDIS_PREFIX" in checked.result("redis-owner")["remedy"]
    assert await everything(redis, prefix) == before
    # Nor does an operator's command see or change anything of it.
    assert not two.store.loaded
    assert await two.store.memberships("anna@a.example") is None
    # The remedy for one that was renamed helps, and without a restart.
    await redis.ask("HDEL", f"{prefix}:mark", "component")
    async with asyncio.timeout(20):
        await two._tasks[0]
    assert {user for user, _ in two.taken.memberships} == {"anna@a.example", "first@a.example"}


def environment(redis: Redis, jid: str, prefix: str | None = None) -> dict[str, str]:
    """Give the settings for a command; there is no server."""
    port = {"MIXPAM_SERVER_PORT": "1", "MIXPAM_SERVER_HOST": redis.place.ip}
    return {
        "MIXPAM_COMPONENT_JID": jid,
        "MIXPAM_SECRET": "a-secret-that-is-long-enough",
        "MIXPAM_DOMAINS": "b.example",
        "MIXPAM_REDIS_URL": redis.url,
        "MIXPAM_HTTP_PORT": "0",
        **port,
        **({"MIXPAM_REDIS_PREFIX": prefix} if prefix else {}),
    }


async def test_an_existing_single_install_goes_on(redis: Redis, process: Any) -> None:
    await old_install(redis, "anna@a.example", "carl@gone.example")
    one = await process(A, "a.example").starts()
    assert [user for user, _ in one.taken.memberships] == ["anna@a.example"]
    mark = await redis.ask("HGETALL", "mixpam:mark")
    assert mark["component"] == A
    assert mark["written"].startswith("4:")
    told = await one.event("users-not-served")
    assert told["domains"] == "gone.example"


async def test_two_old_installs_upgraded_one_after_the_other(redis: Redis, process: Any) -> None:
    """The second sees that the first has taken what they shared; neither loses a user."""
    await old_install(redis, "anna@a.example", "boris@b.example")
    one = await process(A, "a.example").starts()
    kept = await redis.ask("HGETALL", "mixpam:{boris@b.example}:channels")
    assert kept == {COVEN: RECORD}
    before = await everything(redis, "mixpam:{boris@b.example}")
    two = await process(B, "b.example").starts()
    assert (await two.event("prefix-taken"))["users"] == 1
    assert [user for user, _ in two.taken.memberships] == ["boris@b.example"]
    assert two.taken.shown == [("boris@b.example", "phone", "digest")]
    assert await everything(redis, "mixpam:{boris@b.example}") == before
    # Even when all is written anew.
    await redis.ask("HSET", "mixpam:mark", "written", "0:0")
    await one.event("memory-rewritten")
    assert await redis.ask("HGETALL", "mixpam:{boris@b.example}:channels") == kept
    assert "mixpam:set-aside" not in await everything(redis)


async def test_a_new_one_beside_an_old_one_that_still_runs(redis: Redis, process: Any) -> None:
    await old_install(redis, "anna@a.example")
    before = await everything(redis)
    two = await process(B, "b.example").starts()
    assert two.taken.memberships == []
    assert {n: v for n, v in (await everything(redis)).items() if B not in n} == before


async def test_a_component_under_a_new_name_keeps_its_users(process: Any) -> None:
    await (await process("old.a.example", "a.example").starts()).ends()
    one = await process(A, "a.example").starts()
    assert [user for user, _ in one.taken.memberships] == ["first@a.example"]


async def test_a_copy_of_another_restored_under_a_running_process(
    redis: Redis, process: Any
) -> None:
    """Joins are refused, nothing is written, and memory goes on when it is ours again."""
    one = await process(A, "a.example", "ours").starts()
    await redis.ask("FLUSHALL")
    await redis.ask("HSET", "ours:mark", "written", "9:9", "component", B)
    await redis.ask("HSET", "ours:{boris@b.example}:channels", COVEN, RECORD)
    before = await everything(redis, "ours")
    assert not await one.joins("anna@a.example")
    assert (await one.event("redis-away"))["kind"] == "foreign"
    assert await everything(redis, "ours") == before
    await redis.ask("FLUSHALL")
    await one.event("memory-rewritten")
    assert list(await redis.contents("ours:{")) == ["ours:{first@a.example}:channels"]


async def test_what_is_restored_below_the_first_prefix_makes_way(
    redis: Redis, process: Any
) -> None:
    one = await process(A, "a.example").starts()
    await redis.ask("FLUSHALL")
    await redis.ask("HSET", "mixpam:mark", "written", "9:9", "component", B)
    before = await everything(redis)
    assert await one.joins("anna@a.example")
    await one.event("memory-rewritten")
    after = await everything(redis)
    assert {name: value for name, value in after.items() if A not in name} == before
    assert set(await redis.contents(f"mixpam:{A}:{{")) == {
        f"mixpam:{A}:{{anna@a.example}}:channels",
        f"mixpam:{A}:{{first@a.example}}:channels",
    }


async def test_nonsense_of_other_domains_stays(redis: Redis, process: Any) -> None:
    await old_install(redis, "anna@a.example")
    await redis.ask("HSET", "mixpam:{boris@b.example}:channels", COVEN, "nonsense")
    await process(A, "a.example").starts()
    kept = await redis.ask("HGETALL", "mixpam:{boris@b.example}:channels")
    assert kept == {COVEN: "nonsense"}
    assert "mixpam:set-aside" not in await everything(redis)


async def test_an_owner_that_is_nonsense_is_not_repeated(redis: Redis, process: Any) -> None:
    await redis.ask("HSET", "ours:mark", "written", "1:1", "component", "<x> \n" * 1000)
    away = await process(A, "a.example", "ours").is_refused()
    assert away["kind"] == "foreign"
    assert "<x>" not in json.dumps(away)
    assert len(away["reason"]) < 200
