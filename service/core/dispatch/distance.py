"""Distance: makes loads of near workers and far ones comparable, so that nodes together choose as one process would.

For least_loaded, while other nodes have workers. One process counts what its workers have; a node that did no more
would be wrong in three ways, each of which has its remedy here:

- *A request to another node is under way there and back, and one to a worker of this node is not.* Were both counted
  from sending to answer, near workers would get more; were only those counted that are at a worker, hardly any would be
  where workers are quick, and weights would decide nothing. So a request to a near worker counts, after its answer, for
  as long as one usually is on its way to other nodes and back. With one request at a time there is nothing to compare:
  what was answered no longer counts once nothing else of this node's is under way.
- *What is on its way is no work.* A worker that takes long over a request has more of those that count at itself, a
  quick one has most of them on their way. So a count is multiplied by the share of its time that a request spends at
  this worker, relative to that at all workers; within LIKE times it is noise. A node farther than usual has more under
  way.
- *Who takes the smallest load rounds up half a request for each worker.* In one process that happens once; with n nodes
  that don't see what the others have just sent it happens n times, and workers with a large weight get less. So half a
  request is added before loads are divided by weights, as in Sainte-Laguë's way to apportion seats. A worker that has
  nothing stays at 0, so that idle ones take turns.

Knows workers, not requests. Synchronous, with no clock of its own; no timer, and nothing is made for a request.
"""

from typing import Final

from .model import Mean, Way, Worker

LIKE: Final = 1.5
"""Shares of time within this factor are as good as equal."""
NEAR: Final = 0.75
"""A way is short that takes less than this part of the usual time: then what was answered counts for the rest of it."""
FAR: Final = 1.25
"""A way is long that takes more than so many times the usual time."""


class Distance:
    """How far the workers are that a node knows, and how long they take, as this node sees it."""

    __slots__ = ("_home", "_usual", "_ways", "_work")

    def __init__(self) -> None:
        self._home = Way()
        self._ways: dict[Way, None] = {self._home: None}
        self._usual = Mean()  # seconds there and back, to other nodes
        self._work = Mean()  # seconds at a worker, whichever

    def add_way(self, way: Way) -> None:
        """There is another node."""
        self._ways[way] = None

    def remove_way(self, way: Way) -> None:
        """A node is gone."""
        self._ways.pop(way, None)
        self._release(way, float("inf"))

    def on_near_answer(self, worker: Worker, seconds: float, now: float, *, own: bool) -> None:
        """A worker of this node has answered a request after `seconds`; `own`: that was made at this node."""
        worker.work.record(seconds)
        self._work.record(seconds)
        if own and self._usual.value:
            self._count_on(worker, self._home, now)

    def on_far_answer(self, worker: Worker, way: Way, seconds: float, seconds_there: float, now: float) -> None:
        """A worker of another node has answered after `seconds`, of which it had the request for `seconds_there`."""
        worker.work.record(seconds_there)
        self._work.record(seconds_there)
        on_the_way = max(0.0, seconds - seconds_there)
        way.time.record(on_the_way)
        self._usual.record(on_the_way)
        if way.time.value < NEAR * self._usual.value:
            self._count_on(worker, way, now)

    def before_pick(self, now: float, *, alone: bool) -> None:
        """A worker is about to be picked for a request of this node's; `alone`: no other is under way or waits."""
        for way in self._ways:
            if way.answered_at:
                self._release(way, float("inf") if alone else now - self._usual.value + way.time.value)

    def load_of(self, worker: Worker, way: Way | None) -> float:
        """The load of a worker, as least_loaded compares it. `way`: to its node, None if that is this one."""
        count: float = len(worker.requests) + worker.lately
        if count:
            count += 0.5
        elif not worker.others:
            return 0.0
        return (count + worker.others) * self._weight_of_one(worker, way) / worker.weight

    def _weight_of_one(self, worker: Worker, way: Way | None) -> float:
        """For how much a request counts that is at this worker or on its way, where 1 is usual."""
        work, usual = worker.work.value, self._usual.value
        if not work or not usual:
            return 1.0
        weight = work / (work + usual) * (self._work.value + usual) / self._work.value
        if 1 / LIKE <= weight <= LIKE:
            weight = 1.0
        if way is not None and way.time.value > FAR * usual:
            weight *= (work + usual) / (work + way.time.value)
        return round(weight, 2) or 0.01  # few different ones, since loads that are equal are found together

    def _count_on(self, worker: Worker, way: Way, now: float) -> None:
        worker.lately += 1
        way.answered_at.append(now)
        way.answered_by.append(worker)

    def _release(self, way: Way, until: float) -> None:
        """What was answered until then counts no longer."""
        answered_at, answered_by = way.answered_at, way.answered_by
        while answered_at and answered_at[0] <= until:
            answered_at.popleft()
            worker = answered_by.popleft()
            worker.lately -= 1
            if worker.offered and worker.pool is not None:
                worker.pool.on_load_changed(worker)
