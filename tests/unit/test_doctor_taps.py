"""What `mixpam check` says of taps: older than what came with it, and servers with a limit."""

import re
from pathlib import Path
from typing import Any

import pytest

from component.doctor import advice, running
from component.doctor.result import Level

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_version_is_that_of_the_taps_that_come_along() -> None:
    prosody = (DEPLOY / "prosody/mod_mixpam_tap.lua").read_text(encoding="utf-8")
    ejabberd = "".join(
        path.read_text(encoding="utf-8") for path in (DEPLOY / "ejabberd").rglob("*.erl")
    )
    assert re.findall(r'tap = "([0-9.]+)"', prosody) == [advice.TAP]
    assert set(re.findall(r'-define\(VERSION, <<"([0-9.]+)">>', ejabberd)) == {advice.TAP}


@pytest.mark.parametrize(
    ("version", "older"),
    [("1.1", True), ("1.0", True), ("1.2", False), ("1.10", False), ("2", False), ("?", False)],
)
def test_a_tap_that_is_older_is_told_of(version: str, older: bool) -> None:
    (told,) = [each for each in about(version=version) if each.check == "tap example.org"]
    assert (told.level is Level.WARNING) == older
    assert not older or "reload" in told.remedy


def test_a_limit_that_is_too_low_is_told_with_the_line_to_change() -> None:
    (told,) = [each for each in about(limit=1000, wanted=2000) if each.check.startswith("limit")]
    assert told.prosody == "component_stanza_size_limit = 2000"
    assert "max_stanza_size: 2000" in told.ejabberd
    assert not [each for each in about() if each.check.startswith("limit")]


def about(**changes: Any) -> list[Any]:
    tap = {"domain": "example.org", "version": "1.2", "software": "S", "archive": True}
    state = {
        "component": "mixpam.example.org",
        "link": {"state": "up"},
        "domains": [tap | {"ready": True} | changes],
    }
    return list(running.results(state, "mixpam.example.org"))
