"""A wheel of deadlines: thousands of timers, one sweep, no task and no heap entry per connection.

Each entry has one deadline at a time, kept in a bucket a tick wide; setting, moving and dropping it cost
one set operation each. A deadline fires at the first sweep after its tick is over: never early, and at
most one tick and the sweep's own delay late. Knows nothing of sockets, and reads no clock.
"""

from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

TICK: Final = 0.1
"""Seconds that a bucket is wide."""


class Timed(Protocol):
    """What can have a deadline. `tick` is the wheel's to write; 0 where there is none."""

    tick: int


T = TypeVar("T", bound=Timed)


class Wheel(Generic[T]):
    """Deadlines by tick."""

    def __init__(self, now: float) -> None:
        self._buckets: dict[int, set[T]] = {}
        self._swept = int(now / TICK)

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())

    def set(self, entry: T, deadline: float) -> None:
        """Give the entry this deadline (seconds, on the clock of `sweep`) instead of the one it had."""
        self.drop(entry)
        # A tick that was swept already would never fire.
        tick = max(int(deadline / TICK) + 1, self._swept + 1)
        entry.tick = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = {entry}
        else:
            bucket.add(entry)

    def drop(self, entry: T) -> None:
        """Take the entry's deadline away, if it has one."""
        tick = entry.tick
        if not tick:
            return
        entry.tick = 0
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.discard(entry)
            if not bucket:
                del self._buckets[tick]

    def sweep(self, now: float) -> Iterator[T]:
        """The entries whose deadline is over, each without one from then on; they may be given a new one.

        An entry that is dropped while the sweep goes on is not given out.
        """
        last = int(now / TICK)
        # After a long pause there may be more ticks than buckets to look at.
        ticks = range(self._swept + 1, last + 1)
        due = sorted(self._buckets.keys() & set(ticks)) if len(ticks) <= 1000 else sorted(self._buckets)
        self._swept = max(last, self._swept)
        for tick in due:
            if tick > last:
                break
            bucket = self._buckets.get(tick)
            while bucket:
                entry = bucket.pop()
                entry.tick = 0
                if not bucket:
                    self._buckets.pop(tick, None)
                yield entry
