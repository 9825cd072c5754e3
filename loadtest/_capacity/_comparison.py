"""What was measured of several modes, side by side, and what follows from it: the form of `report.json`.

Knows results of the load test, not how they came about. What it says is derived from the stairs alone: a stair that was
not held, or whose figures are invalid, counts for nothing. Times in milliseconds, memory in bytes, processor in cores.
"""

from __future__ import annotations

import itertools
import os
import platform
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from loadtest._result import Result, ServerProcess, Stage

FORMAT: Final = "portico-capacity/1"
RULE_SPLIT: Final = 1_000
RULE_STREAMS: Final = 10_000
_KNEE: Final = 3.0
"""By how much a latency grows from one stair to the next, against the number of connections, where it bends."""
_KNEE_LEAST_MS: Final = 10.0
BOTTLENECK: Final = "the load was the bottleneck"
"""Why an invalid stair counts for nothing; the stair's own sentences say by what."""
LATENCIES: Final = ("heartbeat", "delivery", "broadcast")
"""The steps whose latency says how it goes, the most telling first."""


class Node(msgspec.Struct, kw_only=True):
    """One process of the gateway at a stair. `heartbeat_p99_ms`: of those that it answered itself."""

    name: str
    connections: int
    heartbeat_p99_ms: float | None
    cpu_share: float
    memory: int
    loop_lag_max_ms: float | None


class Stair(msgspec.Struct, kw_only=True):
    """One number of connections that was held. `latencies`: by step p50, p99 and p99.9; `nodes`: each by itself;
    `slow_nodes`: which of them are much slower than the others, a sentence each."""

    users: int
    verdict: str
    invalid: list[str]
    broke: list[str]
    latencies: dict[str, tuple[float | None, float | None, float | None]]
    deliveries_per_second: float
    lost: int
    doubled: int
    cpu_share: float | None
    cpu_per_connection_us: float | None
    memory: int | None
    memory_per_connection: float | None
    load_cpu_share: float
    nodes: list[Node]
    slow_nodes: list[str]


class Measured(msgspec.Struct):
    """One mode. `failed`: why there is no result, or not all of one."""

    name: str
    title: str
    processes: int
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    result: Result | None = None
    failed: str | None = None

    @property
    def stairs(self) -> list[Stair]:
        """Its stairs, in ascending order."""
        return [] if self.result is None else [_stair(stage) for stage in self.result.stages if stage.kind == "hold"]

    @property
    def held(self) -> int:
        """The most connections that met the thresholds, below the first stair that did not; 0: none.

        Invalid stairs count for nothing: they neither hold nor break.
        """
        held = 0
        for stair in self.stairs:
            if stair.verdict == "not met":
                break
            if stair.verdict == "met":
                held = stair.users
        return held

    @property
    def broke_at(self) -> int | None:
        """The first stair above `held`: it did not meet the thresholds, or its figures are invalid."""
        above = self._above()
        return None if above is None else above.users

    @property
    def broke(self) -> list[str]:
        """What did not hold there, in the thresholds' names; `BOTTLENECK` where its figures are invalid."""
        above = self._above()
        if above is None:
            return []
        return [BOTTLENECK] if above.verdict == "invalid" else above.broke

    @property
    def failed_at(self) -> int | None:
        """The first stair that was measured and did not meet the thresholds."""
        return next((stair.users for stair in self.stairs if stair.verdict == "not met"), None)

    def _above(self) -> Stair | None:
        return next((stair for stair in self.stairs if stair.users > self.held), None)

    @property
    def knee(self) -> int | None:
        """From where on latency grows much faster than the number of connections; None: nowhere that was measured."""
        return knee(self.stairs)


class Machine(msgspec.Struct, kw_only=True):
    """What it was measured on, the gateway and the load both. `limits`: those that bound connections."""

    system: str
    processor: str
    cores: int
    gateway_cores: list[int]
    load_cores: list[int]
    memory: int
    python: str
    limits: dict[str, str]


class Advice(msgspec.Struct, kw_only=True):
    """What follows.

    Attributes:
        single: the most that one process held, and which mode; None where none was measured.
        several: likewise of several processes.
        sentences: the advice, in words: the number held and the mode advised first, the reasons after it.
    """

    single: tuple[str, int] | None
    several: tuple[str, int] | None
    sentences: list[str]


class Comparison(msgspec.Struct, kw_only=True):
    """The whole report."""

    format: str
    started_at: float
    ended_at: float
    machine: Machine
    modes: list[Measured]
    advice: Advice


def compare(modes: Sequence[Measured], on: Machine, started_at: float) -> Comparison:
    """Put it side by side."""
    return Comparison(
        format=FORMAT,
        started_at=started_at,
        ended_at=time.time(),
        machine=on,
        modes=list(modes),
        advice=advise(modes, shared_core=len(on.gateway_cores) == 1),
    )


