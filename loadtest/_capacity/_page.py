"""The report as one page that needs nothing else: no script, no address; light and dark, on screen and on paper.

Knows the comparison, and how it is shown. Whatever a gateway or a machine said is escaped.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Final

from ._comparison import BOTTLENECK, Comparison, Measured, Stair
from ._plots import Point, Series, chart, number

_TITLES: Final = {"heartbeat": "heartbeat round trip", "delivery": "push to one user", "broadcast": "push to all"}
_NOT_MEASURED: Final = "–"
_Value = Callable[[Stair], float | None]


def render(comparison: Comparison) -> str:
    """The page."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(comparison.ended_at))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Portico: what this deployment holds</title><style>{STYLE}</style></head><body><main>",
        "<header><h1>What this deployment holds</h1>",
        f'<p class="sub">Measured {when} on {escape(comparison.machine.processor)}, {comparison.machine.cores} cores. '
        f"Portico {escape(_version(comparison))}.</p></header>",
        _verdict(comparison),
        _summary(comparison.modes),
        *_plots(comparison.modes),
        *(_mode(mode) for mode in comparison.modes),
        _conditions(comparison),
        "</main></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _version(comparison: Comparison) -> str:
    said = {mode.result.gateway.version for mode in comparison.modes if mode.result is not None}
    return ", ".join(sorted(version for version in said if version)) or "of a version that it does not tell"


def _verdict(comparison: Comparison) -> str:
    first, *others = comparison.advice.sentences
    # What stands between backticks is a command.
    items = "".join("<li>" + re.sub("`([^`]*)`", r"<code>\1</code>", escape(text)) + "</li>" for text in others)
    return f'<section class="verdict"><p><strong>{escape(first)}</strong></p><ul>{items}</ul></section>'


def _summary(modes: Sequence[Measured]) -> str:
    rows = []
    for mode in modes:
        if mode.result is None:
            rows.append([escape(mode.title), "not measured", escape(mode.failed or ""), *[_NOT_MEASURED] * 6])
            continue
        stairs = mode.stairs
        best = next((stair for stair in reversed(stairs) if stair.users == mode.held), None)
        broke = _NOT_MEASURED if mode.broke_at is None else f"{mode.broke_at:,}: {escape(', '.join(mode.broke[:3]))}"
        knee = "none seen" if mode.knee is None else f"{mode.knee:,}"
        rows.append(
            [
                escape(mode.title),
                f"<strong>{mode.held:,}</strong>",
                broke,
                knee,
                _ms(best, "heartbeat"),
                _ms(best, "broadcast"),
                _NOT_MEASURED if best is None else f"{best.lost:,} / {best.doubled:,}",
                _shown(best, lambda stair: stair.cpu_share, "{:.2f}"),
                _shown(
                    best, lambda stair: stair.memory_per_connection and stair.memory_per_connection / 1000, "{:.1f}"
                ),
            ]
        )
    head = [
        "mode", "held", "broke at", "knee", "heartbeat p99, ms", "push to all p99, ms", "lost / doubled", "cores",
        "KB a connection",
    ]  # fmt: skip
    return (
        "<section><h2>Side by side</h2>"
        "<p>The most connections at which every threshold held, and the figures of that stair. A knee is the first "
        "stair at which a p99 grew three times as much as the connections did.</p>" + _table(head, rows) + "</section>"
    )


def _plots(modes: Sequence[Measured]) -> list[str]:
    shown = [mode for mode in modes if mode.stairs]
    if not shown:
        return []
    figures = [
        _figure(shown, f"{title}, p99", "milliseconds", partial(_p99, name=name), log=True)
        for name, title in _TITLES.items()
    ]
    figures.append(_figure(shown, "deliveries", "per second", lambda stair: stair.deliveries_per_second))
    figures.append(_figure(shown, "processor of the gateway", "cores", lambda stair: stair.cpu_share))
    figures.append(_figure(shown, "memory of the gateway", "MB", lambda stair: stair.memory and stair.memory / 1e6))
    return [f'<section><h2>By number of connections</h2><div class="plots">{"".join(figures)}</div></section>']


