"""The command line. Settings come from the environment alone."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import uvloop
from rich.console import Console

from component import __version__
from component.console import repair, show
from component.console.remote import NotRunning, Refused, Remote
from component.doctor import screen
from component.doctor.examination import Options, examine
from component.doctor.result import Result, exit_code
from component.process import garbage
from component.process.log import configure
from component.service import Service
from schemas import settings as settings_module
from schemas.settings import Settings, SettingsError

EXIT_UNKNOWN = 1
"""Exit code of `show` for an unknown address."""

EXIT_SETTINGS = 2
"""Exit code for settings that are missing or wrong."""

EXIT_NOT_RUNNING = 3
"""Exit code when there is no running component to ask."""

DESCRIPTORS = 4_096
"""Soft limit of file descriptors to request, as far as the hard limit allows; some 200 are
needed."""

app = typer.Typer(
    name="mixpam",
    help="""MIX channels (XEP-0405) for the users of your Prosody or ejabberd server.

    Configured by MIXPAM_… environment variables: see `mixpam settings --table`.

    \b
    First steps:
      mixpam check                 is everything set up as it must be?
      mixpam run                   serve, until told to stop
      mixpam show link             what the running component is doing
    """,
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
shows = typer.Typer(
    help="""Show what the running component knows.

    \b
    Examples:
      mixpam show link
      mixpam show user romeo@example.org
      mixpam show channel coven@mix.example.org --json | jq .members

    Exit codes: 0 shown, 1 nothing is known of that address, 2 settings are wrong,
    3 no component answers.
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(shows, name="show")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]


def _load() -> Settings:
    """Read the settings, or print what is wrong with them and exit."""
    try:
        return settings_module.load()
    except SettingsError as error:
        _end(error)


def _end(error: SettingsError) -> NoReturn:
    """Print what is wrong with the settings and exit."""
    for line in error.lines:
        typer.echo(f"mixpam: {line}", err=True)
    raise typer.Exit(EXIT_SETTINGS) from None


def _console(*, err: bool = False) -> Console:
    """Make a console that uses colours on terminals only, and takes all text literally."""
    return Console(stderr=err, highlight=False, emoji=False, markup=False)


@app.callback(invoke_without_command=True)
def _default(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"mixpam {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        run()


@app.command()
def run() -> None:
    """Run the component until it gets SIGTERM or Ctrl-C (this is also the default)."""
    settings = _load()
    configure(settings)
    _allow_descriptors()
    garbage.begin()
    try:
        uvloop.run(_serve(settings))
    except SettingsError as error:
        _end(error)


def _allow_descriptors() -> None:
    """Raise the soft limit of file descriptors: the usual one is historically low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    with contextlib.suppress(OSError, ValueError):
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _serve(settings: Settings) -> None:
    await Service(settings).run()


@app.command()
def settings(
    table: Annotated[
        bool, typer.Option("--table", help="Print all that exist, as Markdown.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the settings in force, secrets hidden, or the table of all settings."""
    if table:
        typer.echo(settings_module.table(), nl=False)
        return
    loaded = _load()
    if as_json:
        shown = {f"{settings_module.PREFIX}{name.upper()}": value for name, value in loaded}
        typer.echo(json.dumps(shown, default=str, indent=2))
        return
    for name, value in loaded:
        if value is None:
            continue  # not set; an empty value would mean something else
        text = ",".join(value) if isinstance(value, tuple) else value
        typer.echo(f"{settings_module.PREFIX}{name.upper()}={text}")


# -- check ----------------------------------------------------------------------------------


@app.command()
def check(
    *,
    as_json: Json = False,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect",
            help="Connect as the component even if it cannot be told whether one is running.",
        ),
    ] = False,
    user: Annotated[
        str | None,
        typer.Option("--user", help="Log in as this account, to see what its clients see."),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="File with that account's password; else asked for."),
    ] = None,
    client_host: Annotated[
        str | None,
        typer.Option("--client-host", help="Where clients connect; default MIXPAM_SERVER_HOST."),
    ] = None,
    client_port: Annotated[
        int, typer.Option("--client-port", help="Port on which clients connect.")
    ] = 5222,
) -> None:
    """Check settings, Redis and server, and say which configuration line to change.

    Run it with the component's settings in the environment. A running component is queried over
    HTTP and not disturbed; if there is none, this connects in its place for a few seconds.

    \b
    Examples:
      mixpam check
      mixpam check --json | jq '.results[] | select(.level != "ok")'
      mixpam check --user romeo@example.org --password-file romeo.txt

    Exit codes: 0 all is well, 1 warnings only, 2 something is wrong.
    """  # noqa: D301 - the backspace keeps the lines below it as they are
    options = Options(connect, user, _password(user, password_file), client_host, client_port)
    results = asyncio.run(_examine(options, as_json=as_json))
    if as_json:
        typer.echo(screen.as_json(results))
    else:
        screen.summary(_console(), results)
    raise typer.Exit(exit_code(results))


