"""The page of bounds names every container that lives longer than a call, and every cache."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harness.machines import REPOSITORY

PAGE: Final = REPOSITORY / "deploy/docs/bounds.md"

CONTAINERS: Final = ("dict", "list", "set", "deque", "OrderedDict", "Counter", "Shared", "Buckets")

SHORT_LIVED: Final = frozenset(
    {
        # What one look, report or record says; it goes with that.
        "effects.facts",
        "watch.facts",
        "routes.lines",
    }
)


def names_in(annotation: ast.expr) -> set[str]:
    """Return the type names of an annotation or call, without those of its arguments."""
    if isinstance(annotation, ast.Subscript):
        return names_in(annotation.value)
    if isinstance(annotation, ast.BinOp):
        return names_in(annotation.left) | names_in(annotation.right)
    if isinstance(annotation, ast.Call):
        return names_in(annotation.func)
    return {annotation.id} if isinstance(annotation, ast.Name) else set()


def containers(path: Path) -> Iterator[str]:
    """Give the attributes that hold others, and the cached functions, of one module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if names_in(decorator) & {"lru_cache", "cache"}:
                    yield f"{path.stem}.{node.name.lstrip('_')}"
        elif isinstance(node, ast.ClassDef):
            yield from (f"{path.stem}.{name}" for name in fields(node))


def fields(node: ast.ClassDef) -> Iterator[str]:
    """Give a class's containers: of a dataclass with a factory, or set up in a method.

    So are functions that are cached for one object, by `lru_cache(...)(...)`.
    """
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assign) and {"lru_cache", "cache"} & names_in(inner.value):
            yield from (
                each.attr.lstrip("_") for each in inner.targets if isinstance(each, ast.Attribute)
            )
        if not isinstance(inner, ast.AnnAssign) or not names_in(inner.annotation) & {*CONTAINERS}:
            continue
        target, value = inner.target, inner.value
        if isinstance(target, ast.Attribute):
            yield target.attr.lstrip("_")
        elif (
            isinstance(target, ast.Name)
            and isinstance(value, ast.Call)
            and any(word.arg == "default_factory" for word in value.keywords)
        ):
            yield target.id.lstrip("_")


def test_the_page_names_them_all() -> None:
    page = PAGE.read_text(encoding="utf-8")
    modules = [
        path
        for folder in ("component", "schemas")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        if not {"doctor", "console"} & {*path.parts}
    ]
    found = {name for path in modules for name in containers(path)} - SHORT_LIVED
    missing = sorted(name for name in found if f"`{name}`" not in page)
    assert not missing, f"{PAGE.name} says nothing of {', '.join(missing)}"
    known = {word for word in page.split("`")[1::2] if word.count(".") == 1 and " " not in word}
    stems = {path.stem for path in modules}
    stale = sorted(word for word in known - found if word.partition(".")[0] in stems)
    assert not stale, f"{PAGE.name} names what is no more: {', '.join(stale)}"


def test_nobody_caches_without_a_size() -> None:
    for folder in ("component", "schemas"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "maxsize=None" not in text, path
            assert "@cache\n" not in text, path
            assert "@lru_cache\n" not in text, path


def test_what_it_says_of_tests_is_so() -> None:
    named = {word for word in PAGE.read_text("utf-8").split("`") if word.startswith("test_")}
    files = list((REPOSITORY / "tests").rglob("test_*.py"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    there = {path.stem for path in files}
    missing = [word for word in named if word not in there and f"def {word}(" not in text]
    assert not missing
