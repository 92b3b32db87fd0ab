"""The system under test: a stack with proxies on the component's wires.

`inject` kills a process or cuts the link, at once; `recover` does only what an operator's service
manager and users' clients do automatically afterwards.
"""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

from harness import caps, ns
from harness.client import Account, RawClient, register
from harness.loopback import Block, answering
from harness.stack import Stack
from harness.stanza import Stanza
from harness.stream import fresh
from redis.asyncio import Redis as Client
from redis.exceptions import BusyLoadingError

from kills.steps import Steps
from kills.venue import Venue
from kills.wire import Commands, Pieces, Stanzas, Wire

SETTLED: Final = 4.0
"""Seconds after which ejabberd has written everything confirmed to disk: dets, which has the
archive, keeps it in memory for three, and Mnesia its log for less."""

EXPECTED_ERRORS: Final = frozenset({"redis-away"})


class Watched(RawClient):
    """A session whose incoming stanzas are steps."""

    def __init__(self, account: Account, resource: str, steps: Steps) -> None:
        super().__init__(account, resource)
        self._steps = steps

    def arrived(self, stanza: Stanza) -> None:
        """Count a stanza, and take it."""
        self._steps.note("device<", stanza.raw)
        super().arrived(stanza)

    async def fence(self) -> None:
        """Make round trips as `RawClient` does, which do not count as steps."""
        for target in (self.account.domain, *self.components, self.account.domain):
            await self.iq(ping(target))


def ping(target: str, sender: str = "") -> str:
    """Return a ping that does not count as a step."""
    origin = f" from='{sender}'" if sender else ""
    head = f"<iq type='get' id='{fresh('fence-')}'{origin} to='{target}'>"
    return f"{head}<ping xmlns='{ns.PING}'/></iq>"


