"""Statistics: health over a window, and the moving average."""

import pytest

from service.core.dispatch.model import WINDOW, Statistics


@pytest.mark.parametrize(
    ("answers", "errors", "sick"),
    [(4, 4, False), (5, 5, True), (5, 3, True), (6, 3, False), (10, 6, True), (100, 50, False), (0, 0, False)],
)
def test_more_than_half_of_at_least_five_makes_sick(answers: int, errors: int, sick: bool) -> None:
    statistics = Statistics()
    for number in range(answers):
        statistics.record(1000.0, 0.01, number < errors)
    assert statistics.sick(1000.0) is sick
    assert (statistics.answers, statistics.errors) == (answers, errors)


def test_errors_are_forgotten_after_the_window_but_not_long_before() -> None:
    statistics = Statistics()
    for second in range(10):
        statistics.record(1000.0 + second, 0.01, True)
    assert statistics.sick(1000.0 + 0.85 * WINDOW)
    assert not statistics.sick(1010.0 + WINDOW)
    assert statistics.error_share(1010.0 + 100 * WINDOW) == 0.0
    assert statistics.errors == 10


def test_the_window_slides() -> None:
    statistics = Statistics()
    for second in range(0, 1000, 10):
        statistics.record(float(second), 0.01, second < 500)
    assert statistics.error_share(499.0 + WINDOW / 2) < 0.5
    assert statistics.error_share(1000.0) == 0.0


def test_the_average_shrugs_off_one_hiccup_and_believes_many() -> None:
    statistics = Statistics()
    for _ in range(50):
        statistics.record(0.0, 0.001, False)
    statistics.record(0.0, 5.0, False)
    assert statistics.average < 0.005
    for _ in range(60):
        statistics.record(0.0, 0.5, False)
    assert statistics.average == pytest.approx(0.5, rel=0.1)
