"""Measured values against thresholds: who passed, and the table that says so.

Pure: knows neither locust nor sockets. Promises that what was not measured counts as failed, and that figures which the
load itself spoiled are told from figures that the gateway is to blame for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest._figures import Part
from loadtest._result import Connections, Deliveries, Load, NodeTimes, Row, Server, Times
from loadtest._thresholds import DELIVERED, PERCENTILES, Threshold

ARRIVALS: Final = frozenset({"discover", "connect", "register", "resume"})
"""The steps of coming in, whose times are judged wherever they were; those of all others while a number is held."""

_ENOUGH: Final = 20
_SLOWER: Final = 2.0
_SLOWER_LEAST_MS: Final = 50.0
"""A node is slow whose heartbeats take twice as long as the quickest node's (p95), and so much longer."""


@dataclass(frozen=True)
class Evidence:
    """What a stair, or the whole run, is judged by.

    Attributes:
        users: how many were asked for.
        everything: what was counted, going up included.
        held: what was counted while the number was held.
        deliveries: by kind, going up included.
        connections: those that were registered.
        server: None where it does not say.
        part: it is a part of a run only, in which nobody may have come.
    """

    users: int
    everything: Part
    held: Part
    deliveries: Mapping[str, Deliveries]
    connections: Connections
    server: Server | None
    part: bool = False


def judge(thresholds: Sequence[Threshold], evidence: Evidence) -> list[Row]:
    """Compare each threshold with what was measured, in their order; what breaks the protocol fails in any case."""
    rows: list[Row] = []
    for threshold in thresholds:
        if threshold.step:
            if evidence.part and threshold.step in ARRIVALS and threshold.step not in evidence.everything.steps:
                continue
            rows.append(_step_row(threshold, threshold.step, evidence))
        elif threshold.limit == "min_delivered_share":
            rows += _delivered_rows(threshold, evidence)
        else:
            rows.append(_run_row(threshold, evidence))
    if not any(threshold.limit == "max_protocol_errors" for threshold in thresholds):
        rows.append(_run_row(Threshold(None, "max_protocol_errors", 0), evidence))
    return rows


def doubts(
    load: Load, observer: Mapping[str, Times] | None, own: Mapping[str, Times], limits: Mapping[str, float]
) -> list[str]:
    """Why figures cannot be believed, a sentence each: where the load was the bottleneck, or the clocks were wrong.

    Args:
        load: how the load fared.
        observer: what an independent process measured, by step.
        own: what the load measured.
        limits: by the names of the table [load].
    """
    found = []
    for measured, limit, sentence in (
        (load.stall_max_ms, "max_stall_ms", "a load process did nothing for {:.0f} ms"),
        (load.lag_p99_ms, "max_lag_p99_ms", "the load's own timers were late by {:.0f} ms (p99)"),
        (load.send_lag_p99_ms, "max_send_lag_p99_ms", "the load sent {:.0f} ms later than it meant to (p99)"),
        (load.clock_step_ms, "max_clock_step_ms", "a wall clock was put right by {:.0f} ms"),
    ):
        if measured > limits[limit]:
            found.append(f"{sentence.format(measured)}; {limit} = {limits[limit]:g}")
    if not load.kernel_stamps and load.read_lag_p99_ms > limits["max_read_lag_p99_ms"]:
        found.append(
            f"what arrived lay unread for {load.read_lag_p99_ms:.0f} ms (p99), and the kernel gives no stamps; "
            f"max_read_lag_p99_ms = {limits['max_read_lag_p99_ms']:g}"
        )
    if load.blurred_share > limits["max_blurred_share"]:
        found.append(
            f"{load.blurred_share:.1%} of the messages lay unread before others, and have their time of arrival; "
            f"max_blurred_share = {limits['max_blurred_share']:g}"
        )
    if load.steal_share > limits["max_steal_share"]:
        found.append(
            f"the machine's host took {load.steal_share:.0%} of its processors; "
            f"max_steal_share = {limits['max_steal_share']:g}"
        )
    if load.never_sent > limits["max_never_sent"]:
        found.append(
            f"{load.never_sent} heartbeats, pushes or requests were due and never sent by the load; "
            f"max_never_sent = {limits['max_never_sent']:g}"
        )
    for step in ("heartbeat", "delivery", "broadcast"):
        seen, ours = (observer or {}).get(step), own.get(step)
        if seen is None or ours is None or min(seen.count, ours.count) < _ENOUGH:
            continue
        gap = limits["max_observer_gap_ms"]
        theirs_ms, ours_ms = seen.p95_ms or 0.0, ours.p95_ms or 0.0
        if max(theirs_ms, ours_ms) > 2 * min(theirs_ms, ours_ms) + gap:
            found.append(
                f"{step} p95 is {ours_ms:.4g} ms here and {theirs_ms:.4g} ms for an independent observer; "
                f"max_observer_gap_ms = {gap:g}"
            )
    return found


def slow_nodes(nodes: Mapping[str, NodeTimes]) -> list[str]:
    """Which of several nodes are much slower than the others, a sentence each; the slowest first."""
    known = {name: times for name, times in nodes.items() if times.count >= _ENOUGH}
    if len(known) < 2:
        return []
    quickest = min(known, key=lambda name: known[name].p95_ms)
    least = known[quickest].p95_ms
    slow = {name: times for name, times in known.items() if times.p95_ms > _SLOWER * least + _SLOWER_LEAST_MS}
    return [
        f"the node {name} is slower than the others: heartbeat p95 is {slow[name].p95_ms:.4g} ms there, "
        f"and {least:.4g} ms at {quickest}"
        for name in sorted(slow, key=lambda name: -slow[name].p95_ms)
    ]


