"""How this process itself fares: its stalls, what it waits for, and what else the machine does.

Knows timers and /proc; never what is measured elsewhere. A load test that was frozen, or had no processor, measures
itself; this is what tells. Where there is no /proc, that part is zero.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import Final, NamedTuple

import gevent

from loadtest._campaign import Campaign

_TICK: Final = 0.02
_PAGE: Final = resource.getpagesize()


class _Reading(NamedTuple):
    at: float
    cpu: float
    run_delay: float
    stolen: int
    ticks: int
    wall: float


class Meter:
    """One per process; counts into the campaign's strain."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._before = _read()
        reactor = campaign.reactor
        self._known = reactor.unstamped, reactor.messages, reactor.blurred
        self._greenlet = gevent.spawn(self._run)

    def close(self) -> None:
        """Watch no more."""
        self._greenlet.kill(block=False)

    def note(self) -> None:
        """Count what happened since the last time."""
        strain, before, now = self._campaign.strain, self._before, _read()
        self._before = now
        strain.seconds += now.at - before.at
        strain.cpu += now.cpu - before.cpu
        strain.run_delay += now.run_delay - before.run_delay
        strain.stolen += now.stolen - before.stolen
        strain.ticks += now.ticks - before.ticks
        strain.memory = max(strain.memory, _memory())
        strain.run_queue = max(strain.run_queue, _run_queue())
        strain.clock_step = max(strain.clock_step, abs(now.wall - before.wall))
        reactor, known = self._campaign.reactor, self._known
        strain.unstamped += reactor.unstamped - known[0]
        strain.messages += reactor.messages - known[1]
        strain.blurred += reactor.blurred - known[2]
        self._known = reactor.unstamped, reactor.messages, reactor.blurred

    def _run(self) -> None:
        while True:
            due = time.monotonic() + _TICK
            gevent.sleep(_TICK)
            self._campaign.strain.late.record(time.monotonic() - due)


def _read() -> _Reading:
    stolen, ticks = 0, 0
    run_delay = 0.0
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        stolen, ticks = fields[7], sum(fields)
    with contextlib.suppress(OSError, ValueError, IndexError):
        run_delay = int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    return _Reading(time.monotonic(), time.process_time(), run_delay, stolen, ticks, wall_ahead())


def wall_ahead() -> float:
    """Seconds by which the wall clock is ahead of the monotonic one. This changes only when the wall clock is set.

    Both clocks are read several times and the closest pair counts: a process that loses the processor between the two
    would see a change that is none.
    """
    found = float("inf"), 0.0
    for _ in range(10):
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        found = min(found, (after - before, wall - (before + after) / 2))
        if found[0] < 1e-5:
            break
    return found[1]


def _memory() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    return 0


def _run_queue() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        # Those who run count as well, and one of them is who reads this.
        return max(0, int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]) - 1)
    return 0


def os_cores() -> int:
    """The processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
