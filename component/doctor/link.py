"""Checks the server by connecting as the component, for a few seconds.

Only when no component is running: on some servers a second connection replaces the first one. While
this is connected the server behaves as without mixpam: no feature is announced to users, and the
server's list of MIX domains stays as it was.
"""

from __future__ import annotations

import asyncio
import socket
import time
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

from component.core.stanza_size import Largest
from component.core.taps import PROTOCOL_VERSION
from component.doctor import advice
from component.doctor.redis import clock
from component.doctor.result import Level, Result, in_words, ok, skipped
from component.link.connection import connect
from component.link.stream import Stream
from component.wire.framing import Frame, LeftOut
from schemas import codec, tap
from schemas import stanza as stanzas
from schemas.namespaces import PING
from schemas.settings import Settings
from schemas.stanza import Stanza

PATIENCE = 5.0
"""Seconds to wait for each step."""

_NOBODY = "mixpam-check"
"""Localpart used to try the sender check; no such account need exist."""

_TIME_TAG = "{urn:xmpp:time}time"


async def reachable(settings: Settings) -> AsyncIterator[Result]:
    """Check name and port; the last result is not OK if nothing accepts a connection."""
    host, port = settings.server_host, settings.server_port
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        yield Result(
            "server-name",
            Level.WRONG,
            f"the name {host} does not resolve ({error.strerror})",
            "Correct MIXPAM_SERVER_HOST, or the name service; an IP address always works.",
        )
        return
    addresses = sorted({str(each[4][0]) for each in found})
    yield ok("server-name", f"{host} is {', '.join(addresses)}")
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        yield advice.unreachable(host, port, "no answer; a firewall?")
        return
    except OSError as error:
        yield advice.unreachable(host, port, in_words(error))
        return
    writer.close()
    yield ok("server-port", f"something listens on {host}:{port}")


class _Probe:
    """Takes the server's stanzas, and lets a check wait for them (link.stream.Lanes)."""

    def __init__(self) -> None:
        self.write: Callable[[bytes], None] | None = None
        self.hellos: dict[str, tap.Hello] = {}
        self.stanzas: list[Stanza] = []
        self.changed = asyncio.Event()

    def up(self, write: Callable[[bytes], None], _: Callable[[bool], None]) -> None:
        self.write = write
        self.changed.set()

    def carry(self, _: bytes, position: int) -> int:
        """Carry nothing: every stanza is to be examined."""
        return position

    def receive(self, frame: Frame) -> None:
        try:
            stanza = stanzas.parse(frame.data)
            payload = stanza.payload
            if payload is not None and tap.EVENTS.get(payload.tag) is tap.Hello:
                self.hellos[stanza.sender.domain] = codec.to_xso(payload, tap.Hello)
        except codec.MalformedStanza:
            return
        if stanza.kind == stanzas.IQ:
            self.stanzas.append(stanza)

    def read_ended(self) -> None:
        self.changed.set()

    def leave_out(self, _: LeftOut) -> None:
        """Ignore it: the expected stanzas are small."""


