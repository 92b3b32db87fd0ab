"""Queries the running component over its HTTP port, with the component's own settings."""

from __future__ import annotations

import http.client
import json
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

from component.http.control import HEADER, control_key
from schemas.settings import Settings

TIMEOUT = 10.0
LONGEST = 3_600.0
"""Seconds that reconciling one user may take."""


class NotRunning(Exception):  # noqa: N818 - a fact, named as one
    """No component answers; the text has the address that was tried."""


class Refused(Exception):  # noqa: N818 - likewise
    """The component answered with an error; `status` is the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Remote:
    """One running component."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._host = _reachable(settings.http_host)

    @property
    def address(self) -> str:
        """The address at which the component is expected."""
        return f"{self._host}:{self._settings.http_port}"

    def link(self) -> dict[str, Any]:
        """Give the state of link, taps and Redis."""
        return self._ask("GET", "/api/link")

    def user(self, jid: str) -> dict[str, Any]:
        """Describe a user. Raises Refused with status 404 for one without anything."""
        return self._ask("GET", f"/api/user/{quote(jid, safe='@')}")

    def channel(self, jid: str) -> dict[str, Any]:
        """Describe a channel. Raises Refused with status 404 if nobody is in it."""
        return self._ask("GET", f"/api/channel/{quote(jid, safe='@')}")

    def users(self, which: str) -> list[str]:
        """List users: those that are `joined`, or `online`."""
        return [str(user) for user in self._ask("GET", f"/api/users?which={which}")["users"]]

    def reconcile(self, user: str, *, repair: bool) -> dict[str, Any]:
        """Reconcile one user, and wait for the outcome."""
        body = json.dumps({"user": user, "repair": repair})
        return self._ask("POST", "/api/reconcile", body, timeout=LONGEST)

    def _ask(
        self, method: str, path: str, body: str | None = None, timeout: float = TIMEOUT
    ) -> dict[str, Any]:
        """Ask for a JSON object. Raises NotRunning or Refused."""
        settings = self._settings
        if not settings.http_port:
            raise NotRunning("MIXPAM_HTTP_PORT is 0, so a running component cannot be asked")
        headers = {"Content-Type": "application/json", HEADER: control_key(settings)}
        token = settings.http_token.get_secret_value()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(self._host, settings.http_port, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(
                f"no component answers on {self.address}: is it running, with these settings?"
                f" ({type(error).__name__})"
            ) from None
        finally:
            connection.close()
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise NotRunning(f"something else than mixpam answers on {self.address}")
        if response.status != http.client.OK:
            raise Refused(response.status, str(answer.get("error", response.reason)))
        return answer


def _reachable(host: str) -> str:
    """Give the address at which this machine reaches a listener on `host`."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004 - IPv4
    return host
