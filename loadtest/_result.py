"""What a run found, as `--result FILE` writes it: the form that reports and sizings are built on.

Knows plain values only; docs/reference/load-test-result.md describes them for other programs. Fields are added, never
renamed or removed, as long as `format` stays the same. Times are milliseconds where the name ends in `_ms`, moments
are Unix seconds, shares are from 0 to 1, processor shares are in cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

FORMAT: Final = "portico-load/1"
"""Names this form."""

Verdict = Literal["met", "not met", "invalid"]


class Times(msgspec.Struct, kw_only=True):
    """All attempts at one step in one stage, those that failed included. The times are None without attempts.

    Attributes:
        count: attempts.
        failures: how many of them failed.
        errors: how often they failed for which reason.
        per_second: attempts per second of the stage.
        histogram: how many attempts fell into which bucket; the buckets are those of `loadtest/_histogram.py`.
    """

    count: int
    failures: int
    errors: dict[str, int]
    per_second: float
    mean_ms: float | None
    min_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    p9999_ms: float | None
    max_ms: float | None
    histogram: dict[int, int]


class Deliveries(msgspec.Struct, kw_only=True):
    """The pushes of one kind that were meant to be sent in one stage.

    Attributes:
        expected: deliveries that there should have been.
        delivered: those there were, each counted once.
        lost: the rest of them.
        doubled: those that came again.
        reordered: those that came after a later one of the same publisher.
        misdirected: those that came to somebody else.
        per_second: delivered per second of the stage.
    """

    expected: int
    delivered: int
    lost: int
    doubled: int
    reordered: int
    misdirected: int
    per_second: float


class Connections(msgspec.Struct, kw_only=True):
    """Registered connections in one stage: the most and the fewest at a moment, and those at its end."""

    peak: int
    lowest: int
    at_end: int


class ServerProcess(msgspec.Struct, kw_only=True):
    """One process of the gateway, by its `/metrics`.

    Attributes:
        url: where it was asked.
        node: its name, as its registrations say it too; None where it doesn't tell it.
        cpu_share: processor time per second of the stage, in cores.
        memory_max: the most resident bytes that it had.
        memory_end: the resident bytes at the end of the stage.
        connections: the most connections that it had.
        loop_lag_max_ms: the most by which its event loop was late, where it says so.
        missed: how often it did not answer when it was asked.
    """

    url: str
    node: str | None = None
    cpu_share: float
    memory_max: int
    memory_end: int
    connections: int
    loop_lag_max_ms: float | None
    missed: int


class Server(msgspec.Struct, kw_only=True):
    """The gateway in one stage: its processes, and their sums.

    Attributes:
        memory_per_connection: bytes that it has more than before the test, per connection that it has more; None where
            there are too few connections (100) to say.
    """

    processes: list[ServerProcess]
    cpu_share: float
    memory_max: int
    memory_per_connection: float | None


class Load(msgspec.Struct, kw_only=True):
    """How the load itself fared in one stage, the worst of its processes: whether its figures can be believed.

    Attributes:
        processes: how many there are.
        cpu_share_max: the processor time of the busiest one per second, in cores.
        stall_max_ms: the longest time for which one of them did nothing at all.
        lag_p99_ms: by how much a timer of theirs was late.
        send_lag_p99_ms: by how much heartbeats, pushes and requests left later than they were meant to.
        read_lag_p99_ms: how long what had arrived lay unread. It is in no latency where `kernel_stamps` holds.
        kernel_stamps: whether arrivals were stamped by the kernel.
        blurred_share: the share of messages that lay unread before others, so that their times are too long by that.
        run_delay_share: the share of the time for which they were ready to run, and another program had the processor.
        steal_share: the share of the machine's processor time that its host gave to others.
        run_queue_max: the most threads of the machine that were ready to run at a moment.
        memory_max: the most resident bytes of one process.
        never_sent: what was due and not sent when the stage ended.
        clock_step_ms: by how much a wall clock was put forward or back.
    """

    processes: int
    cpu_share_max: float
    stall_max_ms: float
    lag_p99_ms: float
    send_lag_p99_ms: float
    read_lag_p99_ms: float
    kernel_stamps: bool
    blurred_share: float = 0.0
    run_delay_share: float
    steal_share: float
    run_queue_max: int
    memory_max: int
    never_sent: int
    clock_step_ms: float


class NodeTimes(msgspec.Struct, kw_only=True):
    """How long heartbeats took that one of the gateway's nodes answered: the others' times have no part in it."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Row(msgspec.Struct, frozen=True):
    """One threshold, and what was measured: a line of the verdict."""

    name: str
    limit: str
    measured: str
    passed: bool


