"""Measures the effect of an attack on an innocent neighbour: what another user notices.

    async with Bystander(stack) as bystander:
        await attack()
        report = await bystander.finish()
    report.check()

or, which measures once more if only the latency was bad (it may be the machine's load):

    await withstood(stack, attack)

An honest channel, on a connection of its own, sends numbered messages to a user with two
devices, first while nothing else happens (the quiet run), then while the attack goes on. The
results are kept in ``.pytest_cache/bystander``; `harness.bystander_table` makes a table of them.
"""

import asyncio
import json
import math
import os
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from harness.machines import REPOSITORY
from harness.stack import Stack
from harness.stream import fresh

MARGIN: Final = 0.1
"""Seconds by which the 99th percentile may be above the quiet figure."""
MESSAGES: Final = 100
BUSY_MESSAGES: Final = 20
"""Messages of a quiet run on a busy machine, where latency is not judged."""
PACE: Final = 0.015
"""Seconds from one message to the next."""
TAIL: Final = 0.75
"""Seconds for which messages go on after the attack: its effect may show late."""
KEPT: Final = Path(
    os.environ.get("MIXPAM_BYSTANDER_RESULTS", REPOSITORY / ".pytest_cache" / "bystander")
)
LONG: Final = bool(os.environ.get("MIXPAM_BYSTANDER_LONG"))
"""Whether attacks are heavier and longer than in ordinary runs."""
FOR_TABLE: Final = "MIXPAM_BYSTANDER_RESULTS" in os.environ
"""Whether to measure figures that only the table needs."""

Attack = Callable[[], Awaitable[object]]


def busy_machine() -> bool:
    """Tell whether the load exceeds the number of processors: latency is meaningless then."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that `share` of the values do not exceed, 0 for no values."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else 0.0


@dataclass(frozen=True)
class Report:
    """The outcome of one attack: counts, seconds of latency, and events of the link."""

    server: str
    test: str
    sent: int
    live: tuple[int, ...]
    """How many of the sent messages came to each device."""
    in_order_once: bool
    quiet_p50: float
    quiet_p99: float
    p50: float
    p99: float
    straight_p99: float
    """p99 of messages to a full JID, which mixpam never sees: the server's own time."""
    links_lost: tuple[str, ...]
    """Reasons in the component's `link-down` entries."""
    restarted: bool
    unready: int
    """How often `/readyz` was negative."""
    retried: bool = False
    busy_server: bool = False
    """Whether the server's own slowness may excuse a delay, as in `later`."""
    busy_machine: bool = False
    """Whether the quiet run was unusually slow, because of other work on this machine."""
    server_p99: float = 0.0
    """The p99 while the same stanzas were sent past mixpam; 0 if that was not tried."""

    def later(self, *, busy_server: bool = False) -> float:
        """Return the seconds by which the 99th percentile exceeded the quiet one.

        For an attack that gives the server itself much to read (`busy_server`) the base is twice
        the server's time, measured simultaneously, for messages that mixpam never sees: a channel's
        message passes the server once more. Or it is the neighbour's latency while the attack's
        stanzas went past mixpam, `server_p99`.
        """
        servers = max(2 * self.straight_p99, self.server_p99) if busy_server else 0
        return self.p99 - max(self.quiet_p99, servers)

    @property
    def hurt(self) -> list[str]:
        """Return the neighbour's losses, one line each, without latency."""
        found = [f"{self.sent - came} of {self.sent} not live" for came in self.live
                 if came != self.sent]  # fmt: skip
        if not self.in_order_once:
            found.append("out of order, or twice")
        found += [f"the link fell: {reason}" for reason in self.links_lost]
        if self.restarted:
            found.append("the component is another process")
        if self.unready:
            found.append(f"not ready {self.unready} times")
        return found

    def check(self, *, ready: bool = True, busy_server: bool = False) -> "Report":
        """Fail unless all came live, in order, once and in time, and the link stayed up.

        Latency is judged if nothing else keeps the machine busy, and otherwise printed. Without
        `ready`, any answer of `/readyz` is allowed; `busy_server` as in `later`.
        """
        hurt = [what for what in self.hurt if ready or not what.startswith("not ready")]
        if (later := self.later(busy_server=busy_server)) >= MARGIN:
            late = f"p99 is {later * 1000:.0f} ms above the quiet one"
            if self.busy_machine or busy_machine():
                print(f"not judged, the machine is busy: {late}")
            else:
                hurt.append(late)
        assert not hurt, f"{'; '.join(hurt)}: {self}"
        return self

    def __str__(self) -> str:
        """Return the figures in one line."""
        return (
            f"{self.test} on {self.server}: {self.sent} sent, live {list(self.live)}, p50"
            f" {self.quiet_p50 * 1000:.1f} -> {self.p50 * 1000:.1f} ms, p99"
            f" {self.quiet_p99 * 1000:.1f} -> {self.p99 * 1000:.1f} ms,"
            f" straight {self.straight_p99 * 1000:.1f} ms"
        )

    def keep(self) -> None:
        """Store the figures for the table; the last run of a test counts."""
        KEPT.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.-]", "_", f"{self.server}-{self.test}")
        (KEPT / f"{name}.json").write_text(json.dumps(asdict(self)), encoding="utf-8")


