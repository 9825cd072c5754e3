"""What connections, heartbeats and deliveries cost, fitted to the stairs of a capacity report, and what follows.

Knows the documented fields of `report.json` and of the load test's result, and nothing of how they came about. Memory
is in bytes, processor in cores (seconds of a core per second), rates are per second.

    memory    = a + b × connections
    processor = c + d × heartbeats/s + e × deliveries/s

Least squares over the stairs that held, each weighted by its own size, so that small ones count as much as large ones;
no coefficient is below 0. In one run heartbeats and deliveries grow together, so d and e cannot be told apart: then
their ratio is the documented one, and only their size is fitted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

HEARTBEAT_SECONDS: Final = 1 / 65_399
"""Of a core for a heartbeat's round trip: docs/discussion/performance.md, "The figures"."""
DELIVERY_SECONDS: Final = 1 / 57_000
"""Of a core for a delivery of a push to many, WebSocket nodes, API node and Redis together: its "With Redis"."""
BYTES_PER_CONNECTION: Final = 3_070.0
"""Of a WebSocket node, with Redis: likewise."""
PROCESS_BYTES: Final = 80e6
"""Of a process that has just started: docs/how-to/size-a-deployment.md."""
_LEAST_STAIRS: Final = 2
_TOGETHER: Final = 0.98
"""From which share of their variation in common on heartbeats and deliveries cannot be told apart."""


class BadReport(Exception):
    """The file cannot be used; the text is a sentence that says why."""


@dataclass(frozen=True)
class Stair:
    """A number of connections that held, and what it took."""

    connections: int
    heartbeats: float
    deliveries: float
    memory: float
    processor: float


@dataclass(frozen=True)
class Model:
    """The coefficients of the module's formulas, for a deployment of `processes`; `source` says where they are from."""

    mode: str
    processes: int
    a: float
    b: float
    c: float
    d: float
    e: float
    source: str
    apart: bool = True

    def memory(self, connections: float) -> float:
        """Of the whole deployment, in bytes."""
        return self.a + self.b * connections

    def processor(self, heartbeats: float, deliveries: float) -> float:
        """Of the whole deployment, in cores."""
        return self.c + self.d * heartbeats + self.e * deliveries


def documented() -> Model:
    """The model of the documentation's figures, for want of a report."""
    return Model(
        "split", 1, PROCESS_BYTES, BYTES_PER_CONNECTION, 0.0, HEARTBEAT_SECONDS, DELIVERY_SECONDS,
        "the figures of docs/discussion/performance.md, which are another machine's (measure yours: `make capacity`)",
    )  # fmt: skip


class _Rate(msgspec.Struct):
    per_second: float


class _Server(msgspec.Struct):
    cpu_share: float
    memory_max: int


class _Connections(msgspec.Struct):
    at_end: int


class _Stage(msgspec.Struct):
    kind: str
    verdict: str | None
    connections: _Connections
    steps: dict[str, _Rate]
    deliveries: dict[str, _Rate]
    server: _Server | None


class _Result(msgspec.Struct):
    stages: list[_Stage]


class _Mode(msgspec.Struct):
    name: str
    processes: int
    result: _Result | None = None


class _Report(msgspec.Struct):
    format: str
    modes: list[_Mode]


@dataclass(frozen=True)
class Measured:
    """A mode of a report, and its stairs that held."""

    name: str
    processes: int
    stairs: tuple[Stair, ...]


