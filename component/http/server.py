"""The HTTP port: its routes and access to them.

`/healthz` and `/readyz` answer everybody, for process managers and load balancers; without the
token they answer only yes or no.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from aiohttp import web

from component.http import page
from component.http.gate import Gate
from component.http.guard import Guard
from component.http.metrics import CONTENT_TYPE, Metrics
from component.http.sources import Sources
from component.operator.views import (
    ChannelMembers,
    UserView,
    describe_channel,
    describe_domains,
    describe_user,
)
from component.process.log import frames
from schemas import jid

RETRY = 5.0
"""Seconds until an address in use is tried again."""

LARGEST_BODY = 4_096
"""Maximum bytes of a request's body; it only ever carries the token."""

BODY_SECONDS = 10.0
"""Seconds within which such a request must be complete."""

KEEPALIVE = 15
"""Seconds that a connection may wait for the next request; Prometheus and browsers reconnect."""

_ELSEWHERE = "Correct MIXPAM_HTTP_HOST and MIXPAM_HTTP_PORT; port 0 is for none."

_REMEDIES = {
    errno.EADDRINUSE: "Another process has that address: give this one its own MIXPAM_HTTP_PORT,"
    " or 0 for none. It is tried again every few seconds.",
    errno.EACCES: "Ports below 1024 are not for everybody: take another MIXPAM_HTTP_PORT.",
    errno.EADDRNOTAVAIL: "This machine does not have that address: correct MIXPAM_HTTP_HOST.",
    errno.EMFILE: "There is no descriptor left: raise the limit of open files (LimitNOFILE).",
    errno.ENFILE: "There is no descriptor left on this machine (fs.file-max).",
}

_OPEN = frozenset({"/healthz", "/readyz", "/login"})

