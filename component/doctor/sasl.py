"""SASL as a client speaks it (RFC 6120 §6): SCRAM where the server offers it, else PLAIN."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable

import aiosasl
from aiosasl.stringprep import saslprep

NAMESPACE = "urn:ietf:params:xml:ns:xmpp-sasl"

MAX_ITERATIONS = 1_000_000
"""Maximum PBKDF2 iterations that a server may demand: about a second. Servers use 4,096 to
100,000."""

Ask = Callable[[bytes], Awaitable[ET.Element]]
"""Sends bytes and returns the server's next element."""


class LoginFailed(Exception):  # noqa: N818 - a fact, named as one
    """The login did not work; the text says at which step."""


async def authenticate(ask: Ask, offered: set[str], user: str, password: str) -> None:
    """Log in by the strongest mechanism that the server offers.

    PLAIN sends the password itself: the caller makes sure that the connection is safe. Raises
    LoginFailed.
    """

    async def credentials() -> tuple[str, str]:
        return user, password

    mechanisms = [aiosasl.SCRAM(credentials), aiosasl.PLAIN(credentials)]
    try:
        saslprep(password)
    except ValueError:
        # Characters newer than SASLprep's Unicode 3.2: only PLAIN sends them as they are.
        mechanisms.pop(0)
    for mechanism in mechanisms:
        chosen = mechanism.any_supported(offered)
        if chosen is not None:
            try:
                await mechanism.authenticate(aiosasl.SASLStateMachine(_Exchange(ask)), chosen)
            except aiosasl.SASLError as error:
                raise LoginFailed(error.text or str(error)) from None
            return
    names = ", ".join(sorted(offered)) or "none"
    raise LoginFailed(f"no SASL mechanism that the server offers can be used here ({names})")


class _Exchange:
    """aiosasl's SASLInterface over the stream. A refusal by the server raises LoginFailed."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def initiate(
        self, mechanism: str, payload: bytes | None = None
    ) -> tuple[aiosasl.SASLState, bytes | None]:
        head = f"<auth xmlns='{NAMESPACE}' mechanism='{mechanism}'>".encode()
        return _reply(
            await self._ask(head + base64.b64encode(payload or b"") + b"</auth>"), wanted=b"i"
        )

    async def respond(self, payload: bytes) -> tuple[aiosasl.SASLState, bytes | None]:
        head = f"<response xmlns='{NAMESPACE}'>".encode()
        return _reply(
            await self._ask(head + base64.b64encode(payload) + b"</response>"), wanted=b"v"
        )

    async def abort(self) -> tuple[aiosasl.SASLState, None]:
        return aiosasl.SASLState.FAILURE, None


def _reply(element: ET.Element, *, wanted: bytes) -> tuple[aiosasl.SASLState, bytes | None]:
    """Read the server's answer, where data has SCRAM's attribute `wanted` (RFC 5802 §5.1).

    Raises LoginFailed for a refusal, and for data that would make aiosasl fail.
    """
    kind = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    if kind not in {"challenge", "success"}:
        conditions = [child.tag.rpartition("}")[2] for child in element]
        if "not-authorized" in conditions:
            raise LoginFailed("wrong user name or password")
        raise LoginFailed(f"the server refuses the login: {', '.join(conditions) or kind}")
    payload = None
    if element.text:
        try:
            payload = base64.b64decode(element.text)
            fields = dict(aiosasl.SCRAM.parse_message(payload))
            sound = wanted in fields and int(fields.get(b"i", b"0")) <= MAX_ITERATIONS
            base64.b64decode(fields.get(b"v", b""))
        except Exception:  # noqa: BLE001 - aiosasl raises no narrower one
            sound = False
        if not sound:
            raise LoginFailed("the server's part of SCRAM cannot be used")
    return aiosasl.SASLState(kind), payload
