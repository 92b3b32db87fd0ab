"""The command line as a whole: what every command has in common."""

from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from component.cli import app


def commands(command: Any, path: str = "mixpam") -> dict[str, Any]:
    """Give every command by what one types for it."""
    if not hasattr(command, "commands"):
        return {path: command}
    found: dict[str, Any] = {}
    for name, inner in command.commands.items():
        found |= commands(inner, f"{path} {name}")
    return found


ALL = commands(typer.main.get_command(app))
assert "mixpam show user" in ALL


@pytest.mark.parametrize("path", [path for path in ALL if path != "mixpam run"])
def test_whatever_prints_data_prints_json_too(path: str) -> None:
    assert "--json" in [option for each in ALL[path].params for option in each.opts]


@pytest.mark.parametrize("path", ALL)
def test_help_says_what_a_command_does_and_shows_how(path: str) -> None:
    assert ALL[path].help


def test_without_a_terminal_no_password_is_asked_for() -> None:
    done = CliRunner().invoke(app, ["check", "--user", "romeo@example.org"])
    assert done.exit_code == 2
    assert "--password-file" in done.output
    assert "echo" not in done.output
