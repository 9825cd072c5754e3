"""Load balancing: which worker gets the next request, by one of four strategies.

Knows workers, not requests. `pools` keeps a pool for each set of workers that serve the same commands, and in it those
that have room; a strategy picks from the pools that serve a command.

- `least_loaded`: the worker with the smallest outstanding ÷ weight (over nodes as `distance` has it). Among equals, the
  least recently used of those that answer about equally quickly. Times within a factor of two or 10 ms count as equal,
  because otherwise noise would send everything to one worker. A slow worker is passed over, but gets every 17th turn,
  so that its average can mend. Workers that answer mostly errors come last.
- `round_robin`: each worker in turn. `random`: any worker. `weighted_random`: any worker, as often as its weight says.
"""

from bisect import bisect
from collections import OrderedDict
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import accumulate, islice
from random import Random
from typing import Final, Protocol, TypeVar

from .distance import Distance
from .model import SLACK, Pool, Worker
from .remote_workers import RemoteWorker

LOOK_AT: Final = 8
"""Of how many equally loaded workers the response times are compared."""
PASSES: Final = 16
"""How often a slow worker is passed over before it gets a turn."""
SPARE_LEVELS: Final = 256
"""Loads that are remembered before those that nobody has any more are swept up."""


P = TypeVar("P", bound=Pool)


class Strategy(Protocol[P]):
    """A way to choose a worker."""

    def new_pool(self) -> P:
        """A new, empty pool."""

    def pick_worker(self, pools: Sequence[P]) -> Worker | None:
        """The worker to send to; None if nobody in these pools (at least one) has room."""


class _Levels:
    """Workers by load, each level in the order of entering; the lowest is found without a search."""

    __slots__ = ("_loads", "_sweep_at", "by_load")

    def __init__(self) -> None:
        self.by_load: dict[float, OrderedDict[Worker, None]] = {}
        self._loads: list[float] = []  # a heap, each load once
        self._sweep_at = SPARE_LEVELS

    def open(self, load: float) -> OrderedDict[Worker, None]:
        if len(self._loads) >= self._sweep_at:
            self.by_load = {load: kept for load, kept in self.by_load.items() if kept}
            self._loads = list(self.by_load)
            heapify(self._loads)
            self._sweep_at = max(SPARE_LEVELS, 2 * len(self._loads))
        level: OrderedDict[Worker, None] = OrderedDict()
        self.by_load[load] = level
        heappush(self._loads, load)
        return level

    def lowest_level(self) -> OrderedDict[Worker, None] | None:
        """The workers with the least load, at least one; None if there are no workers."""
        loads = self._loads
        while loads:
            level = self.by_load[loads[0]]
            if level:
                return level
            del self.by_load[heappop(loads)]
        return None

    def lowest(self) -> tuple[float, OrderedDict[Worker, None]] | None:
        """That level, and its load."""
        level = self.lowest_level()
        return None if level is None else (self._loads[0], level)


class LoadPool:
    """Workers by load, those that answer mostly errors apart."""

    __slots__ = ("_strategy", "sick", "well")

    def __init__(self, strategy: "LeastLoaded") -> None:
        self._strategy = strategy
        self.well = _Levels()
        self.sick = _Levels()

    def add_worker(self, worker: Worker) -> None:
        """See Pool."""
        self.on_load_changed(worker)

    def remove_worker(self, worker: Worker) -> None:
        """See Pool."""
        if worker.level is not None:
            del worker.level[worker]
            worker.level = None

    def on_load_changed(self, worker: Worker) -> None:
        """See Pool."""
        if worker.level is not None:
            del worker.level[worker]
        levels = self.sick if worker.sick else self.well
        distance = self._strategy.distance
        if distance is None:
            load = len(worker.requests) / worker.weight
        else:
            load = distance.load_of(worker, worker.way if isinstance(worker, RemoteWorker) else None)
        level = levels.by_load.get(load)
        if level is None:
            level = levels.open(load)
        level[worker] = None
        worker.level = level
        strategy = self._strategy
        strategy.turn = worker.turn = strategy.turn + 1


