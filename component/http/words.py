"""Numbers, times and texts as people read them; the one place where text becomes HTML."""

from __future__ import annotations

from datetime import datetime
from html import escape

NOTHING = "\N{EN DASH}"
"""Stands where there is no value."""

_MINUTE = 60
_HOUR = 3_600
_DAY = 86_400
_SMALL = 10


def text(value: object) -> str:
    """Give anything as text that is safe inside HTML, attributes too."""
    return escape(str(value), quote=True)


def number(value: int) -> str:
    """Give a whole number with narrow spaces between its thousands."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(amount: int, name: str) -> str:
    """Give an amount of what has a regular plural."""
    return f"{number(amount)} {name}{'' if amount == 1 else 's'}"


def rate(value: float) -> str:
    """Give a rate: one decimal while it is small."""
    if 0 < value < _SMALL:
        return f"{value:.1f}"
    return number(round(value))


def milliseconds(seconds: float) -> str:
    """Give a short duration."""
    value = seconds * 1000
    return f"{value:.1f} ms" if value < _SMALL else f"{number(round(value))} ms"


def duration(seconds: float) -> str:
    """Give a long duration, in its largest unit."""
    for size, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if seconds >= size:
            amount = int(seconds // size)
            return f"{amount} {name}{'' if amount == 1 else 's'}"
    return "less than a minute"


def moment(then: datetime, now: datetime) -> str:
    """Give a moment as `<time>`: how long ago, with the clock's time behind it."""
    seconds = (now - then).total_seconds()
    ago = "just now" if seconds < _MINUTE else f"{duration(seconds)} ago"
    exact = then.isoformat(timespec="seconds")
    return f'<time datetime="{exact}" title="{exact}">{ago}</time>'
