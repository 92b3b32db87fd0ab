"""The command line. Settings come from the environment alone; commands say what to do."""

from __future__ import annotations

from typing import Annotated

import typer
import uvloop

from component import __version__
from component.log import configure
from component.service import Service
from schemas import settings as settings_module
from schemas.settings import Settings, SettingsError

EXIT_SETTINGS = 2
"""Exit code for settings that are missing or wrong."""

app = typer.Typer(
    name="mixpam",
    help="MIX channels (XEP-0405) for the users of your Prosody or ejabberd server.\n\n"
    "Configured by MIXPAM_… environment variables: see `mixpam settings`.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _load() -> Settings:
    """Read the settings, or say what is wrong with them and exit."""
    try:
        return settings_module.load()
    except SettingsError as error:
        for line in error.lines:
            typer.echo(f"mixpam: {line}", err=True)
        raise typer.Exit(EXIT_SETTINGS) from None


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
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    await Service(settings).run()


@app.command()
def settings(
    table: Annotated[
        bool, typer.Option("--table", help="Print all that exist, as Markdown.")
    ] = False,
) -> None:
    """Print the settings in force, secrets hidden, or the table of all settings."""
    if table:
        typer.echo(settings_module.table(), nl=False)
        return
    for name, value in _load():
        shown = ",".join(value) if isinstance(value, tuple) else value
        typer.echo(f"{settings_module.PREFIX}{name.upper()}={shown}")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
