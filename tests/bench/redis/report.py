"""What the bench of deployments with Redis is about: its rows, what counts of a run, and what must be reached.

From raw results to tables; no process, no clock.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.report import Summary, doubts, figure

Raw = dict[str, Any]
Table = Mapping[str, Mapping[str, Summary]]


@dataclass(frozen=True)
class Row:
    """One question. `cases` are compared with one another, by name; `figure` of a run, in `unit`; `remark`: what else
    should be known of it."""

    name: str
    title: str
    unit: str
    cases: Mapping[str, str]
    figure: Callable[[Raw], float]
    remark: Callable[[Raw], str] = lambda raw: ""


@dataclass(frozen=True)
class Demand:
    """What a case must reach: at least, or at most, so much; or so many times what another case reached."""

    row: str
    case: str
    limit: float
    at_most: bool = False
    times: str | None = None


def _per_cpu_second(raw: Raw) -> float:
    return figure("", raw)


def _spread(raw: Raw) -> str:
    times = f"p50 {raw['p50_ms']:.0f}, greatest {raw['max_ms']:.0f} of {raw['samples']}"
    return f"{times}; {raw['cpu_ms']:.0f} ms of CPU a push, in all processes"


def _elsewhere(raw: Raw) -> str:
    said = [f"{raw['reads_per_push']:.2f} reads a push"] if "reads_per_push" in raw else []
    said += [f"{name} {micros:.0f} µs a push" for name, micros in raw.get("elsewhere_us", {}).items()]
    return ", ".join((*said, *doubts(raw)))


def _resumed(raw: Raw) -> str:
    return (
        f"{raw['server_cpu']:.1f} s of the node's CPU for {raw['clients']:,} clients, all registered after "
        f"{raw['registered_seconds']:.1f} s"
    )


def _kept(raw: Raw) -> str:
    costs = ", ".join(f"{name} {micros:.0f} µs" for name, micros in raw["publishing_us"].items())
    return f"to publish and keep one: {costs} and {raw['kept_bytes']:.0f} bytes of Redis"


def _off(raw: Raw) -> float:
    """By how many percent a worker's share differs from its share in one process, at most."""
    nodes, one = raw["nodes"]["spread"], raw["one"]["spread"]
    shares = zip((n / max(sum(nodes), 1) for n in nodes), (n / max(sum(one), 1) for n in one), strict=True)
    return max(100 * abs(there - here) / here if here else 0.0 for there, here in shares)


def _rates(raw: Raw) -> str:
    return f"{_served(raw['nodes'])}; in one process {_served(raw['one'])}"


def _served(side: Raw) -> str:
    shares = " ".join(f"{100 * count / max(sum(side['spread']), 1):.1f}" for count in side["spread"])
    return f"{shares} %, {side['rate']:,.0f} /s, {side['per_cpu_second']:,.0f} for a second of CPU"


_DISPATCH: Final = {
    f"{strategy}-{in_flight}": f"{strategy}, {in_flight} in flight"
    for strategy in ("least_loaded", "round_robin", "random", "weighted_random")
    for in_flight in (1, 64)
}

ROWS: Final = (
    Row(
        "across",
        "one push to 3 × 1,000 clients: p99 of the time from the POST to the last client's receipt",
        "ms",
        {"nodes": "API node, three WebSocket nodes, Redis", "combined": "one combined process with 3,000"},
        lambda raw: float(raw["p99_ms"]),
        _spread,
    ),
    Row(
        "unicast",
        "pushes to one user each, 2,000 users: from Redis to the sockets",
        "pushes /s of the node's CPU",
        {
            "ordinary": "notifications:{user_id}, by another program",
            "api": "POST /api/notifications on the API node",
            "loop": "coredis, get_message() in a loop and nothing else",
        },
        _per_cpu_second,
        _elsewhere,
    ),
    Row(
        "join",
        "connect + register + close",
        "clients /s of the node's CPU",
        {"redis": "WebSocket node", "combined": "one combined process, no Redis"},
        _per_cpu_second,
        _elsewhere,
    ),
    Row(
        "memory",
        "resident memory per registered, idle client, from 1,000 to 10,000",
        "KB",
        {"node": "WebSocket node", "combined": "one combined process, no Redis"},
        lambda raw: figure("memory", raw),
        lambda raw: ", ".join(f"{name} {size / 1024:.1f} KB a client" for name, size in raw["beside"].items()),
    ),
    Row(
        "resume",
        "10,000 clients back after their node was restarted, 20 missed events each: until the last has all",
        "s",
        {"node": "WebSocket node"},
        lambda raw: float(raw["seconds"]),
        _resumed,
    ),
    Row(
        "account",
        "events of these that were lost, doubled or out of order, and clients told that something is lost",
        "events",
        {"node": "WebSocket node"},
        lambda raw: float(raw["lost"] + raw["doubled"] + raw["disordered"] + raw["unrecovered"]),
        _kept,
    ),
    Row(
        "dispatch",
        "six workers on three nodes, asked at each: how far a worker's share is from that in one process, at most",
        "%",
        _DISPATCH,
        _off,
        _rates,
    ),
)

