"""The link to the server: connects, reports failures, reconnects.

The waits double up to 30 s and carry jitter, so that many components do not reconnect in step. A
conflict means that another process is connected as this component: this one retries every second,
to take over as soon as the other ends (`component.leadership`).
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable

from component.link.stream import Lanes, Stream
from schemas.settings import Settings

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
STANDBY_WAIT = 1.0

CONFLICT = "conflict"
"""The reason for which a link ends when another process is connected as this component."""

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
    "policy-violation": "a stanza was larger than the server takes: its limit (Prosody:"
    " component_stanza_size_limit; ejabberd: max_stanza_size of the ejabberd_service listener)"
    " must not be less than MIXPAM_SERVER_STANZA_BYTES",
    "system-shutdown": "the server is shutting down",
    "no-descriptors": "this process has no descriptor left to connect with: raise its limit of"
    " open files (systemd: LimitNOFILE=65536)",
    "unreachable": "nothing listens there: is the server running, and does it listen for"
    " components on that address and port (MIXPAM_SERVER_HOST, MIXPAM_SERVER_PORT)?",
}


async def connect(settings: Settings, lanes: Lanes) -> Stream:
    """Begin a stream to the server. Raises OSError if nothing takes the connection."""
    _, stream = await asyncio.get_running_loop().create_connection(
        lambda: Stream(
            settings.component_jid,
            settings.secret.get_secret_value(),
            settings.domains[0],
            lanes,
            max_bytes=settings.max_stanza_bytes,
            keepalive=settings.keepalive,
        ),
        settings.server_host,
        settings.server_port,
    )
    return stream


class Connection:
    """The link of one process: one stream after another.

    `report` gets an event's name, its level and its facts.
    """

    def __init__(self, settings: Settings, lanes: Lanes, report: Callable[..., None]) -> None:
        self._settings = settings
        self._lanes = lanes
        self._report = report
        self._stream: Stream | None = None
        self._stopping = asyncio.Event()
        # The reason of the last link-down reported; None since link-up.
        self._reported_down: str | None = None

    async def run(self, ended: Callable[[str, bool], Awaitable[None]]) -> None:
        """Stay connected until `stop`.

        `ended` is called after each stream and each attempt at one, with the reason and
        whether it was up; the next one begins when it is done.
        """
        wait = FIRST_WAIT
        while not self._stopping.is_set():
            reason, was_up = await self._one_stream()
            await ended(reason, was_up)
            if was_up:
                wait = FIRST_WAIT
            if self._stopping.is_set():
                break
            pause = STANDBY_WAIT if reason == CONFLICT else wait
            pause *= random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not secrecy
            self._report_down(reason, pause)
            wait = min(wait * 2, LONGEST_WAIT)
            await self._pause(pause)

    def report_up(self) -> None:
        """Report that the server has accepted this process."""
        self._reported_down = None
        self._report("link-up")

    def _report_down(self, reason: str, pause: float) -> None:
        """Report the end of a link and the seconds until the next; a conflict only once."""
        if reason == self._reported_down == CONFLICT:
            return
        self._reported_down = reason
        self._report(
            "link-down",
            "warning",
            server=f"{self._settings.server_host}:{self._settings.server_port}",
            reason=reason,
            remedy=_REMEDIES.get(reason, "see the server's log"),
            retry_in=round(pause, 1),
        )

    def stop(self) -> None:
        """End the stream and do not reconnect."""
        self._stopping.set()
        self.close()

    def close(self) -> None:
        """End the stream, if there is one; `run` begins another."""
        if self._stream is not None:
            self._stream.close()

    async def _one_stream(self) -> tuple[str, bool]:
        try:
            async with asyncio.timeout(self._settings.keepalive):
                stream = await connect(self._settings, self._lanes)
        except (OSError, TimeoutError) as error:
            lacking = isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}
            return "no-descriptors" if lacking else "unreachable", False
        self._stream = stream
        if self._stopping.is_set():
            self.close()
        reason = await stream.ended
        self._stream = None
        return reason, stream.was_up

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