class LeastLoaded:
    """The smallest outstanding ÷ weight; see the module."""

    def __init__(self) -> None:
        self.turn = 0  # the end of the order of who was used when
        self.distance: Distance | None = None  # while other nodes are there

    def new_pool(self) -> LoadPool:
        """See Strategy."""
        return LoadPool(self)

    def pick_worker(self, pools: Sequence[LoadPool]) -> Worker | None:
        """See Strategy."""
        if len(pools) == 1:
            level = pools[0].well.lowest_level() or pools[0].sick.lowest_level()
            if level is None:
                return None
            first = next(iter(level))
            if len(level) == 1 or first.statistics.average <= SLACK:
                return first
            return self._quick(list(islice(level, LOOK_AT)))
        lows = [low for pool in pools if (low := pool.well.lowest()) is not None]
        lows = lows or [low for pool in pools if (low := pool.sick.lowest()) is not None]
        if not lows:
            return None
        least = min(load for load, _ in lows)
        equals = [worker for load, level in lows if load == least for worker in islice(level, LOOK_AT)]
        equals.sort(key=_turn)
        return self._quick(equals[:LOOK_AT])

    def _quick(self, equals: list[Worker]) -> Worker:
        quick = 2 * min(worker.statistics.average for worker in equals) + SLACK
        for worker in equals:
            if worker.statistics.average <= quick or worker.passed_over >= PASSES:
                worker.passed_over = 0
                return worker
            worker.passed_over += 1
            if worker.level is not None:
                worker.level.move_to_end(worker)
            self.turn = worker.turn = self.turn + 1
        raise AssertionError("the quickest is quick")


def _turn(worker: Worker) -> int:
    return worker.turn


class RingPool:
    """Workers in the order in which they were last chosen."""

    __slots__ = ("_strategy", "ring")

    def __init__(self, strategy: "RoundRobin") -> None:
        self._strategy = strategy
        self.ring: OrderedDict[Worker, None] = OrderedDict()

    def add_worker(self, worker: Worker) -> None:
        """See Pool."""
        self.ring[worker] = None
        strategy = self._strategy
        strategy.turn = worker.turn = strategy.turn + 1

    def remove_worker(self, worker: Worker) -> None:
        """See Pool."""
        self.ring.pop(worker, None)

    def on_load_changed(self, worker: Worker) -> None:
        """See Pool: turns don't depend on what is outstanding."""


class RoundRobin:
    """Each in turn."""

    def __init__(self) -> None:
        self.turn = 0  # the end of the order

    def new_pool(self) -> RingPool:
        """See Strategy."""
        return RingPool(self)

    def pick_worker(self, pools: Sequence[RingPool]) -> Worker | None:
        """See Strategy."""
        if len(pools) == 1:
            ring = pools[0].ring
        else:
            rings = [pool.ring for pool in pools if pool.ring]
            if not rings:
                return None
            ring = min(rings, key=_first_turn)
        if not ring:
            return None
        worker = next(iter(ring))
        ring.move_to_end(worker)
        self.turn = worker.turn = self.turn + 1
        return worker


def _first_turn(ring: OrderedDict[Worker, None]) -> int:
    return next(iter(ring)).turn


class ListPool:
    """Workers in no order, to pick from by number."""

    __slots__ = ("_sums", "workers")

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self._sums: list[float] | None = None

    @property
    def sums(self) -> list[float]:
        """Running sums of the weights, kept until somebody comes or goes."""
        if self._sums is None:
            self._sums = list(accumulate(worker.weight for worker in self.workers))
        return self._sums

    def add_worker(self, worker: Worker) -> None:
        """See Pool."""
        worker.index = len(self.workers)
        self.workers.append(worker)
        self._sums = None

    def remove_worker(self, worker: Worker) -> None:
        """See Pool."""
        last = self.workers.pop()
        if last is not worker:
            self.workers[worker.index] = last
            last.index = worker.index
        self._sums = None

    def on_load_changed(self, worker: Worker) -> None:
        """See Pool: chance doesn't depend on what is outstanding."""


class AnyOne:
    """Any worker, each as likely."""

    def __init__(self, random: Random) -> None:
        self._random = random.random

    def new_pool(self) -> ListPool:
        """See Strategy."""
        return ListPool()

    def pick_worker(self, pools: Sequence[ListPool]) -> Worker | None:
        """See Strategy."""
        number = int(self._random() * sum(len(pool.workers) for pool in pools))
        for pool in pools:
            if number < len(pool.workers):
                return pool.workers[number]
            number -= len(pool.workers)
        return None


class AnyByWeight:
    """Any worker, as likely as its weight says."""

    def __init__(self, random: Random) -> None:
        self._random = random.random

    def new_pool(self) -> ListPool:
        """See Strategy."""
        return ListPool()

    def pick_worker(self, pools: Sequence[ListPool]) -> Worker | None:
        """See Strategy."""
        filled = [pool for pool in pools if pool.workers]
        if not filled:
            return None
        point = self._random() * sum(pool.sums[-1] for pool in filled)
        for pool in filled:
            if point < pool.sums[-1]:
                return pool.workers[bisect(pool.sums, point)]
            point -= pool.sums[-1]
        return filled[-1].workers[-1]  # where rounding carried the point past the end
