"""Fixtures and options of all tests against real servers.

``--servers`` chooses the server kinds; every test that takes `server_kind` (or a
fixture that does) runs on each of them. Logs of failed tests are kept.
"""

from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from harness.house import TapHouse
from harness.logs import KeptLogs, running
from harness.loopback import Block
from harness.machines import KINDS, REPOSITORY
from harness.stack import FreshStack, MixHost, Stack

pytest_plugins = ["harness.conformance", "harness.spread"]

REAL_SERVER_FOLDERS = ("integration", "scenarios", "conformance")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that chooses servers."""
    parser.addoption(
        "--servers",
        default=",".join(KINDS),
        help=f"comma separated server kinds to test on (default: all of {', '.join(KINDS)})",
    )
    parser.addoption(
        "--every-version",
        action="store_true",
        help="run tests marked `family` on every version, not on the newest of each family only",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test once per server kind."""
    if "server_kind" in metafunc.fixturenames:
        chosen = [k for k in metafunc.config.getoption("--servers").split(",") if k]
        if unknown := [kind for kind in chosen if kind not in KINDS]:
            raise pytest.UsageError(f"no such server: {', '.join(unknown)}")
        is_family = metafunc.definition.get_closest_marker("family") is not None
        if is_family and not metafunc.config.getoption("--every-version"):
            # The order of KINDS is that of versions.
            newest = {KINDS[kind].software: kind for kind in KINDS if kind in chosen}
            chosen = list(newest.values())
        metafunc.parametrize("server_kind", chosen, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests against real servers in one event loop, which the servers' pipes share."""
    for item in items:
        if any(f"/tests/{folder}/" in str(item.path) for folder in REAL_SERVER_FOLDERS):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            # Sockets and transports that a test cuts on purpose complain when collected.
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:slixmpp"))


LOGS = pytest.StashKey[KeptLogs]()


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the record of instances."""
    config.stash[LOGS] = KeptLogs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the logs of the instances that were running when a test failed."""
    report = yield
    logs = item.config.stash[LOGS]
    if report.failed and logs.live:
        logs.failed.update(logs.live)
        report.sections.append(("logs kept in", "\n".join(str(path) for path in logs.live)))
    return report


@pytest.fixture(scope="session")
def logs(request: pytest.FixtureRequest) -> KeptLogs:
    """Return the record of instances."""
    return request.config.stash[LOGS]


@pytest.fixture(scope="session")
def block() -> Iterator[Block]:
    """Claim the loopback addresses of this run."""
    claimed = Block()
    yield claimed
    claimed.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tap_server(server_kind: str, block: Block, logs: KeptLogs) -> AsyncIterator[TapHouse]:
    """Run a server with the tap and scripted components, one per kind."""
    async with running(TapHouse(server_kind, block), logs) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="session")
async def tap(tap_server: TapHouse) -> AsyncIterator[TapHouse]:
    """Give a test the tap's house in the state *up*, with empty inboxes."""
    await tap_server.up()
    tap_server.drop_idle()
    yield tap_server
    await tap_server.close_clients()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mix_host(block: Block, logs: KeptLogs) -> AsyncIterator[MixHost]:
    """Run an ejabberd with mod_mix for the users of Prosody stacks."""
    host = MixHost(block)
    logs.add(host.server.folder)
    try:
        yield await host.start()
    finally:
        await host.stop()
        logs.done(host.server.folder)


async def run(stack: Stack, logs: KeptLogs, *, component: bool = True) -> None:
    """Start a stack, with its logs on record."""
    for folder in stack.folders:
        logs.add(folder)
    with logs.kept_on_error(*stack.folders):
        await stack.start(component=component)


async def end(stack: Stack, logs: KeptLogs) -> None:
    """Stop a stack and forget its logs unless a test failed on it."""
    await stack.stop()
    for folder in stack.folders:
        logs.done(folder)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_stack(
    server_kind: str, block: Block, mix_host: MixHost, logs: KeptLogs
) -> AsyncIterator[Stack]:
    """Run a whole system, one per kind of server."""
    stack = Stack(server_kind, block, mix_host)
    try:
        await run(stack, logs)
        yield stack
    finally:
        await end(stack, logs)


@pytest_asyncio.fixture(loop_scope="session")
async def stack(shared_stack: Stack) -> AsyncIterator[Stack]:
    """Give a test the running system, with nobody logged in."""
    if shared_stack.mixpam.process.running:
        # What the last test's sessions cause when they end is no business of this one.
        await shared_stack.settle()
    shared_stack.fake.inbox.clear()
    shared_stack.stranger.inbox.clear()
    yield shared_stack
    await shared_stack.logout()


@pytest_asyncio.fixture(loop_scope="session")
async def fresh_stack(
    server_kind: str, block: Block, mix_host: MixHost, logs: KeptLogs
) -> AsyncIterator[FreshStack]:
    """Give a test systems of its own, to stop and start parts of as it likes.

    Call it with component settings (MIXPAM_…), ``component=False`` to start without, and
    `tap` for the tree of another version that the server has its tap from.
    """
    made: list[Stack] = []

    async def make(*, component: bool = True, tap: Path = REPOSITORY, **settings: str) -> Stack:
        stack = Stack(server_kind, block, mix_host, **settings)
        stack.server.tree = tap
        made.append(stack)
        await run(stack, logs, component=component)
        return stack

    yield make
    for stack in made:
        await end(stack, logs)
