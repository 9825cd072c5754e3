"""Results of the load test in a few words: stairs by number of connections, and what was measured at each."""

from __future__ import annotations

from typing import Literal

import msgspec

from loadtest import _result
from loadtest._capacity._comparison import Comparison, Machine, Measured, compare
from loadtest._verdict import slow_nodes

Verdict = Literal["met", "not met", "invalid"]


def times(p50: float, p99: float, p999: float) -> _result.Times:
    return _result.Times(
        count=100, failures=0, errors={}, per_second=10, mean_ms=p50, min_ms=p50, p50_ms=p50, p90_ms=p50, p95_ms=p99,
        p99_ms=p99, p999_ms=p999, p9999_ms=p999, max_ms=p999, histogram={},
    )  # fmt: skip


def deliveries(expected: int = 100, lost: int = 0, doubled: int = 0) -> _result.Deliveries:
    return _result.Deliveries(
        expected=expected, delivered=expected - lost, lost=lost, doubled=doubled, reordered=0, misdirected=0,
        per_second=(expected - lost) / 10,
    )  # fmt: skip


def stage(
    users: int,
    verdict: Verdict = "met",
    *,
    p99: float = 4.0,
    broke: tuple[str, ...] = (),
    invalid: tuple[str, ...] = (),
    lost: int = 0,
    doubled: int = 0,
    served: bool = True,
    nodes: dict[str, float] | None = None,
) -> _result.Stage:
    """A stair. `broke`: the thresholds that failed; `served`: whether the gateway shows its /metrics; `nodes`: the p95
    of heartbeats by node, where there are several processes."""
    rows = [_result.Row("heartbeat p99_ms", "<= 1000", f"{p99:g}", "heartbeat p99_ms" not in broke)]
    rows += [_result.Row(name, "<= 0", "1", False) for name in broke if name != "heartbeat p99_ms"]
    process = _result.ServerProcess(
        url="http://127.0.0.1:1/metrics", cpu_share=users / 5000, memory_max=80_000_000 + users * 2000,
        memory_end=80_000_000, connections=users, loop_lag_max_ms=None, missed=0,
    )  # fmt: skip
    times_by_node = {
        name: _result.NodeTimes(count=100, p50_ms=1.0, p95_ms=p95, p99_ms=p95 + 1, max_ms=p95 + 2)
        for name, p95 in (nodes or {}).items()
    }
    processes = [msgspec.structs.replace(process, node=name) for name in nodes or ()] or [process]
    server = _result.Server(
        processes=processes, cpu_share=process.cpu_share, memory_max=process.memory_max, memory_per_connection=2000.0
    )
    return _result.Stage(
        name=f"hold {users}", kind="hold", users=users, started_at=0.0, ended_at=10.0,
        connections=_result.Connections(peak=users, lowest=users, at_end=users),
        steps={"heartbeat": times(1.0, p99, 2 * p99), "broadcast": times(2.0, p99, 2 * p99)},
        deliveries={"broadcast": deliveries(users, lost, doubled)}, protocol_errors={}, disconnects={},
        server=server if served else None, load=_load(), observer=None, rows=rows,
        invalid=list(invalid) or (["the load was late"] if verdict == "invalid" else []), verdict=verdict,
        nodes=times_by_node, slow_nodes=slow_nodes(times_by_node),
    )  # fmt: skip


def result(*stages: _result.Stage, version: str | None = "1.2.3") -> _result.Result:
    return _result.Result(
        format=_result.FORMAT, verdict="met", exit_code=0, started_at=0.0, ended_at=10.0, shape="staircase",
        options={"heartbeat_interval": 5.0}, thresholds="thresholds.toml",
        gateway=_result.Gateway(
            host="http://127.0.0.1:1", websocket_url="ws://127.0.0.1:1", version=version, environment="production",
            nodes=["a"],
        ),
        machine=_result.Machine(system="Linux", processor="one", cores=2, memory=1, python="3.11"),
        clocks=[], stages=list(stages), run=stage(1), held=None, timeline=[], transcripts=[],
    )  # fmt: skip


def measured(name: str, *stages: _result.Stage, processes: int = 1) -> Measured:
    return Measured(name, f"the mode {name}", processes, result=result(*stages))


def comparison(*modes: Measured, gateway_cores: tuple[int, ...] = (1, 2)) -> Comparison:
    on = Machine(
        system="Linux", processor="one", cores=4, gateway_cores=list(gateway_cores), load_cores=[0],
        memory=8_000_000_000, python="3.11.7", limits={"open files of a process": "20000"},
    )  # fmt: skip
    return compare(modes, on, 0.0)


def _load() -> _result.Load:
    return _result.Load(
        processes=1, cpu_share_max=0.1, stall_max_ms=1, lag_p99_ms=1, send_lag_p99_ms=1, read_lag_p99_ms=1,
        kernel_stamps=True, run_delay_share=0, steal_share=0, run_queue_max=1, memory_max=1, never_sent=0,
        clock_step_ms=0,
    )  # fmt: skip
