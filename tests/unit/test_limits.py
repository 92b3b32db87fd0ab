"""The core's limits are in one place; those that are settings have the settings' defaults."""

import ast
from dataclasses import fields
from pathlib import Path

from component.core import limits as core_limits
from component.core.limits import Limits
from component.engine import limits
from schemas.settings import Settings

SETTINGS = Settings.model_validate(
    {"component_jid": "mixpam.example.org", "secret": "s", "domains": "example.org"}
)


def test_defaults_are_those_of_the_settings() -> None:
    assert limits(SETTINGS) == Limits()


def test_a_setting_reaches_the_core() -> None:
    changed = SETTINGS.model_copy(update={"join_burst": 7, "held_bytes": 20_000})
    assert limits(changed) == Limits(join_burst=7, held_bytes=20_000)


def test_a_limit_is_a_setting_or_has_its_reason_beside_it() -> None:
    text = Path(core_limits.__file__).read_text(encoding="utf-8")
    (body,) = (
        node.body
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and node.name == "Limits"
    )
    lines = text.splitlines()
    starts = {node.target.id: node.lineno for node in body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    for field in fields(Limits):
        explained = lines[starts[field.name] - 2].strip().startswith("#")
        assert explained != (field.name in Settings.model_fields), field.name
