"""The unit as systemd reads it, and the example of its settings as mixpam does."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness.machines import REPOSITORY

from component.cli import EXIT_SETTINGS
from schemas.settings import load

FOLDER = REPOSITORY / "deploy/systemd"
UNIT = (FOLDER / "mixpam.service").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    # systemd insists that the program is there.
    unit = tmp_path / "mixpam.service"
    unit.write_text(UNIT.replace("/opt/mixpam/bin/mixpam", "/bin/true"), encoding="utf-8")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    # Without manual pages, which a small system does not have. It also reports on the machine's
    # own units; those are not ours to judge.
    ours = [line for line in said.stderr.splitlines() if "mixpam" in line]
    assert ours == []
    broken = tmp_path / "broken.service"
    broken.write_text(UNIT.replace("Type=notify", "Type=nonsense"), encoding="utf-8")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(broken)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "nonsense" in said.stderr, "systemd-analyze would not have seen a fault"


def test_example_settings_load(tmp_path: Path) -> None:
    environment = dict(
        re.findall(r"^(MIXPAM_\w+)=(.*)$", (FOLDER / "mixpam.env").read_text(), re.MULTILINE)
    )
    for name, credential in re.findall(r"^Environment=(MIXPAM_\w+)=%d/(\S+)$", UNIT, re.MULTILINE):
        assert f"LoadCredential={credential}:/etc/mixpam/{credential}\n" in UNIT
        secret = tmp_path / credential
        secret.write_text("redis://127.0.0.1:6379/0")
        secret.chmod(0o400)
        environment[name] = str(secret)
    assert load(environment).domains == ("example.org",)


def test_wrong_settings_are_not_tried_again() -> None:
    assert f"RestartPreventExitStatus={EXIT_SETTINGS}\n" in UNIT
