"""Backoff: how long to wait before the next attempt at something that failed.

Pauses double from the first to the longest and then stay. Knows no clock: whoever waits asks for a pause, sleeps, tries
again, and calls `reset` once an attempt held. The gateway's own; the SDK's is part of its public interface
(`portico.client.backoff`), because it also heeds what a server asks for.
"""

import random


class Backoff:
    """The pauses of one thing that is tried again and again.

    `first`, `longest`: seconds. `jitter`: the share of each pause that is left to chance, so that processes that failed
    together don't try again together: with 0.5 a pause of 10 s is any time from 5 to 10 s.
    """

    def __init__(self, first: float, longest: float, *, jitter: float = 0.0) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._next = first

    def pause(self) -> float:
        """Seconds to wait now; the next time it is twice as long, up to the longest."""
        pause = self._next
        self._next = min(2 * pause, self._longest)
        return pause * random.uniform(1 - self._jitter, 1) if self._jitter else pause

    def reset(self) -> None:
        """An attempt held: begin again with the first pause."""
        self._next = self._first
