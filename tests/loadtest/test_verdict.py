from collections.abc import Mapping
from typing import Any

import pytest

from loadtest._figures import Attempts, Part
from loadtest._histogram import Histogram
from loadtest._ledger import times
from loadtest._result import Connections, Deliveries, Load, NodeTimes, Row, Server, Times
from loadtest._thresholds import LOAD_DEFAULTS, Threshold
from loadtest._verdict import Evidence, doubts, judge, slow_nodes, table

LIMITS = {"p50_ms": 50.0, "p90_ms": 90.0, "p95_ms": 95.0, "p99_ms": 99.0, "max_ms": 100.0}


def attempts(count: int = 100, failures: int = 0, scale: float = 1.0) -> Attempts:
    """As many as that, of 1 ms, 2 ms, and so on."""
    histogram = Histogram()
    for each in range(1, count + 1):
        histogram.record(each * scale / 1000)
    return Attempts(histogram, {"why": failures} if failures else {})


def deliveries(expected: int, delivered: int, doubled: int = 0) -> Deliveries:
    return Deliveries(
        expected=expected, delivered=delivered, lost=expected - delivered, doubled=doubled, reordered=0, misdirected=0,
        per_second=0.0,
    )  # fmt: skip


def evidence(**given: Any) -> Evidence:
    everything = given.pop("everything", Part())
    known: dict[str, Any] = {
        "users": 10,
        "everything": everything,
        "held": everything,
        "deliveries": {},
        "connections": Connections(peak=9, lowest=0, at_end=9),
        "server": None,
    }
    return Evidence(**(known | given))


def verdict(threshold: Threshold, **given: Any) -> Row:
    return judge([threshold], evidence(**given))[0]


@pytest.mark.parametrize(("limit", "measured"), LIMITS.items())
def test_times_pass_up_to_their_limit(limit: str, measured: float) -> None:
    part = Part(steps={"heartbeat": attempts()})
    assert verdict(Threshold("heartbeat", limit, measured * 1.01), everything=part).passed
    assert not verdict(Threshold("heartbeat", limit, measured - 0.5), everything=part).passed


def test_what_happens_while_users_come_counts_for_coming_in_and_for_failures_not_for_other_times() -> None:
    ramp, hold = attempts(scale=10.0, failures=1), attempts()
    everything = Part(steps={"connect": ramp, "heartbeat": ramp})
    held = Part(steps={"heartbeat": hold})
    given = {"everything": everything, "held": held}
    assert not verdict(Threshold("connect", "p50_ms", 100.0), **given).passed
    assert verdict(Threshold("heartbeat", "p50_ms", 100.0), **given).passed
    assert not verdict(Threshold("heartbeat", "max_failure_ratio", 0.001), **given).passed
    row = verdict(Threshold("push", "p50_ms", 100.0), everything=Part(steps={"push": ramp}), held=held)
    assert (row.measured, row.passed) == ("never happened while the number was held", False)


def test_a_part_of_a_run_in_which_nobody_came_is_not_judged_by_that() -> None:
    limits = [Threshold("register", "max_failure_ratio", 0.0), Threshold("heartbeat", "max_failure_ratio", 0.0)]
    found = judge(limits, evidence(everything=Part(steps={"heartbeat": attempts()}), part=True))
    assert [row.name for row in found] == ["heartbeat max_failure_ratio", "max_protocol_errors"]


def test_failure_ratio() -> None:
    part = Part(steps={"push": attempts(200, 3)})
    assert verdict(Threshold("push", "max_failure_ratio", 0.015), everything=part).passed
    row = verdict(Threshold("push", "max_failure_ratio", 0.014), everything=part)
    assert row == Row("push max_failure_ratio", "<= 0.014", "0.015", passed=False)


@pytest.mark.parametrize("limit", ["max_failure_ratio", *LIMITS])
@pytest.mark.parametrize("part", [Part(), Part(steps={"delivery": Attempts()})])
def test_a_step_that_never_happened_has_failed(limit: str, part: Part) -> None:
    row = verdict(Threshold("delivery", limit, 0.999), everything=part)
    assert (row.measured, row.passed) == ("never happened", False)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_step_that_always_failed_is_not_praised_for_failing_fast(limit: str) -> None:
    row = verdict(Threshold("connect", limit, 1000.0), everything=Part(steps={"connect": attempts(7, 7)}))
    assert (row.measured, row.passed) == ("never succeeded", False)


