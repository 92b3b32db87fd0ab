"""The configurations that operators get as examples, changed as little as possible."""

from pathlib import Path
from typing import Final

from harness.machines import REPOSITORY

SECRET: Final = "change-me"
"""The literal secret of the examples; operators replace it."""


def replaced(text: str, literals: dict[str, str]) -> str:
    """Replace every literal. Raises LookupError for one that is not in `text`.

    An example that lacks a literal to be replaced must not be used by accident.
    """
    for old, new in literals.items():
        if old not in text:
            raise LookupError(f"the example configuration has no {old!r}")
        text = text.replace(old, new)
    return text


def example(path: str, tree: Path = REPOSITORY) -> str:
    """Return a file of ``deploy/``, of another version's tree if there is one."""
    return (tree / "deploy" / path).read_text(encoding="utf-8")
