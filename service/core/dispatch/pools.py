"""The workers that are there, by what they serve, and the one that gets the next request.

Workers that serve the same commands share a pool, and a pool holds only those of them that have room; so
choosing looks at as many pools as there are different sets of commands (mostly one), never at all workers, and
what one worker does touches its own pool only. How to choose is `balancing`'s.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final, Generic, Protocol

from .balancing import AnyByWeight, AnyOne, LeastLoaded, P, RoundRobin, Strategy
from .model import Worker

Watch = Callable[[], None]
"""Told at once when a worker gets room or has none any more, comes, or goes. Must not call back."""


class _Group(Generic[P]):
    __slots__ = ("members", "pool")

    def __init__(self, pool: P) -> None:
        self.pool = pool
        self.members = 0  # with or without room


class Pools(Protocol):
    """The workers that are there, by what they serve."""

    watch: Watch | None
    """Who wants to know what there is room for; None: nobody."""

    def add(self, worker: Worker) -> None:
        """It is there from now on."""

    def remove(self, worker: Worker) -> None:
        """It is gone, or about to be added anew with other commands or another weight."""

    def refresh(self, worker: Worker) -> None:
        """What it works on, its capacity or its health changed."""

    def serves(self, command: str) -> bool:
        """True if somebody serves this command, with or without room."""

    def pick(self, command: str) -> Worker | None:
        """Somebody who serves it and has room, by the strategy."""

    def pick_avoiding(self, command: str, avoid: Sequence[Worker]) -> Worker | None:
        """Like `pick`, but one of these only if there is nobody else."""


class StrategyPools(Generic[P]):
    """The Pools for one strategy."""

    def __init__(self, strategy: Strategy[P]) -> None:
        self.watch: Watch | None = None
        self._strategy = strategy
        self._groups: dict[frozenset[str] | None, _Group[P]] = {}
        self._by_command: dict[str, list[P]] = {}  # the commands that somebody named
        self._for_all: list[P] = []  # the pool of those that serve every command, if there are any

    def add(self, worker: Worker) -> None:
        """See Pools."""
        group = self._groups.get(worker.commands)
        if group is None:
            group = self._groups[worker.commands] = _Group(self._strategy.pool())
            if worker.commands is None:
                self._for_all.append(group.pool)
                for pools in self._by_command.values():
                    pools.append(group.pool)
            else:
                for command in worker.commands:
                    self._by_command.setdefault(command, list(self._for_all)).append(group.pool)
        group.members += 1
        worker.pool = group.pool
        self.refresh(worker)
        if self.watch is not None:
            self.watch()

    def remove(self, worker: Worker) -> None:
        """See Pools."""
        group = self._groups[worker.commands]
        if worker.offered:
            group.pool.remove(worker)
            worker.offered = False
        worker.pool = None
        group.members -= 1
        if self.watch is not None:
            self.watch()
        if group.members:
            return
        del self._groups[worker.commands]
        if worker.commands is None:
            self._for_all.clear()
            for pools in self._by_command.values():
                pools.remove(group.pool)
            return
        for command in worker.commands:
            pools = self._by_command[command]
            pools.remove(group.pool)
            if pools == self._for_all:
                del self._by_command[command]

    def refresh(self, worker: Worker) -> None:
        """See Pools."""
        pool = worker.pool
        if pool is None:
            return
        if len(worker.requests) < worker.capacity:
            if worker.offered:
                pool.touch(worker)
                return
            worker.offered = True
            pool.add(worker)
        elif worker.offered:
            worker.offered = False
            pool.remove(worker)
        else:
            return
        if self.watch is not None:
            self.watch()

    def serves(self, command: str) -> bool:
        """See Pools."""
        return bool(self._for_all) or command in self._by_command

    def pick(self, command: str) -> Worker | None:
        """See Pools."""
        pools = self._by_command.get(command, self._for_all)
        return self._strategy.pick(pools) if pools else None

    def pick_avoiding(self, command: str, avoid: Sequence[Worker]) -> Worker | None:
        """See Pools."""
        with _aside(avoid):
            worker = self.pick(command)
        return self.pick(command) if worker is None else worker


@contextmanager
def _aside(workers: Sequence[Worker]) -> Iterator[None]:
    taken = [(worker, worker.pool) for worker in workers if worker.offered and worker.pool is not None]
    for worker, pool in taken:
        pool.remove(worker)
    try:
        yield
    finally:
        for worker, pool in taken:
            pool.add(worker)


STRATEGIES: Final[dict[str, Callable[[Random], Pools]]] = {
    "least_loaded": lambda random: StrategyPools(LeastLoaded()),
    "round_robin": lambda random: StrategyPools(RoundRobin()),
    "random": lambda random: StrategyPools(AnyOne(random)),
    "weighted_random": lambda random: StrategyPools(AnyByWeight(random)),
}
"""The strategies by the names that settings give them."""
