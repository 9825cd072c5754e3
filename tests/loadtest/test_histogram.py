import random

import msgspec
import pytest

from loadtest._histogram import Histogram, upper_end


def of(*seconds: float) -> Histogram:
    histogram = Histogram()
    for each in seconds:
        histogram.record(each)
    return histogram


def test_a_percentile_is_never_too_low_and_at_most_0_79_percent_too_high() -> None:
    chance = random.Random(3)
    for _ in range(3000):
        value = chance.choice([1, 255, 256, 257, 511, 512, 513, chance.randrange(1, 400), chance.randrange(1, 10**9)])
        (bucket,) = of((value + 0.5) / 1e6).counts
        assert value <= upper_end(bucket) <= value * (1 + 1 / 128)
        assert bucket == 0 or upper_end(bucket - 1) < value


def test_percentiles_to_the_last_of_ten_thousand() -> None:
    histogram = of(*(each / 1000 for each in range(1, 10_001)))
    shares = (0.5, 0.9, 0.99, 0.999, 0.9999, 1.0)
    for share, found in zip(shares, histogram.percentiles(shares), strict=True):
        assert share * 10_000 <= found <= share * 10_000 * (1 + 1 / 128)
    assert histogram.percentile(1.0) == 10_000
    assert histogram.mean() == pytest.approx(5000.5)


def test_none_at_all_and_times_below_zero() -> None:
    assert (Histogram().count, Histogram().mean(), Histogram().percentile(0.99)) == (0, 0.0, 0.0)
    assert (of(-1.0).count, of(-1.0).percentile(1.0)) == (1, 0.0)


def test_parts_of_several_processes_add_up_to_what_one_would_have_counted() -> None:
    times = [random.Random(5).expovariate(10) for _ in range(999)]
    total = Histogram()
    for part in (times[:10], times[10:700], [], times[700:]):
        # As it travels between the processes.
        total.add(msgspec.msgpack.decode(msgspec.msgpack.encode(of(*part)), type=Histogram))
    assert total == of(*times)
