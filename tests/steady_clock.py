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
"""Seconds until the clock is looked at again while anything happens, whatever is due."""
LONGEST_LOOK: Final = 0.2
"""The same where nothing happens: twice as long each time. Whoever has `wait_all_tasks_blocked` wait for more idle time
than this waits in vain."""
STILL: Final = 0.025
"""Of what a look is late by more than this, only what was worked is counted."""


class SteadyClock(trio.abc.Clock):
    """`now` and `worked`: seconds, of the wall's kind and of the processor's."""

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, worked: Callable[[], float] = time.process_time
    ) -> None:
        self._now = now
        self._worked = worked
        self._time = 0.0
        self._look = LOOK
        self._asleep = 0.0
        self._looked = now(), worked()

    def start_clock(self) -> None:
        """Begin to count."""
        self._looked = self._now(), self._worked()

    def current_time(self) -> float:
        """Seconds that were not stood still."""
        before, self._looked = self._looked, (self._now(), self._worked())
        passed, worked = (now - then for now, then in zip(self._looked, before, strict=True))
        if passed < 0.9 * self._asleep:
            self._look = LOOK
        longest, self._asleep = self._asleep + STILL, 0.0
        self._time += passed if passed <= longest else max(longest, min(worked, passed))
        return self._time

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Seconds until then, or until the next look."""
        left = deadline - self.current_time()
        self._asleep = max(0.0, min(left, self._look))
        self._look = LOOK if left <= self._look else min(2 * self._look, LONGEST_LOOK)
        return self._asleep


def run(
    main: Callable[..., Awaitable[T]],
    *args: Any,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """`trio.run`, by a steady clock where the test has none of its own."""
    return trio.run(main, *args, clock=clock or SteadyClock(), instruments=instruments)