async def _examine(options: Options, *, as_json: bool) -> list[Result]:
    console, results = _console(), []
    async for result in examine(options):
        results.append(result)
        if not as_json:
            screen.show(console, result)
    return results


def _password(user: str | None, file: Path | None) -> str:
    if user is None:
        return ""
    if file is None:
        if not sys.stdin.isatty():
            raise typer.BadParameter("no terminal to ask for the password: say --password-file")
        return getpass.getpass(f"Password of {user}: ")
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None


# -- show -----------------------------------------------------------------------------------


@shows.command("user")
def show_user(
    jid: Annotated[str, typer.Argument(help="The user's bare JID.")], as_json: Json = False
) -> None:
    """Show a user's channels, devices and changes under way."""
    _show(lambda remote: remote.user(jid), show.user, as_json=as_json)


@shows.command("channel")
def show_channel(
    jid: Annotated[str, typer.Argument(help="The channel's JID.")], as_json: Json = False
) -> None:
    """Show which users of this server are in a channel."""
    _show(lambda remote: remote.channel(jid), show.channel, as_json=as_json)


@shows.command("link")
def show_link(as_json: Json = False) -> None:
    """Show the state of the link, the taps and Redis, and how much there is of everything."""
    _show(lambda remote: remote.link(), show.link, as_json=as_json)


def _show(
    ask: Callable[[Remote], dict[str, Any]],
    write: Callable[[Console, dict[str, Any]], None],
    *,
    as_json: bool,
) -> None:
    answer = _asked(ask)
    if as_json:
        typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        write(_console(), answer)


def _asked(ask: Callable[[Remote], Any]) -> Any:  # noqa: ANN401 - what was asked for
    """Ask the running component, or print why that fails and exit."""
    try:
        return ask(Remote(_load()))
    except NotRunning as error:
        typer.echo(f"mixpam: {error}", err=True)
        raise typer.Exit(EXIT_NOT_RUNNING) from None
    except Refused as error:
        typer.echo(f"mixpam: {error}", err=True)
        raise typer.Exit(EXIT_UNKNOWN) from None


# -- reconcile and rebuild ------------------------------------------------------------------


@app.command()
def reconcile(
    dry_run: DryRun = False,
    user: Annotated[
        list[str] | None, typer.Option("--user", help="Only this user; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare memory, rosters and channels, and repair what differs.

    Looks at every user who is in a channel, or at those given. The channel's list of participants
    decides; memory, Redis and roster follow. Where a channel does not give one, nothing is changed.
    A channel that is missing only in the roster is put back there.

    \b
    Examples:
      mixpam reconcile --dry-run
      mixpam reconcile --user romeo@example.org
      mixpam reconcile --json > found.jsonl

    Exit codes: 0 everything agrees or was repaired, 1 something could not be determined (or, with
    --dry-run, differs), 2 settings are wrong, 3 no component answers.
    """  # noqa: D301 - the backspace keeps the lines below it as they are
    users = list(user) if user else _asked(lambda remote: remote.users("joined"))
    _repair(users, dry_run=dry_run, as_json=as_json)


@app.command()
def rebuild(
    users: Annotated[
        list[str] | None, typer.Argument(help="Bare JIDs, or - to read them from standard input.")
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="All users who are online now.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Restore memberships after Redis was lost, from rosters and channels.

    The component cannot know who its users are: name them, pass a list of all accounts, or take all
    users who are online. It is safe to repeat this.

    \b
    Examples:
      mixpam rebuild --online
      ejabberdctl registered_users example.org | sed 's/$/@example.org/' | mixpam rebuild -
      mixpam rebuild --dry-run romeo@example.org

    Exit codes: as `mixpam reconcile`.
    """  # noqa: D301 - the backspace keeps the lines below it as they are
    named = list(users or [])
    if named == ["-"]:
        named = [line.strip() for line in sys.stdin if line.strip()]
    if online:
        named += _asked(lambda remote: remote.users("online"))
    elif not named:
        raise typer.BadParameter("say whom: addresses, - for a list, or --online")
    _repair(named, dry_run=dry_run, as_json=as_json)


def _repair(users: list[str], *, dry_run: bool, as_json: bool) -> None:
    code = repair.run(
        Remote(_load()),
        users,
        repair=not dry_run,
        as_json=as_json,
        out=_console(),
        err=_console(err=True),
    )
    raise typer.Exit(code)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
