"""Prints results: coloured lines on a terminal, plain ones elsewhere, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from component.doctor.result import Level, Result, exit_code

_WORDS = {
    Level.OK: ("OK", "green"),
    Level.SKIPPED: ("skipped", "dim"),
    Level.WARNING: ("warning", "yellow"),
    Level.WRONG: ("WRONG", "bold red"),
}
_WIDTH = max(len(word) for word, _ in _WORDS.values())


def show(console: Console, result: Result) -> None:
    """Print one result, and its remedy below it."""
    word, style = _WORDS[result.level]
    line = Text.assemble((word.ljust(_WIDTH), style), f"  {result.text}")
    console.print(line, soft_wrap=True)
    indent = " " * (_WIDTH + 2)
    if result.remedy:
        console.print(Text(f"{indent}{result.remedy}"), soft_wrap=True)
    for name in ("prosody", "ejabberd", "redis"):
        lines = getattr(result, name).splitlines()
        for number, text in enumerate(lines):
            label = f"{name}:" if number == 0 else ""
            console.print(Text(f"{indent}{label:<10}{text}", style="cyan"), soft_wrap=True)


def summary(console: Console, results: Iterable[Result]) -> None:
    """Print the summary line."""
    levels = [result.level for result in results]
    wrong, warnings = levels.count(Level.WRONG), levels.count(Level.WARNING)
    if wrong or warnings:
        text = Text(f"{wrong} wrong, {warnings} to look at", style="red" if wrong else "yellow")
    else:
        text = Text("all is well", style="green")
    console.print(text)


def as_json(results: list[Result]) -> str:
    """Encode everything as one JSON object: `exit_code` and `results`."""
    found = [{key: value for key, value in asdict(each).items() if value} for each in results]
    return json.dumps(
        {"exit_code": exit_code(results), "results": found}, ensure_ascii=False, indent=2
    )