def test_registered_connections_by_number_and_by_share() -> None:
    assert verdict(Threshold(None, "min_registered", 9)).passed
    assert not verdict(Threshold(None, "min_registered", 10)).passed
    assert verdict(Threshold(None, "min_registered_share", 0.9)).passed
    assert not verdict(Threshold(None, "min_registered_share", 0.95)).passed
    assert not verdict(Threshold(None, "min_registered_share", 0.9), users=0).passed


def test_disconnects() -> None:
    part = Part(disconnects={"1006": 2, "4008": 1})
    assert verdict(Threshold(None, "max_unexpected_disconnects", 3), everything=part).passed
    row = verdict(Threshold(None, "max_unexpected_disconnects", 2), everything=part)
    assert (row.measured, row.passed) == ("3 (2x 1006, 1x 4008)", False)


def test_no_disconnects_among_nobody_prove_nothing() -> None:
    nobody = Connections(peak=0, lowest=0, at_end=0)
    row = verdict(Threshold(None, "max_unexpected_disconnects", 2), connections=nobody)
    assert (row.measured, row.passed) == ("nobody was registered", False)


def test_a_few_lost_pushes_to_single_users_are_not_hidden_by_broadcasts() -> None:
    found = {"aimed": deliveries(20, 14), "broadcast": deliveries(8000, 8000)}
    rows = judge([Threshold(None, "min_delivered_share", 0.99)], evidence(deliveries=found))[:2]
    assert rows == [
        Row("min_aimed_delivered_share", ">= 0.99", "0.7 (14 of 20)", passed=False),
        Row("min_broadcast_delivered_share", ">= 0.99", "1 (8000 of 8000)", passed=True),
    ]


def test_delivered_share_is_not_rounded_up_to_one() -> None:
    found = {"durable": deliveries(100_000, 99_999)}
    assert verdict(Threshold(None, "min_durable_delivered_share", 0.99999), deliveries=found).passed
    row = verdict(Threshold(None, "min_durable_delivered_share", 1.0), deliveries=found)
    assert (row.measured, row.passed) == ("0.99999 (99999 of 100000)", False)


@pytest.mark.parametrize("limit", ["min_delivered_share", "min_aimed_delivered_share"])
def test_no_loss_among_no_pushes_proves_nothing(limit: str) -> None:
    row = verdict(Threshold(None, limit, 0.5), deliveries={"broadcast": deliveries(0, 0)})
    assert (row.measured, row.passed) == ("nothing was pushed to anyone", False)


def test_doubled_deliveries_by_kind() -> None:
    row = verdict(Threshold(None, "max_doubled", 1), deliveries={"aimed": deliveries(9, 9, 2)})
    assert (row.measured, row.passed) == ("2 (2x aimed)", False)


def test_protocol_errors_fail_unless_the_file_allows_some() -> None:
    part = Part(protocol_errors={"a binary message": 2})
    given = evidence(everything=part)
    assert judge([], given) == [Row("max_protocol_errors", "<= 0", "2 (2x a binary message)", passed=False)]
    assert [row.passed for row in judge([Threshold(None, "max_protocol_errors", 2)], given)] == [True]


def test_the_servers_memory_and_processors() -> None:
    server = Server(processes=[], cpu_share=0.5, memory_max=90_000_000, memory_per_connection=1300.0)
    for limit, value in (("max_memory_mb", 90), ("max_cpu_share", 0.5), ("max_memory_per_connection_kb", 1.3)):
        assert verdict(Threshold(None, limit, value), server=server).passed
        assert not verdict(Threshold(None, limit, value * 0.99), server=server).passed
        assert not verdict(Threshold(None, limit, value)).passed
    few = Server(processes=[], cpu_share=0.5, memory_max=90_000_000, memory_per_connection=None)
    assert not verdict(Threshold(None, "max_memory_per_connection_kb", 1000), server=few).passed


