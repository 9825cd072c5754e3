import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.client.backoff import LONGEST_WINDOW, Attempts, Backoff, window_in


def test_delays_grow_to_a_bound_and_use_all_of_it() -> None:
    attempts = Attempts(Backoff(first=1, longest=10, factor=2, random=lambda: 1.0))
    delays = []
    for _ in range(6):
        attempts.record()
        delays.append(attempts.delay())
    assert delays == [1, 2, 4, 8, 10, 10]


def test_full_jitter_reaches_down_to_now() -> None:
    attempts = Attempts(Backoff(first=1, longest=10, random=lambda: 0.0))
    attempts.record()
    assert attempts.delay() == 0.0


def test_a_connection_that_held_starts_the_count_again() -> None:
    attempts = Attempts(Backoff(first=1, longest=64, stable_after=10, random=lambda: 1.0))
    for _ in range(5):
        attempts.record()
    attempts.record(lived=9.9)
    assert attempts.delay() == 32
    attempts.record(lived=10.0)
    assert attempts.failures == 0
    assert attempts.delay() == 1


def test_gives_up_after_as_many_failures_as_allowed() -> None:
    attempts = Attempts(Backoff(max_attempts=2, random=lambda: 0.5))
    attempts.record()
    assert not attempts.exhausted
    attempts.record()
    assert attempts.exhausted


def test_never_gives_up_by_default() -> None:
    attempts = Attempts(Backoff(random=lambda: 0.5))
    for _ in range(10_000):
        attempts.record()
    assert not attempts.exhausted
    assert attempts.delay() == 15.0  # and the exponent has not overflowed


def test_a_window_replaces_the_growth() -> None:
    attempts = Attempts(Backoff(first=1, longest=1, random=lambda: 0.25))
    for _ in range(5):
        attempts.record()
    assert attempts.delay(window=20) == 5.0


def test_what_was_asked_for_is_a_floor_and_is_bounded() -> None:
    attempts = Attempts(Backoff(first=1, longest=1, random=lambda: 0.5))
    attempts.record()
    assert attempts.delay(at_least=3) == 3.5
    assert attempts.delay(at_least=1e9) == LONGEST_WINDOW + 0.5


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        ("retry_within_ms=20000", 20.0),
        ("node restarting; retry_within_ms=1500", 1.5),
        ("retry_within_ms=0", 0.0),
        ("retry_within_ms=999999999999", LONGEST_WINDOW),
        ("retry_within_ms=9999999999999999", None),
        ("retry_within_ms=-5", None),
        ("retry_within_ms=soon", None),
        ("", None),
    ],
)
def test_the_window_is_read_from_the_reason(reason: str, seconds: float | None) -> None:
    assert window_in(reason) == seconds


@pytest.mark.parametrize("wrong", [{"first": -1}, {"first": 5, "longest": 1}, {"factor": 0.5}, {"max_attempts": 0}])
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="back-off"):
        Backoff(**wrong)  # type: ignore[arg-type]  # one parameter set for fields of two types


@settings(deadline=None)  # what is asked is whether it holds, not how loaded the machine is
@given(
    seed=st.integers(),
    lives=st.lists(st.floats(min_value=0, max_value=100), max_size=200),
    first=st.floats(min_value=0, max_value=10),
)
def test_a_delay_is_always_within_its_bounds(seed: int, lives: list[float], first: float) -> None:
    attempts = Attempts(Backoff(first=first, longest=20, random=random.Random(seed).random))
    for lived in lives:
        attempts.record(lived)
        assert 0 <= attempts.delay() <= 20