def test_name() -> str:
    """Return the name of the running test, without the server."""
    name = os.environ.get("PYTEST_CURRENT_TEST", "bystander").rpartition("::")[2]
    return name.partition(" ")[0].partition("[")[0].removeprefix("test_")


Withstands = Callable[..., Awaitable[Report]]
"""The fixture `withstands`: call it with an attack, and with further arguments of `withstood`."""


class Neighbour:
    """The process that runs the channel and the user's devices (`harness.neighbour`)."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._child: asyncio.subprocess.Process | None = None

    async def start(self) -> "Neighbour":
        """Let a new user with two devices join a new channel."""
        server = self.stack.server
        facts = {
            "ip": server.place.ip,
            "domain": server.domain,
            "honest": server.honest,
            "port": server.component_port(server.honest),
            "component": server.component,
            # The other process also counts from 1, as every one of them does.
            "name": fresh("neighbour"),
        }
        self._child = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "KILL",
            sys.executable, "-m", "harness.neighbour", json.dumps(facts),
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24,
        )  # fmt: skip
        try:
            await self._said(40)
        except BaseException:
            await self.end()
            raise
        return self

    async def go(self, pace: float) -> None:
        """Begin to send."""
        await self._tell(f"go {pace}")
        await self._said(10)

    async def stop(self, messages: int, tail: float) -> dict[str, Any]:
        """End after at least `messages` and `tail` seconds, and return the outcome."""
        await self._tell(f"stop {messages} {tail}")
        return await self._said(120)

    async def _tell(self, line: str) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        self._child.stdin.write(f"{line}\n".encode())
        await self._child.stdin.drain()

    async def _said(self, within: float) -> dict[str, Any]:
        assert self._child is not None
        assert self._child.stdout is not None
        line = await asyncio.wait_for(self._child.stdout.readline(), within)
        assert line, "the neighbour has failed; its traceback is above"
        said: dict[str, Any] = json.loads(line)
        return said

    async def end(self) -> None:
        """Log out and end the process."""
        if self._child is None:
            return
        if self._child.returncode is None:
            try:
                await self._tell("leave")
                await asyncio.wait_for(self._child.wait(), 10)
            except (OSError, TimeoutError):
                self._child.kill()
        await self._child.wait()
        self._child = None


class Bystander:
    """The neighbour of an attack; see the module. One at a time on each stack.

    A `neighbour` that already exists is used, and stays.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        messages: int = MESSAGES,
        pace: float = PACE,
        neighbour: Neighbour | None = None,
    ) -> None:
        self.stack = stack
        self.messages = messages
        self.pace = pace
        self.name = test_name()
        self.quiet: dict[str, Any] = {}
        self._stays = neighbour is not None
        self._neighbour = neighbour or Neighbour(stack)
        self._going = False
        self._busy_machine = False
        self._pid = 0
        self._mark = 0

    async def __aenter__(self) -> Self:
        if not self._stays:
            await self._neighbour.start()
        try:
            await self.drop_idle()
            await self.go()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._stays:
            await self._neighbour.end()
        elif self._going:
            await self._neighbour.stop(0, 0)

    async def drop_idle(self) -> None:
        """Do the quiet run: as many messages at the same rate, without an attack."""
        self._busy_machine = busy_machine()
        self._going = True
        await self._neighbour.go(self.pace)
        messages = min(self.messages, BUSY_MESSAGES) if self._busy_machine else self.messages
        self.quiet = await self._neighbour.stop(messages, 0)
        self._going = False
        lost = [came for came in self.quiet["live"] if came != self.quiet["sent"]]
        assert not lost, f"not even a quiet run was whole: {self.quiet['live']}"

    async def go(self) -> None:
        """Begin the run that counts; events of the link are recorded from here on."""
        self._pid = self.stack.mixpam.process.pid
        self._mark = self.stack.mixpam.mark()
        self._going = True
        await self._neighbour.go(self.pace)

    async def finish(self, *, keep: bool = True, busy_server: bool = False) -> Report:
        """End the run after the attack, store its outcome and return it."""
        run = await self._neighbour.stop(self.messages, TAIL)
        self._going = False
        process = self.stack.mixpam.process
        records = [json.loads(line) for line in process.lines[self._mark :] if line.strip()]
        report = Report(
            server=self.stack.kind,
            test=self.name,
            sent=run["sent"],
            live=tuple(run["live"]),
            in_order_once=all(run["in_order_once"]),
            quiet_p50=percentile(self.quiet["latencies"], 0.5),
            quiet_p99=percentile(self.quiet["latencies"], 0.99),
            p50=percentile(run["latencies"], 0.5),
            p99=percentile(run["latencies"], 0.99),
            straight_p99=percentile(run["straight"], 0.99),
            links_lost=tuple(
                str(record.get("reason")) for record in records if record["event"] == "link-down"
            ),
            restarted=not process.running or process.pid != self._pid,
            unready=run["unready"],
            busy_server=busy_server,
            busy_machine=self._busy_machine,
        )
        if keep:
            report.keep()
        print(report)
        return report


