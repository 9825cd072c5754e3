"""What a load test must reach: the thresholds file, read and checked.

Knows the names of the steps and of the limits. Knows nothing of locust, so it can be read before a test
starts. Promises that every threshold it returns is one that a test can fail.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STEPS: Final = (
    "discover",
    "connect",
    "register",
    "resume",
    "heartbeat",
    "push",
    "batch",
    "delivery",
    "broadcast",
    "durable",
    "request",
    "partial",
)
"""The steps, in the order in which a client goes through them."""

PERCENTILES: Final[Mapping[str, float]] = {
    "p50_ms": 0.5,
    "p90_ms": 0.9,
    "p95_ms": 0.95,
    "p99_ms": 0.99,
    "p999_ms": 0.999,
    "p9999_ms": 0.9999,
    "max_ms": 1.0,
}
"""Limits on a step's time in milliseconds, and the share of its attempts that they speak of."""

DELIVERED: Final[Mapping[str, str]] = {
    "min_aimed_delivered_share": "aimed",
    "min_broadcast_delivered_share": "broadcast",
    "min_durable_delivered_share": "durable",
}
"""Limits on the share of one kind of deliveries; `min_delivered_share` holds for each kind by itself."""

_RATIO_AT_MOST: Final = "a number from 0 to below 1"
_SHARE_AT_LEAST: Final = "a number above 0, at most 1"
_MILLISECONDS: Final = "a number of milliseconds above 0"
_COUNT: Final = "a whole number, 0 or more"
_NUMBER: Final = "a whole number above 0"
_AMOUNT: Final = "a number above 0"

_STEP_LIMITS: Final[Mapping[str, str]] = {
    "max_failure_ratio": _RATIO_AT_MOST,
    **dict.fromkeys(PERCENTILES, _MILLISECONDS),
}
_RUN_LIMITS: Final[Mapping[str, str]] = {
    "min_registered": _NUMBER,
    "min_registered_share": _SHARE_AT_LEAST,
    "max_unexpected_disconnects": _COUNT,
    "min_delivered_share": _SHARE_AT_LEAST,
    **dict.fromkeys(DELIVERED, _SHARE_AT_LEAST),
    "max_doubled": _COUNT,
    "max_reordered": _COUNT,
    "max_misdirected": _COUNT,
    "max_protocol_errors": _COUNT,
}
_SERVER_LIMITS: Final[Mapping[str, str]] = {
    "max_memory_mb": _AMOUNT,
    "max_memory_per_connection_kb": _AMOUNT,
    "max_cpu_share": _AMOUNT,
}
_LOAD_LIMITS: Final[Mapping[str, str]] = {
    "max_stall_ms": _MILLISECONDS,
    "max_lag_p99_ms": _MILLISECONDS,
    "max_send_lag_p99_ms": _MILLISECONDS,
    "max_read_lag_p99_ms": _MILLISECONDS,
    "max_never_sent": _COUNT,
    "max_blurred_share": _RATIO_AT_MOST,
    "max_steal_share": _RATIO_AT_MOST,
    "max_clock_step_ms": _MILLISECONDS,
    "max_clock_error_ms": _MILLISECONDS,
    "max_observer_gap_ms": _MILLISECONDS,
}
LOAD_DEFAULTS: Final[Mapping[str, float]] = {
    "max_stall_ms": 1000.0,
    "max_lag_p99_ms": 100.0,
    "max_send_lag_p99_ms": 100.0,
    "max_read_lag_p99_ms": 100.0,
    "max_never_sent": 0.0,
    "max_blurred_share": 0.01,
    "max_steal_share": 0.1,
    "max_clock_step_ms": 20.0,
    "max_clock_error_ms": 20.0,
    "max_observer_gap_ms": 100.0,
}
"""What the load itself must hold for its figures to count, where a file does not say so."""

_TABLES: Final = {"run": _RUN_LIMITS, "server": _SERVER_LIMITS, "load": _LOAD_LIMITS}


class ThresholdsError(ValueError):
    """The file cannot serve as thresholds; its text is one sentence that says why and what would be right."""


@dataclass(frozen=True)
class Threshold:
    """One limit. `step` is None for those on the whole run, or a part of it; `limit` names it as the file does."""

    step: str | None
    limit: str
    value: float


@dataclass(frozen=True)
class Thresholds:
    """All of a file.

    Attributes:
        limits: on the gateway; those on steps first, in the order in which a client goes through them.
        load: on the load itself, by name; the defaults where the file says nothing.
    """

    limits: tuple[Threshold, ...]
    load: Mapping[str, float]


def load(path: Path) -> Thresholds:
    """Read the thresholds in a TOML file.

    Raises:
        ThresholdsError: the file cannot be read, is not TOML, names something unknown, holds a value that no
            test could fail or none could pass, or holds no threshold at all.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ThresholdsError(f"The thresholds file {path} cannot be read: {reason}.") from error
    except UnicodeDecodeError as error:
        raise ThresholdsError(f"The thresholds file {path} is not UTF-8 text.") from error
    except tomllib.TOMLDecodeError as error:
        raise ThresholdsError(f"The thresholds file {path} is not TOML: {error}.") from error
    try:
        found = _parse(content)
    except ThresholdsError as error:
        raise ThresholdsError(f"The thresholds file {path} {error}") from error
    if not found.limits:
        raise ThresholdsError(
            f"The thresholds file {path} holds no threshold: give it a [run] or a [steps.<step>] table."
        )
    return found


def _parse(content: dict[str, object]) -> Thresholds:
    _known("has an unknown table", content, ("steps", *_TABLES))
    steps = _table("steps", content.get("steps", {}))
    _known("has an unknown step", steps, STEPS)
    found: list[Threshold] = []
    for step in STEPS:
        table = f"steps.{step}"
        found += _limits(step, table, _table(table, steps.get(step, {})), _STEP_LIMITS)
    own = dict(LOAD_DEFAULTS)
    for name, known in _TABLES.items():
        limits = _limits(None, name, _table(name, content.get(name, {})), known)
        if name == "load":
            own |= {threshold.limit: threshold.value for threshold in limits}
        else:
            found += limits
    return Thresholds(tuple(found), own)


def _table(name: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ThresholdsError(f"has a value where the table [{name}] should be.")
    return value


def _known(complaint: str, names: Mapping[str, object], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ThresholdsError(f"{complaint}, {name!r}: those there are, are {', '.join(known)}.")


def _limits(step: str | None, table: str, values: dict[str, object], known: Mapping[str, str]) -> list[Threshold]:
    _known(f"has an unknown threshold in [{table}]", values, tuple(known))
    found = []
    for limit, value in values.items():
        wanted = known[limit]
        if not isinstance(value, int | float) or isinstance(value, bool) or not _fits(wanted, value):
            raise ThresholdsError(f"has {limit} = {value!r} in [{table}]: it must be {wanted}.")
        found.append(Threshold(step, limit, float(value)))
    return found


def _fits(wanted: str, value: int | float) -> bool:
    # Not merely a range: a ratio of 1 could never be exceeded, and nothing compares with NaN.
    if not math.isfinite(value):
        return False
    match wanted:
        case "a number from 0 to below 1":
            return 0 <= value < 1
        case "a number above 0, at most 1":
            return 0 < value <= 1
        case "a whole number, 0 or more" | "a whole number above 0":
            return isinstance(value, int) and value >= (1 if wanted == _NUMBER else 0)
    return value > 0


def shown(file: str) -> str:
    """A file as its reader would name it: a report is passed on, and where it was made concerns nobody."""
    path, here = Path(file).resolve(), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name
