"""Histograms count each observation in the one bucket whose upper bound it doesn't exceed."""

import pytest

from service.core.counters import LATENCY_BOUNDS, Histogram


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0, 0),
        (LATENCY_BOUNDS[0], 0),
        (LATENCY_BOUNDS[0] + 1e-9, 1),
        (LATENCY_BOUNDS[-1], len(LATENCY_BOUNDS) - 1),
        (LATENCY_BOUNDS[-1] + 1e-9, len(LATENCY_BOUNDS)),
        (1e6, len(LATENCY_BOUNDS)),
    ],
)
def test_an_observation_is_in_one_bucket(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert [number for number, count in enumerate(histogram.buckets) if count] == [bucket]
    assert histogram.sum == seconds


def test_observations_add_up() -> None:
    histogram = Histogram()
    for _ in range(3):
        histogram.observe(0.5)
    assert (sum(histogram.buckets), histogram.sum) == (3, 1.5)


def test_the_bounds_grow() -> None:
    assert list(LATENCY_BOUNDS) == sorted(set(LATENCY_BOUNDS))
