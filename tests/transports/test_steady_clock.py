"""The clock that these tests run by."""

from math import inf

import pytest
import trio
import trio.testing

from tests.steady_clock import LONGEST_LOOK, LOOK, STILL, SteadyClock


class Hands:
    """What a clock under test is moved by."""

    def __init__(self) -> None:
        self.now, self.at_work = 100.0, 5.0
        self.clock = SteadyClock(lambda: self.now, lambda: self.at_work)
        self.clock.start_clock()

    def counted(self, passed: float, worked: float = 0.0) -> float:
        """How much of what passed it counts."""
        before = self.clock.current_time()
        return self.counted_since(before, passed, worked)

    def slept(self, due: float, passed: float) -> float:
        """The same where it was asked beforehand how long there is to sleep."""
        before = self.clock.current_time()
        self.clock.deadline_to_sleep_time(before + due)
        return self.counted_since(before, passed, 0.0)

    def counted_since(self, before: float, passed: float, worked: float) -> float:
        self.now += passed
        self.at_work += worked
        return self.clock.current_time() - before


@pytest.mark.parametrize(
    ("passed", "worked", "counted"),
    [(0.02, 0.0, 0.02), (0.02, 0.02, 0.02), (1.5, 0.0, STILL), (1.5, 0.01, STILL), (1.5, 1.2, 1.2), (1.0, 3.0, 1.0)],
    ids=["waiting", "at work", "paused", "paused at work", "blocked", "blocked with threads"],
)
def test_a_pause_is_not_counted_and_work_is(passed: float, worked: float, counted: float) -> None:
    assert Hands().counted(passed, worked) == pytest.approx(counted)


def test_what_was_slept_is_counted_and_a_pause_in_it_is_not() -> None:
    hands = Hands()
    assert hands.slept(0.01, 0.01) == pytest.approx(0.01)
    assert hands.slept(0.01, 1.5) == pytest.approx(0.01 + STILL)
    assert hands.slept(inf, 1.5) == pytest.approx(LOOK + STILL)


def test_it_is_looked_at_less_often_while_nothing_happens() -> None:
    hands = Hands()
    looks = []
    for _ in range(6):
        looks.append(hands.clock.deadline_to_sleep_time(inf))
        assert hands.counted_since(hands.clock._time, looks[-1], 0.0) == pytest.approx(looks[-1])
    assert looks == [LOOK, 2 * LOOK, 4 * LOOK, LONGEST_LOOK, LONGEST_LOOK, LONGEST_LOOK]
    hands.slept(inf, 0.001)  # something came
    assert hands.clock.deadline_to_sleep_time(inf) == LOOK


async def test_the_tests_of_this_folder_run_by_it() -> None:
    assert isinstance(trio.lowlevel.current_clock(), SteadyClock)
    with trio.fail_after(60):
        await trio.testing.wait_all_tasks_blocked(LONGEST_LOOK / 2)
    start = trio.current_time()
    await trio.sleep(0.05)
    assert trio.current_time() - start >= 0.05