def read(path: Path) -> list[Measured]:
    """The modes of a `report.json`, with the stairs that held and whose costs are known. Raises BadReport."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=_Report)
    except OSError as error:
        raise BadReport(f"{path} cannot be read: {error.strerror}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadReport(f"{path} is no report.json of `make capacity`: {error}.") from None
    if not report.format.startswith("portico-capacity/"):
        raise BadReport(f"{path} is {report.format!r}, not a report.json of `make capacity`.")
    return [Measured(mode.name, max(1, mode.processes), _held(mode)) for mode in report.modes]


def _held(mode: _Mode) -> tuple[Stair, ...]:
    stages = mode.result.stages if mode.result is not None else []
    return tuple(
        Stair(
            stage.connections.at_end,
            stage.steps["heartbeat"].per_second if "heartbeat" in stage.steps else 0.0,
            sum(kind.per_second for kind in stage.deliveries.values()),
            stage.server.memory_max,
            stage.server.cpu_share,
        )
        for stage in stages
        if stage.kind == "hold" and stage.verdict == "met" and stage.server is not None and stage.connections.at_end > 0
    )


def choose(modes: Sequence[Measured], name: str | None) -> Measured:
    """The mode of that name; else split where it was measured, else the one that held most. Raises BadReport."""
    usable = [mode for mode in modes if len({stair.connections for stair in mode.stairs}) >= _LEAST_STAIRS]
    if name is not None:
        usable = [mode for mode in usable if mode.name == name]
    if not usable:
        of = f"of mode {name!r} " if name is not None else ""
        there = ", ".join(f"{mode.name} ({len(mode.stairs)})" for mode in modes) or "none"
        raise BadReport(
            f"a fit needs {_LEAST_STAIRS} stairs {of}that held, with the gateway's /metrics; the report has: {there}."
        )
    split = [mode for mode in usable if mode.name == "split"]
    return max(split or usable, key=lambda mode: max(stair.connections for stair in mode.stairs))


def choose_named(modes: Sequence[Measured], name: str) -> Measured:
    """The mode of that name, with one stair that held at least. Raises BadReport."""
    found = next((mode for mode in modes if mode.name == name and mode.stairs), None)
    if found is None:
        there = ", ".join(f"{mode.name} ({len(mode.stairs)})" for mode in modes) or "none"
        raise BadReport(f"--check needs a stair of mode {name!r} that held; it has: {there}.")
    return found


def fit(mode: Measured, source: str) -> Model:
    """Fit both formulas to the mode's stairs."""
    stairs = mode.stairs
    a, b = _least_squares([(1.0, stair.connections) for stair in stairs], [stair.memory for stair in stairs])
    targets = [stair.processor for stair in stairs]
    apart = not _grow_together([stair.heartbeats for stair in stairs], [stair.deliveries for stair in stairs])
    if apart:
        rows = [(1.0, stair.heartbeats, stair.deliveries) for stair in stairs]
        c, d, e = _least_squares(rows, targets)
    else:
        cost = [stair.heartbeats * HEARTBEAT_SECONDS + stair.deliveries * DELIVERY_SECONDS for stair in stairs]
        c, factor = _least_squares([(1.0, each) for each in cost], targets)
        d, e = factor * HEARTBEAT_SECONDS, factor * DELIVERY_SECONDS
    return Model(mode.name, mode.processes, a, b, c, d, e, source, apart)