_HEADERS = {
    "Cache-Control": "no-store",
    "Server": "mixpam",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serves metrics, health, the API and the status page until stopped.

    `further` are routes of others, behind the same door.
    """

    def __init__(
        self,
        sources: Sources,
        report: Callable[..., None],
        further: Iterable[web.RouteDef] = (),
    ) -> None:
        self._further = list(further)
        self._sources = sources
        self._report = report
        self._guard = Guard(sources.settings.http_token.get_secret_value())
        self._metrics = Metrics(sources)
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self._gate: Gate | None = None
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        """Begin to serve and to sample, unless the settings disable the port."""
        if self._sources.settings.http_port:
            self._tasks = [
                asyncio.create_task(self._listen()),
                asyncio.create_task(self._sources.sample()),
                asyncio.create_task(self._sources.count()),
            ]

    async def stop(self) -> None:
        """Release the address."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _listen(self) -> None:
        """Bind the address, or wait for it, as a standby on the same machine has to."""
        settings = self._sources.settings
        address = f"{settings.http_host}:{settings.http_port}"
        self._runner = runner = web.AppRunner(
            self.application(),
            access_log=None,
            shutdown_timeout=1,
            handle_signals=False,
            keepalive_timeout=KEEPALIVE,
            lingering_time=1,
        )
        await runner.setup()
        if runner.server is None:
            return
        self._gate = Gate(runner.server, self._report)
        reported = ""
        while True:
            try:
                self._server = await asyncio.get_running_loop().create_server(
                    self._gate, settings.http_host, settings.http_port
                )
            except OSError as error:
                reason = _why_not(error)
                if reported != reason:
                    remedy = _REMEDIES.get(error.errno or 0, _ELSEWHERE)
                    self._report(
                        "http-down", "warning", address=address, reason=reason, remedy=remedy
                    )
                    reported = reason
                await asyncio.sleep(RETRY)
            else:
                self._report("http-up", address=address)
                return

    def application(self) -> web.Application:
        """Make the routes."""
        application = web.Application(client_max_size=LARGEST_BODY, middlewares=[self._door])
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/login", self._login_form),
                web.post("/login", self._login),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._expose),
                web.get("/api/link", self._link),
                web.get("/api/user/{jid:.+}", self._user),
                web.get("/api/channel/{jid:.+}", self._channel),
                *self._further,
            ]
        )
        return application

    # -- access ------------------------------------------------------------------------

    @web.middleware
    async def _door(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._gate is None:
            return await self._authorize(request, handler)
        with self._gate.serving(request.protocol):
            return await self._authorize(request, handler)

    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response: web.StreamResponse
        if self._guard.is_strange_host(request):
            response = _json({"error": "unknown host name; set MIXPAM_HTTP_TOKEN to use one"}, 403)
        elif request.path in _OPEN or self._guard.admits(request):
            response = await self._answer(request, handler)
        elif request.path == "/" and "live" not in request.query:
            response = web.Response(status=303, headers={"Location": "login"})
        else:
            response = _json({"error": "show the token: Authorization: Bearer …"}, 401)
            response.headers["WWW-Authenticate"] = 'Bearer realm="mixpam"'
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request; a bug in mixpam costs only that answer."""
        await self._sources.counted()
        try:
            if request.can_read_body:
                async with asyncio.timeout(BODY_SECONDS):
                    await request.read()
            return await handler(request)
        except web.HTTPException as error:
            return _json({"error": error.reason}, error.status)
        except TimeoutError:
            return _json({"error": "the request did not end"}, 408)
        except (ConnectionError, web.RequestPayloadError):
            return _json({"error": "the request cannot be read"}, 400)
        except Exception as error:  # noqa: BLE001 - see above; it is reported
            self._report("http-fault", "error", exception=frames(error))
            return _json({"error": "a fault in mixpam; see its log"}, 500)

    async def _login_form(self, request: web.Request) -> web.StreamResponse:
        if self._guard.admits(request):
            return web.Response(status=303, headers={"Location": "./"})
        return _page(page.login(failed=False))

    async def _login(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        if not self._guard.has_token or not self._guard.is_token(str(form.get("token", ""))):
            return _page(page.login(failed=True), status=403)
        response = web.Response(status=303, headers={"Location": "./"})
        secure = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
        self._guard.remember(response, secure=secure)
        return response

    # -- health and metrics --------------------------------------------------------------

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return _json({"alive": True})

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        reasons = self._sources.watch.not_ready()
        body: dict[str, object] = {"ready": not reasons}
        if self._guard.admits(request):
            body["reasons"] = reasons
        return _json(body, 503 if reasons else 200)

    async def _expose(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=self._metrics.expose(), headers={"Content-Type": CONTENT_TYPE})

    # -- the API -------------------------------------------------------------------------

    async def _link(self, _: web.Request) -> web.StreamResponse:
        sources, watch = self._sources, self._sources.watch
        views = {view.domain: asdict(view) for view in describe_domains(sources.core)}
        domains = [
            {**views.get(domain, {}), **asdict(tap), "domain": domain}
            for domain, tap in watch.taps.items()
        ]
        return _json(
            {
                "component": sources.settings.component_jid,
                "version": sources.version,
                "started": watch.started,
                "reasons": watch.not_ready(),
                "link": asdict(watch.link),
                "domains": domains,
                "redis": {
                    **asdict(watch.redis),
                    "latency": sources.store.latency.last,
                    "waiting": sources.store.waiting,
                },
                "totals": asdict(sources.totals()),
            }
        )

    async def _user(self, request: web.Request) -> web.StreamResponse:
        view = describe_user(self._sources.core, _jid(request))
        return _known(view, found=view.known)

    async def _channel(self, request: web.Request) -> web.StreamResponse:
        view = describe_channel(self._sources.core, _jid(request))
        return _known(view, found=bool(view.members or view.under_way))

    async def _page(self, request: web.Request) -> web.StreamResponse:
        asked = request.query.get("user", "").strip()
        if "live" in request.query:
            return web.Response(text=page.live(self._sources, asked), content_type="text/html")
        return _page(page.whole(self._sources, asked))


def _why_not(error: OSError) -> str:
    """Say why the address cannot be bound; asyncio's own text repeats the address."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


def _jid(request: web.Request) -> jid.Jid:
    """Read the bare JID at the end of the path."""
    try:
        address = jid.parse(request.match_info["jid"]).bare
    except ValueError:
        raise web.HTTPBadRequest(reason="not an address") from None
    if address.local is None:
        raise web.HTTPBadRequest(reason="not an address of a user or channel")
    return address


def _known(view: UserView | ChannelMembers, *, found: bool) -> web.Response:
    if not found:
        return _json({"error": "nothing is known of that address"}, 404)
    return _json(asdict(view))


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    text = json.dumps(body, default=_plain, ensure_ascii=False, indent=2) + "\n"
    return web.Response(text=text, status=status, content_type="application/json")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _page(made: page.Page, status: int = 200) -> web.Response:
    return web.Response(
        text=made.html,
        status=status,
        content_type="text/html",
        headers={"Content-Security-Policy": made.policy},
    )
