"""Measured values against thresholds: who passed, and the table that says so.

Pure: knows neither locust nor sockets. Promises that what was not measured counts as failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest._tally import Tally
from loadtest._thresholds import PERCENTILES, Threshold


@dataclass(frozen=True)
class StepFigures:
    """What locust measured of one step.

    Attributes:
        attempts: how often it was tried.
        failures: how many of those failed.
        times_ms: milliseconds by the name of the limit on them (`p95_ms`, …), over all attempts.
    """

    attempts: int
    failures: int
    times_ms: Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """One line of the verdict."""

    name: str
    limit: str
    measured: str
    passed: bool


def judge(thresholds: Sequence[Threshold], steps: Mapping[str, StepFigures], tally: Tally, users: int) -> list[Row]:
    """Compare each threshold with what was measured.

    Args:
        thresholds: the limits, in the order in which the rows are wanted.
        steps: what locust measured, by step; a step that never happened may be missing.
        tally: the sum over all processes.
        users: how many users were asked for.
    """
    return [
        _step_row(threshold, threshold.step, steps.get(threshold.step))
        if threshold.step
        else _run_row(threshold, tally, users)
        for threshold in thresholds
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows as text, and a last line that counts those that failed."""
    cells = [("threshold", "limit", "measured", "verdict")]
    cells += [(row.name, row.limit, row.measured, "OK" if row.passed else "FAILED") for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {limit:>{widths[1]}}  {measured:>{widths[2]}}  {verdict}"
        for name, limit, measured, verdict in cells
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    failed = sum(not row.passed for row in rows)
    summary = f"FAILED: {failed} of {len(rows)} thresholds" if failed else f"PASSED: all {len(rows)} thresholds"
    return "\n".join([*lines, summary])


def _step_row(threshold: Threshold, step: str, figures: StepFigures | None) -> Row:
    name = f"{step} {threshold.limit}"
    limit = f"<= {threshold.value:g}"
    if figures is None or not figures.attempts:
        return Row(name, limit, "never happened", passed=False)
    if threshold.limit == "max_failure_ratio":
        ratio = figures.failures / figures.attempts
        return Row(name, limit, f"{ratio:.4g}", ratio <= threshold.value)
    assert threshold.limit in PERCENTILES
    # Refusals are quick: without this, a step that always fails would be praised for its speed.
    if figures.failures >= figures.attempts:
        return Row(name, limit, "never succeeded", passed=False)
    measured = figures.times_ms[threshold.limit]
    return Row(name, limit, f"{measured:.4g}", measured <= threshold.value)


def _run_row(threshold: Threshold, tally: Tally, users: int) -> Row:
    name, value = threshold.limit, threshold.value
    at_least, at_most = f">= {value:g}", f"<= {value:g}"
    peak = tally.peak_registered()
    match threshold.limit:
        case "min_registered":
            return Row(name, at_least, str(peak), peak >= value)
        case "min_registered_share":
            if users < 1:
                return Row(name, at_least, "no user was asked for", passed=False)
            return Row(name, at_least, f"{peak / users:.4g} ({peak} of {users})", peak / users >= value)
        case "max_unexpected_disconnects":
            if not peak:
                return Row(name, at_most, "nobody was registered", passed=False)
            lost = sum(tally.disconnects.values())
            reasons = ", ".join(f"{count}x {reason}" for reason, count in sorted(tally.disconnects.items()))
            return Row(name, at_most, f"{lost} ({reasons})" if lost else "0", lost <= value)
        case "min_delivered_share":
            expected, delivered = tally.expected(), tally.delivered()
            if not expected:
                return Row(name, at_least, "nothing was pushed to anyone", passed=False)
            share = delivered / expected
            # Shares just below 1 must not be rounded to it.
            return Row(name, at_least, f"{share:.6g} ({delivered} of {expected})", share >= value)
    raise AssertionError(f"no rule for the threshold {threshold.limit}")
