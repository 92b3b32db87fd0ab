"""The Compose file, as Compose itself reads it; no engine is needed for that."""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.machines import REPOSITORY, cache

from schemas.settings import PREFIX, load

FILE = REPOSITORY / "deploy/docker-compose.yml"


#: Debian 13's Compose, in the root that ``tests/run`` makes; it runs on Debian 12, too.
OF_DEBIAN_13 = cache() / "trixie/usr/libexec/docker/cli-plugins/docker-compose"


def compose() -> list[str] | None:
    """Return the command that is Compose here: of version 2, or none."""
    for command in (["docker", "compose"], ["docker-compose"], [str(OF_DEBIAN_13)]):
        if shutil.which(command[0]) is None:
            continue
        said = subprocess.run(
            [*command, "version", "--short"], capture_output=True, text=True, check=False
        )
        if said.returncode == 0 and said.stdout.lstrip("v").startswith(("2.", "3.", "4.", "5.")):
            return command
    return None


COMPOSE = compose()
needs_compose = pytest.mark.skipif(
    COMPOSE is None, reason="Docker Compose 2 is missing: a whole ./tests/run installs it"
)


def config(profile: str) -> dict[str, Any]:
    assert COMPOSE is not None
    said = subprocess.run(
        [*COMPOSE, "-f", str(FILE), "--profile", profile, "config", "--format", "json"],
        capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


@needs_compose
@pytest.mark.parametrize("profile", ["prosody", "ejabberd"])
def test_the_component_is_confined_and_comes_last(profile: str) -> None:
    found = config(profile)
    assert set(found["services"]) - {"prosody-accounts"} == {"redis", "component", profile}
    component = found["services"]["component"]
    assert component["read_only"] is True
    assert component["cap_drop"] == ["ALL"]
    assert "ports" not in component
    assert {"redis", profile} <= set(component["depends_on"])
    assert {each["condition"] for each in component["depends_on"].values()} == {"service_healthy"}
    for network in component["networks"]:
        assert found["networks"][network]["internal"] is True
    published = [port for each in found["services"].values() for port in each.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert {port["target"] for port in published} == {5222}


@needs_compose
@pytest.mark.parametrize("profile", ["prosody", "ejabberd"])
def test_all_that_is_mounted_is_there_or_made_by_prepare(profile: str, tmp_path: Path) -> None:
    made = prepare(tmp_path)
    found = config(profile)
    for secret in found["secrets"].values():
        assert (made / Path(secret["file"]).name).is_file()
    mounts = [each for part in found["services"].values() for each in part.get("volumes", [])]
    bound = [Path(each["source"]) for each in mounts if each["type"] == "bind"]
    assert bound
    # What is missing would be made by the engine, as an empty folder.
    assert [path for path in bound if not path.is_file() and not list(path.glob("*"))] == []


@needs_compose
def test_the_component_takes_these_settings(tmp_path: Path) -> None:
    made = prepare(tmp_path)
    environment = config("prosody")["services"]["component"]["environment"]
    assert all(name.startswith(PREFIX) for name in environment)
    for name in environment:
        if name.endswith("_FILE"):
            environment[name] = str(made / Path(environment[name]).name)
    settings = load(environment)
    assert settings.redis_url.get_secret_value().startswith("redis://mixpam:")


def prepare(folder: Path) -> Path:
    """Run prepare.sh on a copy and return the folder of secrets."""
    shutil.copytree(
        REPOSITORY / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("secrets", ".env")
    )
    subprocess.run(
        ["sh", str(folder / "deploy/compose/prepare.sh")], check=True, capture_output=True
    )
    return folder / "deploy/compose/secrets"


@pytest.mark.abuse(26)
def test_secrets_are_closed_and_stay_as_they_are(tmp_path: Path) -> None:
    made = prepare(tmp_path)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    for name in ("mixpam-secret", "redis-url"):
        assert stat.S_IMODE((made / name).stat().st_mode) == 0o600
        owner = (made / name).stat().st_uid
        assert f"MIXPAM_UID={owner}\n" in (tmp_path / "deploy/.env").read_text()
        assert owner != 0
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    subprocess.run(
        ["sh", str(tmp_path / "deploy/compose/prepare.sh")], check=True, capture_output=True
    )
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
