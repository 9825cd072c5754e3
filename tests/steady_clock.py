"""A clock for `trio.run` that doesn't count the time for which the process stood still.

A machine that runs tests is paused now and then, for a second and more. Tests of what happens in the gateway and its
clients when bytes keep flowing, or stop, have both in one process, with timeouts of tenths of a second: after a pause
all of them would be over, though nobody was given the time to do anything. By this clock a pause is a twentieth of a
second. What the process works is counted in full, so something that blocks it for long is late by this clock too.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import trio

T = TypeVar("T")

LOOK: Final = 0.025
"""The clock is looked at as often as this, in seconds, also where nothing is due."""
STILL: Final = 0.05
"""Of more than this between two looks, only what was worked is counted."""


class SteadyClock(trio.abc.Clock):
    """`now` and `worked`: seconds, of the wall's kind and of the processor's."""

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, worked: Callable[[], float] = time.process_time
    ) -> None:
        self._now = now
        self._worked = worked
        self._time = 0.0
        self._looked = now(), worked()

    def start_clock(self) -> None:
        """Begin to count."""
        self._looked = self._now(), self._worked()

    def current_time(self) -> float:
        """Seconds that were not stood still."""
        before, self._looked = self._looked, (self._now(), self._worked())
        passed, worked = (now - then for now, then in zip(self._looked, before, strict=True))
        self._time += passed if passed <= STILL else max(STILL, min(worked, passed))
        return self._time

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Seconds until then, or until the next look."""
        return min(deadline - self.current_time(), LOOK)


def run(
    main: Callable[..., Awaitable[T]],
    *args: Any,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """`trio.run`, by a steady clock where the test has none of its own."""
    return trio.run(main, *args, clock=clock or SteadyClock(), instruments=instruments)