async def withstood(
    stack: Stack,
    attack: Attack,
    *,
    messages: int = MESSAGES,
    pace: float = PACE,
    ready: bool = True,
    busy_server: bool = False,
    neighbour: Neighbour | None = None,
    past_mixpam: Attack | None = None,
) -> Report:
    """Run `attack` beside a neighbour, who must not be affected.

    If only the latency was bad, quiet run and attack are repeated once, and the first figures
    printed: the machine may have been busy with something else. If it is known to be busy, latency
    is not judged, and nothing is repeated. `past_mixpam` sends the attack's stanzas to a user whom
    mixpam does not serve: if the neighbour's messages are as late then, the server is the cause.
    That figure is for the table only, and is not judged.
    """
    async with Bystander(stack, messages=messages, pace=pace, neighbour=neighbour) as bystander:
        await attack()
        report = await bystander.finish(busy_server=busy_server)
        judged = not (report.busy_machine or busy_machine())
        if judged and report.later(busy_server=busy_server) >= MARGIN and not report.hurt:
            print("p99 is too far above the quiet one; measured once more")
            await bystander.drop_idle()
            await bystander.go()
            await attack()
            again = await bystander.finish(busy_server=busy_server)
            report = replace(again, retried=True)
            report.keep()
        if judged and FOR_TABLE and past_mixpam is not None and report.later() >= MARGIN:
            await bystander.drop_idle()
            await bystander.go()
            await past_mixpam()
            server = await bystander.finish(keep=False)
            report = replace(report, server_p99=server.p99)
            report.keep()
    return report.check(ready=ready, busy_server=busy_server)