def _figure(modes: Sequence[Measured], title: str, unit: str, value: _Value, *, log: bool = False) -> str:
    lines = [
        Series(
            mode.name,
            [
                Point(stair.users, found, doubtful=bool(stair.invalid))
                for stair in mode.stairs
                if (found := value(stair)) is not None
            ],
            style,
        )
        for style, mode in enumerate(modes)
    ]
    drawn = chart(f"{title} by connections", "connections", unit, lines, log=log)
    return f"<figure><figcaption>{escape(title)}, {escape(unit)}</figcaption>{drawn}</figure>" if drawn else ""


def _p99(stair: Stair, name: str) -> float | None:
    return stair.latencies.get(name, (None, None, None))[1]


def _latencies(mode: Measured) -> str:
    """Latency against connections: the median and the slowest of one mode, and the threshold of its p99."""
    figures = []
    for name in ("heartbeat", "broadcast"):
        lines = [
            Series(
                percentile,
                [
                    Point(stair.users, found, doubtful=bool(stair.invalid))
                    for stair in mode.stairs
                    if name in stair.latencies and (found := stair.latencies[name][place]) is not None
                ],
                place,
            )
            for place, percentile in enumerate(("p50", "p99", "p99.9"))
        ]
        title = f"{_TITLES[name]} of {mode.name} by connections"
        drawn = chart(title, "connections", "milliseconds", lines, log=True, limit=_limit(mode, f"{name} p99_ms"))
        if drawn:
            figures.append(f"<figure><figcaption>{escape(_TITLES[name])}, milliseconds</figcaption>{drawn}</figure>")
    return f'<div class="plots">{"".join(figures)}</div>' if figures else ""


def _limit(mode: Measured, name: str) -> float | None:
    """A threshold's value; None where it was not set, or is no number above 0."""
    stages = mode.result.stages if mode.result is not None else []
    said = next((row.limit for stage in stages for row in stage.rows if row.name == name), "")
    try:
        value = float(said.removeprefix("<=").replace(",", ""))
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def _mode(mode: Measured) -> str:
    failed = f'<p class="bad">{escape(mode.failed)}</p>' if mode.failed else ""
    if mode.result is None:
        return f"<section><h2>{escape(mode.title)}</h2>{failed}</section>"
    rows = []
    notes = []
    for stair in mode.stairs:
        mark = {"met": "ok", "invalid": "doubt"}.get(stair.verdict, "bad")
        rows.append(
            [
                f"{stair.users:,}",
                f'<span class="{mark}">{escape(stair.verdict)}</span>',
                *(_triple(stair, name) for name in _TITLES),
                f"{stair.deliveries_per_second:,.0f}",
                f"{stair.lost:,} / {stair.doubled:,}",
                _shown(stair, lambda s: s.cpu_share, "{:.2f}"),
                _shown(stair, lambda s: s.cpu_per_connection_us, "{:,.0f}"),
                _shown(stair, lambda s: s.memory and s.memory / 1e6, "{:,.0f}"),
                _shown(stair, lambda s: s.memory_per_connection and s.memory_per_connection / 1000, "{:.1f}"),
                f"{stair.load_cpu_share:.2f}",
            ]
        )
        if stair.broke and stair.verdict != "invalid":
            notes.append(f"At {stair.users:,} not met: {', '.join(stair.broke)}.")
        if stair.invalid:
            notes.append(f"At {stair.users:,} {BOTTLENECK}: {'. '.join(stair.invalid)}.")
        notes += [f"At {stair.users:,} {sentence}." for sentence in stair.slow_nodes]
    head = [
        "connections", "verdict", *(f"{title}, ms (p50 / p99 / p99.9)" for title in _TITLES.values()), "deliveries/s",
        "lost / doubled", "cores", "µs of a core per connection and second", "MB", "KB a connection", "load's cores",
    ]  # fmt: skip
    said = "".join(f"<li>{escape(note)}</li>" for note in notes)
    settings = ", ".join(f"{name}={value}" for name, value in sorted(mode.settings.items()))
    return (
        f"<section><h2>{escape(mode.title)}</h2>{failed}{_latencies(mode)}{_table(head, rows)}{_nodes(mode)}"
        + (f"<ul>{said}</ul>" if said else "")
        + (f'<p class="sub">Settings, secrets left out: {escape(settings)}</p>' if settings else "")
        + "</section>"
    )


