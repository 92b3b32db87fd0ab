"""Keeps a stream to the server: connects, explains failures, connects again.

The waits double up to half a minute and carry jitter, so that many components do not come
back in step. A conflict means that another process holds the component's place: this
one stands by and asks again every second, to take over as soon as that one ends.
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
PROBATION = 2.0

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
        # It has been reported that another process serves, and not yet that this one does.
        self._standing_by = False
        self._probation: asyncio.TimerHandle | None = None

    async def run(self, lost: Callable[[], Awaitable[None]], stand_by: Callable[[], None]) -> None:
        """Be connected until `stop`.

        `lost` is called after each stream that was up, `stand_by` after that for as long as
        another process serves.
        """
        wait = FIRST_WAIT
        while not self._stopping.is_set():
            reason, was_up = await self._one_stream()
            self._end_probation()
            if was_up:
                await lost()
                wait = FIRST_WAIT
            if self._stopping.is_set():
                break
            self.stood_by = self.stood_by or reason == "conflict"
            if self.stood_by:
                stand_by()
            pause = STANDBY_WAIT if reason == "conflict" else wait
            pause *= random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not secrecy
            if not (reason == "conflict" and self._standing_by):
                self._standing_by = reason == "conflict"
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

    def opened(self) -> None:
        """Take note that the server has let this process in.

        ejabberd does so with a standby, too, and then says that it is one too many. So a
        process that has stood by waits for more, or for a while without a conflict.
        """
        if self.stood_by:
            self._probation = asyncio.get_running_loop().call_later(PROBATION, self._let_in)
        else:
            self._let_in()

    def heard(self) -> None:
        """Take note that stanzas come: the place is ours."""
        if self._probation is not None:
            self._let_in()

    def _let_in(self) -> None:
        self._end_probation()
        self._standing_by = False
        self._report("link-up")

    def _end_probation(self) -> None:
        if self._probation is not None:
            self._probation.cancel()
            self._probation = None

    def stop(self) -> None:
        """End the stream and do not come back."""
        self._stopping.set()
        if self._stream is not None:
            self._stream.close()

    def start_over(self) -> None:
        """End the stream; with the next one, the store is read again."""
        self.stood_by = True
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
            stream.close()
        reason = await stream.ended
        self._stream = None
        return reason, stream.was_up

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
