"""What the reader sees: steps, claims, colour.

A claim is printed only when it has been checked. Colour is for terminals, and not for
those who set ``NO_COLOR`` (no-color.org); a step under way moves on terminals only.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

BOLD, DIM, RED, GREEN, CYAN = "1", "2", "31", "32", "36"
ERASE = "\r\x1b[K"
TERMINAL = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
COLOUR = TERMINAL and not os.environ.get("NO_COLOR")
UNICODE = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
TICK, CROSS, DOT = ("✓", "✗", "·") if UNICODE else ("+", "x", "-")
ABSENT = "○" if UNICODE else "-"
LONG_STEP = 3.0
"""Seconds from which on a step's duration is worth a word."""


class Unseen(Exception):  # noqa: N818 - an outcome of the story, not a fault of the program
    """Something the tour was about to claim was not observed; `seen` is what was."""

    def __init__(self, claim: str, seen: str) -> None:
        super().__init__(claim)
        self.claim = claim
        self.seen = seen


class Trouble(Exception):  # noqa: N818 - likewise
    """The demo cannot go on; the text says why and what to do, on one line."""


def paint(text: str, *codes: str) -> str:
    """Colour `text` if colours are welcome."""
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if COLOUR else text


def line(text: str = "") -> None:
    """Print one line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def heading(number: int, text: str) -> None:
    """Print what happens next in the story."""
    line(f"\n {paint(str(number), BOLD, CYAN)}  {paint(text, BOLD)}")


def saw(who: str, text: str, *, nothing: bool = False) -> None:
    """Print something that has been observed; `nothing`: that nothing came, as it should."""
    mark = paint(ABSENT, DIM) if nothing else paint(TICK, GREEN)
    line(f"    {mark} {paint(f'{who:<14}', CYAN)} {text}")


def facts(rows: list[tuple[str, str]]) -> None:
    """Print a small table of facts, for the reader to use."""
    for name, value in rows:
        line(f"    {paint(f'{name:<12}', DIM)} {value}")


def failed(problem: str, *details: str) -> None:
    """Print what went wrong."""
    if TERMINAL:
        sys.stdout.write(ERASE)
    line(f"    {paint(CROSS, RED)} {paint(problem, RED)}")
    for detail in details:
        line(f"      {detail}")


@asynccontextmanager
async def step(name: str) -> AsyncIterator[list[str]]:
    """Show `name` as under way; on leaving, as done, with the words put into the list."""
    began = time.monotonic()
    words: list[str] = []
    if TERMINAL:
        sys.stdout.write(f"    {paint(DOT, DIM)} {name} {paint('...', DIM)}")
        sys.stdout.flush()
    yield words
    if TERMINAL:
        sys.stdout.write(ERASE)
    took = time.monotonic() - began
    if took >= LONG_STEP:
        words.append(paint(f"({took:.0f} s)", DIM))
    line(f"    {paint(TICK, GREEN)} {name:<14} {' '.join(words)}")
