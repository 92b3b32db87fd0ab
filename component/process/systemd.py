"""Reports the process's state to systemd (`Type=notify`), if systemd has started it.

The watchdog's heartbeat comes from the event loop itself: a stuck loop misses it, and systemd
restarts the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Speaks sd_notify's protocol to `NOTIFY_SOCKET`; silent without that variable."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte that begins an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._ready = False
        self._beat = 0.0
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        with contextlib.suppress(ValueError):
            if for_us:
                # Half the time systemd allows, as sd_watchdog_enabled(3) advises.
                self._beat = int(environment.get("WATCHDOG_USEC", "0")) / 2_000_000

    def saw(self, event: str, facts: Mapping[str, object]) -> None:
        """Take an event of the log: it may change the state reported to systemd.

        READY is sent with the first link, which comes after Redis has been read, so dependent units
        start when mixpam is of use to them.
        """
        match event:
            case "link-up" if not self._ready:
                self._ready = True
                self._send("READY=1\nSTATUS=connected to the server")
            case "link-up":
                self._send("STATUS=connected to the server")
            case "link-down":
                self._send(f"STATUS=no link to {facts.get('server')}: {facts.get('remedy')}")
            case "redis-away":
                self._send(f"STATUS={facts.get('reason')}")
            case "redis-back":
                self._send("STATUS=Redis is back")
            case "stop":
                self._send("STOPPING=1\nSTATUS=stopping")
            case _:
                pass

    async def beat(self) -> None:
        """Notify the watchdog until cancelled; return at once if there is none."""
        while self._beat > 0 and self._address:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._beat)

    def _send(self, lines: str) -> None:
        if not self._address:
            return
        # A missing systemd or a full socket is no reason to fail, or to wait.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out,
        ):
            out.setblocking(False)
            out.sendto(lines.encode(), self._address)
