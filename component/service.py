"""The service: start, stop, and the tasks that run beside the engine."""

from __future__ import annotations

import asyncio
import signal

from component import __version__
from component.engine import Engine
from component.http.control import Control
from component.http.server import HttpServer
from component.http.sources import Sources
from schemas.odds import at_odds
from schemas.settings import Settings


class Service:
    """One running component."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = engine = Engine(settings)
        lanes = engine.core.delivery.counts
        sources = Sources(settings, engine.core, engine.watch, lanes, engine.counts, engine.store)
        control = Control(settings, engine.core, engine.store, engine.operate)
        self._http = HttpServer(sources, engine.report, control.routes())

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        engine = self._engine
        engine.report("start", version=__version__, component=self._settings.component_jid)
        for reason in at_odds(self._settings):
            engine.report("settings-at-odds", "warning", reason=reason)
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        self._http.start()
        beating = asyncio.create_task(engine.notifier.beat())
        serving = asyncio.create_task(engine.run())
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        engine.report("stop")
        engine.stop()
        if not stopped.is_set():
            await serving  # a fault of ours: let it be seen
        if engine.is_linked:
            await asyncio.wait({serving}, timeout=2)
        serving.cancel()
        beating.cancel()
        await asyncio.gather(serving, beating, return_exceptions=True)
        await self._http.stop()
        await engine.store.close()
