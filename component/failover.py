"""Carries out the actions of `component.leadership`: the shell around that state machine.

Stanzas that come before this process leads are held. No more is read from the link while
they are many: the server sends a process that takes over all sessions at once, and Redis may
take its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from component.control_queue import MOST
from component.core.machine import Core
from component.leadership import Action, Event, Leadership, State
from component.link.connection import CONFLICT, Connection
from component.store.reading import Loaded
from component.store.store import Store
from component.wire.framing import Frame, LeftOut

PROBATION = 2.0
"""Seconds without a conflict after which a link is believed; ejabberd sends it at once."""

Early = Frame | LeftOut
"""A stanza received before this process leads."""


class Shell(Protocol):
    """Whoever deals with stanzas, and reports."""

    def receive(self, frame: Frame) -> None:
        """Deal with a stanza."""

    def leave_out(self, left: LeftOut) -> None:
        """Deal with what is left of a stanza that was too large."""

    def read_ended(self) -> None:
        """Write what came of those."""

    def loaded(self, loaded: Loaded) -> None:
        """Report what was read from Redis."""

    def report(self, event: str, level: str = "info", **facts: object) -> None:
        """Log an event."""

    def fault(self, error: Exception) -> None:
        """Log an exception."""


class Failover:
    """This process's part in the change from one process to another."""

    def __init__(self, shell: Shell, core: Core, store: Store, connection: Connection) -> None:
        self.leadership = Leadership()
        self._shell = shell
        self._core = core
        self._store = store
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._stop_reading: Callable[[bool], None] = lambda _: None
        self._held: list[Early] = []
        self._held_bytes = 0
        self._probation: asyncio.TimerHandle | None = None
        self._takeover: asyncio.Task[None] | None = None
        self._act: Mapping[Action, Callable[[], None]] = {
            Action.REPORT_LINK: connection.report_up,
            Action.START_PROBATION: self._start_probation,
            Action.END_PROBATION: self._end_probation,
            Action.BEGIN_SERVING: lambda: core.link_up(self._loop.time()),
            Action.LEAD: store.lead,
            Action.RESIGN: store.resign,
            Action.FOLLOW: store.follow,
            Action.TAKE_OVER: self._start_takeover,
            Action.ABANDON: self._abandon_takeover,
            Action.RELEASE: self._release,
            Action.CLOSE_LINK: connection.close,
        }

    def meet(self, event: Event) -> None:
        """Take an event, and do what follows from it."""
        for action in self.leadership.advance(event):
            self._act[action]()

    def link_up(self, stop_reading: Callable[[bool], None]) -> None:
        """Begin with a new link; `stop_reading` says whether it is to be read from."""
        self._stop_reading = stop_reading
        self.meet(Event.LINK_UP)

    def link_ended(self, reason: str, *, was_up: bool) -> None:
        """Note that a link, or an attempt at one, has ended."""
        self._drop_held()
        if reason == CONFLICT:
            self.meet(Event.CONFLICT)
        elif was_up:
            self.meet(Event.LINK_LOST)

    def may_deal_with(self, stanza: Early) -> bool:
        """Tell whether a stanza may be dealt with now. If not, it is held and comes again."""
        self.meet(Event.STANZA)
        if self.leadership.state is State.LEADING:
            return True
        self._held.append(stanza)
        self._held_bytes += len(stanza.data) if isinstance(stanza, Frame) else sum(map(len, stanza))
        if self._held_bytes > MOST:
            self._stop_reading(True)
        return False

    # -- actions -------------------------------------------------------------------------

    def _start_probation(self) -> None:
        over = partial(self.meet, Event.PROBATION_OVER)
        self._probation = self._loop.call_later(PROBATION, over)

    def _end_probation(self) -> None:
        if self._probation is not None:
            self._probation.cancel()
            self._probation = None

    def _start_takeover(self) -> None:
        self._takeover = asyncio.create_task(self._take_over())

    def _abandon_takeover(self) -> None:
        if self._takeover is not None:
            self._takeover.cancel()
            self._takeover = None

    async def _take_over(self) -> None:
        """Read the last changes of the process before, or all records again."""
        try:
            followed = await self._store.take_over()
            if followed is None:
                self._shell.loaded(await self._store.load(self._core))
            else:
                self._shell.report("taken-over", changes=followed)
        except Exception as error:  # noqa: BLE001 - another link tries again; it is logged
            self._shell.fault(error)
            self.meet(Event.TAKEOVER_FAILED)
        else:
            self.meet(Event.TAKEN_OVER)

    def _release(self) -> None:
        held = self._held
        self._drop_held()
        self._stop_reading(False)
        for each in held:
            if isinstance(each, Frame):
                self._shell.receive(each)
            else:
                self._shell.leave_out(each)
        self._shell.read_ended()

    def _drop_held(self) -> None:
        self._held = []
        self._held_bytes = 0
