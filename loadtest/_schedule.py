"""What is due when: an open-model schedule that waits for nobody.

Knows times and callbacks. A callback gets the time at which it was due, and measures from then: so whatever made it
late, here or at the gateway, is in the figures. One greenlet serves all; it yields every two milliseconds.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Final

import gevent
from gevent.event import Event

_SLICE: Final = 0.002
_LONGEST: Final = 60.0


class Due:
    """One entry; `cancel` takes it out."""

    __slots__ = ("_callback", "at")

    def __init__(self, at: float, callback: Callable[[float], None]) -> None:
        self.at = at
        self._callback: Callable[[float], None] | None = callback

    def cancel(self) -> None:
        """Don't call the callback."""
        self._callback = None

    @property
    def pending(self) -> bool:
        """Whether the callback is still to be called."""
        return self._callback is not None

    def take(self) -> Callable[[float], None] | None:
        """The callback, at the first call; then, and after `cancel`, None."""
        callback, self._callback = self._callback, None
        return callback


class Schedule:
    """Callbacks by the Unix time at which they are due. They must neither wait nor raise.

    Attributes:
        faults: exceptions in callbacks: bugs of the load test itself.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Due]] = []
        self._numbers = itertools.count()
        self._sooner = Event()
        self.faults: list[BaseException] = []
        self._greenlet = gevent.spawn(self._run)

    def at(self, due: float, callback: Callable[[float], None]) -> Due:
        """Have `callback` called with `due` at that Unix time."""
        entry = Due(due, callback)
        heapq.heappush(self._entries, (due, next(self._numbers), entry))
        if self._entries[0][2] is entry:
            self._sooner.set()
        return entry

    def overdue(self, at: float) -> int:
        """How many callbacks were due by the Unix time `at` and were not called."""
        return sum(due <= at and entry.pending for due, _, entry in self._entries)

    def close(self) -> None:
        """Call no more callbacks."""
        self._entries.clear()
        self._greenlet.kill(block=False)

    def _run(self) -> None:
        entries = self._entries
        while True:
            now = time.time()
            end = now + _SLICE
            while entries and entries[0][0] <= now < end:
                due, _, entry = heapq.heappop(entries)
                if (callback := entry.take()) is not None:
                    try:
                        callback(due)
                    except Exception as error:
                        self.faults.append(error)
                now = time.time()
            if entries and entries[0][0] <= now:
                gevent.sleep(0)
                continue
            self._sooner.clear()
            self._sooner.wait(min(_LONGEST, entries[0][0] - now) if entries else _LONGEST)