DEMANDS: Final = (
    Demand("across", "nodes", 3.0, at_most=True, times="combined"),
    Demand("unicast", "ordinary", 15_000),
    Demand("unicast", "api", 15_000),
    Demand("account", "node", 0, at_most=True),
    *(Demand("dispatch", case, 15, at_most=True) for case in _DISPATCH),
)


@dataclass(frozen=True)
class Verdict:
    """Whether a demand is met; `reached` is None where it was not measured."""

    demand: Demand
    reached: float | None

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        if self.reached is None:
            return None
        return self.reached <= self.demand.limit if self.demand.at_most else self.reached >= self.demand.limit


def summary(row: Row, runs: Sequence[Raw], faults: Sequence[str]) -> Summary:
    """All rounds of one case."""
    remark = row.remark(runs[-1]) if runs else ""
    return Summary(tuple(map(row.figure, runs)), (remark,) if remark else (), faults[-1] if faults else None)


def verdicts(table: Table) -> list[Verdict]:
    """Every demand on a row that was run."""
    found = []
    for demand in DEMANDS:
        if demand.row not in table:
            continue
        reached = table[demand.row][demand.case].median
        if demand.times is not None:
            other = table[demand.row][demand.times].median
            reached = reached / other if reached is not None and other else None
        found.append(Verdict(demand, reached))
    return found


def as_markdown(table: Table) -> str:
    """The whole report as tables."""
    lines: list[str] = []
    for row in ROWS:
        if row.name not in table:
            continue
        lines += ["", f"**{row.title}** ({row.unit})", "", "| | median | spread | |", "|---|--:|--:|---|"]
        for case, label in row.cases.items():
            each = table[row.name][case]
            remarks = "; ".join((*each.doubts, *((each.fault,) if each.fault else ())))
            if each.median is None:
                lines.append(f"| {label} | – | – | {each.fault or 'not run'} |")
            else:
                spread = f"{each.spread:.0%}" if each.median else "–"
                lines.append(f"| {label} | {_number(each.median)} | {spread} | {remarks} |")
    lines += ["", "| must be | is | met |", "|---|--:|---|"]
    for verdict in verdicts(table):
        demand = verdict.demand
        row = _row(demand.row)
        times = f" × {row.cases[demand.times]}" if demand.times else f" {row.unit}"
        must = f"{row.cases[demand.case]}: {'≤' if demand.at_most else '≥'} {demand.limit:,g}{times}"
        reached = "not measured" if verdict.reached is None else _number(verdict.reached)
        lines.append(f"| {must} | {reached} | {({True: 'yes', False: '**no**', None: '–'})[verdict.met]} |")
    return "\n".join(lines)


def as_data(table: Table, raw: Mapping[str, Mapping[str, Sequence[Raw]]]) -> Raw:
    """The whole report as JSON has it."""
    return {
        "rows": {
            row: {
                case: {"median": each.median, "fault": each.fault, "runs": raw[row][case]}
                for case, each in cases.items()
            }
            for row, cases in table.items()
        },
        "demands": [{**vars(each.demand), "reached": each.reached, "met": each.met} for each in verdicts(table)],
    }


def _row(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"
