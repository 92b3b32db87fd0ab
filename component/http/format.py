"""Numbers and times as people read them: the filters of the templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

NOTHING = "\N{EN DASH}"
"""Shown where there is no value."""

_MINUTE = 60
_HOUR = 3_600
_DAY = 86_400
_SMALL = 10


def number(value: int) -> str:
    """Format a whole number with narrow spaces between its thousands."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(amount: int, name: str) -> str:
    """Format an amount of something with a regular plural."""
    return f"{number(amount)} {name}{'' if amount == 1 else 's'}"


def rate(value: float) -> str:
    """Format a rate, with one decimal while it is small."""
    if 0 < value < _SMALL:
        return f"{value:.1f}"
    return number(round(value))


def milliseconds(seconds: float) -> str:
    """Format a short duration."""
    value = seconds * 1000
    return f"{value:.1f} ms" if value < _SMALL else f"{number(round(value))} ms"


def duration(seconds: float) -> str:
    """Format a long duration, in its largest unit."""
    for size, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if seconds >= size:
            return plural(int(seconds // size), name)
    return "less than a minute"


def ago(seconds: float) -> str:
    """Format a time in the past by its distance from now."""
    return "just now" if seconds < _MINUTE else f"{duration(seconds)} ago"


def sentence(remark: str) -> str:
    """Turn a remark into a sentence, with a capital letter and a full stop."""
    remark = remark[:1].upper() + remark[1:]
    return remark if remark.endswith((".", "?", "!")) else f"{remark}."


FILTERS: Final[dict[str, Callable[..., str]]] = {
    each.__name__: each for each in (number, plural, milliseconds, duration, ago, sentence)
}