class World:
    """One stack that survives many faults, with the users who stay."""

    def __init__(self, kind: str, block: Block) -> None:
        self.kind = kind
        self.steps = Steps()
        place = block.place()
        self.stack = Stack(
            kind,
            block,
            MIXPAM_SERVER_HOST=place.ip,
            MIXPAM_REDIS_URL=f"redis://{place.ip}:6379/0",
        )
        stack = self.stack
        self.link = Wire(
            "link",
            self.steps,
            place,
            stack.server.place,
            stack.server.component_port(stack.component),
            there=Stanzas,
            back=Stanzas,
        )
        self.memory = Wire(
            "redis", self.steps, place, stack.redis.place, 6379, there=Commands, back=Pieces
        )
        self.venue = Venue(stack.server.link(stack.server.fake), self.steps)
        stack.fake = self.venue
        self.redis = Client.from_url(stack.redis.url, decode_responses=True)
        self.devices: list[Watched] = []
        self.errors: list[dict[str, Any]] = []
        self._mark = 0
        self._last_change = 0.0
        self._spare: list[Account] = []

    @property
    def forgetful(self) -> bool:
        """Tell whether the server may lose at kill -9 what it has just confirmed."""
        return self.kind.startswith("ejabberd")

    @property
    def folders(self) -> list[Path]:
        """Return the folders with data and logs."""
        return list(self.stack.folders)

    async def start(self) -> "World":
        """Start everything."""
        await self.link.start()
        await self.memory.start()
        await self.stack.start()
        return self

    async def stop(self) -> None:
        """Stop everything."""
        for device in self.devices:
            await device.cut()
        await self.redis.aclose()
        await self.stack.stop()
        await self.link.stop()
        await self.memory.stop()

    # -- users ---------------------------------------------------------------------------

    async def account(self) -> Account:
        """Return an unused account, made some time ago, so that a killed server keeps it."""
        if len(self._spare) < 2:
            self._spare += [await register(self.stack.server.place) for _ in range(8)]
            self.touched()
        return self._spare.pop(0)

    async def device(self, account: Account, *, mix: bool = True) -> Watched:
        """Log a device in and bring it online."""
        device = Watched(account, fresh("dev"), self.steps)
        await device.login()
        device.components = [self.stack.component]
        self.devices.append(device)
        await self.online(device, mix=mix)
        return device

    async def online(self, device: Watched, *, mix: bool = True) -> None:
        """Do what a client does after login: fetch the roster, send presence."""
        await device.roster(annotate=mix)
        await device.mix_online(caps.MIX if mix else caps.PLAIN)

    async def drop(self, device: Watched) -> None:
        """Log a device out for good."""
        self.devices.remove(device)
        await device.close()

    async def back_online(self) -> None:
        """Log in again every client whose connection broke, if its account exists."""
        for device in list(self.devices):
            if device.connected:
                continue
            await device.cut()
            if await self._can_log_in(device.account):
                await device.login()
                await self.online(device, mix=device.features == caps.MIX)
            else:
                self.devices.remove(device)

    async def _can_log_in(self, account: Account) -> bool:
        """Tell whether the server still has an account."""
        client = RawClient(account, fresh("check"))
        try:
            await client.login()
        except AssertionError:
            return False
        finally:
            with contextlib.suppress(OSError):
                await client.cut()
        return True

    # -- faults ---------------------------------------------------------------------------

    def touched(self) -> None:
        """Note that the server has just been given something to store."""
        self._last_change = time.monotonic()

    async def settled(self) -> None:
        """Wait until a server that is to be killed has written everything so far to disk."""
        if self.forgetful:
            await asyncio.sleep(max(0.0, self._last_change + SETTLED - time.monotonic()))

    def inject(self, fault: str) -> None:
        """Kill a process or cut the link, now."""
        stack = self.stack
        self._mark = stack.mixpam.mark()
        if fault == "link":
            self.link.sever(reset=True)
            return
        process = {
            "component": stack.mixpam.process,
            "redis": stack.redis.process,
            "server": stack.server.process,
        }[fault]
        os.kill(process.pid, signal.SIGKILL)
        if fault != "redis":
            self.link.sever()
        if fault != "server":
            self.memory.sever()
        if fault == "server":
            self.link.shut()

    async def recover(self, fault: str) -> None:
        """Restart the killed process; return when the component serves the domain again."""
        stack = self.stack
        if fault == "component":
            self._note_errors()
            await stack.mixpam.process.ended()
            await stack.mixpam.start()
        elif fault == "redis":
            await stack.redis.process.ended()
            await stack.redis.start()
            await self._loaded()
        else:
            if fault == "server":
                await self._restart_server()
            await stack.mixpam.ready(since=self._mark)

    async def _loaded(self) -> None:
        """Wait until Redis has read its AOF; until then it takes connections and refuses all."""
        await self.redis.connection_pool.disconnect()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(BusyLoadingError):
                    await self.redis.ping()
                    return
                await asyncio.sleep(0.01)

    async def _restart_server(self) -> None:
        stack = self.stack
        await stack.server.process.ended()
        await stack.server.process.start()
        for port in stack.server.ports():
            await answering(stack.server.place.ip, port)
        await self.venue.cut()
        await self.venue.connect()
        # The channel service stands for one elsewhere, which stayed up all the time.
        self.link.reopen()

    def _note_errors(self) -> None:
        self.errors += [
            record
            for record in self.stack.mixpam.events()
            if record.get("level") == "error" and record.get("event") not in EXPECTED_ERRORS
        ]

    def take_errors(self) -> list[dict[str, Any]]:
        """Return the errors in the component's logs since the last call."""
        self._note_errors()
        found, self.errors = self.errors, []
        # Each is reported once.
        self.stack.mixpam.process.lines[:] = []
        return found

    # -- looking -------------------------------------------------------------------------

    async def stored(self, kind: str) -> dict[str, dict[str, str]]:
        """Return the records of all users in Redis: user -> field -> text."""
        found: dict[str, dict[str, str]] = {}
        async for key in self.redis.scan_iter(match=f"mixpam:{{*}}:{kind}"):
            fields: Any = await self.redis.hgetall(key)
            if fields:
                found[key.partition("{")[2].partition("}")[0]] = fields
        return found

    async def settle(self) -> None:
        """Make round trips through all servers, components and devices."""
        for target in (self.stack.domain, self.stack.component, self.stack.domain):
            await self.venue.iq(ping(target, self.venue.jid))
        for device in self.devices:
            if device.connected:
                await device.fence()

    async def channels_in_roster(self, client: RawClient) -> set[str]:
        """Return the channels that a user's roster has."""
        answer = await client.roster()
        items = answer.all(f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item")
        jids = {item.get("jid", "") for item in items}
        return {jid for jid in jids if jid.endswith(f"@{self.venue.jid}")}
