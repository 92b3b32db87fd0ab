"""Stands in for server, tap and channels: one link to a real `mixpam run`, with a real Redis.

It accepts the component, reports sessions, answers rosters, service discovery and joins at once,
and counts the copies. So the results show the component's own work, its memory and its pauses.
"""

import asyncio
import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from typing import Self, cast

import uvloop
from harness.loopback import Block
from harness.machines import REPOSITORY, temporary
from harness.process import Process
from harness.redis import Redis

from benchmarks import traffic
from benchmarks.processes import cpu_seconds, resident_bytes
from component.wire.framing import Frame, Framer

_MAX_BYTES = 1 << 20
_PATIENCE = 600.0
_PROBE = re.compile(rb" id='probe(\d+)'")
_FEATURES = (
    b"<query xmlns='http://jabber.org/protocol/disco#info'%b><identity category='conference'"
    b" type='mix'/><feature var='urn:xmpp:mix:core:1'/></query>"
)
_TAP = f"<message from='{traffic.DOMAIN}' to='{traffic.COMPONENT}'>"
_CONFLICT = (
    b"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    b"</stream:stream>"
)
_ITEM = re.compile(rb"<item[^>]* id='([^']*)'")


class _Link(asyncio.Protocol):
    """The component's connection, as the server sees it."""

    def __init__(
        self, taken: Callable[[Frame], None], up: Callable[["_Link"], None], *, refused: bool
    ) -> None:
        self._taken = taken
        self._up = up
        self._refused = refused
        self._framer: Framer | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not subclass asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._framer is None:
            header = traffic.HEADER.format(
                content="jabber:component:accept", component=traffic.COMPONENT
            )
            self._transport.write(header.encode())
            if self._refused:
                self._transport.write(_CONFLICT)
                self._transport.close()
                return
            self._framer = Framer(_MAX_BYTES)
            return
        for frame in self._framer.feed(data):
            if frame.name == b"handshake":
                self.write(b"<handshake/>")
                self._up(self)
            else:
                self._taken(frame)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def write(self, data: bytes) -> None:
        """Write at once."""
        self._transport.write(data)

    async def send(self, stanzas: Iterable[bytes], some: int = 100) -> None:
        """Write many, no faster than they are taken."""
        batch: list[bytes] = []
        for stanza in stanzas:
            batch.append(stanza)
            if len(batch) == some:
                self.write(b"".join(batch))
                batch = []
                await self._writable.wait()
                await asyncio.sleep(0)
        self.write(b"".join(batch))


