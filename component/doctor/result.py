"""The result of one check: a line for people, and the remedy."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. `SKIPPED` is a check that could not be made, with the reason."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Result:
    """One line. `check` is a stable name for scripts.

    `remedy` says what to do; `prosody`, `ejabberd` and `redis` are the configuration lines that it
    mentions.
    """

    check: str
    level: Level
    text: str
    remedy: str = ""
    prosody: str = ""
    ejabberd: str = ""
    redis: str = ""


EXIT_OK = 0
EXIT_WARNINGS = 1
EXIT_WRONG = 2


def exit_code(results: Iterable[Result]) -> int:
    """Give the exit code: 0 all well, 1 warnings only, 2 something is wrong."""
    levels = {result.level for result in results}
    if Level.WRONG in levels:
        return EXIT_WRONG
    return EXIT_WARNINGS if Level.WARNING in levels else EXIT_OK


def ok(check: str, text: str) -> Result:
    """Make a result that needs no action."""
    return Result(check, Level.OK, text)


def skipped(check: str, text: str, remedy: str = "") -> Result:
    """Make a result for a check that could not be made."""
    return Result(check, Level.SKIPPED, text, remedy)


def in_words(error: OSError) -> str:
    """Say why a connection failed; asyncio's own text repeats the address."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, TimeoutError) and not error.errno:
        return "no answer"
    # Resolver errors have negative numbers, and texts of their own.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return error.strerror or str(error)
