"""Line charts as SVG text, for a page that needs nothing else: two axes with units, lines with marks and names.

Knows numbers and words, not what they mean. A line is told from another by its mark and by its name at its end, so the
chart can be read in print and by who sees no colours; the colours are classes, which the page's style gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple

_WIDTH: Final = 500
_HEIGHT: Final = 300
_LEFT: Final = 62
_LETTER: Final = 7.8
"""The most that a letter of a name takes, in pixels: bold, 12 px, and on a phone 14 px."""
_LONGEST_NAME: Final = 18
"""Letters of a name that are shown."""
_TOP: Final = 14
_BOTTOM: Final = 44
_LINE: Final = 15
"""Least distance between two names, in pixels."""
MARKS: Final = ("circle", "square", "triangle", "diamond", "cross")


class Point(NamedTuple):
    """One measurement. `doubtful`: it cannot be believed, and is drawn hollow."""

    x: float
    y: float
    doubtful: bool = False


class Series(NamedTuple):
    """One line: its name, its points in ascending order, and which of the classes and marks it has."""

    name: str
    points: Sequence[Point]
    style: int


def chart(
    title: str, x_label: str, y_label: str, lines: Sequence[Series], *, log: bool = False, limit: float | None = None
) -> str:
    """A chart; the x axis is logarithmic, `log`: so is the y axis. `limit`: a line across, with its value.

    Returns an empty text where there is nothing to draw.
    """
    lines = [line._replace(points=[p for p in line.points if p.x > 0 and (p.y > 0 or not log)]) for line in lines]
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    points = [point for line in lines for point in line.points]
    right = _WIDTH - 18 - _LETTER * max(len(_short(line.name)) for line in lines)
    x = _scale([p.x for p in points], _LEFT, right, log=True, exact=True)
    values = [p.y for p in points] + ([limit] if limit is not None else [])
    y = _scale(values, _HEIGHT - _BOTTOM, _TOP, log=log)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">',
        *_axes(x, y, right, x_label, y_label, sorted({p.x for p in points})),
    ]
    if limit is not None:
        at = y.at(limit)
        parts.append(f'<line class="limit" x1="{_LEFT}" x2="{right:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="limit" x="{_LEFT + 4}" y="{at - 4:.1f}">threshold {number(limit)}</text>')
    for line in lines:
        parts += _draw(line, x, y)
    parts += _names(lines, x, y, right)
    parts.append("</svg>")
    return "".join(parts)


class _Scale(NamedTuple):
    at: Callable[[float], float]
    ticks: list[float]


def _scale(values: Sequence[float], start: float, end: float, *, log: bool, exact: bool = False) -> _Scale:
    low, high = min(values), max(values)
    if log:
        if not exact:
            low, high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
        if low == high:
            low, high = low / 2, high * 2
        span = math.log(high / low)
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        factors = (1, 2, 5) if last - first <= 1 else (1,)
        ticks = [
            tick
            for power in range(first - 1, last + 1)
            for factor in factors
            if low * (1 - 1e-9) <= (tick := factor * 10.0**power) <= high * (1 + 1e-9)
        ]
        return _Scale(lambda value: start + (end - start) * math.log(value / low) / span, ticks)
    high = high if high > 0 else 1.0
    step = _round_step(high / 5)
    top = step * math.ceil(high / step - 1e-9)
    ticks = [step * count for count in range(round(top / step) + 1)]
    return _Scale(lambda value: start + (end - start) * value / top, ticks)


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _axes(x: _Scale, y: _Scale, right: float, x_label: str, y_label: str, stairs: Sequence[float]) -> list[str]:
    base = _HEIGHT - _BOTTOM
    parts = []
    for tick in y.ticks:
        at = y.at(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    last = -math.inf
    for stair in stairs:
        at = x.at(stair)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{base}" y2="{base + 4}"/>')
        if at - last >= 34:
            parts.append(f'<text class="tick" x="{at:.1f}" y="{base + 17}" text-anchor="middle">{number(stair)}</text>')
            last = at
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right:.1f}" y1="{base}" y2="{base}"/>')
    place = f'x="{(_LEFT + right) / 2:.1f}" y="{_HEIGHT - 8}"'
    parts.append(f'<text class="label" {place} text-anchor="middle">{escape(x_label)}</text>')
    up = (_TOP + base) / 2
    parts.append(
        f'<text class="label" transform="translate(13 {up}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    return parts


def _draw(line: Series, x: _Scale, y: _Scale) -> list[str]:
    places = [(x.at(point.x), y.at(point.y), point.doubtful) for point in line.points]
    path = " ".join(f"{'L' if number else 'M'}{across:.1f} {up:.1f}" for number, (across, up, _) in enumerate(places))
    style = f"s{line.style % len(MARKS)}"
    parts = [f'<path class="line {style}" d="{path}"/>']
    for across, up, doubtful in places:
        parts.append(
            _mark(MARKS[line.style % len(MARKS)], across, up, f"mark {style}{' doubtful' if doubtful else ''}")
        )
    return parts


def _mark(shape: str, x: float, y: float, style: str) -> str:
    if shape == "circle":
        return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    corners: dict[str, list[tuple[float, float]]] = {
        "square": [(-3.5, -3.5), (3.5, -3.5), (3.5, 3.5), (-3.5, 3.5)],
        "triangle": [(0, -4.5), (4.2, 3.3), (-4.2, 3.3)],
        "diamond": [(0, -5), (5, 0), (0, 5), (-5, 0)],
        "cross": [(-1.5, -4.5), (1.5, -4.5), (1.5, -1.5), (4.5, -1.5), (4.5, 1.5), (1.5, 1.5), (1.5, 4.5), (-1.5, 4.5),
                  (-1.5, 1.5), (-4.5, 1.5), (-4.5, -1.5), (-1.5, -1.5)],
    }  # fmt: skip
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners[shape])
    return f'<polygon class="{style}" points="{points}"/>'


def _names(lines: Sequence[Series], x: _Scale, y: _Scale, right: float) -> list[str]:
    """Each line's name at its end, moved apart where they would lie on one another."""
    ends = sorted((y.at(line.points[-1].y), x.at(line.points[-1].x), line) for line in lines)
    base = _HEIGHT - _BOTTOM
    places: list[float] = []
    for wanted, _, _ in ends:
        places.append(max(wanted, places[-1] + _LINE if places else _TOP))
    over = places[-1] - base
    if over > 0:
        places[-1] = base
        for number in range(len(places) - 2, -1, -1):
            places[number] = min(places[number], places[number + 1] - _LINE)
    parts = []
    for place, (wanted, across, line) in zip(places, ends, strict=True):
        style = f"s{line.style % len(MARKS)}"
        start = right + 14
        parts.append(f'<path class="lead {style}" d="M{across + 6:.1f} {wanted:.1f} L{start - 3:.1f} {place:.1f}"/>')
        name = escape(_short(line.name))
        parts.append(f'<text class="name {style}" x="{start:.1f}" y="{place + 4:.1f}">{name}</text>')
    return parts


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def number(value: float) -> str:
    """A number as people write it: three digits that matter, thousands apart."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"
