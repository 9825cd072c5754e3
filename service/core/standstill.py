"""Standstill: whether this process stood still just now: stopped, on a machine that slept or had no time for it.

The rule: for GRACE seconds after a standstill no deadline is enforced. When such a process runs again, every deadline
has passed, while what peers sent in time still lies in the kernel, so it has to be read first. For example, a laptop
wakes up: registrations, answers and pongs are read before anybody is closed for having said nothing.

Knows no clock and no deadline. After one grace there is no second one for PATIENCE seconds, so that a process that
hardly ever runs enforces its deadlines too, only later.
"""

from typing import Final

STOOD_STILL: Final = 0.5
"""Seconds by which a look must be late to show a standstill; a look is late by less where there was much to do."""
GRACE: Final = 1.0
PATIENCE: Final = 5.0


class Standstill:
    """For one loop that looks at its deadlines about every `interval` seconds, from `now` on."""

    __slots__ = ("_due", "_interval", "_patient_until")

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._due = now + interval
        self._patient_until = float("-inf")

    def may_judge(self, now: float) -> bool:
        """Whether deadlines may be enforced now. To be asked at each look; `now` in seconds, on one clock."""
        late = now - self._due
        self._due = now + self._interval
        if late > STOOD_STILL and now > self._patient_until + PATIENCE:
            self._patient_until = now + GRACE
        return now >= self._patient_until
