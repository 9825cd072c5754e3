"""What processes cost, from /proc: CPU seconds (user and system) and resident bytes of a process and its children."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and all that it started, directly or not, as far as they live."""
    pids = [pid]
    for known in pids:
        for thread in Path(f"/proc/{known}/task").glob("*/children"):
            try:
                pids.extend(int(child) for child in thread.read_text().split())
            except OSError:
                continue
    return pids


def cpu_seconds(pid: int) -> float:
    """utime + stime of the whole tree; to 10 ms a process."""
    ticks = 0
    for each in tree(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def resident_bytes(pid: int) -> int:
    """Resident memory of the whole tree."""
    total = 0
    for each in tree(pid):
        try:
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1])
        except OSError:
            continue
    return total * os.sysconf("SC_PAGE_SIZE")


class Spinning:
    """Keeps the loop from ever sleeping, so that no server is charged for waking the load.

    On one machine that is a great part of what a write costs, and none of it where the clients are elsewhere; it
    also is least for the server that keeps the load busiest. `idle` is the CPU time spent on turns of the loop that
    found nothing to do, as far as that can be told from how long the shortest turns take.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns = 0
        self._shortest = 1.0
        self._last = time.perf_counter()
        self._loop.call_soon(self._turn)

    @property
    def idle(self) -> float:
        """Seconds, so far."""
        return self._turns * self._shortest

    def _turn(self) -> None:
        now = time.perf_counter()
        self._shortest = min(self._shortest, now - self._last)
        self._last = now
        self._turns += 1
        self._loop.call_soon(self._turn)


@dataclass
class Reading:
    """A moment: how much work was done, and what it had cost."""

    work: int
    server: float
    load: float
    wall: float

    @classmethod
    def now(cls, work: int, server_pid: int, spinning: Spinning | None) -> "Reading":
        """Read all clocks."""
        idle = 0.0 if spinning is None else spinning.idle
        return cls(work, cpu_seconds(server_pid), time.process_time() - idle, time.monotonic())

    def since(self, start: "Reading") -> dict[str, float]:
        """What happened between `start` and this."""
        return {
            "work": self.work - start.work,
            "server_cpu": self.server - start.server,
            "load_cpu": self.load - start.load,
            "wall": self.wall - start.wall,
        }
