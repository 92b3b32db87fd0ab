"""Whoever holds connections to the HTTP port, or its requests, takes nothing from anybody.

The kind: descriptors, memory and time that a peer of the port can take: connections without
a request, with half of one, with half a body, with one after another; answers that nobody
takes; requests without end; faults that a request brings about, and what of it reaches the
log. Meanwhile link and Redis come back, others are answered, and the log is JSON throughout.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from harness.http import PORT, Http
from harness.loopback import Block
from harness.stack import Stack

from component.http import gate, server
from component.http.gate import Gate, Visitor
from component.http.server import HttpServer

FreshStack = Callable[..., Awaitable[Stack]]
pytestmark = pytest.mark.family
HALF = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Wait: "


class Crowd:
    """Connections that are opened anew as soon as they are ended."""

    def __init__(self, host: str, many: int, first: bytes) -> None:
        self._tasks = [asyncio.create_task(self._hold(host, first)) for _ in range(many)]
        self.opened = 0

    async def _hold(self, host: str, first: bytes) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, PORT)
                self.opened += 1
                try:
                    writer.write(first)
                    while await reader.read(1000):
                        pass
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.2)

    async def goes(self) -> None:
        """End it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.1)  # sockets are closed in the loop's next turns


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize("first", [HALF, b""], ids=["half requests", "nothing said"])
async def test_link_and_redis_come_back_during_a_siege(
    fresh_stack: FreshStack, first: bytes
) -> None:
    stack = await fresh_stack(component=False)
    http = Http(stack)
    process = stack.mixpam.process
    process.argv[3:3] = ["prlimit", "--nofile=96:96"]
    await stack.mixpam.start()
    crowd = Crowd(http.place.ip, 300, first)
    try:
        crowded = await process.line(r'"event": ?"http-crowded"', 20)
        assert json.loads(crowded)["connections"] <= 96 // 4
        mark = stack.mixpam.mark()
        await stack.redis.stop()
        await stack.server.stop()
        await process.line(r'"event": ?"link-down"', 20, since=mark)
        await stack.redis.start()
        await stack.server.start()
        await stack.mixpam.ready(mark)
        await http.until("/readyz", lambda reply: reply.status == 200, 40)
        assert descriptors(process.pid) < 96
    finally:
        await crowd.goes()
    assert len(stack.mixpam.events("http-crowded")) < 5
    assert crowd.opened > 96
    # Every line is JSON, or this fails; no library had anything to say.
    assert stack.mixpam.events("library") == []


# -- the port alone --------------------------------------------------------------------------


