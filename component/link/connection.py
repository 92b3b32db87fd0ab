"""Keeps a stream to the server: connects, explains failures, connects again.

The waits double up to half a minute and carry jitter, so that many components do not come
back in step. A conflict means that another process holds the component's place: this
one stands by and asks again every second, to take over as soon as that one ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from component.link.stream import Lanes, Stream
from schemas.settings import Settings

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
STANDBY_WAIT = 1.0

_REMEDIES = {
    "not-authorized": "the secret is wrong: MIXPAM_SECRET must equal the server's"
    " component secret (Prosody: component_secret; ejabberd: password); ejabberd says so, too,"
    " of a name it does not know: MIXPAM_COMPONENT_JID",
    "invalid-from": "the server checks senders: switch that off for this component (Prosody:"
    " validate_from_addresses = false; ejabberd: check_from: false)",
    "host-unknown": "the server has no component of that name: MIXPAM_COMPONENT_JID must be"
    ' one (Prosody: Component "…"; ejabberd: hosts of the ejabberd_service listener)',
    "conflict": "another process is connected as this component; standing by to take over",
    "silent": "the server did not answer for twice MIXPAM_KEEPALIVE seconds",
    "closed": "the server closed the connection",
    "policy-violation": "a stanza was larger than MIXPAM_MAX_STANZA_BYTES",
    "system-shutdown": "the server is shutting down",
    "unreachable": "nothing listens there: is the server running, and does it listen for"
    " components on that address and port (MIXPAM_SERVER_HOST, MIXPAM_SERVER_PORT)?",
}


class Connection:
    """One process's place at the server.

    `report` gets an event's name, its level and its facts.
    """

    def __init__(self, settings: Settings, lanes: Lanes, report: Callable[..., None]) -> None:
        self._settings = settings
        self._lanes = lanes
        self._report = report
        self._stream: Stream | None = None
        self._stopping = asyncio.Event()
        # Another process has served meanwhile: what this one knows may be out of date.
        self.stood_by = False

    async def run(self, lost: Callable[[], None]) -> None:
        """Be connected until `stop`; `lost` is called after each stream that was up."""
        wait = FIRST_WAIT
        while not self._stopping.is_set():
            reason, was_up = await self._one_stream()
            if was_up:
                lost()
                wait = FIRST_WAIT
            if self._stopping.is_set():
                break
            self.stood_by = self.stood_by or reason == "conflict"
            pause = STANDBY_WAIT if reason == "conflict" else wait
            pause *= random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not secrecy
            self._report(
                "link-down",
                "warning",
                server=f"{self._settings.server_host}:{self._settings.server_port}",
                reason=reason,
                remedy=_REMEDIES.get(reason, "see the server's log"),
                retry_in=round(pause, 1),
            )
            wait = min(wait * 2, LONGEST_WAIT)
            await self._pause(pause)

    def stop(self) -> None:
        """End the stream and do not come back."""
        self._stopping.set()
        if self._stream is not None:
            self._stream.close()

    async def _one_stream(self) -> tuple[str, bool]:
        settings = self._settings
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(settings.keepalive):
                _, stream = await loop.create_connection(
                    self._make_stream, settings.server_host, settings.server_port
                )
        except (OSError, TimeoutError):
            return "unreachable", False
        self._stream = stream
        if self._stopping.is_set():
            stream.close()
        reason = await stream.ended
        self._stream = None
        return reason, stream.was_up

    def _make_stream(self) -> Stream:
        settings = self._settings
        return Stream(
            settings.component_jid,
            settings.secret.get_secret_value(),
            settings.domains[0],
            self._lanes,
            max_bytes=settings.max_stanza_bytes,
            keepalive=settings.keepalive,
        )

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