def _nodes(mode: Measured) -> str:
    """Each process of a mode that has several, stair by stair."""
    rows = [
        [
            f"{stair.users:,}",
            escape(node.name),
            f"{node.connections:,}",
            _NOT_MEASURED if node.heartbeat_p99_ms is None else number(round(node.heartbeat_p99_ms, 1)),
            f"{node.cpu_share:.2f}",
            f"{node.memory / 1e6:,.0f}",
            _NOT_MEASURED if node.loop_lag_max_ms is None else number(round(node.loop_lag_max_ms, 1)),
        ]
        for stair in mode.stairs
        if len(stair.nodes) > 1
        for node in stair.nodes
    ]
    head = ["connections", "node", "of them here", "heartbeat p99, ms", "cores", "MB", "loop late at most, ms"]
    return f"<h3>Each process by itself</h3>{_table(head, rows)}" if rows else ""


def _conditions(comparison: Comparison) -> str:
    on = comparison.machine
    pinned = ""
    if on.gateway_cores:
        pinned = f"{_list(on.gateway_cores)} for the gateway, {_list(on.load_cores)} for the load"
    rows = [
        ["processor", escape(on.processor)],
        ["cores", f"{on.cores}{f' ({pinned})' if pinned else ''}"],
        ["memory", f"{on.memory / 1e9:.1f} GB"],
        ["system", escape(f"{on.system}, CPython {on.python}")],
        *([escape(name), escape(value)] for name, value in on.limits.items()),
    ]
    results = [mode.result for mode in comparison.modes if mode.result is not None]
    if results:
        first = results[0]
        load = {name: value for name, value in sorted(first.options.items()) if value not in (None, "", False)}
        load.pop("host", None)
        load.pop("metrics_url", None)
        rows.append(
            ["the load", escape(", ".join(f"{name.replace('_', '-')} {value}" for name, value in load.items()))]
        )
    return (
        '<section class="conditions"><h2>How it was measured</h2>'
        "<p>Gateway and load are on one machine and speak over loopback: no network is in the figures. Latency counts "
        "from the moment at which something was due, not from when it was sent. A stair is held, and judged on what "
        "was due while it was held; it is invalid, and counts for nothing, where the load itself was the bottleneck "
        "(hollow marks in the plots).</p>" + _table(["", ""], rows) + "</section>"
    )


def _list(numbers: Sequence[int]) -> str:
    return f"core {numbers[0]}" if len(numbers) == 1 else f"cores {', '.join(map(str, numbers))}"


def _ms(stair: Stair | None, name: str) -> str:
    return _NOT_MEASURED if stair is None or (found := _p99(stair, name)) is None else number(found)


def _triple(stair: Stair, name: str) -> str:
    if name not in stair.latencies:
        return _NOT_MEASURED
    return " / ".join(_NOT_MEASURED if value is None else number(round(value, 1)) for value in stair.latencies[name])


def _shown(stair: Stair | None, value: _Value, form: str) -> str:
    found = None if stair is None else value(stair)
    return _NOT_MEASURED if found is None else form.format(found)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    thead = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table>{thead}<tbody>{body}</tbody></table></div>'


STYLE: Final = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
