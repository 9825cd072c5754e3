"""Standstill: whether this process stood still just now: stopped, on a machine that slept or had no time for it.

For such a process every deadline is over and everything that came meanwhile is there, at the same moment. It has to
read first and to judge then: who answered in time is not mute because nobody listened. So after a standstill nobody is
judged for GRACE seconds. For example, a laptop wakes up: registrations, answers and pongs that wait in the kernel are
read before anybody is closed for having said nothing.

Knows no clock and no deadline. A process that hardly runs at all judges too, only less often: there is no second grace
before PATIENCE seconds have passed.
"""

from typing import Final

STOOD_STILL: Final = 0.5
"""Seconds by which a look comes too late, if the process didn't just have much to do."""
GRACE: Final = 1.0
PATIENCE: Final = 5.0


class Standstill:
    """For one loop that looks about every `interval` seconds, from `now` on."""

    __slots__ = ("_due", "_interval", "_patient_until")

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._due = now + interval
        self._patient_until = float("-inf")

    def may_judge(self, now: float) -> bool:
        """To be asked at each look: whether what is over may be taken for over."""
        late = now - self._due
        self._due = now + self._interval
        if late > STOOD_STILL and now > self._patient_until + PATIENCE:
            self._patient_until = now + GRACE
        return now >= self._patient_until
