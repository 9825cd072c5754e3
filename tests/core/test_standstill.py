"""Standstill: nobody is judged right after one, and somebody some time even by a process that hardly runs."""

from itertools import pairwise

from service.core.standstill import GRACE, Standstill


def judged(gaps: list[float]) -> list[bool]:
    """Whether each look may judge, for so many seconds before each."""
    standstill, now, seen = Standstill(0.1, 100.0), 100.0, []
    for gap in gaps:
        now += gap
        seen.append(standstill.may_judge(now))
    return seen


def test_the_usual_looks_judge_however_late_they_are_within_reason() -> None:
    assert all(judged([0.0, 0.1, 0.11, 0.3, 0.5, 0.1]))


def test_after_a_standstill_what_came_is_read_first() -> None:
    assert judged([0.1, 60.0, 0.1, 0.5, GRACE - 0.7, 0.2]) == [True, False, False, False, False, True]


def test_a_process_that_hardly_runs_judges_all_the_same() -> None:
    seen = judged([0.1, *[1.2] * 30])
    assert 4 <= seen.count(False) <= 8
    assert not any(first is second is False for first, second in pairwise(seen))