def write(comparison: Comparison, path: Path) -> None:
    """Write it as JSON, whole or not at all. Raises OSError."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(comparison), indent=1) + b"\n")
    os.replace(temporary, path)


def read(path: Path) -> Comparison:
    """Read it again. Raises OSError, and msgspec.DecodeError where it is something else."""
    return msgspec.json.decode(path.read_bytes(), type=Comparison)


def _stair(stage: Stage) -> Stair:
    server, deliveries = stage.server, stage.deliveries.values()
    memory = None if server is None else server.memory_max
    users = max(1, stage.connections.at_end)
    return Stair(
        users=stage.users,
        verdict=stage.verdict or "not met",
        invalid=stage.invalid,
        broke=[row.name for row in stage.rows if not row.passed],
        latencies={
            name: (times.p50_ms, times.p99_ms, times.p999_ms)
            for name, times in stage.steps.items()
            if times.count and name in LATENCIES
        },
        deliveries_per_second=sum(each.per_second for each in deliveries),
        lost=sum(each.lost for each in deliveries),
        doubled=sum(each.doubled for each in deliveries),
        cpu_share=None if server is None else server.cpu_share,
        cpu_per_connection_us=None if server is None else server.cpu_share / users * 1e6,
        memory=memory,
        memory_per_connection=None if server is None else server.memory_per_connection,
        load_cpu_share=stage.load.cpu_share_max,
        nodes=[] if server is None else [_node(process, stage) for process in server.processes],
        slow_nodes=stage.slow_nodes,
    )


def _node(process: ServerProcess, stage: Stage) -> Node:
    times = stage.nodes.get(process.node or "")
    return Node(
        name=process.node or urlsplit(process.url).netloc,
        connections=process.connections,
        heartbeat_p99_ms=None if times is None else times.p99_ms,
        cpu_share=process.cpu_share,
        memory=process.memory_max,
        loop_lag_max_ms=process.loop_lag_max_ms,
    )


def knee(stairs: Sequence[Stair]) -> int | None:
    """The first stair at which a p99 grew `_KNEE` times as much as the connections did, and is worth a word.

    Invalid stairs count for nothing.
    """
    for before, after in itertools.pairwise(stair for stair in stairs if stair.verdict != "invalid"):
        more = after.users / before.users
        for name in LATENCIES:
            low, high = (stair.latencies.get(name, (None, None, None))[1] for stair in (before, after))
            if low and high and high > _KNEE_LEAST_MS and high / low > _KNEE * more:
                return after.users
    return None


def advise(modes: Sequence[Measured], *, shared_core: bool) -> Advice:
    """What the figures say, and where that differs from the rule. `shared_core`: all of the gateway had one core."""
    single = _best([mode for mode in modes if mode.processes == 1])
    several = _best([mode for mode in modes if mode.processes > 1])
    sentences = [_headline(single, several)] if single is not None or several is not None else []
    if single is not None:
        sentences.append(_held(single, "one process"))
    if several is not None:
        sentences.append(_held(several, "several processes"))
    if single is not None:
        sentences += _advised(single, several)
        if shared_core and several is not None:
            sentences.append(
                "The gateway had one core here, whatever the mode: several processes shared it, and what they add "
                "(Redis, messages between them) is all that can be seen of them. On more cores they hold more: "
                "measure there."
            )
        sentences += _against_the_rule(single.held, single.failed_at)
    return Advice(
        single=None if single is None else (single.name, single.held),
        several=None if several is None else (several.name, several.held),
        sentences=sentences or ["Nothing was measured, so nothing is advised."],
    )


def _best(modes: Sequence[Measured]) -> Measured | None:
    measured = [mode for mode in modes if mode.result is not None]
    return max(measured, key=lambda mode: mode.held, default=None)


def _headline(single: Measured | None, several: Measured | None) -> str:
    """The number held and the mode advised. Of two that hold the same, the one with fewer processes."""
    best = max((mode for mode in (single, several) if mode is not None), key=lambda mode: mode.held)
    if not best.held:
        return "No number of connections was held: nothing can be advised."
    return f"{best.held:,} connections are held. Advised: {best.title}."


def _held(mode: Measured, what: str) -> str:
    held = f"held {mode.held:,} connections" if mode.held else "held no stair"
    if mode.broke_at is None:
        return f"{what.capitalize()} {held} ({mode.title}), the most that was tried."
    why = ", ".join(mode.broke[:3])
    if mode.broke != [BOTTLENECK]:
        why = f"it did not meet: {why or 'a threshold'}"
    return f"{what.capitalize()} {held} ({mode.title}); at {mode.broke_at:,} {why}."


def _advised(single: Measured, several: Measured | None) -> list[str]:
    one = single.held
    more = 0 if several is None else several.held
    advised = [f"Up to {one:,} connections: one process ({single.title})."] if one else []
    if several is not None and more > one:
        reach = f"Above {one:,} and up to" if one else "Up to"
        advised.append(f"{reach} {more:,} connections: several processes ({several.title}).")
    most = max(one, more)
    if most:
        advised.append(
            f"Above {most:,}: not measured here, or not held. Plan it with `portico plan`, and measure that."
        )
    return advised


def _against_the_rule(held: int, failed_at: int | None) -> list[str]:
    rule = (
        f"The rule of thumb says: one process below {RULE_SPLIT:,}, split from {RULE_SPLIT:,}, split with streams "
        f"beyond {RULE_STREAMS:,}."
    )
    if held >= RULE_SPLIT:
        return [
            f"{rule} Measured here, one process holds {held:,} at these rates, so below that split is for what a "
            "number does not say: deploys and crashes that only a part of the clients notices."
        ]
    if failed_at is not None and failed_at <= RULE_SPLIT:
        return [f"{rule} Measured here, one process holds less than that rule promises: split, or a quicker machine."]
    return [f"{rule} Too few connections were tried to say whether that holds here."]


def machine(gateway_cores: Sequence[int], load_cores: Sequence[int]) -> Machine:
    """This machine."""
    limits = {"open files of a process": _limit(resource.RLIMIT_NOFILE)}
    for name in ("net/core/somaxconn", "net/ipv4/ip_local_port_range", "net/ipv4/tcp_max_syn_backlog", "fs/file-max"):
        try:
            limits[name.replace("/", ".")] = " to ".join(Path("/proc/sys", name).read_text().split())
        except OSError:
            continue
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        gateway_cores=list(gateway_cores),
        load_cores=list(load_cores),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        python=platform.python_version(),
        limits=limits,
    )


def _limit(which: int) -> str:
    soft, _ = resource.getrlimit(which)
    return "no limit" if soft == resource.RLIM_INFINITY else str(soft)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
