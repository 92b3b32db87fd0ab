"""The whole examination: the checks, their order and their dependencies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from component.console.remote import NotRunning, Refused, Remote
from component.doctor import account, configuration, link, running
from component.doctor.account import Login
from component.doctor.redis import RedisCheck
from component.doctor.result import Level, Result, skipped
from schemas import jid
from schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `mixpam check`; see its `--help`."""

    connect: bool = False
    user: str | None = None
    password: str = ""
    client_host: str | None = None
    client_port: int = 5222


async def examine(
    options: Options, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Result]:
    """Run all checks and yield results as they come."""
    settings, results = configuration.look(environment)
    for result in results:
        yield result
    if settings is None:
        return
    redis = RedisCheck(settings)
    async for result in redis.results():
        yield result
    reached = True
    async for result in link.reachable(settings):
        reached = result.level is Level.OK
        yield result
    if reached:
        async for result in _server(settings, options, redis.running):
            yield result
    if options.user is not None:
        yield await _account(settings, options)
    else:
        yield skipped(
            "discovery",
            "what a user's client sees was not looked at",
            "Give `--user`, an account to log in with.",
        )


async def _server(
    settings: Settings, options: Options, connected: bool | None
) -> AsyncIterator[Result]:
    """Check the server: through the running component, or else by connecting in its place."""
    try:
        state = Remote(settings).link()
    except Refused as error:
        yield Result(
            "running",
            Level.WRONG,
            f"a component is running and refuses to be asked: {error}",
            "Give this command the same MIXPAM_HTTP_TOKEN.",
        )
        return
    except NotRunning as error:
        if connected:
            yield Result(
                "running",
                Level.WARNING,
                f"a component is connected to Redis, but {error}; the server was not tried",
                "Run this where the component runs, with its settings.",
            )
            return
        if connected is None and not options.connect:
            yield Result(
                "running",
                Level.WARNING,
                "the server was not tried: a component may be running elsewhere and could lose"
                " its connection",
                "Let Redis tell who is connected, or say `--connect` if none is running.",
                redis="ACL SETUSER mixpam +client|list +client|setname",
            )
            return
        async for result in link.LinkCheck(settings).results():
            yield result
        return
    for result in running.results(state, settings.component_jid):
        yield result


async def _account(settings: Settings, options: Options) -> Result:
    try:
        user = jid.parse(options.user or "").bare
    except ValueError as error:
        return Result("discovery", Level.WRONG, f"--user: {error}")
    host = options.client_host or settings.server_host
    return await account.features(Login(user, options.password, host, options.client_port))
