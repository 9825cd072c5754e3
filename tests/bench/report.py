"""From raw results to figures, ratios and verdicts; no server, no process, no clock.

The demands are Portico's own promise: how far ahead of which peer it has to be, or how small a figure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

Raw = dict[str, Any]


@dataclass(frozen=True)
class Demand:
    """What a server must reach in a row: `at_least` times a peer, or a figure of its own; `aim` beyond that."""

    row: str
    server: str
    at_least: float | None = None
    at_most: float | None = None
    times: str | None = None
    aim: float | None = None


DEMANDS: Final = (
    Demand("fanout", "portico", 1.4, times="websockets"),
    Demand("fanout", "portico", 1.6, times="fastapi"),
    Demand("fanout", "portico", 1.0, times="node"),
    Demand("fanout", "portico", None, times="picows", aim=0.9),
    Demand("heartbeat", "portico", 1.4, times="fastapi"),
    Demand("heartbeat", "portico", None, times="node", aim=1.0),
    Demand("heartbeat128", "portico", 1.4, times="fastapi"),
    Demand("heartbeat128", "portico", None, times="node", aim=1.0),
    Demand("dispatch", "portico", 2.5, times="websockets"),
    Demand("dispatch", "portico", 1.5, times="websockets-msgspec"),
    Demand("dispatch", "portico", 1.0, times="node", aim=1.2),
    Demand("connect", "portico", 1.3, times="fastapi", aim=1.5),
    Demand("connect", "door", 1.5, times="fastapi", aim=2.0),
    Demand("connect", "serve", 0.8, times="portico", aim=0.95),
    Demand("connect", "tokens", 0.7, times="portico"),
    Demand("connect", "new-tokens", 0.7, times="portico"),
    Demand("memory", "portico", at_most=5.0, aim=3.0),
    Demand("flood", "portico", at_most=25.0, aim=5.0),
    Demand("crowd", "portico", at_most=25.0, aim=5.0),
    Demand("publish", "portico", 30_000),
    Demand("publish", "serve", 1.5, times="fastapi", aim=2.5),
    Demand("publish", "door", 1.5, times="fastapi", aim=2.5),
    Demand("push1", "serve", 4.0, times="fastapi", aim=8.0),
    Demand("push1", "door", 4.0, times="fastapi", aim=8.0),
    Demand("discover", "serve", 20.0, times="quart", aim=35.0),
    Demand("discover", "door", 20.0, times="quart", aim=35.0),
    Demand("arrive", "serve", 3.0, times="fastapi", aim=5.0),
    Demand("arrive", "door", 3.0, times="fastapi", aim=5.0),
    Demand("fanout1", "serve", 1.3, times="websockets"),
    Demand("fanout1", "serve", 0.9, times="node", aim=1.1),
)


def figure(row: str, raw: Raw) -> float:
    """A run's figure, in the row's unit."""
    if row == "memory":
        return float(raw["bytes_per_client"]) / 1024
    if row in ("flood", "crowd"):
        return float(raw["p99_ms"])
    if row == "comeback":
        return float(raw["seconds"])
    return float(raw["work"] / max(raw["server_cpu"], 0.01))


def doubts(raw: Raw) -> list[str]:
    """Why a run's figure may not be the server's own."""
    if "wall" not in raw:
        return []
    found = []
    server, load = raw["server_cpu"] / raw["wall"], raw["load_cpu"] / raw["wall"]
    if load >= 0.95:
        found.append(f"the load's core was {load:.0%} busy")
    if server < 0.6:
        found.append(f"the server's core only {server:.0%}")
    return found


@dataclass(frozen=True)
class Summary:
    """A server's figures in one row, over all rounds."""

    figures: tuple[float, ...]
    doubts: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def median(self) -> float | None:
        """The middle one; None where there is none."""
        return median(self.figures) if self.figures else None

    @property
    def spread(self) -> float:
        """From the least to the greatest, as a share of the median; infinite where that is 0 and they differ."""
        if not self.figures or max(self.figures) == min(self.figures):
            return 0.0
        middle = median(self.figures)
        return (max(self.figures) - min(self.figures)) / middle if middle else math.inf


def summary(row: str, runs: Sequence[Raw], faults: Sequence[str]) -> Summary:
    """All rounds of one server in one row."""
    found = {doubt.split(" ", 3)[1]: doubt for raw in runs for doubt in doubts(raw)}
    figures = tuple(figure(row, raw) for raw in runs)
    return Summary(figures, tuple(found.values()), faults[-1] if faults else None)


