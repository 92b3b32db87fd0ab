"""Computes the points of small charts; `charts.html` draws them as inline SVG without a script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from component.http.format import NOTHING, milliseconds, rate
from component.http.sources import SAMPLES, Sample

WIDTH = 300
HEIGHT = 64
_FLOOR = HEIGHT - 1
_HEADROOM = 6
_SLOW = 0.05


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its title, the last and the largest value as text, and points for SVG."""

    title: str
    now: str
    peak: str
    line: str
    area: str
    width: int = WIDTH
    height: int = HEIGHT
    grid: tuple[int, int] = (_HEADROOM, _FLOOR)


def charts(samples: Iterable[Sample]) -> tuple[Chart, ...]:
    """Make the charts of the last five minutes."""
    taken = list(samples)
    return (
        _chart("Messages per second", [each.messages for each in taken], rate, 1),
        _chart("Deliveries per second", [each.deliveries for each in taken], rate, 1),
        _chart("Event loop late by", [each.lag for each in taken], milliseconds, _SLOW),
    )


def _chart(
    title: str, values: Sequence[float], shown: Callable[[float], str], least: float
) -> Chart:
    """Draw values as an area of `SAMPLES` places, the latest at the right edge.

    The scale ends at the largest value, or at `least` if all are smaller.
    """
    if not values:
        return Chart(title, NOTHING, NOTHING, "", "")
    top = max([least, *values])
    step = WIDTH / (SAMPLES - 1)
    start = WIDTH - step * (len(values) - 1)
    line = " ".join(
        f"{start + step * place:.1f},{_FLOOR - (_FLOOR - _HEADROOM) * value / top:.1f}"
        for place, value in enumerate(values)
    )
    area = f"{start:.1f},{_FLOOR} {line} {WIDTH},{_FLOOR}"
    return Chart(title, shown(values[-1]), shown(max(values)), line, area)