class Port:
    """The HTTP server with nothing behind it, on an address of its own."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.reports: list[tuple[str, dict[str, Any]]] = []

    async def serve(self) -> None:
        """Begin to serve until `stop`."""

        async def fails(request: web.Request) -> web.StreamResponse:
            raise KeyError(request.query.get("what", "secret"))

        async def large(_: web.Request) -> web.StreamResponse:
            return web.Response(body=b"x" * 50_000_000)

        async def body(request: web.Request) -> web.StreamResponse:
            return web.Response(body=await request.read())

        routes = [web.get("/fails", fails), web.get("/large", large), web.post("/body", body)]
        self.server = HttpServer(Nobody(self.host), self._report, routes)  # type: ignore[arg-type]
        self._listening = asyncio.create_task(self.server._listen())
        await asyncio.wait_for(self._listening, 10)

    def _report(self, event: str, _: str = "info", **facts: Any) -> None:
        self.reports.append((event, facts))

    async def opened(self, first: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect and send something."""
        reader, writer = await asyncio.open_connection(self.host, PORT)
        writer.write(first)
        return reader, writer

    async def ended(self, first: bytes, then: Callable[[], bytes] | None = None) -> bytes:
        """Send something, and more every now and then; give what came until the end."""
        reader, writer = await self.opened(first)
        came = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while True:
                    if then is not None:
                        writer.write(then())
                    with contextlib.suppress(TimeoutError):
                        data = await asyncio.wait_for(reader.read(65_536), 0.1)
                        came += data
                        if not data:
                            break
        writer.close()
        return came

    async def status(self, path: str) -> int:
        """Ask as others do."""
        reader, writer = await self.opened(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return int(answer.split()[1])


class Nobody:
    """As much of `Sources` as the port needs to begin."""

    def __init__(self, host: str) -> None:
        self.settings = self
        self.http_host = host
        self.http_port = PORT
        self.http_token = self
        self.watch = self

    def get_secret_value(self) -> str:
        """Give no token."""
        return ""

    async def counted(self) -> None:
        """Do nothing."""


@pytest_asyncio.fixture(loop_scope="session")
async def port(block: Block, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Port]:
    """Serve, impatiently."""
    for module, name in ((gate, "REQUEST_SECONDS"), (gate, "STALL_SECONDS"),
                         (server, "BODY_SECONDS"), (server, "KEEPALIVE")):  # fmt: skip
        monkeypatch.setattr(module, name, 1)
    made = Port(block.place().ip)
    await made.serve()
    yield made
    await made.server.stop()


START = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nbegun"

SLOW: dict[str, tuple[bytes, Callable[[], bytes] | None]] = {
    "nothing": (b"", None),
    "half a line": (b"GET /hea", None),
    "half a head": (HALF, None),
    "a byte now and then": (START + b"X: ", lambda: b"x"),
    "a header now and then": (START, lambda: b"X-More: 1\r\n"),
    "half a body": (POST, None),
    "keeps alive": (START + b"\r\n", None),
    "headers without end": (START, lambda: b"X: " + b"x" * 4000 + b"\r\n"),
    "a line without end": (b"GET /", lambda: b"x" * 4000),
    "empty lines without end": (b"", lambda: b"\r\n" * 4000),
    "no HTTP": (b"\x16\x03\x01 hello", None),
}


@pytest.mark.parametrize(("first", "then"), SLOW.values(), ids=SLOW)
async def test_what_is_not_ended_is(
    port: Port, first: bytes, then: Callable[[], bytes] | None
) -> None:
    await port.ended(first, then)
    assert await port.status("/healthz") == 200


async def test_an_answer_that_nobody_takes(port: Port) -> None:
    reader, writer = await port.opened(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert port.server._gate is not None
    async with asyncio.timeout(20):
        while port.server._gate._inside:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)
    assert await port.status("/healthz") == 200
    writer.close()
    assert reader is not None


async def test_many_of_one_leave_room_for_others_and_for_themselves(port: Port) -> None:
    held = [await port.opened(HALF) for _ in range(gate.MOST_OF_ONE + 20)]
    assert port.server._gate is not None
    assert len(port.server._gate._inside) <= gate.MOST_OF_ONE
    assert await port.status("/healthz") == 200
    for _, writer in held:
        writer.close()
    assert [event for event, _ in port.reports].count("http-crowded") == 1


async def test_who_is_being_served_is_not_sent_away(port: Port) -> None:
    made = Gate(asyncio.Protocol, lambda *_, **__: None)
    served = [Visitor(made) for _ in range(gate.MOST_OF_ONE)]
    for visitor in served:
        visitor.address = "192.0.2.1"
        assert made.enter(visitor)
    with contextlib.ExitStack() as stack:
        for visitor in served:
            stack.enter_context(made.serving(visitor.inner))
        late = Visitor(made)
        late.address = "192.0.2.1"
        assert not made.enter(late)
        other = Visitor(made)
        other.address = "192.0.2.2"
        assert made.enter(other)
    assert port is not None


async def test_a_fault_in_an_answer(port: Port) -> None:
    assert await port.status("/fails?what=hunter2") == 500
    (facts,) = [facts for event, facts in port.reports if event == "http-fault"]
    assert "KeyError" in facts["exception"]
    assert "hunter2" not in facts["exception"]