def table(rows: Sequence[Row], invalid: Sequence[str] = ()) -> str:
    """The rows as text, and a last line that counts those that failed, or says that none of them counts."""
    cells = [("threshold", "limit", "measured", "verdict")]
    cells += [(row.name, row.limit, row.measured, "OK" if row.passed else "FAILED") for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {limit:>{widths[1]}}  {measured:>{widths[2]}}  {verdict}"
        for name, limit, measured, verdict in cells
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    failed = sum(not row.passed for row in rows)
    if invalid:
        lines += ["INVALID: the load was the bottleneck, so these figures say nothing of the gateway:"]
        lines += [f"- {sentence}" for sentence in invalid]
    elif failed:
        lines.append(f"FAILED: {failed} of {len(rows)} thresholds")
    else:
        lines.append(f"PASSED: all {len(rows)} thresholds")
    return "\n".join(lines)


def _step_row(threshold: Threshold, step: str, evidence: Evidence) -> Row:
    name = f"{step} {threshold.limit}"
    limit = f"<= {threshold.value:g}"
    everything = evidence.everything.steps.get(step)
    if everything is None or not (count := everything.times.count):
        return Row(name, limit, "never happened", passed=False)
    if threshold.limit == "max_failure_ratio":
        ratio = everything.failures / count
        return Row(name, limit, f"{ratio:.4g}", ratio <= threshold.value)
    judged = everything if step in ARRIVALS else evidence.held.steps.get(step)
    if judged is None or not (count := judged.times.count):
        return Row(name, limit, "never happened while the number was held", passed=False)
    # Refusals are quick: without this, a step that always fails would be praised for its speed.
    if judged.failures >= count:
        return Row(name, limit, "never succeeded", passed=False)
    measured = judged.times.percentile(PERCENTILES[threshold.limit])
    return Row(name, limit, f"{measured:.4g}", measured <= threshold.value)


def _delivered_rows(threshold: Threshold, evidence: Evidence) -> list[Row]:
    """One for each kind: a few lost pushes to single users are nothing beside the deliveries of broadcasts."""
    kinds = [limit for limit, kind in DELIVERED.items() if (found := evidence.deliveries.get(kind)) and found.expected]
    if not kinds:
        return [Row(threshold.limit, f">= {threshold.value:g}", "nothing was pushed to anyone", passed=False)]
    return [_run_row(Threshold(None, limit, threshold.value), evidence) for limit in kinds]


def _run_row(threshold: Threshold, evidence: Evidence) -> Row:
    name, value = threshold.limit, threshold.value
    at_least, at_most = f">= {value:g}", f"<= {value:g}"
    peak, users = evidence.connections.peak, evidence.users
    if (kind := DELIVERED.get(name)) is not None:
        found = evidence.deliveries.get(kind)
        if found is None or not found.expected:
            return Row(name, at_least, "nothing was pushed to anyone", passed=False)
        share = found.delivered / found.expected
        # Shares just below 1 must not be rounded to it.
        return Row(name, at_least, f"{share:.6g} ({found.delivered} of {found.expected})", share >= value)
    match name:
        case "min_registered":
            return Row(name, at_least, str(peak), peak >= value)
        case "min_registered_share":
            if users < 1:
                return Row(name, at_least, "no user was asked for", passed=False)
            return Row(name, at_least, f"{peak / users:.4g} ({peak} of {users})", peak / users >= value)
        case "max_unexpected_disconnects":
            if not peak:
                return Row(name, at_most, "nobody was registered", passed=False)
            return _count_row(name, value, evidence.everything.disconnects)
        case "max_protocol_errors":
            return _count_row(name, value, evidence.everything.protocol_errors)
        case "max_doubled" | "max_reordered" | "max_misdirected":
            field = name.removeprefix("max_")
            return _count_row(name, value, {kind: getattr(each, field) for kind, each in evidence.deliveries.items()})
    return _server_row(name, value, evidence.server)


def _count_row(name: str, value: float, counts: Mapping[str, int]) -> Row:
    total = sum(counts.values())
    which = ", ".join(f"{count}x {reason}" for reason, count in sorted(counts.items()) if count)
    return Row(name, f"<= {value:g}", f"{total} ({which})" if total else "0", total <= value)


def _server_row(name: str, value: float, server: Server | None) -> Row:
    limit = f"<= {value:g}"
    if server is None:
        return Row(name, limit, "the gateway's /metrics said nothing", passed=False)
    match name:
        case "max_memory_mb":
            measured: float | None = server.memory_max / 1e6
        case "max_memory_per_connection_kb":
            measured = None if server.memory_per_connection is None else server.memory_per_connection / 1e3
        case "max_cpu_share":
            measured = server.cpu_share
        case _:
            raise AssertionError(f"no rule for the threshold {name}")
    if measured is None:
        return Row(name, limit, "too few connections to say", passed=False)
    return Row(name, limit, f"{measured:.4g}", measured <= value)