@dataclass(frozen=True)
class Verdict:
    """Whether a demand is met. `reached` in its own terms: a ratio, or a figure; None where it was not measured."""

    demand: Demand
    reached: float | None

    @property
    def met(self) -> bool | None:
        """None where it was not measured, or where there is only an aim."""
        if self.reached is None:
            return None
        if self.demand.at_most is not None:
            return self.reached <= self.demand.at_most
        return None if self.demand.at_least is None else self.reached >= self.demand.at_least

    @property
    def aim_met(self) -> bool | None:
        """The same for what is aimed at beyond it."""
        if self.reached is None or self.demand.aim is None:
            return None
        return self.reached <= self.demand.aim if self.demand.at_most is not None else self.reached >= self.demand.aim


def verdicts(table: Mapping[str, Mapping[str, Summary]]) -> list[Verdict]:
    """Every demand on a row that was run."""
    found = []
    for demand in DEMANDS:
        if demand.row not in table or demand.server not in table[demand.row]:
            continue
        reached = table[demand.row][demand.server].median
        if reached is not None and demand.times is not None:
            peer = table[demand.row].get(demand.times)
            reached = None if peer is None or not peer.median else reached / peer.median
        found.append(Verdict(demand, reached))
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _state(met: bool | None, yes: str, no: str) -> str:
    return {True: yes, False: no, None: "–"}[met]


def as_markdown(
    table: Mapping[str, Mapping[str, Summary]],
    titles: Mapping[str, str],
    units: Mapping[str, str],
    labels: Mapping[str, str],
) -> str:
    """The whole report as tables."""
    lines: list[str] = []
    for row, servers in table.items():
        per = units[row] if units[row] in ("KB", "ms", "s") else f"{units[row]} /s of server CPU"
        lines += ["", f"**{titles[row]}** ({per})", ""]
        lines += ["| server | median | spread | Portico is | |", "|---|--:|--:|--:|---|"]
        ours = servers["portico"].median if "portico" in servers else None
        for name, each in servers.items():
            if each.median is None:
                lines.append(f"| {labels[name]} | – | – | – | {each.fault or 'not run'} |")
                continue
            ratio = f"{ours / each.median:.2f} ×" if ours and each.median and name != "portico" else ""
            remarks = "; ".join((*each.doubts, *((each.fault,) if each.fault else ())))
            lines.append(f"| {labels[name]} | {_number(each.median)} | {each.spread:.0%} | {ratio} | {remarks} |")
    lines += ["", "| must reach | of | is | met | aim | met |", "|---|---|--:|---|---|---|"]
    for verdict in verdicts(table):
        demand = verdict.demand
        peer = f" {labels[demand.times]}" if demand.times else ""
        sign = " ×" if demand.times else ""
        if demand.at_most is not None:
            must = f"≤ {demand.at_most:g} {units[demand.row]}"
        else:
            must = "" if demand.at_least is None else f"≥ {demand.at_least:,g}{sign}{peer}"
        aim = "" if demand.aim is None else f"{demand.aim:g}{sign}{peer}"
        reached = "not measured" if verdict.reached is None else f"{_number(verdict.reached)}{sign}"
        lines.append(
            f"| {titles[demand.row]}: {must} | {labels[demand.server]} | {reached} "
            f"| {_state(verdict.met, 'yes', '**no**')} | {aim} | {_state(verdict.aim_met, 'yes', 'no')} |"
        )
    return "\n".join(lines)


def as_data(table: Mapping[str, Mapping[str, Summary]], raw: Mapping[str, Mapping[str, Sequence[Raw]]]) -> Raw:
    """The whole report as JSON has it."""
    return {
        "rows": {
            row: {
                name: {
                    "median": each.median,
                    "spread": each.spread,
                    "figures": each.figures,
                    "doubts": each.doubts,
                    "fault": each.fault,
                    "runs": raw[row].get(name, ()),
                }
                for name, each in servers.items()
            }
            for row, servers in table.items()
        },
        "demands": [
            {
                "row": verdict.demand.row,
                "server": verdict.demand.server,
                "peer": verdict.demand.times,
                "at_least": verdict.demand.at_least,
                "at_most": verdict.demand.at_most,
                "aim": verdict.demand.aim,
                "reached": verdict.reached,
                "met": verdict.met,
                "aim_met": verdict.aim_met,
            }
            for verdict in verdicts(table)
        ],
    }
