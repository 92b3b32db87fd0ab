"""A process that stands by follows, on a real Redis, what the one that leads writes."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from harness.loopback import Block
from harness.memory import Taken
from harness.redis import Redis
from redis.asyncio import Redis as Client

from component.core.effects import (
    Change,
    DropCapability,
    DropJournal,
    DropMembership,
    DropShown,
    PutCapability,
    PutJournal,
    PutMembership,
    PutShown,
    Write,
)
from component.store import store as store_module
from component.store.keys import Keys
from component.store.reading import Loaded
from component.store.store import Store
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord
from schemas.settings import Settings

pytestmark = [
    pytest.mark.abuse(23),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is missing"),
]

ANNA, BORIS = "anna@example.org", "boris@example.org"
COVEN, CELLAR = "coven@mix.example.org", "cellar@mix.example.org"
KEYS = Keys("mixpam")


def member(channel: str = COVEN, participant_id: str = "1") -> MembershipRecord:
    return MembershipRecord(channel=channel, participant_id=participant_id, nick='\u2615 "n"')


class Snapshot:
    """What a process that leads remembers: what it was given to write."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def users(self) -> list[str]:
        """List the users."""
        return [ANNA]

    def of_user(self, _: str) -> list[Change]:
        """Give the memberships."""
        return [each for each in self.changes if isinstance(each, PutMembership)]

    def of_all(self) -> list[Change]:
        """Give nothing else."""
        return []


