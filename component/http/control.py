"""The part of the HTTP API that makes changes: for `mixpam reconcile` and `rebuild`.

A caller must know the component's secret: the header `Mixpam-Control` carries a digest made of it
(`control_key`). So no web page in the operator's browser can call it, and a reader of the status
page (with MIXPAM_HTTP_TOKEN, or on this machine) cannot change anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from aiohttp import web

from component.core.checks.findings import UserFindings
from component.core.machine import Core
from schemas import jid
from schemas.jid import Jid
from schemas.records import MembershipRecord
from schemas.settings import Settings

HEADER = "Mixpam-Control"

AT_ONCE = 16
"""Users that are reconciled at the same time; others wait for their turn."""

LONGEST = 3_600.0
"""Seconds one user may take: enough for a thousand silent channels."""


class StoredMemberships(Protocol):
    """The store, as far as this API needs it."""

    @property
    def loaded(self) -> bool:
        """Tell whether the core has loaded the records of Redis."""

    async def memberships(self, user: str) -> dict[str, MembershipRecord] | None:
        """Read a user's memberships from Redis; None if it does not answer."""


def control_key(settings: Settings) -> str:
    """Make the header's value: a digest of the component's secret and name."""
    secret = settings.secret.get_secret_value().encode()
    text = f"mixpam control {settings.component_jid}".encode()
    return hmac.new(secret, text, hashlib.sha256).hexdigest()


class Control:
    """Answers the calls. `operate` runs an action on the core and carries out its effects."""

    def __init__(
        self,
        settings: Settings,
        core: Core,
        store: StoredMemberships,
        operate: Callable[[Callable[[], None]], None],
    ) -> None:
        self._key = control_key(settings)
        self._core = core
        self._store = store
        self._operate = operate
        self._turn = asyncio.Semaphore(AT_ONCE)

    def routes(self) -> list[web.RouteDef]:
        """Give the routes, for `component.http.server`."""
        return [
            web.get("/api/users", self._users),
            web.post("/api/reconcile", self._reconcile),
        ]

    def _check(self, request: web.Request) -> None:
        given = request.headers.get(HEADER, "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._key.encode()):
            raise web.HTTPForbidden(reason=f"show the component's secret: header {HEADER}")
        if not self._store.loaded:
            raise web.HTTPServiceUnavailable(reason="Redis has not been read yet: see /readyz")

    async def _users(self, request: web.Request) -> web.StreamResponse:
        """List users: `which=joined` (in a channel) or `which=online`."""
        self._check(request)
        which = request.query.get("which")
        rows = self._core.mirror.rows.values()
        if which == "joined":
            found = [row.key.decode() for row in rows if row.channels]
        elif which == "online":
            found = [row.key.decode() for row in rows if row.is_online]
        else:
            raise web.HTTPBadRequest(reason="which is joined or online")
        return web.json_response({"users": sorted(found)})

    async def _reconcile(self, request: web.Request) -> web.StreamResponse:
        """Reconcile one user: `{"user": …, "repair": true}` in, `UserFindings` out."""
        self._check(request)
        user, repair = await _body(request)
        async with self._turn:
            stored = await self._store.memberships(str(user))
            told: asyncio.Future[UserFindings] = asyncio.get_running_loop().create_future()

            def then(outcome: UserFindings) -> None:
                if not told.done():
                    told.set_result(outcome)

            self._operate(
                lambda: self._core.reconcile.user(user, then, repair=repair, stored=stored)
            )
            try:
                outcome = await asyncio.wait_for(told, LONGEST)
            except TimeoutError:
                raise web.HTTPGatewayTimeout(reason="the comparison did not end") from None
            return web.json_response(asdict(outcome))


async def _body(request: web.Request) -> tuple[Jid, bool]:
    try:
        body = await request.json()
        user, repair = jid.parse(body["user"]), body["repair"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise web.HTTPBadRequest(reason="the body is {user, repair}") from None
    except ValueError:
        raise web.HTTPBadRequest(reason="user is not an address") from None
    if not isinstance(repair, bool) or not user.is_bare_user:
        raise web.HTTPBadRequest(reason="the body is {user: a bare JID, repair: true or false}")
    return user, repair
