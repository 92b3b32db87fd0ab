"""The result of one check: a line for people, and the remedy."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. `SKIPPED` is what could not be looked at, and why."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Result:
    """One line. `check` is a stable name for scripts.

    `remedy` says what to do; `prosody`, `ejabberd` and `redis` are the very lines of
    configuration that it speaks of.
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
    """Make a result that needs nothing."""
    return Result(check, Level.OK, text)


def skipped(check: str, text: str, remedy: str = "") -> Result:
    """Make a result for what could not be looked at."""
    return Result(check, Level.SKIPPED, text, remedy)


def in_words(error: OSError) -> str:
    """Say why a connection failed; asyncio's own words repeat the address."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, TimeoutError) and not error.errno:
        return "no answer"
    # The name service counts downwards, and has words of its own.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return error.strerror or str(error)
