"""The engine: joins link, core and store, and carries the core's effects out.

After each input it does three things: it carries the effects out, writes what came of them, and
sets the timer. Whatever is written is a `Send` that `core.outgoing` has let pass, or copies that
`core.delivery` has made.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import partial
from typing import TypeVarTuple, Unpack

import structlog

from component.control_queue import SPARE, ControlLane
from component.core.effects import Count, Deliver, Effect, Fault, Queue, Report, Send, Write
from component.core.limits import Limits
from component.core.machine import Core
from component.core.snapshot import Remembered
from component.failover import Failover
from component.http.watch import Watch
from component.leadership import Event, State
from component.link.connection import Connection
from component.operator.admin_commands import admin_commands
from component.process import garbage
from component.process.systemd import Notifier
from component.store.reading import Loaded
from component.store.store import Store
from component.wire.framing import CROWDED, Frame, LeftOut
from component.wire.reserved import without_reserved
from schemas import jid
from schemas.settings import Settings

Ts = TypeVarTuple("Ts")


def limits(settings: Settings) -> Limits:
    """Give the core those of its limits that are settings."""
    names = {field.name for field in fields(Limits)} & Settings.model_fields.keys()
    given = {name: getattr(settings, name) for name in names}
    return Limits(**given, link_timeout=3 * settings.keepalive)


class Engine:
    """Carries stanzas and time from the link to the core, and effects back."""

    def __init__(self, settings: Settings) -> None:
        self._log = structlog.get_logger()
        self.watch = Watch(settings.domains)
        self.notifier = Notifier()
        self.core = Core(
            jid.parse(settings.component_jid),
            settings.domains,
            limits(settings),
            lambda: secrets.token_hex(8),
            settings.contact,
            multicast=settings.multicast,
            admins=settings.admins,
            commands=admin_commands,
        )
        self._shortcut = self.core.delivery.shortcut.carry
        self._control = ControlLane(self.core.mirror.waiting, self._settle, self._crowded)
        self.store = Store(settings, self.report, self)
        self._connection = Connection(settings, self, self.report)
        self._failover = Failover(self, self.core, self.store, self._connection)
        self._leadership = self._failover.leadership
        self._write: Callable[[bytes], None] | None = None
        self._stop_reading: Callable[[bool], None] = lambda _: None
        # Output of the last read, or slice of the control lane, that is not written yet.
        self._out: list[bytes] = []
        # uvloop's TimerHandle.when() fails once the time has passed, hence `_timer_due`.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._loop = asyncio.get_running_loop()
        self.counts: Counter[tuple[str, str]] = Counter()

    async def run(self) -> None:
        """Read what Redis holds, and serve until `stop`."""
        self.loaded(await self.store.load(self.core))
        writing = asyncio.create_task(self.store.run())
        try:
            await self._connection.run(self._ended)
        finally:
            writing.cancel()
            # Not for long: a cancellation may get lost in a socket's time-out.
            await asyncio.wait({writing}, timeout=1)

    def stop(self) -> None:
        """Close the link; `run` ends."""
        self._connection.stop()

    @property
    def is_linked(self) -> bool:
        """Whether there is a link."""
        return self._write is not None

    def operate(self, action: Callable[[], None]) -> None:
        """Run an operator's action on the core."""
        self._do(self.core.operate, action)
        self._settle()

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
        return self._shortcut(data, position, self._out)

    def receive(self, frame: Frame) -> None:
        """Process a stanza: at once in the hot lane, in its turn in the control lane."""
        if self._leadership.state is not State.LEADING and not self._failover.may_deal_with(frame):
            return
        self._do(self.core.take, frame)

    def leave_out(self, left: LeftOut) -> None:
        """Let the core handle a left out stanza by its kind, in its turn."""
        if self._leadership.state is State.LEADING or self._failover.may_deal_with(left):
            self._do(self.core.take_left_out, left)

    def _queue(self, stanza: Frame | LeftOut, payer: bytes, *, alone: bool) -> None:
        """Queue a stanza; one that is too much for its user is left out."""
        control = self._control
        if isinstance(stanza, Frame):
            size = len(stanza.data)
            if alone or control.has_room(payer, size):
                control.add(partial(self._do, self.core.receive, stanza), payer, size, alone=alone)
                return
            stanza = LeftOut.of(stanza, CROWDED)
        if control.has_room(payer, -SPARE):
            control.add(partial(self._do, self.core.left_out, stanza), payer, sum(map(len, stanza)))
        elif stanza.name == b"iq" and stanza.type in {b"get", b"set"}:
            self._do(self.core.left_out, stanza)  # not in its turn, but somebody waits
        else:
            self.counts["dropped", CROWDED] += 1

    def read_ended(self) -> None:
        """Write the output of a read; the control lane's turn is after that."""
        self._settle()

    def _settle(self) -> None:
        """Write the output of an input, or a slice of the control lane, and set the timer."""
        out, self._out = self._out, []
        if out and self._write is not None:
            self._write(without_reserved(b"".join(out)))
        self._set_timer()

    def _crowded(self, crowded: bool) -> None:
        self._stop_reading(crowded)

    def _do(self, step: Callable[[Unpack[Ts], float], list[Effect]], *given: *Ts) -> None:
        """Give the core an input, and carry out its effects.

        A bug in mixpam costs that input, never the link: the same stanza would come again and
        again.
        """
        try:
            self._carry_out(step(*given, self._loop.time()))
        except Exception as error:  # noqa: BLE001 - see above; it is logged with its traceback
            self.fault(error)

    async def _ended(self, reason: str, was_up: bool) -> None:
        """Forget a link that was up, and note who has the place."""
        if was_up:
            self._write = None
            for _ in self._control.rest():
                await asyncio.sleep(0)
        served = self._leadership.serves
        self._failover.link_ended(reason, was_up=was_up)
        if was_up and served:
            self._do(self.core.link_lost)
            self._settle()
            for _ in self.core.forget_sessions():
                await asyncio.sleep(0)

    # -- effects ---------------------------------------------------------------------------

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        """Do what the core wants, in order; what is to be written is put together."""
        for effect in effects:
            match effect:
                case Deliver(copies):
                    self._out += copies
                case Send(data):
                    self._out.append(data)
                case Queue(stanza, payer, alone):
                    self._queue(stanza, payer, alone=alone)
                case Write():
                    self.store.put(effect)
                case _:
                    self._note(effect)

    def _note(self, effect: Report | Fault | Count) -> None:
        """Log or count."""
        match effect:
            case Report(event, level, facts):
                self.report(event, level, **facts)
                if event == "ready":
                    garbage.settle()
            case Fault(error):
                self.fault(error)
            case Count(what, reason):
                self.counts[what, reason] += 1

    # -- events of the store (store.store.StoreListener) -----------------------------------

    def written(self, token: int, done: bool) -> None:
        """Go on, in its turn, with what waited for a write."""
        self._control.add(partial(self._do, partial(self.core.written, done=done), token))

    def loaded(self, loaded: Loaded) -> None:
        """Report the records read from Redis."""
        self.report(
            "loaded",
            memberships=loaded.memberships,
            unfinished=loaded.unfinished,
            capabilities=loaded.capabilities,
            set_aside=loaded.set_aside,
        )
        garbage.settle()

    def superseded(self) -> None:
        """Give up leading: another process has written since, and memory is out of date."""
        self._failover.meet(Event.SUPERSEDED)

    @property
    def snapshot(self) -> Remembered:
        """The records that Redis must hold."""
        return self.core.remembered

    # -- time and log ----------------------------------------------------------------------

    def _tick(self) -> None:
        self._timer = None
        self._do(self.core.tick)
        self._settle()

    def _set_timer(self) -> None:
        """Have the core's next deadline in the loop, and only that."""
        due = self.core.next_deadline
        if self._timer is not None:
            if due is not None and self._timer_due <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer, self._timer_due = self._loop.call_at(due, self._tick), due

    def fault(self, error: Exception) -> None:
        """Log an exception."""
        self.watch.saw("fault", "error", {})
        self._log.exception("fault", exc_info=error)

    def report(self, event: str, level: str = "info", **facts: object) -> None:
        """Log an event, and have the status page and the service manager know it."""
        self.watch.saw(event, level, facts)
        self.notifier.saw(event, facts)
        getattr(self._log, level)(event, **facts)
