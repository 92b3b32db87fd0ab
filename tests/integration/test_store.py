"""The store on a real Redis that holds what nobody of ours has written."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from fuzz import records
from fuzz.mutations import mutated
from harness.loopback import Block
from harness.memory import Taken
from harness.redis import Redis
from hypothesis import given
from hypothesis import settings as tries
from redis.asyncio import Redis as Client

from component.core.effects import Change, PutMembership, Write
from component.store.reading import Loaded
from component.store.store import Store
from component.store.writing import BATCH
from schemas.records import MembershipRecord
from schemas.settings import Settings

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is missing"
)

GOOD = b'{"channel":"coven@mix.example","participant_id":"1"}'
ANNA = "mixpam:{anna@example.org}:channels"
OWN = b"mixpam.example.org"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def redis(block: Block) -> AsyncIterator[Redis]:
    """Run a Redis for the tests of this file."""
    server = await Redis(block).start()
    yield server
    await server.stop()
    server.remove()


@pytest_asyncio.fixture(loop_scope="session")
async def client(redis: Redis) -> AsyncIterator[Client]:
    """Give an empty Redis, as bytes."""
    async with Client.from_url(redis.url) as made:
        await made.flushall()
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def store(redis: Redis) -> AsyncIterator[Store]:
    """Give a store whose reports are in `store.reports`."""
    reports: list[dict[str, Any]] = []
    settings = Settings(
        component_jid="mixpam.example.org",
        domains="example.org",
        secret="s",
        redis_url=redis.url,
        redis_prefix="mixpam",
    )
    made = Store(
        settings,
        lambda event, level="info", **facts: reports.append(
            {"event": event, "level": level, **facts}
        ),
        lambda *_: None,
    )
    made.reports = reports  # type: ignore[attr-defined]
    yield made
    await made.close()


def unusable(store: Store) -> list[dict[str, Any]]:
    return [report for report in store.reports if report["event"] == "record-unusable"]  # type: ignore[attr-defined]


@pytest.mark.abuse(21)
async def test_what_is_no_utf8_is_set_aside_under_its_name(client: Client, store: Store) -> None:
    await client.hset(ANNA, mapping={b"coven@mix.example": GOOD, b"\xff@mix.example": b"{\xfe}"})  # type: ignore[misc]
    loaded = await store.load(taken := Taken())
    assert [user for user, _ in taken.memberships] == ["anna@example.org"]
    assert loaded.set_aside == 1
    (report,) = unusable(store)
    assert report["field"] == "\\udcff@mix.example"
    assert await client.hgetall(ANNA) == {b"coven@mix.example": GOOD}  # type: ignore[misc]
    aside = await client.hgetall("mixpam:set-aside")  # type: ignore[misc]
    assert aside == {ANNA.encode() + b" \xff@mix.example": b"{\xfe}"}


NOBODYS = {
    "no address": "mixpam:{<leave }:channels",
    "nothing": "mixpam:{}:channels",
    "a domain": "mixpam:{example.org}:journal",
    "a session": "mixpam:{anna@example.org%2Fphone}:channels",
    "another spelling": "mixpam:{Anna@example.org}:channels",
    "another way to write it": "mixpam:{anna%40example.org}:channels",
    "no UTF-8": b"mixpam:{\xff@example.org}:channels",
}


@pytest.mark.abuse(21)
@pytest.mark.parametrize("key", NOBODYS.values(), ids=NOBODYS)
async def test_a_key_of_nobody_is_told_of_and_left(
    client: Client, store: Store, key: str | bytes
) -> None:
    await client.hset(key, "coven@mix.example", GOOD)  # type: ignore[misc, arg-type]
    loaded = await store.load(taken := Taken())
    assert taken.memberships == []
    assert loaded.set_aside == 1
    assert [report["reason"] for report in unusable(store)] == ["not the address of a user"]
    assert await client.exists(key)


@pytest.mark.abuse(21)
@pytest.mark.parametrize("key", [ANNA, "mixpam:capabilities", "mixpam:mark"])
async def test_a_key_of_another_type_is_told_of_and_left(
    client: Client, store: Store, key: str
) -> None:
    await client.set(key, "x")
    assert (await store.load(Taken())).set_aside == 1
    assert [report["reason"] for report in unusable(store)] == ["not a hash"]
    assert await client.get(key) == b"x"


@pytest.mark.abuse(21)
async def test_where_nothing_can_be_set_aside_all_else_is_loaded(
    client: Client, store: Store
) -> None:
    await client.set("mixpam:set-aside", "x")
    await client.hset(ANNA, mapping={"a@b": "nonsense", "coven@mix.example": GOOD})  # type: ignore[misc]
    loaded = await store.load(Taken())
    assert (loaded.memberships, loaded.set_aside) == (1, 1)
    assert await client.hget(ANNA, "a@b") == b"nonsense"  # type: ignore[misc]


@tries(deadline=None, database=None)
@given(mutated(records.seeds()))
def whatever_is_below_our_prefix(data: bytes) -> None:
    records.check(data)


@pytest.mark.abuse(21)
async def test_whatever_is_below_our_prefix_can_be_lived_with() -> None:
    # In a thread: each try has a loop and a start of its own.
    await asyncio.to_thread(whatever_is_below_our_prefix)


@pytest.mark.abuse(21)
@pytest.mark.parametrize("resource", [b"\xff", "a\nb", ""])
async def test_what_is_no_resource_is_set_aside(
    client: Client, store: Store, resource: str | bytes
) -> None:
    await client.hset(  # type: ignore[misc]
        "mixpam:{anna@example.org}:shown", mapping={resource: b"d", b"phone": b"digest"}
    )
    loaded = await store.load(taken := Taken())
    assert taken.shown == [("anna@example.org", "phone", "digest")]
    assert loaded.set_aside == 1
    assert [report["reason"] for report in unusable(store)] == ["not a resource"]


@pytest.mark.abuse(16)
async def test_capabilities_of_before_are_not_believed_and_stay_for_an_older_process(
    client: Client, store: Store
) -> None:
    poisoned, good = '{"v":1,"features":[]}', '{"v":1,"features":["urn:xmpp:mix:core:1"]}'
    await client.hset("mixpam:capabilities", mapping={"115:x": poisoned, "2 115:y": good})  # type: ignore[misc]
    loaded = await store.load(Taken())
    assert (loaded.capabilities, loaded.set_aside) == (1, 0)
    assert await client.hget("mixpam:capabilities", "115:x") == poisoned.encode()  # type: ignore[misc]


def memberships(user: str) -> list[Change]:
    """Give a hundred new memberships of a user."""
    return [
        PutMembership(
            user,
            MembershipRecord(
                channel=f"c{number}@mix.example", participant_id="p", nodes=[], core=1
            ),
        )
        for number in range(100)
    ]


@pytest.mark.abuse(14)
async def test_many_large_writes_at_once_are_many_transactions(
    client: Client, store: Store
) -> None:
    """Nobody waits for all of them: each is bounded by its changes, as a rewrite's are."""
    users = [f"u{number}@example.org" for number in range(10)]
    for user in users:
        store.put(Write(tuple(memberships(user)), None))
    writing = asyncio.create_task(store.run())
    try:
        async with asyncio.timeout(10):
            while await client.hlen(f"mixpam:{{{users[-1]}}}:channels") < 100:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        writing.cancel()
        await asyncio.wait({writing})
    entries = [entry for _, entry in await client.xrange(store._keys.changes)]
    sizes = [len(json.loads(entry[b"changes"])) for entry in entries if b"changes" in entry]
    assert sum(sizes) == 1_000
    assert max(sizes) <= BATCH
    for user in users:
        assert await client.hlen(f"mixpam:{{{user}}}:channels") == 100


