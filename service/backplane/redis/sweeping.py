"""Sweeping: removes what has lapsed from Redis, and measures how much the history takes.

Knows the script; not what a node follows. Every node sweeps, at random within EVERY seconds, and a node skips what
another has removed; so a lapsed event is out of Redis within some seconds as long as any node runs. (While none runs,
Redis itself removes a history an hour after its events lapsed; what else is kept of its stream waits for a node.)"""

import random
from collections.abc import Callable
from typing import Final

import trio

from service.redis.faults import Refusal, Unreachable
from service.redis.scripts import Ask

from .names import Names
from .scripts import SWEEP

EVERY: Final = 2.0
"""Seconds between two sweeps of one node, at most."""
AT_ONCE: Final = 200
"""Events, and streams, that one run of the script takes out."""


class Sweeper:
    """One node's sweeping. `ttl`: seconds that events are kept; `now`: Redis's time in microseconds as far as this node
    can tell (0: it can't), since its clock may be ahead for a while. `bytes` and `streams`: of the history of the whole
    deployment, when this node last looked."""

    def __init__(self, ask: Ask, names: Names, ttl: float, now: Callable[[], int] = lambda: 0) -> None:
        self._ask = ask
        self._now = now
        self._names = names
        self._ttl = int(ttl * 1e6)
        self.bytes = 0
        self.streams = 0

    async def run(self) -> None:
        """Sweep until cancelled, whatever becomes of Redis. Cancelling is safe."""
        while True:
            await trio.sleep(EVERY * random.uniform(0.5, 1.0))
            try:
                while await self._sweep():
                    await trio.lowlevel.checkpoint()
            except (Refusal, Unreachable):
                continue  # what is wrong with Redis is said by what needs it

    async def _sweep(self) -> bool:
        names = self._names
        keys = (names.streams, names.lapses, names.sizes, names.epoch)
        words = (names.history_start, names.meta_start, self._ttl, AT_ONCE, self._now())
        answer = await SWEEP.ask(self._ask, keys, words)
        match answer:
            case [int(size), int(streams), int(more)]:
                self.bytes, self.streams = max(0, size), streams
                return bool(more)
        return False
