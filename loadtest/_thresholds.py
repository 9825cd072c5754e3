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

STEPS: Final = ("discover", "connect", "register", "heartbeat", "push", "delivery")
"""The steps, in the order in which a client goes through them."""

PERCENTILES: Final[Mapping[str, float]] = {
    "p50_ms": 0.5,
    "p90_ms": 0.9,
    "p95_ms": 0.95,
    "p99_ms": 0.99,
    "max_ms": 1.0,
}
"""Limits on a step's time in milliseconds, and the share of its attempts that they speak of."""

_RATIO_AT_MOST: Final = "a number from 0 to below 1"
_SHARE_AT_LEAST: Final = "a number above 0, at most 1"
_MILLISECONDS: Final = "a number of milliseconds above 0"

_STEP_LIMITS: Final[Mapping[str, str]] = {
    "max_failure_ratio": _RATIO_AT_MOST,
    **dict.fromkeys(PERCENTILES, _MILLISECONDS),
}
_RUN_LIMITS: Final[Mapping[str, str]] = {
    "min_registered": "a whole number above 0",
    "min_registered_share": _SHARE_AT_LEAST,
    "max_unexpected_disconnects": "a whole number, 0 or more",
    "min_delivered_share": _SHARE_AT_LEAST,
}


class ThresholdsError(ValueError):
    """The file cannot serve as thresholds; its text is one sentence that says why and what would be right."""


@dataclass(frozen=True)
class Threshold:
    """One limit. `step` is None for those on the whole run; `limit` names it as the file does."""

    step: str | None
    limit: str
    value: float


def load(path: Path) -> tuple[Threshold, ...]:
    """Read the thresholds in a TOML file, steps first, in the order in which a client goes through them.

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
    if not found:
        raise ThresholdsError(
            f"The thresholds file {path} holds no threshold: give it a [run] or a [steps.<step>] table."
        )
    return found


def _parse(content: dict[str, object]) -> tuple[Threshold, ...]:
    _known("has an unknown table", content, ("steps", "run"))
    steps = _table("steps", content.get("steps", {}))
    _known("has an unknown step", steps, STEPS)
    found: list[Threshold] = []
    for step in STEPS:
        limits = _table(f"steps.{step}", steps.get(step, {}))
        found += _limits(step, limits, _STEP_LIMITS)
    found += _limits(None, _table("run", content.get("run", {})), _RUN_LIMITS)
    return tuple(found)


def _table(name: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ThresholdsError(f"has a value where the table [{name}] should be.")
    return value


def _known(complaint: str, names: Mapping[str, object], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ThresholdsError(f"{complaint}, {name!r}: those there are, are {', '.join(known)}.")


def _limits(step: str | None, values: dict[str, object], known: Mapping[str, str]) -> list[Threshold]:
    table = f"steps.{step}" if step else "run"
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
    if wanted == _RATIO_AT_MOST:
        return 0 <= value < 1
    if wanted == _SHARE_AT_LEAST:
        return 0 < value <= 1
    if wanted == _MILLISECONDS:
        return value > 0
    return isinstance(value, int) and value >= (1 if wanted == _RUN_LIMITS["min_registered"] else 0)
