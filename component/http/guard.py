"""Access to the HTTP port: by token, as bearer or cookie; without one, not by foreign host names.

Without a token the port is on loopback only, yet a web page in the operator's browser
could still reach it under a name of its own (DNS rebinding); so then only addresses and `localhost`
are accepted as host. The cookie is not the token but derived from it, so that a stolen cookie does
not reveal the token and becomes invalid with it.
"""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import ip_address

from aiohttp import hdrs, web

COOKIE = "mixpam"


class Guard:
    """Decides which requests are allowed."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._cookie = hmac.new(self._token, b"mixpam status page", hashlib.sha256).hexdigest()

    @property
    def has_token(self) -> bool:
        """Whether a token is required."""
        return bool(self._token)

    def is_strange_host(self, request: web.BaseRequest) -> bool:
        """Tell whether the request's host name may be foreign: not an address, nor `localhost`."""
        if self._token:
            return False
        host = request.host
        if host.startswith("["):
            host = host[1:].partition("]")[0]
        elif host.count(":") == 1:
            host = host.partition(":")[0]
        if host == "localhost":
            return False
        try:
            ip_address(host)
        except ValueError:
            return True
        return False

    def admits(self, request: web.BaseRequest) -> bool:
        """Tell whether the request carries the token, or needs none."""
        if not self._token:
            return True
        kind, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return True
        cookie = request.cookies.get(COOKIE, "")
        return hmac.compare_digest(cookie.encode("utf-8", "replace"), self._cookie.encode())

    def is_token(self, given: str) -> bool:
        """Compare with the token, in constant time."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    def remember(self, response: web.StreamResponse, *, secure: bool) -> None:
        """Set the browser's cookie."""
        response.set_cookie(
            COOKIE, self._cookie, httponly=True, samesite="Strict", secure=secure, path="/"
        )