class Nothing(Taken):
    """Has nothing to give to a store."""

    def users(self) -> list[str]:
        """List no user."""
        return []

    def of_user(self, _: str) -> list[Change]:
        """Give nothing of a user."""
        return []

    of_all = users


class Shell:
    """Listens to a store."""

    def __init__(self) -> None:
        self.snapshot = Nothing()
        self.was_superseded = asyncio.Event()

    def written(self, token: int, done: bool) -> None:
        """Note the outcome of a write."""

    def loaded(self, loaded: Loaded) -> None:
        """Note that everything was read again."""

    def superseded(self) -> None:
        """Note that another process has served."""
        self.was_superseded.set()


def event_of(store: Store, event: str) -> list[dict[str, Any]]:
    return [report for report in store.reports if report["event"] == event]  # type: ignore[attr-defined]


@pytest.mark.abuse(22)
@pytest.mark.parametrize("found", [{}, {b"written": b"9:7"}], ids=["lost", "superseded"])
async def test_a_write_without_a_link_hides_nothing_from_the_next_one(
    client: Client, store: Store, found: dict[bytes, bytes]
) -> None:
    """A write that was queued when the link broke finds what happened to Redis: it counts."""
    store._listener = shell = Shell()  # type: ignore[assignment]
    await store.load(shell.snapshot)
    writing = asyncio.create_task(store.run())

    async def left(by: bytes) -> None:
        """Wait for an epoch of a process."""
        while not (await client.hget("mixpam:mark", "written") or b"").startswith(by):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    try:
        async with asyncio.timeout(10):
            store.lead()
            await left(b"1:")
            store.resign()
            await client.delete("mixpam:mark")
            if found:
                await client.hset("mixpam:mark", mapping={b"component": OWN, **found})
            store.put(Write(tuple(memberships("anna@example.org"))[:1], None))
            await left(b"1:")
            assert not shell.was_superseded.is_set()
            store.lead()
            if found:
                await shell.was_superseded.wait()
            while not found and not event_of(store, "memory-rewritten"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        writing.cancel()
        await asyncio.wait({writing})
    assert len(event_of(store, "superseded" if found else "memory-lost")) == 1