class StandIn:
    """Component, Redis and a server for them; `rosters` gives the items of a user's roster."""

    def __init__(self, rosters: Callable[[str], Iterable[str]], **settings: str) -> None:
        self._block = Block()
        self.redis = Redis(self._block)
        self._place = self._block.place()
        self._folder = temporary("bench")
        self._rosters = rosters
        self._settings = settings
        self._link: asyncio.Future[_Link] = asyncio.get_running_loop().create_future()
        self._probes: dict[int, tuple[float, asyncio.Future[float]]] = {}
        self._number = 0
        # Whether another process seems to be connected.
        self._taken_place = False
        self.heard = 0
        self.results = 0
        self.rosters_read = 0
        self.http = f"http://{self._place.ip}:5405"

    async def __aenter__(self) -> Self:
        """Start Redis; the component comes with `start`."""
        await self.redis.start()
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        """Stop all; print the component's last output if something went wrong."""
        if hasattr(self, "component"):
            if kind is not None:
                print(self.component.tail(), file=sys.stderr)
            await self.component.stop()
            self._server.close()
        await self.redis.stop()
        self.redis.remove()
        self._block.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def start(self) -> float:
        """Start the component; seconds until it is linked, which is after Redis was read."""
        began = time.perf_counter()
        await self._launch()
        await self.let_in()
        return time.perf_counter() - began

    async def stand_by(self) -> None:
        """Start the component, and refuse it with a conflict; return when it has read Redis."""
        self._taken_place = True
        await self._launch()
        await self.component.line('"reason": ?"conflict"', _PATIENCE)

    async def let_in(self) -> None:
        """Accept the component from now on, and wait until it is linked."""
        self._taken_place = False
        await self.component.until(self._linked())

    async def _launch(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make, self._place.ip, 5347)
        self.component = Process(
            "mixpam",
            [sys.executable, "-m", "component", "run"],
            self._folder / "component.log",
            env={
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "PYTHONPATH": str(REPOSITORY),
                "PYTHONUNBUFFERED": "1",
                "MIXPAM_COMPONENT_JID": traffic.COMPONENT,
                "MIXPAM_SECRET": "secret",
                "MIXPAM_SERVER_HOST": self._place.ip,
                "MIXPAM_DOMAINS": traffic.DOMAIN,
                "MIXPAM_REDIS_URL": self.redis.url,
                "MIXPAM_HTTP_HOST": self._place.ip,
                "MIXPAM_HTTP_TOKEN": "benchmark-of-mixpam",
                "MIXPAM_LOG_FORMAT": "json",
                **self._settings,
            },
            cwd=self._folder,
        )
        await self.component.start()

    async def _linked(self) -> None:
        async with asyncio.timeout(_PATIENCE):
            await asyncio.shield(self._link)

    def _make(self) -> _Link:
        return _Link(self._taken, self._link.set_result, refused=self._taken_place)

    @property
    def link(self) -> _Link:
        """The component's connection."""
        return self._link.result()

    @property
    def memory(self) -> int:
        """The component's resident bytes."""
        return resident_bytes(self.component.pid)

    @property
    def cpu(self) -> float:
        """The component's CPU seconds so far."""
        return cpu_seconds(self.component.pid)

    async def replay(self, presences: Iterable[bytes]) -> float:
        """Act as a tap that comes up with these sessions; return seconds until `ready`."""
        began = time.perf_counter()
        await self.greet(presences)
        self.link.write(f"{_TAP}<replayed xmlns='mixpam:tap:1'/></message>".encode())
        await self.component.line('"event": ?"ready"', _PATIENCE)
        return time.perf_counter() - began

    async def greet(self, presences: Iterable[bytes]) -> None:
        """Act as a tap that has come up, and report these sessions; more may follow."""
        self.link.write(
            f"{_TAP}<hello xmlns='mixpam:tap:1' version='1' tap='1.0' software='stand-in'"
            " archive='true'/></message>".encode()
        )
        await self.link.send(presences)

    async def quiet(self) -> None:
        """Wait until the component sends no more requests."""
        while True:
            before = self.heard, self.cpu
            await asyncio.sleep(2)
            if self.heard == before[0] and self.cpu - before[1] < 0.1:
                return

    async def probe(self, user: str, channel: str) -> float:
        """Send a channel's message; return the seconds until the first copy is back."""
        self._number += 1
        number = self._number
        told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._probes[number] = time.perf_counter(), told
        self.link.write(
            f"<message type='groupchat' id='probe{number}' to='{user}' from='{channel}/p1'>"
            "<body>x</body></message>".encode()
        )
        return await told

    def _taken(self, frame: Frame) -> None:
        self.heard += 1
        if frame.name == b"message":
            found = _PROBE.search(frame.data, 0, frame.tag_end)
            waiting = None if found is None else self._probes.pop(int(found[1]), None)
            if waiting is not None and not waiting[1].done():
                waiting[1].set_result(time.perf_counter() - waiting[0])
        elif frame.name == b"iq":
            self._asked(frame)

    def _asked(self, frame: Frame) -> None:
        data, inner = frame.data, b""
        if frame.type not in {b"get", b"set"}:
            self.results += b"client-" in data
            return
        if b"jabber:iq:roster" in data:
            self.rosters_read += frame.type == b"get"
            if frame.type == b"get":
                items = "".join(
                    f"<item jid='{each}' subscription='from'/>"
                    for each in self._rosters(frame.to.decode())
                )
                inner = f"<query xmlns='jabber:iq:roster'>{items}</query>".encode()
        elif b"pubsub" in data:
            published = b"".join(
                b"<item id='%b'><participant xmlns='urn:xmpp:mix:core:1'/></item>" % each
                for each in _ITEM.findall(data)
            )
            inner = (
                b"<pubsub xmlns='http://jabber.org/protocol/pubsub'>"
                b"<items node='urn:xmpp:mix:nodes:participants'>%b</items></pubsub>" % published
            )
        elif b"disco#info" in data:
            node = re.search(rb" node='[^']*'", data)
            inner = _FEATURES % (b"" if node is None else node[0])
        elif b"<join" in data:
            inner = b"<join xmlns='urn:xmpp:mix:core:1' id='0a1b2c3d4e5f6a7b8c9d'><nick>n</nick>"
            inner += b"<subscribe node='urn:xmpp:mix:nodes:messages'/></join>"
        self.link.write(
            b"<iq type='result' id='%b' from='%b' to='%b'>%b</iq>"
            % (frame.get(b"id"), frame.to, frame.sender, inner)
        )


class Latencies:
    """Probes one user's channel all the time, and records the latency of each copy."""

    def __init__(self, stand: StandIn, user: str, channel: str, *, every: float = 0.005) -> None:
        self._stand = stand
        self._user = user
        self._channel = channel
        self._every = every
        self.seconds: list[float] = []
        self.own_lag: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin."""
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            due = time.perf_counter() + self._every
            await asyncio.sleep(self._every)
            # The probe's own lateness shows how much of the rest is due to the machine.
            self.own_lag.append(time.perf_counter() - due)
            self.seconds.append(await self._stand.probe(self._user, self._channel))


def run(main: Callable[[], object]) -> None:
    """Run a coroutine function on the loop that the component also uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())  # type: ignore[arg-type]
