"""The clock that these tests run by."""

import pytest
import trio

from tests.steady_clock import STILL, SteadyClock


@pytest.mark.parametrize(
    ("passed", "worked", "counted"),
    [(0.02, 0.0, 0.02), (0.05, 0.05, 0.05), (1.5, 0.0, STILL), (1.5, 0.01, STILL), (1.5, 1.2, 1.2), (1.0, 3.0, 1.0)],
    ids=["asleep", "at work", "paused", "paused at work", "blocked", "blocked with threads"],
)
def test_a_pause_is_not_counted_and_work_is(passed: float, worked: float, counted: float) -> None:
    now, at_work = 100.0, 5.0
    clock = SteadyClock(lambda: now, lambda: at_work)
    clock.start_clock()
    start = clock.current_time()
    now, at_work = now + passed, at_work + worked
    assert clock.current_time() - start == pytest.approx(counted)
    assert clock.current_time() - start == pytest.approx(counted)


async def test_the_tests_of_this_folder_run_by_it() -> None:
    assert isinstance(trio.lowlevel.current_clock(), SteadyClock)
