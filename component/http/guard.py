"""Access to the HTTP port: by token, as bearer or cookie; without one, not by foreign host names.

Without a token the port is on loopback only, yet a web page in the operator's browser
could still reach it under a name of its own (DNS rebinding); so then only addresses and
`localhost` are taken as host. The cookie is not the token but is made of it, so that a
stolen cookie ends with the token and does not reveal it.
"""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import ip_address

from aiohttp import hdrs, web

COOKIE = "mixpam"


class Guard:
    """Judges requests."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._cookie = hmac.new(self._token, b"mixpam status page", hashlib.sha256).hexdigest()

    @property
    def has_token(self) -> bool:
        """Whether a token is asked for."""
        return bool(self._token)

    def is_strange_host(self, request: web.BaseRequest) -> bool:
        """Tell whether the request came under a name that is not surely this machine's."""
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
        """Tell whether the request shows the token, or needs none."""
        if not self._token:
            return True
        kind, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return True
        cookie = request.cookies.get(COOKIE, "")
        return hmac.compare_digest(cookie.encode("utf-8", "replace"), self._cookie.encode())

    def is_token(self, given: str) -> bool:
        """Compare with the token, in a time that tells nothing."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    def remember(self, response: web.StreamResponse, *, secure: bool) -> None:
        """Give the browser its cookie."""
        response.set_cookie(
            COOKIE, self._cookie, httponly=True, samesite="Strict", secure=secure, path="/"
        )
