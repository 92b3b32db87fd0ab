"""The core is pure: what it may import is a short list, and nothing on it does anything.

The linter of imports (setup.cfg) keeps the rooms in their order; it can forbid, and whatever
nobody thought of would pass. So this is the list of what is allowed: of the standard library
only what computes, of ours only what is as pure.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest
from harness.machines import REPOSITORY

COMPUTES: Final = {
    "__future__", "base64", "collections", "dataclasses", "difflib", "enum", "functools", "hashlib",
    "heapq", "ipaddress", "itertools", "json", "math", "re", "types", "typing", "urllib.parse",
    "weakref", "xml.etree.ElementTree", "xml.parsers.expat", "xml.sax.saxutils",
}  # fmt: skip

FROM_OUTSIDE: Final = {"aioxmpp", "pydantic", "sys"}
"""Used by schemas alone, for stanzas and records; none of them acts there."""

READS_SETTINGS: Final = {"schemas/settings.py"}
"""Reads the environment and a file, at the start; the core does not know it."""

ROOMS: Final = {
    "component/core": COMPUTES | {"component.__version__", "component.core", "component.wire"},
    "component/leadership.py": COMPUTES,
    "component/wire": COMPUTES | {"component.wire"},
    "schemas": COMPUTES | FROM_OUTSIDE,
}


def imported(path: Path) -> Iterator[str]:
    """Give all that a module imports, wherever that stands in it, with the full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Name) and node.id in {"__import__", "open", "input", "exec"}:
            yield f"builtins.{node.id}"


def files(room: Path) -> Iterable[Path]:
    """Give the modules of a room, which may be one."""
    return room.rglob("*.py") if room.is_dir() else [room]


def is_among(name: str, allowed: set[str]) -> bool:
    """Tell whether a name, or what it is a part of, is on a list."""
    parts = name.split(".")
    return any(".".join(parts[: end + 1]) in allowed for end in range(len(parts)))


@pytest.mark.parametrize("room", ROOMS)
def test_it_imports_nothing_that_acts(room: str) -> None:
    allowed = ROOMS[room] | {
        f"schemas.{path.stem}"
        for path in (REPOSITORY / "schemas").glob("*.py")
        if room == "schemas" or path.stem not in {"settings", "odds"}
    }
    paths = {
        path
        for path in files(REPOSITORY / room)
        if str(path.relative_to(REPOSITORY)) not in READS_SETTINGS
    }
    assert paths
    forbidden = {
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in paths
        for name in imported(path)
        if not is_among(name, allowed)
    }
    assert not forbidden


@pytest.mark.parametrize(
    "line",
    [
        "import asyncio",
        "from time import monotonic",
        "import random, os",
        "from pathlib import Path",
        "from component.process.log import configure",
        "from component import control_queue",
        "from component.http import server",
        "import aiohttp",
        "from schemas.settings import Settings",
        "from schemas import settings",
        "from xml.sax import make_parser",
        "def later():\n    import socket",
        "text = open('x')",
    ],
)
def test_what_acts_is_found(line: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(line, encoding="utf-8")
    allowed = ROOMS["component/core"] | {"schemas.jid", "schemas.codec"}
    assert any(not is_among(name, allowed) for name in imported(path))