def _grow_together(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one is a straight line over the other, or there are too few to say that it is not."""
    if len(one) <= len(("c", "d", "e")):
        return True
    mean_one, mean_other = math.fsum(one) / len(one), math.fsum(other) / len(other)
    common = math.fsum((x - mean_one) * (y - mean_other) for x, y in zip(one, other, strict=True))
    spread = math.fsum((x - mean_one) ** 2 for x in one) * math.fsum((y - mean_other) ** 2 for y in other)
    return spread <= 0 or common**2 / spread > _TOGETHER


def _least_squares(rows: Sequence[Sequence[float]], targets: Sequence[float]) -> list[float]:
    """The coefficients, none below 0, that come nearest to the targets; each row counts by its relative error."""
    count = len(rows[0])
    weights = [1 / max(target, 1e-9) for target in targets]
    used = list(range(count))
    while True:
        found = _solve(rows, targets, weights, used)
        below = [column for column in used if found[column] < 0]
        if not below:
            return found
        used.remove(min(below, key=lambda column: found[column] * max(abs(row[column]) for row in rows)))


def _solve(
    rows: Sequence[Sequence[float]], targets: Sequence[float], weights: Sequence[float], used: Sequence[int]
) -> list[float]:
    """Normal equations over the columns in use, by elimination; a column that says nothing more is 0."""
    scales = [max(max(abs(row[column]) for row in rows), 1e-30) for column in used]
    scaled = [
        [row[column] / scale * weight for column, scale in zip(used, scales, strict=True)]
        for row, weight in zip(rows, weights, strict=True)
    ]
    wanted = [target * weight for target, weight in zip(targets, weights, strict=True)]
    size = len(used)
    matrix = [
        [math.fsum(row[i] * row[j] for row in scaled) for j in range(size)]
        + [math.fsum(row[i] * value for row, value in zip(scaled, wanted, strict=True))]
        for i in range(size)
    ]
    largest = max((matrix[i][i] for i in range(size)), default=0.0)
    for i in range(size):
        pivot = max(range(i, size), key=lambda row: abs(matrix[row][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        if abs(matrix[i][i]) <= 1e-12 * largest:
            matrix[i] = [float(i == j) for j in range(size)] + [0.0]
            continue
        for j in range(size):
            if j != i:
                factor = matrix[j][i] / matrix[i][i]
                matrix[j] = [x - factor * y for x, y in zip(matrix[j], matrix[i], strict=True)]
    found = [0.0] * len(rows[0])
    for place, column in enumerate(used):
        found[column] = matrix[place][size] / matrix[place][place] / scales[place]
    return found


@dataclass(frozen=True)
class Demand:
    """What is to be held. Rates are pushes per second; `processor`: the share of a core used at peak."""

    connections: int
    push_rate: float
    broadcast_rate: float
    durable_rate: float
    heartbeat_interval: float
    payload: int
    processor: float
    per_node: int


REGISTRATIONS_PER_SECOND: Final = 950
REDIS_LIVE_PER_SECOND: Final = 340_000
REDIS_DURABLE_PER_SECOND: Final = 23_500
REDIS_BYTES_PER_CONNECTION: Final = 800
API_LIVE_PER_SECOND: Final = 28_000
API_DURABLE_PER_SECOND: Final = 13_900
"""These are of a core each, from docs/discussion/performance.md, "With Redis", by docs/how-to/size-a-deployment.md."""
DELIVERY_OVERHEAD: Final = 140
HEARTBEAT_IN: Final = 100
HEARTBEAT_OUT: Final = 130
"""Bytes on the wire: JSON around the data, WebSocket 2 to 8, TLS 22, TCP and IP 52."""


class Requirements(msgspec.Struct, kw_only=True):
    """What it takes. A node is a WebSocket node, of one core; `nodes` includes the one that may be missing."""

    nodes: int
    needed_by_processor: int
    needed_by_connections: int
    connections_per_node: int
    processor_per_node: float
    processor_per_node_one_missing: float
    memory_per_node: int
    seconds_of_return_after_a_crash: float
    api_nodes: int
    redis_shards: int
    redis_commands_per_second_per_shard: float
    redis_memory: int
    heartbeats_per_second: float
    deliveries_per_second: float
    network_in_bits_per_second: float
    network_out_bits_per_second: float


def size(model: Model, demand: Demand) -> Requirements:
    """What a demand takes by a model. Raises BadReport where a process at rest takes more than it may."""
    heartbeats = demand.connections / demand.heartbeat_interval
    aimed = demand.push_rate + demand.durable_rate
    deliveries = aimed + demand.broadcast_rate * demand.connections
    work = model.d * heartbeats + model.e * deliveries
    rest = model.c / model.processes
    if rest >= demand.processor:
        raise BadReport(
            f"by this report a process at rest takes {rest:.2f} of a core, and may take {demand.processor:g}."
        )
    by_processor = max(1, math.ceil(work / (demand.processor - rest)))
    by_connections = max(1, math.ceil(demand.connections / demand.per_node))
    needed = max(by_processor, by_connections)
    nodes = needed + 1
    api = aimed + demand.broadcast_rate - demand.durable_rate
    api_work = api / API_LIVE_PER_SECOND + demand.durable_rate / API_DURABLE_PER_SECOND
    # A push to all is one message for each node.
    commands = demand.push_rate + demand.broadcast_rate * nodes + demand.durable_rate
    redis_work = (commands - demand.durable_rate) / REDIS_LIVE_PER_SECOND
    redis_work += demand.durable_rate / REDIS_DURABLE_PER_SECOND
    shards = max(1, math.ceil(redis_work / demand.processor))
    published = (aimed + demand.broadcast_rate) * (demand.payload + DELIVERY_OVERHEAD)
    return Requirements(
        nodes=nodes,
        needed_by_processor=by_processor,
        needed_by_connections=by_connections,
        connections_per_node=math.ceil(demand.connections / nodes),
        processor_per_node=rest + work / nodes,
        processor_per_node_one_missing=rest + work / needed,
        memory_per_node=math.ceil(model.a / model.processes + model.b * demand.connections / needed),
        seconds_of_return_after_a_crash=demand.connections / nodes / needed / REGISTRATIONS_PER_SECOND,
        api_nodes=max(1, math.ceil(api_work / demand.processor)) + 1,
        redis_shards=shards,
        redis_commands_per_second_per_shard=commands / shards,
        redis_memory=demand.connections * REDIS_BYTES_PER_CONNECTION,
        heartbeats_per_second=heartbeats,
        deliveries_per_second=deliveries,
        network_in_bits_per_second=8 * (heartbeats * HEARTBEAT_IN + published),
        network_out_bits_per_second=8
        * (heartbeats * HEARTBEAT_OUT + deliveries * (demand.payload + DELIVERY_OVERHEAD)),
    )
