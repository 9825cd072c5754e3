"""Vitals: how this process is doing: its processor time, memory, descriptors, and how late its event loop is.

Knows the process, and nothing of gateways. Looks twice a second, which costs next to nothing; descriptors are counted
when somebody asks. Where a system can't say something, that figure is left out.
"""

import os
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import trio

from service.core.counters import Metric

LOOK: Final = 0.5
"""Seconds between two looks."""
LOOKS: Final = 20
"""Looks that a figure is made of: ten seconds."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")


class Figures(NamedTuple):
    """How the process did lately. `cpu`: the share of one core; `lag`: the most seconds by which the loop was late;
    `memory`: bytes in use, `memory_share`: of what the process may have."""

    cpu: float
    lag: float
    memory: int
    memory_share: float


class _Look(NamedTuple):
    at: float
    cpu: float
    lag: float


class Vitals:
    """The figures of this process. `run` keeps them; `on_look` is called after each look."""

    def __init__(self, on_look: Callable[[Figures], None]) -> None:
        self._on_look = on_look
        self._looks: deque[_Look] = deque(maxlen=LOOKS)
        self._memory_limit = memory_limit()

    async def run(self) -> NoReturn:
        """Look, until cancelled. Cancelling is safe."""
        self._looks.append(_Look(trio.current_time(), time.process_time(), 0.0))
        while True:
            due = trio.current_time() + LOOK
            await trio.sleep_until(due)
            now = trio.current_time()
            self._looks.append(_Look(now, time.process_time(), now - due))
            self._on_look(self.figures())

    def figures(self) -> Figures:
        """How the process did in the last ten seconds."""
        memory = memory_in_use()
        if len(self._looks) < 2:
            return Figures(0.0, 0.0, memory, memory / self._memory_limit)
        first, last = self._looks[0], self._looks[-1]
        cpu = (last.cpu - first.cpu) / max(last.at - first.at, LOOK)
        return Figures(cpu, max(look.lag for look in self._looks), memory, memory / self._memory_limit)

    def metrics(self) -> Iterator[Metric]:
        """The process's metrics."""
        figures = self.figures()
        yield Metric("process_cpu_seconds", "Processor time of the process.", time.process_time(), counts=True)
        yield Metric("process_memory_bytes", "Memory of the process (resident).", figures.memory)
        yield Metric("process_memory_limit_bytes", "Memory that the process may have.", self._memory_limit)
        yield Metric(
            "loop_lag_seconds", "The most by which the event loop was late in the last ten seconds.", figures.lag
        )
        yield Metric(
            "process_descriptors_limit",
            "Descriptors that the process may have.",
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )
        if (count := descriptors()) is not None:
            yield Metric("process_descriptors", "Descriptors that the process has open.", count)


def memory_in_use() -> int:
    """The process's resident memory, in bytes; where the system doesn't say, the most that it was."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def memory_limit() -> int:
    """What the process may have: the container's limit, or the machine's memory, in bytes."""
    machine = os.sysconf("SC_PHYS_PAGES") * _PAGE
    try:
        return min(machine, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # there is none ("max"), or another kind of cgroups
        return machine


def descriptors() -> int | None:
    """How many the process has open; None where the system doesn't say. A millisecond for some thousands."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # without the listing's own
    except OSError:
        return None
