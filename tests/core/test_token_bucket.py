"""The token bucket: bursts, the rate over time, and amounts larger than the bucket."""

from hypothesis import given
from hypothesis import strategies as st

from service.core.token_bucket import TokenBucket


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(10, 20, 0.0)
    assert sum(bucket.take(1, 0.0) for _ in range(100)) == 20
    assert sum(bucket.take(1, 0.5) for _ in range(100)) == 5


def test_an_amount_larger_than_the_burst_passes_once_and_is_paid_off() -> None:
    bucket = TokenBucket(100, 200, 0.0)
    assert bucket.take(1000, 0.0)
    assert not bucket.take(1, 7.9)
    assert bucket.take(1, 8.1)


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(1, 1, 0.0)
    assert bucket.take(1, 0.0)
    assert not any(bucket.take(1, 0.9) for _ in range(1000))
    assert bucket.take(1, 1.1)


def test_a_clock_that_stands_still_or_goes_back_fills_nothing() -> None:
    bucket = TokenBucket(1, 1, 5.0)
    assert bucket.take(1, 5.0)
    assert not bucket.take(1, 1.0)
    assert not bucket.take(1, 5.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 50)), max_size=60), st.floats(0.1, 20))
def test_over_time_no_more_than_the_rate(steps: list[tuple[float, float]], rate: float) -> None:
    bucket = TokenBucket(rate, 2 * rate + 1, 0.0)
    now = taken = largest = 0.0
    for pause, amount in steps:
        now += pause
        if bucket.take(amount, now):
            taken += amount
            largest = max(largest, amount)
    assert taken <= 2 * rate + 1 + now * rate + largest + 1e-6
