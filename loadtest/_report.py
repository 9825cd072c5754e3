"""A run's result, put together from the ledger, and as text for the terminal.

Knows the machine it runs on and locust's options; never how a test is led.
"""

# Locust says that it is typed, but its event hooks are not.
# mypy: untyped-calls-exclude=locust

from __future__ import annotations

import os
import platform
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from locust.env import Environment

from loadtest import _verdict
from loadtest._ledger import Ledger
from loadtest._meter import os_cores
from loadtest._options import SECRETS
from loadtest._result import FORMAT, Clock, Held, Machine, Moment, Result, Stage, Transcript

Options = Namespace

_LOCUSTS: Final = ("host", "num_users", "spawn_rate", "run_time", "processes", "user_classes", "tags", "exclude_tags")
_OURS: Final = (
    "heartbeat_interval", "push_rate", "broadcast_rate", "durable_rate", "batch_rate", "batch_size", "push_size", "mix",
    "fixed", "churn_seconds", "away_seconds", "rude_share", "slow_pause", "request_rate", "service_time",
    "stream_parts", "shape", "stairs", "hold", "keep_climbing", "storm_share", "storm_window", "step_timeout",
    "settle_time", "api_key", "token", "worker_key", "metrics_url", "no_observer",
)  # fmt: skip
_NAMES: Final = {"num_users": "users"}
_EXIT_CODES: Final = {"met": 0, "not met": 3, "invalid": 4}


def result(
    environment: Environment,
    ledger: Ledger,
    stages: list[Stage],
    run: Stage,
    timeline: list[Moment],
    started: float,
    thresholds: str,
) -> Result:
    """Everything that was found."""
    options = environment.parsed_options
    assert options is not None
    assert run.verdict is not None
    return Result(
        format=FORMAT,
        verdict=run.verdict,
        exit_code=_EXIT_CODES[run.verdict],
        started_at=started,
        ended_at=time.time(),
        shape=options.shape or "steady",
        options=_options(options),
        thresholds=thresholds,
        gateway=ledger.gateway(environment.host or ""),
        machine=_machine(),
        clocks=[
            Clock(worker=worker, offset_ms=offset * 1000, error_ms=error * 1000)
            for worker, (offset, error) in sorted(ledger.clocks.items())
        ],
        stages=stages,
        run=run,
        held=_held(stages) if options.shape == "staircase" else None,
        timeline=timeline,
        transcripts=[
            Transcript(kind=fault.kind, client=fault.client, at=fault.at, messages=fault.messages)
            for fault in ledger.faults
        ],
    )


def line(stage: Stage) -> str:
    """A stair in a line, for those who watch."""
    found = [
        f"{step} p99 {figures.p99_ms:.4g} ms"
        for step in ("heartbeat", "delivery", "broadcast", "request")
        if (figures := stage.steps.get(step)) is not None and figures.p99_ms is not None
    ]
    failed = [row.name for row in stage.rows if not row.passed]
    why = f" ({'; '.join(stage.invalid or failed)})" if stage.verdict != "met" else ""
    return f"{stage.name}: {stage.verdict}{why}" + (f"; {', '.join(found)}" if found else "")


def text(result: Result) -> str:
    """What is printed at the end."""
    parts = []
    holds = [stage for stage in result.stages if stage.kind == "hold" and stage.verdict is not None]
    if len(holds) > 1:
        parts += [line(stage) for stage in holds] + [""]
    parts.append(f"Verdict by {result.thresholds}\n")
    parts.append(_verdict.table(result.run.rows, result.run.invalid))
    if result.held is not None:
        broke = f"; at {result.held.broke_at} it broke: {', '.join(result.held.broke)}" if result.held.broke_at else ""
        parts.append(f"Held: {result.held.users} users{broke}")
    parts += [f"- {sentence}" for sentence in result.run.slow_nodes]
    parts += _beside(result.run)
    if result.transcripts:
        parts += ["", "What the gateway must not have said, for the first few times:"]
        for each in result.transcripts[:3]:
            parts += [f"- {each.kind} ({each.client})", *(f"    {message}" for message in each.messages)]
    return "\n".join(parts)


def _beside(run: Stage) -> list[str]:
    """The load's figures, and an independent observer's beside them."""
    if not run.observer:
        return []
    found = ["", "p50/p95/p99 in ms, and what an independent process saw:"]
    for step, seen in run.observer.items():
        own = run.steps.get(step)
        if own is not None and own.count and seen.count:
            found.append(
                f"- {step}: {own.p50_ms:.4g}/{own.p95_ms:.4g}/{own.p99_ms:.4g}, "
                f"observer {seen.p50_ms:.4g}/{seen.p95_ms:.4g}/{seen.p99_ms:.4g}"
            )
    return found if len(found) > 2 else []


def _held(stages: Sequence[Stage]) -> Held:
    held = Held(users=0, broke_at=None, broke=[])
    for stage in stages:
        if stage.kind != "hold" or stage.verdict is None:
            continue
        if stage.verdict == "met":
            held.users = max(held.users, stage.users)
        elif held.broke_at is None:
            held.broke_at = stage.users
            held.broke = [row.name for row in stage.rows if not row.passed] or list(stage.invalid)
    return held


def _options(options: Namespace) -> dict[str, str | int | float | bool | None]:
    found: dict[str, str | int | float | bool | None] = {}
    for name in (*_LOCUSTS, *_OURS):
        value = getattr(options, name, None)
        if name in SECRETS:
            value = "set" if value else None
        elif isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        found[_NAMES.get(name, name)] = value
    return found


def _machine() -> Machine:
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        memory = 0
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=processor,
        cores=os_cores(),
        memory=memory,
        python=platform.python_version(),
    )
