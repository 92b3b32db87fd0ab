"""The shell: joins link, core and store, and carries the core's effects out.

Nothing is decided here. All the ways out of the process lead through `Service._say`,
which asks the outgoing rule, or `route` and `Row.targets`, which are the rule for copies.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import partial

import structlog

from component import __version__
from component.control_queue import SPARE, ControlLane, is_alone
from component.core.delivery.fanout import needs_ear, route
from component.core.delivery.payer import NOBODY, payer
from component.core.delivery.shortcut import Express
from component.core.effects import Copy, Count, Effect, Fault, Report, Send, Write
from component.core.limits import Limits
from component.core.machine import Core
from component.core.outgoing import Outgoing
from component.core.snapshot import Remembered
from component.core.users.mirror import Row
from component.core.users.sessions import Device, copies_for
from component.failover import Failover
from component.http.control import Control
from component.http.server import HttpServer
from component.http.sources import Sources
from component.http.watch import Watch
from component.leadership import Event, State
from component.link.connection import Connection
from component.operator.admin_commands import admin_commands
from component.process import garbage
from component.process.counters import Tally
from component.process.systemd import Notifier
from component.store.reading import Loaded
from component.store.store import Store
from component.wire.framing import CROWDED, Frame, LeftOut
from component.wire.reserved import without_reserved
from schemas import jid
from schemas.odds import at_odds
from schemas.settings import Settings


def limits(settings: Settings) -> Limits:
    """Give the core those of its limits that are settings."""
    names = {field.name for field in fields(Limits)} & Settings.model_fields.keys()
    given = {name: getattr(settings, name) for name in names}
    return Limits(**given, link_timeout=3 * settings.keepalive)


class Service:
    """One running component."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = structlog.get_logger()
        self._watch = Watch(settings.domains)
        self._notifier = Notifier()
        self._tally = Tally()
        own = jid.parse(settings.component_jid)
        self._core = Core(
            own,
            settings.domains,
            limits(settings),
            lambda: secrets.token_hex(8),
            settings.contact,
            multicast=settings.multicast,
            admins=settings.admins,
            commands=admin_commands,
        )
        self._express = Express(
            self._core.mirror, self._core.multicast, settings.max_stanza_bytes, self._core.largest
        )
        self._control = ControlLane(self._core.mirror.waiting, self._slice_ended, self._crowded)
        self._outgoing = Outgoing(self._core.mirror, own, frozenset(settings.domains))
        self._store = Store(settings, self.report, self)
        self._connection = Connection(settings, self, self.report)
        self._failover = Failover(self, self._core, self._store, self._connection)
        self._leadership = self._failover.leadership
        self._write: Callable[[bytes], None] | None = None
        self._stop_reading: Callable[[bool], None] = lambda _: None
        # What came of the last read, or slice of the control lane, and is not written yet.
        self._out: list[bytes] = []
        self._domains = frozenset(domain.encode() for domain in settings.domains)
        # uvloop's handle of a moment that has passed does not know when it is due.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._loop = asyncio.get_running_loop()
        self.counts: Counter[tuple[str, str]] = Counter()
        sources = Sources(settings, self._core, self._watch, self._tally, self.counts, self._store)
        control = Control(settings, self._core, self._store, self._operate)
        self._http = HttpServer(sources, self.report, control.routes())

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        self.report("start", version=__version__, component=self._settings.component_jid)
        for reason in at_odds(self._settings):
            self.report("settings-at-odds", "warning", reason=reason)
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, stopped.set)
        self._http.start()
        beating = asyncio.create_task(self._notifier.beat())
        serving = asyncio.create_task(self._serve())
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        self.report("stop")
        self._connection.stop()
        if not stopped.is_set():
            await serving  # a fault of ours: let it be seen
        if self._write is not None:
            await asyncio.wait({serving}, timeout=2)
        serving.cancel()
        beating.cancel()
        await asyncio.gather(serving, beating, return_exceptions=True)
        await self._http.stop()
        await self._store.close()

    async def _serve(self) -> None:
        self.loaded(await self._store.load(self._core))
        writing = asyncio.create_task(self._store.run())
        try:
            await self._connection.run(self._ended)
        finally:
            writing.cancel()
            # Not for long: a cancellation may get lost in a socket's time-out.
            await asyncio.wait({writing}, timeout=1)

    # -- the lanes (link.stream.Lanes) -----------------------------------------------------

    def up(self, write: Callable[[bytes], None], crowded: Callable[[bool], None]) -> None:
        """Begin with a new link."""
        self._write = write
        self._stop_reading = crowded
        self._failover.link_up(crowded)

    def carry(self, data: bytes, position: int) -> int:
        """Take plain messages by the short cut of the hot lane."""
        if self._leadership.state is not State.LEADING:
            return position
        return self._express.carry(data, position, self._out)

    def receive(self, frame: Frame) -> None:
        """Deal with a stanza: at once in the hot lane, in its turn in the control lane."""
        if self._leadership.state is not State.LEADING and not self._failover.may_deal_with(frame):
            return
        if frame.to == self._core.multicast.gathering:
            self._spread(frame)
        elif frame.to in self._core.mirror.waiting or not self._pass_on(frame):
            self._queue(frame)

    def _queue(self, frame: Frame) -> None:
        """Have a stanza thought about in its turn; what is too much for its user is left out."""
        size, control = len(frame.data), self._control
        user = payer(self._core.mirror, self._domains, frame)
        alone = user == NOBODY and is_alone(frame)
        if alone or control.has_room(user, size):
            control.add(partial(self._think_about, frame), user, size, alone=alone)
        elif control.has_room(user, -SPARE):
            self._queue_left_out(LeftOut.of(frame, CROWDED), user)
        else:
            self.counts["dropped", CROWDED] += 1

    def _queue_left_out(self, left: LeftOut, user: bytes) -> None:
        if self._control.has_room(user, -SPARE):
            step = partial(self._think_about_left_out, left)
            self._control.add(step, user, sum(map(len, left)))
        else:
            self.counts["dropped", CROWDED] += 1

    def read_ended(self) -> None:
        """Write what the hot lane made of a read; the control lane's turn is after that."""
        express, tally = self._express, self._tally
        tally.hot[b"message"] += express.messages
        tally.copies += express.copies
        express.messages = express.copies = 0
        self._slice_ended()

    def leave_out(self, left: LeftOut) -> None:
        """Have the core do, in its turn, what a stanza of that kind demands."""
        if self._leadership.state is State.LEADING or self._failover.may_deal_with(left):
            self._queue_left_out(left, payer(self._core.mirror, self._domains, left))

    def _pass_on(self, frame: Frame) -> bool:
        """Give a stanza to the devices it is for; False if it is none of the hot lane's."""
        core, tally = self._core, self._tally
        joined = route(core.mirror, frame)
        if joined is None:
            return False
        row, channel = joined
        tally.hot[frame.name] += 1
        now = self._loop.time()
        if core.admits(row, channel, frame, now):
            targets = row.copies
            tally.copies += len(targets.every)
            self._out += self._fitting(frame, core.multicast.copies(targets, frame))
        if needs_ear(frame):
            self._out += self._ask_core(partial(core.overhear, row, channel, frame, now))
        return True

    def _spread(self, frame: Frame) -> None:
        """Deal with one stanza for many users."""
        spread = self._core.multicast.spread(self._core.mirror, frame)
        self._tally.hot[b"message"] += 1
        self._tally.copies += spread.deliveries
        self._out += self._fitting(frame, spread.written)
        for other in spread.others:
            self.receive(other)

    def _think_about(self, frame: Frame) -> None:
        """Deal with a stanza whose turn has come."""
        if not self._pass_on(frame):
            self._tally.controlled(frame.name)
            self._out += self._ask_core(partial(self._core.receive, frame, self._loop.time()))

    def _think_about_left_out(self, left: LeftOut) -> None:
        self._out += self._ask_core(partial(self._core.left_out, left, self._loop.time()))

    def _slice_ended(self) -> None:
        out, self._out = self._out, []
        self._say(out)
        self._set_timer()

    def _crowded(self, crowded: bool) -> None:
        self._stop_reading(crowded)

    def _ask_core(self, question: Callable[[], list[Effect]]) -> list[bytes]:
        """Have the core decide, and do what it wants.

        A fault of ours in one stanza costs that stanza, never the link: the same stanza
        would come again and again.
        """
        try:
            return self._carry_out(question())
        except Exception as error:  # noqa: BLE001 - see above; it is logged with its traceback
            self.fault(error)
            return []

    def _operate(self, action: Callable[[], None]) -> None:
        """Have the core do something at the operator's wish."""
        now = self._loop.time()
        self._say(self._ask_core(partial(self._core.operate, action, now)))
        self._set_timer()

    async def _ended(self, reason: str, was_up: bool) -> None:
        """Forget a link that was up, and note who has the place."""
        if was_up:
            self._write = None
            for _ in self._control.rest():
                await asyncio.sleep(0)
        served = self._leadership.serves
        self._failover.link_ended(reason, was_up=was_up)
        if was_up and served:
            self._ask_core(partial(self._core.link_lost, self._loop.time()))
            self._set_timer()
            for _ in self._core.forget_sessions():
                await asyncio.sleep(0)

    # -- effects ---------------------------------------------------------------------------

    def _carry_out(self, effects: Iterable[Effect]) -> list[bytes]:
        """Do what the core wants; give what is to be said, in order."""
        out: list[bytes] = []
        for effect in effects:
            match effect:
                case Send(data):
                    out += self._sendable(data)
                case Copy(frame, row, channel, device):
                    # The outgoing rule of copies, for those that had to wait.
                    if row.has_joined(channel):
                        out += self._copies_after_all(frame, row, channel, device)
                case Write():
                    self._store.put(effect)
                case _:
                    self._note(effect)
        return out

    def _note(self, effect: Report | Fault | Count) -> None:
        """Tell the log, or the metrics."""
        match effect:
            case Report(event, level, facts):
                self.report(event, level, **facts)
                if event == "ready":
                    garbage.settle()
            case Fault(error):
                self.fault(error)
            case Count(what, reason):
                self.counts[what, reason] += 1

    def _sendable(self, data: bytes) -> list[bytes]:
        """Give what may be written of a stanza: it, what stands in for it, or nothing."""
        if not self._core.largest.fits(data):
            self.counts["dropped", "unsendable"] += 1
            self.report("stanza-unsendable", "warning", reason="larger than the server takes")
            (data,) = self._core.largest.fitting([data]) or [b""]
            if not data:
                return []
        reason = self._outgoing.why_not(data)
        if reason is None:
            return [data]
        self.counts["outgoing-refused", reason] += 1
        self.report("outgoing-refused", "error", reason=reason)
        return []

    def _fitting(self, frame: Frame, copies: list[bytes]) -> list[bytes]:
        """Give what the server takes of the copies of a stanza: all, unless that is large."""
        if len(frame.data) <= self._core.largest.copied:
            return copies
        too_large = sum(not self._core.largest.fits(data) for data in copies)
        self.counts["dropped", "unsendable"] += too_large
        return self._core.largest.fitting(copies) if too_large else copies

    def _copies_after_all(
        self, frame: Frame, row: Row, channel: bytes, device: Device | None
    ) -> list[bytes]:
        targets = row.copies if device is None else copies_for(device)
        self._tally.copies += len(targets.every)
        made = self._fitting(frame, self._core.multicast.copies(targets, frame))
        if device is None and needs_ear(frame):
            effects = self._core.overhear(row, channel, frame, self._loop.time())
            made += self._carry_out(effects)
        return made

    def _say(self, out: list[bytes]) -> None:
        """Write in one piece what one input gave rise to."""
        if out and self._write is not None:
            self._write(without_reserved(b"".join(out)))

    # -- what the store has to tell (store.store.Owner) ------------------------------------

    def written(self, token: int, done: bool) -> None:
        """Go on, in its turn, with what waited for a write."""
        self._control.add(partial(self._go_on, token, done=done))

    def _go_on(self, token: int, *, done: bool) -> None:
        now = self._loop.time()
        self._out += self._ask_core(partial(self._core.written, token, now, done=done))

    def loaded(self, loaded: Loaded) -> None:
        """Tell what Redis remembers."""
        self.report(
            "loaded",
            memberships=loaded.memberships,
            unfinished=loaded.unfinished,
            capabilities=loaded.capabilities,
            set_aside=loaded.set_aside,
        )
        garbage.settle()

    def superseded(self) -> None:
        """Begin anew: what is known here is out of date."""
        self._failover.meet(Event.SUPERSEDED)

    @property
    def memory(self) -> Remembered:
        """What the store is to hold."""
        return self._core.remembered

    # -- time and log ----------------------------------------------------------------------

    def _tick(self) -> None:
        self._timer = None
        self._say(self._ask_core(partial(self._core.tick, self._loop.time())))
        self._set_timer()

    def _set_timer(self) -> None:
        """Have the core's next deadline in the loop, and only that."""
        due = self._core.next_deadline
        if self._timer is not None:
            if due is not None and self._timer_due <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer, self._timer_due = self._loop.call_at(due, self._tick), due

    def fault(self, error: Exception) -> None:
        """Log a fault of ours."""
        self._watch.saw("fault", "error", {})
        self._log.exception("fault", exc_info=error)

    def report(self, event: str, level: str = "info", **facts: object) -> None:
        """Log an event, and have the status page and the service manager know it."""
        self._watch.saw(event, level, facts)
        self._notifier.saw(event, facts)
        getattr(self._log, level)(event, **facts)
