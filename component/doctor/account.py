"""Logs in as a client of a user does, to see what that client sees (XEP-0405 §5.1).

Just enough of a client: STARTTLS, SASL, one resource, one question.
"""

from __future__ import annotations

import asyncio
import ssl
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from ipaddress import ip_address

from component.doctor import advice, sasl
from component.doctor.result import Result, in_words, ok
from component.doctor.sasl import LoginFailed
from component.wire.framing import START_TAG, Framer, FramingError
from schemas import codec, disco
from schemas.jid import Jid
from schemas.namespaces import CLIENT, DISCO_INFO, MIX_PAM, STREAMS

PATIENCE = 10.0
LARGEST = 262_144

_TLS = "urn:ietf:params:xml:ns:xmpp-tls"
_STARTTLS = f"<starttls xmlns='{_TLS}'/>".encode()
_BIND = "urn:ietf:params:xml:ns:xmpp-bind"


class Insecure(Exception):  # noqa: N818 - a fact, named as one
    """There is no connection safe enough for a password; the text says why."""


@dataclass(frozen=True, slots=True)
class Login:
    """The account to log in with, and the server's address."""

    user: Jid
    password: str
    host: str
    port: int


async def features(login: Login) -> Result:
    """Check that the user's account shows the feature by which clients find MIX-PAM."""
    domain = login.user.domain
    try:
        async with asyncio.timeout(PATIENCE):
            seen = await _Session(login).account_features()
    except Insecure as error:
        return advice.no_trust(domain, login.host, str(error))
    except (OSError, TimeoutError) as error:
        return advice.clients_unreachable(domain, login.host, login.port, in_words(error))
    except (LoginFailed, FramingError, codec.MalformedStanza) as error:
        return advice.login_failed(domain, str(login.user), str(error) or type(error).__name__)
    if MIX_PAM[2] not in seen:
        return advice.features_missing(domain, MIX_PAM[2])
    archived = ", with archive" if f"{MIX_PAM[2]}#archive" in seen else ", without archive"
    return ok(f"discovery {domain}", f"{login.user} sees {MIX_PAM[2]} on the own account{archived}")


class _Session:
    def __init__(self, login: Login) -> None:
        self._login = login
        self._framer = Framer(LARGEST)
        self._waiting: list[ET.Element] = []

    async def account_features(self) -> frozenset[str]:
        """Log in, ask for the account's disco#info, and log out."""
        login = self._login
        self._reader, self._writer = await asyncio.open_connection(login.host, login.port)
        try:
            await self._log_in(await self._open())
            await self._open()
            await self._iq("set", f"<bind xmlns='{_BIND}'/>", "")
            to = f" to='{codec.escape(str(login.user))}'"
            reply = await self._iq("get", f"<query xmlns='{DISCO_INFO}'/>", to)
            self._writer.write(b"</stream:stream>")
            query = reply.find(disco.QUERY_TAG)
            return frozenset() if query is None else disco.features_of(query)
        finally:
            self._writer.close()

    async def _log_in(self, offered: ET.Element) -> None:
        login = self._login
        secure, loopback = False, _is_loopback(login.host)
        tls = offered.find(f"{{{_TLS}}}starttls")
        # Nobody can eavesdrop on loopback, and a server there may have no certificate yet.
        if tls is not None and not (loopback and tls.find(f"{{{_TLS}}}required") is None):
            if (await self._ask(_STARTTLS)).tag != f"{{{_TLS}}}proceed":
                raise Insecure("it offers TLS and refuses it")
            try:
                await self._writer.start_tls(_tls(login.host), server_hostname=login.user.domain)
            except ssl.SSLCertVerificationError as error:
                why = f"its certificate is not trusted here: {error.verify_message}"
                raise Insecure(why) from None
            except OSError as error:
                why = f"TLS failed, has it a certificate? ({in_words(error)})"
                raise Insecure(why) from None
            offered = await self._open()
            secure = True
        if not (secure or loopback):
            raise Insecure("it offers no TLS, and the password shall not go open")
        mechanisms = {each.text or "" for each in offered.iter(f"{{{sasl.NAMESPACE}}}mechanism")}
        await sasl.authenticate(self._ask, mechanisms, login.user.local or "", login.password)

    async def _ask(self, data: bytes) -> ET.Element:
        self._writer.write(data)
        return await self._next()

    async def _open(self) -> ET.Element:
        """Open a stream and return the features that the server offers."""
        self._framer = Framer(LARGEST)
        self._waiting = []
        self._writer.write(
            f"<?xml version='1.0'?><stream:stream to='{codec.escape(self._login.user.domain)}'"
            f" xmlns='{CLIENT}' xmlns:stream='{STREAMS}' version='1.0'>".encode()
        )
        header = b""
        while True:
            start = header.find(b"<stream:stream")
            found = START_TAG.match(header, start) if start >= 0 else None
            if found is not None:
                break
            header += await self._read()
        self._take(header[found.end() :])
        return await self._next()

    async def _iq(self, type_: str, payload: str, to: str) -> ET.Element:
        self._writer.write(f"<iq type='{type_}' id='mixpam-check'{to}>{payload}</iq>".encode())
        while True:
            element = await self._next()
            if element.get("id") == "mixpam-check":
                if element.get("type") != "result":
                    raise LoginFailed("the server refused what every client asks")
                return element

    async def _next(self) -> ET.Element:
        while not self._waiting:
            self._take(await self._read())
        return self._waiting.pop(0)

    def _take(self, data: bytes) -> None:
        self._waiting += [codec.read(frame.data) for frame in self._framer.feed(data)]

    async def _read(self) -> bytes:
        data = await self._reader.read(65_536)
        if not data:
            raise LoginFailed("the server closed the connection")
        return data


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(host: str) -> ssl.SSLContext:
    """Verify the server, except on loopback, where nobody is in between."""
    context = ssl.create_default_context()
    if _is_loopback(host):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
