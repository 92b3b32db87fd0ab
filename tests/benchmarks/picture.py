"""Draws the results of `growth`: one small chart for each growing number, as SVG."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 230, 200
_LEFT, _TOP, _RIGHT, _BOTTOM = 34, 44, 14, 40
_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#57606a}.t{font-weight:600;fill:#24292f}"
    ".g{stroke:#d0d7de;fill:none}.l{stroke:#0969da;stroke-width:2;fill:none}.p{fill:#0969da}"
    "@media(prefers-color-scheme:dark){text{fill:#8d96a0}.t{fill:#e6edf3}.g{stroke:#30363d}"
    ".l{stroke:#4493f8}.p{fill:#4493f8}}"
)


def draw(title: str, charts: Mapping[str, Points], unit: str) -> str:
    """Return an SVG with a chart for each name, all on one scale that begins at 0."""
    top = _round_up(max(value for points in charts.values() for _, value in points))
    width = _WIDTH * len(charts)
    parts = [
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {_HEIGHT}'"
            f" width='{width}' height='{_HEIGHT}' role='img'>"
        ),
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f"<text class='t' x='{_LEFT}' y='16'>{escape(title)}</text>",
    ]
    for number, (name, points) in enumerate(charts.items()):
        parts.append(f"<g transform='translate({number * _WIDTH},0)'>")
        parts += _chart(name, points, top, unit)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>\n"])


def _chart(name: str, points: Points, top: float, unit: str) -> list[str]:
    first, last = points[0][0], points[-1][0]
    span = math.log(last / first)

    def x(value: float) -> float:
        return _LEFT + math.log(value / first) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)

    out: list[str] = []
    for step in range(3):
        value = top * step / 2
        height = y(value)
        out += [
            f"<path class='g' d='M{_LEFT} {height:.1f}H{_WIDTH - _RIGHT}'/>",
            f"<text x='{_LEFT - 4}' y='{height + 4:.1f}' text-anchor='end'>{value:g}</text>",
        ]
    line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
    out.append(f"<polyline class='l' points='{line}'/>")
    for at, value in points:
        out += [
            (
                f"<circle class='p' cx='{x(at):.1f}' cy='{y(value):.1f}' r='3'>"
                f"<title>{at:,g}: {value:.2f} {escape(unit)}</title></circle>"
            ),
            (
                f"<text x='{x(at):.1f}' y='{_HEIGHT - _BOTTOM + 14}' text-anchor='middle'>"
                f"{_short(at)}</text>"
            ),
        ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    bottom = _HEIGHT - 8
    out.append(f"<text x='{middle}' y='{bottom}' text-anchor='middle'>{escape(name)}</text>")
    if points:
        out.append(f"<text x='{_LEFT}' y='{_TOP - 10}'>{escape(unit)}</text>")
    return out


def _short(number: float) -> str:
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"


def _round_up(value: float) -> float:
    """Return the next 1, 2, 4, 6, 8 or 10 of the value's size."""
    size = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 2, 4, 6, 8, 10) if step * size >= value)