class Process:
    """As much of a component as a store needs."""

    def __init__(self, redis: Redis) -> None:
        settings = Settings(
            component_jid="mixpam.example.org",
            domains="example.org",
            secret="s",
            redis_url=redis.url,
            redis_prefix="mixpam",
        )
        self.reports: list[str] = []
        self.store = Store(settings, self._report, self)
        self.taken = Taken()
        self.snapshot = Snapshot()
        self.loads = 0
        self._tokens = count()
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._running: asyncio.Task[None] | None = None

    def _report(self, event: str, *_: str, **__: object) -> None:
        self.reports.append(event)

    def written(self, token: int, done: bool) -> None:
        """Let go on who waits."""
        self._waiting.pop(token).set_result(done)

    def loaded(self, _: Loaded) -> None:
        """Count."""
        self.loads += 1

    def superseded(self) -> None:
        """Resign: there is no link to be ended."""
        self.store.resign()

    async def leads(self) -> "Process":
        """Load, and serve."""
        await self.store.load(self.taken)
        self.store.lead()
        self._run()
        await self.writes()
        return self

    async def stands_by(self) -> "Process":
        """Load, and follow."""
        await self.store.load(self.taken)
        self.store.follow()
        self._run()
        return self

    def _run(self) -> None:
        self._running = asyncio.create_task(self.store.run())

    async def writes(self, *changes: Change) -> None:
        """Write in one transaction, and wait until that is done."""
        token = next(self._tokens)
        self.snapshot.changes += changes
        done = self._waiting[token] = asyncio.get_running_loop().create_future()
        self.store.put(Write(changes, token))
        assert await asyncio.wait_for(done, 10)

    async def knows(self, what: Callable[[Taken], bool]) -> None:
        """Wait until something has been followed."""
        async with asyncio.timeout(10):
            while not what(self.taken):  # noqa: ASYNC110 - Redis wakes nobody
                await asyncio.sleep(0.02)

    async def dies(self) -> None:
        """End without another word."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    async def closes(self) -> None:
        """Let go of Redis."""
        await self.dies()
        await self.store.close()


Start = Callable[[], Process]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def redis(block: Block) -> AsyncIterator[Redis]:
    """Run a Redis for the tests of this file."""
    server = await Redis(block).start()
    yield server
    await server.stop()
    server.remove()


@pytest_asyncio.fixture(loop_scope="session")
async def client(redis: Redis) -> AsyncIterator[Client]:
    """Give an empty Redis."""
    async with Client.from_url(redis.url, decode_responses=True) as made:
        await made.flushall()
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def process(
    redis: Redis, client: Client, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Start]:
    """Make processes, which look after Redis often."""
    assert client is not None
    for pause in ("LOOK_EVERY", "FOLLOW_EVERY"):
        monkeypatch.setattr(store_module, pause, 0.05)
    made: list[Process] = []

    def make() -> Process:
        made.append(Process(redis))
        return made[-1]

    yield make
    for each in made:
        await each.closes()


async def stored(process: Start) -> Taken:
    """Return what a process that begins now reads."""
    fresh = process()
    await fresh.store.load(fresh.taken)
    return fresh.taken


async def pair(process: Start) -> tuple[Process, Process]:
    """Give one that leads, and one that stands by and has loaded before anything came."""
    return await process().leads(), await process().stands_by()


async def test_what_comes_and_goes_is_followed(process: Start) -> None:
    leader, standby = await pair(process)
    leave = JournalRecord(kind="leave", channel=COVEN, step="ask", member=True)
    mix = CapabilityRecord(features=["urn:xmpp:mix:core:1"])
    await leader.writes(PutMembership(ANNA, member()), PutShown(ANNA, "phone", "d1"))
    await leader.writes(
        PutMembership(BORIS, member(CELLAR)), PutShown(BORIS, "ph{o}ne:\u00e9", "d")
    )
    await leader.writes(PutJournal(ANNA, leave), PutCapability("hash", mix))
    await leader.writes(PutCapability("other", mix), DropCapability("hash"))
    await leader.writes(PutShown(ANNA, "phone", "d2"), PutShown(ANNA, "desk", "d3"))
    await leader.writes(DropJournal(ANNA, COVEN), DropMembership(ANNA, COVEN))
    await leader.writes(DropShown(ANNA, "desk"), PutMembership(ANNA, member(CELLAR, "2")))
    await standby.knows(lambda taken: (ANNA, member(CELLAR, "2")) in taken.memberships)
    assert standby.taken.ordered() == (await stored(process)).ordered()
    await leader.dies()
    assert await standby.store.take_over() == 14
    assert standby.loads == 0
    assert standby.reports == []


async def test_the_last_write_is_known_though_nobody_looked(process: Start) -> None:
    leader, standby = await pair(process)
    await leader.writes(PutMembership(ANNA, member()))
    await standby.knows(lambda taken: taken.memberships != [])
    await standby.dies()
    await leader.writes(PutMembership(ANNA, member(CELLAR)))
    await leader.dies()
    assert await standby.store.take_over() == 2
    assert standby.taken.ordered() == (await stored(process)).ordered()


async def test_what_is_written_while_all_is_read_is_not_missed(
    process: Start, client: Client
) -> None:
    leader = await process().leads()
    await leader.writes(PutMembership(ANNA, member()))
    standby = process()

    class Slow(Taken):
        """Learns a membership that has ended since."""

        def load_memberships(self, user: str, records: Any) -> None:
            super().load_memberships(user, records)
            others.append(asyncio.create_task(leader.writes(DropMembership(ANNA, COVEN))))

    others: list[asyncio.Task[None]] = []
    standby.taken = Slow()
    await standby.store.load(standby.taken)
    await asyncio.gather(*others)
    assert standby.taken.memberships != []
    assert await standby.store.take_over() == 1
    assert standby.taken.memberships == []
    assert await client.hgetall(KEYS.channels(ANNA)) == {}  # type: ignore[misc]


async def test_a_process_that_is_not_dead_is_found_out(process: Start) -> None:
    """It hung, and writes once more after another one has taken over."""
    leader, standby = await pair(process)
    await leader.writes(PutMembership(ANNA, member()))
    await leader.dies()
    assert await standby.store.take_over() == 1
    standby.store.lead()
    standby.snapshot.changes.append(PutMembership(ANNA, member()))
    leader.store.put(Write((DropMembership(ANNA, COVEN),)))
    leader._run()
    await leader.knows(lambda _: "superseded" in leader.reports)
    assert not leader.store._leads
    # What it wrote is nothing that the new one knows of, and does not last.
    await standby.knows(lambda _: "memory-rewritten" in standby.reports)
    assert [user for user, _ in (await stored(process)).memberships] == [ANNA]


async def test_a_write_that_nobody_heard_of_breaks_nothing(process: Start, client: Client) -> None:
    """It may have been done or not; the one after it names the last that is certain."""
    leader, standby = await pair(process)
    fence = leader.store._fence
    fence.next()
    await leader.writes(PutMembership(ANNA, member()))
    _, fields = (await client.xrevrange(KEYS.changes, count=1))[0]
    await client.xadd(KEYS.changes, fields)
    await leader.writes(PutMembership(ANNA, member(CELLAR)))
    await standby.knows(lambda taken: len(taken.memberships) == 2)
    assert standby.loads == 0


BREAKS: dict[str, Callable[[Client], Any]] = {
    "trimmed": lambda client: client.xtrim(KEYS.changes, maxlen=0, approximate=False),
    "deleted": lambda client: client.delete(KEYS.changes),
    "another type": lambda client: client.set(KEYS.changes, "x"),
    "written past it": lambda client: client.hset(KEYS.mark, "written", "9:1"),
    "no JSON": lambda client: client.xadd(
        KEYS.changes, {"written": "1:99", "before": "1:1", "changes": "nonsense"}
    ),
    "no change": lambda client: client.xadd(
        KEYS.changes, {"written": "1:99", "before": "1:1", "changes": '[["a"]]'}
    ),
    "not an entry": lambda client: client.xadd(KEYS.changes, {"x": "y"}),
    "a gap": lambda client: client.xadd(
        KEYS.changes, {"written": "1:99", "before": "1:98", "changes": "[]"}
    ),
}


@pytest.mark.parametrize("how", BREAKS)
async def test_a_broken_chain_is_not_followed(process: Start, client: Client, how: str) -> None:
    leader, standby = await pair(process)
    await leader.writes(PutMembership(ANNA, member()))
    await standby.knows(lambda taken: taken.memberships != [])
    await standby.dies()
    await leader.dies()
    await BREAKS[how](client)
    assert await standby.store.take_over() is None
    loaded = await standby.store.load(standby.taken)
    assert loaded.memberships == 1


async def test_one_that_missed_something_reads_all_again_while_it_waits(
    process: Start, client: Client
) -> None:
    leader, standby = await pair(process)
    await leader.writes(PutMembership(ANNA, member()))
    await standby.knows(lambda taken: taken.memberships != [])
    await client.xtrim(KEYS.changes, maxlen=0, approximate=False)
    await leader.writes(DropMembership(ANNA, COVEN))
    await standby.knows(lambda taken: taken.memberships == [])
    assert standby.loads == 1
    await leader.writes(PutMembership(ANNA, member(CELLAR)))
    await standby.knows(lambda taken: taken.memberships != [])
    await leader.dies()
    assert await standby.store.take_over() is not None
    assert standby.loads == 1


async def test_flushed_and_written_anew(process: Start, client: Client) -> None:
    leader, standby = await pair(process)
    await leader.writes(PutMembership(ANNA, member()))
    await client.flushall()
    await leader.knows(lambda _: "memory-rewritten" in leader.reports)
    await leader.writes(PutShown(ANNA, "phone", "d"))
    await standby.knows(lambda taken: taken.shown != [])
    assert standby.loads >= 1
    assert standby.taken.ordered() == (await stored(process)).ordered()
    await leader.dies()
    assert await standby.store.take_over() is not None


async def test_set_back_as_by_a_failover(process: Start, redis: Redis) -> None:
    """The standby knows more than Redis does then, and what Redis has is what counts."""
    leader, standby = await pair(process)
    await leader.writes(PutMembership(ANNA, member()))
    async with Client.from_url(redis.url) as raw:
        old = {name: await raw.dump(name) for name in await raw.keys("*")}
        await leader.writes(PutMembership(ANNA, member(CELLAR)))
        await standby.knows(lambda taken: len(taken.memberships) == 2)
        await leader.dies()
        await standby.dies()
        await raw.flushall()
        for name, content in old.items():
            await raw.restore(name, 0, content)
    assert await standby.store.take_over() is None
    await standby.store.load(standby.taken)
    assert standby.taken.memberships == [(ANNA, member())]


async def test_a_version_that_leaves_no_entries(process: Start, client: Client) -> None:
    """Nobody reads all again and again beside it, and nothing is believed at the end."""
    await client.hset(KEYS.mark, "written", "3:7")  # type: ignore[misc]
    standby = await process().stands_by()
    await client.hset(KEYS.channels(ANNA), COVEN, member().model_dump_json())  # type: ignore[misc]
    await client.hset(KEYS.mark, "written", "3:8")  # type: ignore[misc]
    await asyncio.sleep(0.3)
    assert standby.loads == 0
    assert await standby.store.take_over() is None


async def test_between_two_of_which_one_leaves_no_entries(process: Start, client: Client) -> None:
    leader, standby = await pair(process)
    await standby.dies()
    await leader.dies()
    await client.hset(KEYS.channels(ANNA), COVEN, member().model_dump_json())  # type: ignore[misc]
    await client.hset(KEYS.mark, "written", "2:8")  # type: ignore[misc]
    other = await process().leads()
    await other.writes(PutMembership(BORIS, member()))
    await other.dies()
    assert await standby.store.take_over() is None


async def test_what_does_not_validate_is_set_aside_as_at_a_start(
    process: Start, client: Client
) -> None:
    _, standby = await pair(process)
    key = KEYS.channels(ANNA)
    bad = f'[["{key}", "{COVEN}", "nonsense"], ["other:key", "a", "b"], ["{key}", "@", null]]'
    await client.hset(key, COVEN, "nonsense")  # type: ignore[misc]
    await standby.dies()
    mark = await client.hget(KEYS.mark, "written")  # type: ignore[misc]
    await client.xadd(KEYS.changes, {"written": mark, "before": mark, "changes": bad})
    assert await standby.store.take_over() == 3
    assert standby.reports == ["record-unusable"]
    assert await client.hgetall(key) == {}  # type: ignore[misc]
    assert await client.hgetall(KEYS.set_aside) == {f"{key} {COVEN}": "nonsense"}  # type: ignore[misc]


async def test_the_stream_is_bounded(
    process: Start, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("component.store.writing.KEPT", 200)
    leader, standby = await pair(process)
    for number in range(1_000):
        await leader.writes(PutShown(ANNA, f"device{number % 3}", str(number)))
    # Redis trims whole nodes of a hundred entries.
    assert await client.xlen(KEYS.changes) <= 400
    await standby.knows(lambda taken: (ANNA, "device0", "999") in taken.shown)
    assert len(standby.taken.shown) == 3