class Stage(msgspec.Struct, kw_only=True):
    """One part of a run: going up to a number of users, holding it, or the whole run.

    Attributes:
        name: as it is shown, such as "hold 1000".
        kind: `ramp` (users come), `hold` (they are there: the steady state), `run` (all holds of a run together).
        users: how many were asked for.
        steps: what was measured, by step.
        deliveries: by kind: `aimed`, `broadcast`, `durable`.
        protocol_errors: what the gateway said that it must not have said, by kind.
        disconnects: connections that ended without our wishing it, by close code or reason.
        observer: what an independent small process measured at the same time, by step; None without one.
        rows: the thresholds; empty for a `ramp`, which is not judged.
        invalid: why the figures cannot be believed, a sentence each.
        nodes: the heartbeats by the node that answered, as its registrations name it.
        slow_nodes: of several nodes, those that are much slower than the others, a sentence each.
    """

    name: str
    kind: Literal["ramp", "hold", "run"]
    users: int
    started_at: float
    ended_at: float
    connections: Connections
    steps: dict[str, Times]
    deliveries: dict[str, Deliveries]
    protocol_errors: dict[str, int]
    disconnects: dict[str, int]
    server: Server | None
    load: Load
    observer: dict[str, Times] | None
    rows: list[Row]
    invalid: list[str]
    verdict: Verdict | None
    nodes: dict[str, NodeTimes] = {}
    slow_nodes: list[str] = []


class Moment(msgspec.Struct, kw_only=True):
    """The run at one second, for drawing.

    Attributes:
        users: how many were asked for.
        delivered: deliveries in this second.
        requests: attempts at all steps in this second.
        server_cpu_share: in cores, over all processes; None where the gateway was not asked.
        server_memory: resident bytes of all of them.
    """

    at: float
    stage: str
    users: int
    registered: int
    delivered: int
    requests: int
    failures: int
    server_cpu_share: float | None
    server_memory: int | None


class Machine(msgspec.Struct, kw_only=True):
    """What the load ran on."""

    system: str
    processor: str
    cores: int
    memory: int
    python: str


class Gateway(msgspec.Struct, kw_only=True):
    """What was tested, as it says itself.

    Attributes:
        websocket_url: as discovery gave it.
        version: None where it does not say.
        environment: `development` or `production`.
        nodes: the names of its nodes.
    """

    host: str
    websocket_url: str
    version: str | None
    environment: str
    nodes: list[str]


class Clock(msgspec.Struct, kw_only=True):
    """One load process's clock against the master's: to be added to it, and by how much that may be wrong."""

    worker: str
    offset_ms: float
    error_ms: float


class Transcript(msgspec.Struct, kw_only=True):
    """One protocol error: the last messages on its connection, oldest first, as `<` received or `>` sent."""

    kind: str
    client: str
    at: float
    messages: list[str]


class Held(msgspec.Struct, kw_only=True):
    """What a staircase found.

    Attributes:
        users: the largest stair at which every threshold held, 0 if none did.
        broke_at: the first one at which some did not; None if all held.
        broke: their names.
    """

    users: int
    broke_at: int | None
    broke: list[str]


class Result(msgspec.Struct, kw_only=True):
    """A whole run.

    Attributes:
        exit_code: locust's: 0 met, 3 not met, 4 invalid.
        shape: `staircase`, `ramp`, `soak`, `reconnect-storm`, `spike`, or `steady` without a shape.
        options: the options in force, by their names; secrets are None or "set".
        stages: in the order in which they were.
        run: all holds together, and its rows the verdict on the whole run.
    """

    format: str
    verdict: Verdict
    exit_code: int
    started_at: float
    ended_at: float
    shape: str
    options: dict[str, str | int | float | bool | None]
    thresholds: str
    gateway: Gateway
    machine: Machine
    clocks: list[Clock]
    stages: list[Stage]
    run: Stage
    held: Held | None
    timeline: list[Moment]
    transcripts: list[Transcript]


def write(result: Result, path: Path) -> None:
    """Write it as JSON. Raises OSError."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def read(path: Path) -> Result:
    """Read it again. Raises OSError, and msgspec.ValidationError where it is something else."""
    return msgspec.json.decode(path.read_bytes(), type=Result)
