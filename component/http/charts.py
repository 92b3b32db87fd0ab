"""Small charts as inline SVG, made here so that they need no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from component.http.words import NOTHING, text

WIDTH = 300
HEIGHT = 64
_FLOOR = HEIGHT - 1
_HEADROOM = 6


def chart(
    title: str, values: Sequence[float], slots: int, shown: Callable[[float], str], least: float
) -> str:
    """Draw values as an area, the latest at the right edge of `slots` places.

    The scale ends at the largest value, or at `least` if all are smaller.
    """
    top = max([least, *values])
    step = WIDTH / (slots - 1)
    start = WIDTH - step * (len(values) - 1)
    points = [
        f"{start + step * place:.1f},{_height(value, top):.1f}"
        for place, value in enumerate(values)
    ]
    line = f'<polyline class="line" points="{" ".join(points)}"/>' if points else ""
    area = (
        f'<polygon class="area" points="{start:.1f},{_FLOOR} {" ".join(points)} {WIDTH},{_FLOOR}"/>'
        if points
        else ""
    )
    now = shown(values[-1]) if values else NOTHING
    peak = shown(max(values)) if values else NOTHING
    label = f"{title}: {now} now, {peak} at most in the last five minutes"
    return (
        '<figure class="chart card">'
        f'<figcaption><span class="name">{text(title)}</span>'
        f'<b class="now">{text(now)}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img"'
        f' aria-label="{text(label)}">'
        f'<line class="grid" x1="0" y1="{_HEADROOM}" x2="{WIDTH}" y2="{_HEADROOM}"/>'
        f'<line class="grid" x1="0" y1="{_FLOOR}" x2="{WIDTH}" y2="{_FLOOR}"/>'
        f"{area}{line}</svg>"
        f'<p class="axis"><span>5 min ago</span><span>at most {text(peak)}</span>'
        "<span>now</span></p></figure>"
    )


def _height(value: float, top: float) -> float:
    return _FLOOR - (_FLOOR - _HEADROOM) * value / top
