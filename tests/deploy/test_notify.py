"""What systemd is told, on a socket of its own kind."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from component.process.systemd import Notifier


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        yield manager


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def all_of(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_ready_is_said_with_the_first_link_only(heard: socket.socket) -> None:
    notifier = Notifier(environment(heard))
    notifier.saw("loaded", {"memberships": 1})
    notifier.saw("link-down", {"server": "127.0.0.1:5347", "remedy": "start the server"})
    assert all_of(heard) == ["STATUS=no link to 127.0.0.1:5347: start the server"]
    notifier.saw("link-up", {})
    notifier.saw("link-up", {})
    assert [text.partition("\n")[0] for text in all_of(heard)] == [
        "READY=1",
        "STATUS=connected to the server",
    ]
    notifier.saw("stop", {})
    assert all_of(heard)[0].startswith("STOPPING=1")


def test_an_abstract_address_is_understood() -> None:
    name = f"mixpam-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.setblocking(False)
        Notifier({"NOTIFY_SOCKET": "@" + name}).saw("stop", {})
        assert len(all_of(manager)) == 1


async def test_the_watchdog_is_fed_twice_as_often_as_it_asks(heard: socket.socket) -> None:
    notifier = Notifier(environment(heard, WATCHDOG_USEC="100000"))
    task = asyncio.create_task(notifier.beat())
    await asyncio.sleep(0.28)
    task.cancel()
    beats = all_of(heard)
    assert set(beats) == {"WATCHDOG=1"}
    assert 4 <= len(beats) <= 6


async def test_a_watchdog_of_another_process_is_not_fed(heard: socket.socket) -> None:
    await Notifier(environment(heard, WATCHDOG_USEC="100000", WATCHDOG_PID="1")).beat()
    assert all_of(heard) == []


async def test_without_systemd_nothing_is_said_and_nothing_waits(tmp_path: Path) -> None:
    Notifier({}).saw("link-up", {})
    await Notifier({"WATCHDOG_USEC": "100000"}).beat()
    # A manager that is gone costs nothing either.
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).saw("link-up", {})