class LinkCheck:
    """Connects once, and runs the checks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._probe = _Probe()
        self._stream: Stream | None = None

    async def results(self) -> AsyncIterator[Result]:
        """Yield the results, one by one."""
        settings = self._settings
        try:
            stream = await connect(settings, self._probe)
        except OSError as error:
            yield advice.unreachable(settings.server_host, settings.server_port, in_words(error))
            return
        self._stream = stream
        try:
            if await self._until(lambda: self._probe.write is not None):
                await self._until(lambda: set(self._probe.hellos) >= set(settings.domains))
            # ejabberd accepts a second connection before it refuses it as a conflict.
            if self._probe.write is None or stream.ended.done():
                reason = stream.ended.result() if stream.ended.done() else "silent"
                yield advice.handshake(reason, settings.component_jid)
                return
            yield ok("handshake", f"the server lets us in as {settings.component_jid}")
            for domain in settings.domains:
                for result in self._about(domain):
                    yield result
                yield await self._clock(domain)
            # Last, because a server that checks ends the connection.
            yield await self._sender_check()
        finally:
            stream.close()
            await asyncio.wait({stream.ended}, timeout=PATIENCE)

    async def _until(self, fulfilled: Callable[[], bool]) -> bool:
        """Wait for a condition; False if time is up or the stream ended before."""
        stream = self._stream
        try:
            async with asyncio.timeout(PATIENCE):
                while not fulfilled():
                    if stream is None or stream.ended.done():
                        return False
                    self._probe.changed.clear()
                    changed = asyncio.ensure_future(self._probe.changed.wait())
                    either: set[asyncio.Future[Any]] = {changed, stream.ended}
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    changed.cancel()
        except TimeoutError:
            return False
        return True

    def _about(self, domain: str) -> list[Result]:
        hello = self._probe.hellos.get(domain)
        if hello is None:
            return [advice.tap_missing(domain, self._settings.component_jid)]
        if hello.version != PROTOCOL_VERSION:
            return [advice.tap_version(domain, hello.version, PROTOCOL_VERSION)]
        wanted = Largest(0, self._settings.max_stanza_bytes).wanted
        found = [serving(domain, hello.tap, hello.software), archive(domain, on=hello.archive)]
        if hello.limit is not None and hello.limit < wanted:
            found.append(advice.server_limit(domain, hello.limit, wanted))
        return found

    async def _ask(self, sender: str, to: str, payload: str, id_: str) -> Stanza | None:
        """Send an iq get; return the stanza with its id: the answer, or the get itself."""
        if self._probe.write is None:
            return None
        self._probe.write(
            f"<iq type='get' from='{codec.escape(sender)}' to='{codec.escape(to)}' id='{id_}'>"
            f"{payload}</iq>".encode()
        )
        await self._until(lambda: any(each.id == id_ for each in self._probe.stanzas))
        return next((each for each in self._probe.stanzas if each.id == id_), None)

    async def _clock(self, domain: str) -> Result:
        own = self._settings.component_jid
        before = time.time()
        reply = await self._ask(own, domain, "<time xmlns='urn:xmpp:time'/>", "mixpam-check-time")
        answer = None if reply is None else reply.element.find(_TIME_TAG)
        moment = None if answer is None else _read_time(answer)
        if moment is None:
            return skipped(f"clock {domain}", f"{domain} does not tell its time (XEP-0202)")
        now = (before + time.time()) / 2
        # The answer has whole seconds only.
        return clock(f"clock {domain}", domain, moment - now)

    async def _sender_check(self) -> Result:
        """Send a stanza to the component in a user's name, as copies and joins do."""
        settings = self._settings
        user = f"{_NOBODY}@{settings.domains[0]}"
        back = await self._ask(
            user, settings.component_jid, f"<ping xmlns='{PING}'/>", "mixpam-check-sender"
        )
        if back is not None and str(back.sender) == user:
            return ok("sender-check", "the server lets us speak for its users")
        ended = self._stream is not None and self._stream.ended.done()
        if ended or back is not None:
            return advice.sender_check_on(settings.component_jid)
        return Result(
            "sender-check",
            Level.WARNING,
            "what we said in a user's name did not come back",
            "See the server's log.",
        )


def serving(domain: str, version: str, software: str) -> Result:
    """Check the version of a domain's tap."""
    if advice.tap_is_older(version):
        return advice.tap_older(domain, version)
    return ok(f"tap {domain}", f"tap {version} on {software} serves {domain}")


def archive(domain: str, *, on: bool) -> Result:
    """Check whether a domain archives for its users."""
    if on:
        return ok(f"archive {domain}", f"{domain} archives channel messages")
    return advice.archive_off(domain)


def _read_time(answer: ET.Element) -> float | None:
    text = answer.findtext("{urn:xmpp:time}utc", "")
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
