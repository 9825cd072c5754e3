"""Sizing: which mode this gateway should run in, from how many are connected and how the process does.

Knows the figures and two thresholds, and nothing of sockets, logs or HTTP. The number of connections alone moves
nobody: above a threshold, a process that has room to spare is told that it may stay as it is, and why; one whose core,
loop or memory is used up is told what to do. Each mode is told to the log once. Source: the how-to "Size a deployment".
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from .vitals import Figures

Mode = Literal["integrated", "split", "streams"]
"""One process; HTTP and WebSockets apart, in several processes; the same with durable events where that matters."""

LADDER: Final[tuple[Mode, ...]] = ("integrated", "split", "streams")
BUSY_CPU: Final = 0.7
LATE: Final = 0.25
FULL: Final = 0.8
BACK: Final = 0.8
"""The share of a threshold below which its advice is taken back, so that it doesn't come and go."""

_NAMES: Final[dict[Mode, str]] = {
    "integrated": "one process",
    "split": "split mode",
    "streams": "split mode with streams",
}


class Advice(NamedTuple):
    """`mode`: what is advised; `strained`: whether the process is at its limits; `reason`: a sentence or two."""

    mode: Mode
    strained: bool
    reason: str


class Sizing:
    """The advice of now, which is None below the first threshold. A threshold of 0 is never reached."""

    def __init__(self, split_at: int, streams_at: int, on_advice: Callable[[Advice], None]) -> None:
        """`on_advice` is told of each mode once, when it is first advised."""
        self._thresholds = (split_at, streams_at)
        self._on_advice = on_advice
        self._step = 0
        self._told: set[tuple[Mode, bool]] = set()
        self.advice: Advice | None = None

    def look(self, connections: int, figures: Figures) -> None:
        """The figures of now. To be called about every second."""
        self._step = self._step_of(connections)
        if not self._step:
            self.advice = None
            return
        limits = _limits(figures)
        mode = LADDER[self._step if limits else self._step - 1]
        how = f"CPU {figures.cpu:.0%} of a core, the loop at most {figures.lag * 1000:.0f} ms late, memory "
        how += f"{figures.memory / 2**20:,.0f} MiB ({figures.memory_share:.0%})"
        if limits:
            reason = f"{connections:,} connections, and {' and '.join(limits)}: {_NAMES[mode]} is advised ({how})."
        else:
            reason = f"{connections:,} connections, and room to spare: {_NAMES[mode]} will do ({how})."
        self.advice = Advice(mode, bool(limits), reason)
        if (mode, bool(limits)) not in self._told:
            self._told.add((mode, bool(limits)))
            self._on_advice(self.advice)

    @property
    def step(self) -> int:
        """The advised mode as a number: 0 none, 1 integrated, 2 split, 3 streams."""
        return 0 if self.advice is None else LADDER.index(self.advice.mode) + 1

    def _step_of(self, connections: int) -> int:
        step = 0
        for number, at in enumerate(self._thresholds, 1):
            if at and connections >= (at * BACK if self._step >= number else at):
                step = number
        return step


def _limits(figures: Figures) -> list[str]:
    limits = []
    if figures.cpu >= BUSY_CPU:
        limits.append("the core is busy")
    if figures.lag >= LATE:
        limits.append("the event loop is late")
    if figures.memory_share >= FULL:
        limits.append("memory is short")
    return limits