def load(**given: Any) -> Load:
    known: dict[str, Any] = dict.fromkeys(Load.__struct_fields__, 0) | {"kernel_stamps": True}
    return Load(**(known | given))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"stall_max_ms": 4000.0}, "a load process did nothing for 4000 ms; max_stall_ms = 1000"),
        ({"lag_p99_ms": 101.0}, "the load's own timers were late by 101 ms (p99); max_lag_p99_ms = 100"),
        ({"send_lag_p99_ms": 101.0}, "the load sent 101 ms later than it meant to (p99); max_send_lag_p99_ms = 100"),
        ({"clock_step_ms": 21.0}, "a wall clock was put right by 21 ms; max_clock_step_ms = 20"),
        ({"read_lag_p99_ms": 101.0, "kernel_stamps": False}, "what arrived lay unread for 101 ms (p99)"),
        ({"blurred_share": 0.05}, "5.0% of the messages lay unread before others"),
        ({"steal_share": 0.2}, "the machine's host took 20% of its processors; max_steal_share = 0.1"),
        ({"never_sent": 3}, "3 heartbeats, pushes or requests were due and never sent by the load"),
    ],
)
def test_a_load_that_was_the_bottleneck_says_so(given: dict[str, Any], sentence: str) -> None:
    (found,) = doubts(load(**given), None, {}, LOAD_DEFAULTS)
    assert found.startswith(sentence)


def test_a_load_that_was_not_says_nothing() -> None:
    held = load(stall_max_ms=1000.0, lag_p99_ms=100.0, send_lag_p99_ms=100.0, read_lag_p99_ms=5000.0, steal_share=0.1)
    assert doubts(held, None, {}, LOAD_DEFAULTS) == []


def measured(scale: float, count: int = 100) -> Mapping[str, Times]:
    return {"heartbeat": times(attempts(count, scale=scale), 1.0)}


@pytest.mark.parametrize("swapped", [False, True])
def test_an_observer_that_sees_something_else_is_a_reason_to_doubt(swapped: bool) -> None:
    ours, theirs = measured(4.0), measured(1.0)
    if swapped:
        ours, theirs = theirs, ours
    (found,) = doubts(load(), theirs, ours, LOAD_DEFAULTS)
    assert "for an independent observer; max_observer_gap_ms = 100" in found
    assert doubts(load(), measured(2.0), measured(1.0), LOAD_DEFAULTS) == []
    assert doubts(load(), measured(9.0, count=19), measured(1.0), LOAD_DEFAULTS) == []


def test_the_table_names_each_threshold_and_counts_the_failed() -> None:
    rows = [Row("connect p95_ms", "<= 5", "4", passed=True), Row("min_registered", ">= 10", "9", passed=False)]
    lines = [
        "threshold       limit  measured  verdict",
        "----------------------------------------",
        "connect p95_ms   <= 5         4  OK",
        "min_registered  >= 10         9  FAILED",
    ]
    assert table(rows).splitlines() == [*lines, "FAILED: 1 of 2 thresholds"]
    assert table(rows[:1]).endswith("PASSED: all 1 thresholds")
    invalid = table(rows, ["it slept"]).splitlines()
    assert invalid[:4] == lines
    assert invalid[4].startswith("INVALID: ")
    assert invalid[5] == "- it slept"


def node(p95_ms: float, count: int = 100) -> NodeTimes:
    return NodeTimes(count=count, p50_ms=1.0, p95_ms=p95_ms, p99_ms=p95_ms, max_ms=p95_ms)


def test_a_node_that_is_much_slower_than_the_others_is_named() -> None:
    assert slow_nodes({"a": node(4.0), "b": node(612.0), "c": node(5.0), "d": node(900.0)}) == [
        "the node d is slower than the others: heartbeat p95 is 900 ms there, and 4 ms at a",
        "the node b is slower than the others: heartbeat p95 is 612 ms there, and 4 ms at a",
    ]


@pytest.mark.parametrize(
    "nodes",
    [{}, {"a": node(900.0)}, {"a": node(4.0), "b": node(55.0)}, {"a": node(600.0), "b": node(900.0)},
     {"a": node(4.0), "b": node(900.0, count=19)}],
)  # fmt: skip
def test_one_that_is_a_little_slower_or_that_was_hardly_asked_is_not(nodes: dict[str, NodeTimes]) -> None:
    assert slow_nodes(nodes) == []
