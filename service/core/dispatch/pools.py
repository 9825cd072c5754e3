"""Pools: the workers that are there, grouped by what they serve, and the pick of one for a command.

Workers that serve the same commands share a pool, and a pool holds only those of them that have room. So a pick looks
at as many pools as there are different sets of commands (mostly one), never at all workers, and a change of one worker
concerns one pool. Workers of other nodes are among them (`remote_workers`). The order within a pool, and the choice,
are the strategy's (`balancing`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final, Generic, Protocol

from .balancing import AnyByWeight, AnyOne, LeastLoaded, P, RoundRobin, Strategy
from .distance import Distance
from .model import Worker


class PoolsObserver(Protocol):
    """Is told what becomes of workers. Must not call back."""

    def on_worker_changed(self, worker: Worker) -> None:
        """A worker came, or its requests, capacity or health changed."""

    def on_worker_removed(self, worker: Worker) -> None:
        """A worker is gone, or about to be added again."""


class _Group(Generic[P]):
    __slots__ = ("here", "members", "pool")

    def __init__(self, pool: P) -> None:
        self.pool = pool
        self.members = 0  # with or without room
        self.here = 0  # those of this node


class Pools(Protocol):
    """The workers that are there, by what they serve."""

    observer: PoolsObserver | None

    distance: Distance | None
    """How far workers are, where the strategy compares loads and there are other nodes."""

    def measure(self, distance: Distance | None) -> None:
        """Compare loads by distance from now on (None: there are no other nodes), if the strategy compares any."""

    def add_worker(self, worker: Worker) -> None:
        """This worker is there from now on."""

    def remove_worker(self, worker: Worker) -> None:
        """This worker is gone, or about to be added again with other commands or another weight."""

    def on_worker_changed(self, worker: Worker) -> None:
        """The worker's requests, capacity or health changed. One that isn't there is ignored."""

    def serves(self, command: str) -> bool:
        """True if a worker serves this command, with or without room."""

    def serves_here(self, command: str) -> bool:
        """True if a worker of this node serves this command, with or without room."""

    def names(self, command: str) -> bool:
        """True if a worker has named this command among those that it serves."""

    def pick_worker(self, command: str) -> Worker | None:
        """A worker that serves the command and has room, by the strategy."""

    def pick_worker_avoiding(self, command: str, avoid: Sequence[Worker]) -> Worker | None:
        """Like `pick_worker`, but one of these only if no other has room."""


class StrategyPools(Generic[P]):
    """The Pools of one strategy."""

    def __init__(self, strategy: Strategy[P]) -> None:
        self.observer: PoolsObserver | None = None
        self.distance: Distance | None = None
        self._strategy = strategy
        self._groups: dict[frozenset[str] | None, _Group[P]] = {}
        self._by_command: dict[str, list[P]] = {}  # the commands that workers named
        self._for_all: list[P] = []  # the pool of workers that serve every command, if there are any

    def measure(self, distance: Distance | None) -> None:
        """See Pools."""
        if isinstance(self._strategy, LeastLoaded):
            self.distance = self._strategy.distance = distance

    def add_worker(self, worker: Worker) -> None:
        """See Pools."""
        group = self._groups.get(worker.commands)
        if group is None:
            group = self._groups[worker.commands] = _Group(self._strategy.new_pool())
            if worker.commands is None:
                self._for_all.append(group.pool)
                for pools in self._by_command.values():
                    pools.append(group.pool)
            else:
                for command in worker.commands:
                    self._by_command.setdefault(command, list(self._for_all)).append(group.pool)
        group.members += 1
        group.here += not worker.remote
        worker.pool = group.pool
        self.on_worker_changed(worker)

    def remove_worker(self, worker: Worker) -> None:
        """See Pools."""
        group = self._groups[worker.commands]
        if worker.offered:
            group.pool.remove_worker(worker)
            worker.offered = False
        worker.pool = None
        group.members -= 1
        group.here -= not worker.remote
        if self.observer is not None:
            self.observer.on_worker_removed(worker)
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

    def on_worker_changed(self, worker: Worker) -> None:
        """See Pools."""
        pool = worker.pool
        if pool is None:
            return
        if len(worker.requests) < worker.capacity:
            if worker.offered:
                pool.on_load_changed(worker)
            else:
                worker.offered = True
                pool.add_worker(worker)
        elif worker.offered:
            worker.offered = False
            pool.remove_worker(worker)
        if self.observer is not None:
            self.observer.on_worker_changed(worker)

    def serves(self, command: str) -> bool:
        """See Pools."""
        return bool(self._for_all) or command in self._by_command

    def serves_here(self, command: str) -> bool:
        """See Pools."""
        if command in self._by_command:
            groups = self._groups.items()
            return any(group.here and (commands is None or command in commands) for commands, group in groups)
        group = self._groups.get(None)
        return group is not None and group.here > 0

    def names(self, command: str) -> bool:
        """See Pools."""
        return command in self._by_command

    def pick_worker(self, command: str) -> Worker | None:
        """See Pools."""
        pools = self._by_command.get(command, self._for_all)
        return self._strategy.pick_worker(pools) if pools else None

    def pick_worker_avoiding(self, command: str, avoid: Sequence[Worker]) -> Worker | None:
        """See Pools."""
        with _set_aside(avoid):
            worker = self.pick_worker(command)
        return self.pick_worker(command) if worker is None else worker


@contextmanager
def _set_aside(workers: Sequence[Worker]) -> Iterator[None]:
    taken = [(worker, worker.pool) for worker in workers if worker.offered and worker.pool is not None]
    for worker, pool in taken:
        pool.remove_worker(worker)
    try:
        yield
    finally:
        for worker, pool in taken:
            pool.add_worker(worker)


def _least_loaded(_: Random) -> Pools:
    return StrategyPools(LeastLoaded())


def _round_robin(_: Random) -> Pools:
    return StrategyPools(RoundRobin())


def _random(random: Random) -> Pools:
    return StrategyPools(AnyOne(random))


def _weighted_random(random: Random) -> Pools:
    return StrategyPools(AnyByWeight(random))


STRATEGIES: Final[dict[str, Callable[[Random], Pools]]] = {
    "least_loaded": _least_loaded,
    "round_robin": _round_robin,
    "random": _random,
    "weighted_random": _weighted_random,
}
"""What makes the pools of each strategy, by the names that the settings use."""
