import pytest

from loadtest._tally import Tally
from loadtest._thresholds import Threshold
from loadtest._verdict import Row, StepFigures, judge, table

TIMES = {"p50_ms": 10.0, "p90_ms": 20.0, "p95_ms": 30.0, "p99_ms": 40.0, "max_ms": 50.0}


def verdict(
    threshold: Threshold, figures: StepFigures | None = None, tally: Tally | None = None, users: int = 10
) -> Row:
    steps = {} if figures is None or threshold.step is None else {threshold.step: figures}
    (row,) = judge([threshold], steps, tally or Tally(), users)
    return row


@pytest.mark.parametrize(("limit", "measured"), TIMES.items())
def test_times_pass_up_to_their_limit(limit: str, measured: float) -> None:
    figures = StepFigures(100, 99, TIMES)
    assert verdict(Threshold("connect", limit, measured), figures).passed
    assert not verdict(Threshold("connect", limit, measured - 0.5), figures).passed


def test_failure_ratio() -> None:
    figures = StepFigures(200, 3, TIMES)
    assert verdict(Threshold("push", "max_failure_ratio", 0.015), figures).passed
    row = verdict(Threshold("push", "max_failure_ratio", 0.014), figures)
    assert row == Row("push max_failure_ratio", "<= 0.014", "0.015", passed=False)


@pytest.mark.parametrize("limit", ["max_failure_ratio", *TIMES])
@pytest.mark.parametrize("figures", [None, StepFigures(0, 0, TIMES)])
def test_a_step_that_never_happened_has_failed(limit: str, figures: StepFigures | None) -> None:
    row = verdict(Threshold("delivery", limit, 0.999), figures)
    assert (row.measured, row.passed) == ("never happened", False)


@pytest.mark.parametrize("limit", TIMES)
def test_a_step_that_always_failed_is_not_praised_for_failing_fast(limit: str) -> None:
    row = verdict(Threshold("connect", limit, 1000.0), StepFigures(7, 7, TIMES))
    assert (row.measured, row.passed) == ("never succeeded", False)


def test_registered_connections_by_number_and_by_share() -> None:
    tally = Tally(registered=[1.0] * 9)
    assert verdict(Threshold(None, "min_registered", 9), tally=tally).passed
    assert not verdict(Threshold(None, "min_registered", 10), tally=tally).passed
    assert verdict(Threshold(None, "min_registered_share", 0.9), tally=tally).passed
    assert not verdict(Threshold(None, "min_registered_share", 0.95), tally=tally).passed
    assert not verdict(Threshold(None, "min_registered_share", 0.9), tally=tally, users=0).passed


def test_disconnects() -> None:
    tally = Tally(registered=[1.0], disconnects={"1006": 2, "4008": 1})
    assert verdict(Threshold(None, "max_unexpected_disconnects", 3), tally=tally).passed
    row = verdict(Threshold(None, "max_unexpected_disconnects", 2), tally=tally)
    assert (row.measured, row.passed) == ("3 (2x 1006, 1x 4008)", False)


def test_no_disconnects_among_nobody_prove_nothing() -> None:
    row = verdict(Threshold(None, "max_unexpected_disconnects", 2), tally=Tally())
    assert (row.measured, row.passed) == ("nobody was registered", False)


def test_delivered_share() -> None:
    tally = Tally(registered=[1.0], aimed_sent=100_000, aimed_delivered=99_999)
    assert verdict(Threshold(None, "min_delivered_share", 0.99999), tally=tally).passed
    row = verdict(Threshold(None, "min_delivered_share", 1.0), tally=tally)
    assert (row.measured, row.passed) == ("0.99999 (99999 of 100000)", False)


def test_no_loss_among_no_pushes_proves_nothing() -> None:
    row = verdict(Threshold(None, "min_delivered_share", 0.5), tally=Tally(registered=[1.0], broadcasts=[0.5]))
    assert (row.measured, row.passed) == ("nothing was pushed to anyone", False)


def test_the_table_names_each_threshold_and_counts_the_failed() -> None:
    rows = [Row("connect p95_ms", "<= 5", "4", passed=True), Row("min_registered", ">= 10", "9", passed=False)]
    assert table(rows).splitlines() == [
        "threshold       limit  measured  verdict",
        "----------------------------------------",
        "connect p95_ms   <= 5         4  OK",
        "min_registered  >= 10         9  FAILED",
        "FAILED: 1 of 2 thresholds",
    ]
    assert table(rows[:1]).endswith("PASSED: all 1 thresholds")
