"""Departure: when the workers of a node that is about to go are sent nothing more.

A worker steps back as soon as the workers of nodes that stay serve all of its commands: then requests go there. Until
then it takes work as before, also that of other nodes, or each would be refused for as long as the worker takes to come
back elsewhere. For example, where a node is the only one, requests are answered while their callers are still told to
go; where all nodes go at once, no node counts on another.

It knows workers and the nodes that go with this one; not sessions, nor when a connection is closed. It ends with
`Dispatcher.drain`, after which no worker of this node is sent anything.
"""

from collections.abc import Callable, Collection
from typing import Final

from .model import Worker
from .scheduler import Scheduler

NOTICE: Final = 1.5
"""Seconds in which each node hears of the others that they go, too."""


class Departure:
    """The workers of one node while it leaves; nothing before `begin`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._looks_at: float | None = None
        self._released: set[Worker] = set()

    def begin(self, now: float) -> None:
        """This node is about to go."""
        self._looks_at = now + NOTICE

    def tick(self, now: float, nodes_that_leave: Callable[[], Collection[str]]) -> None:
        """Look who is needed, and who is no longer. Every 100 ms or so."""
        if self._looks_at is None or now < self._looks_at or self._scheduler.draining:
            return
        leaving = nodes_that_leave()
        others = [other for other in self._scheduler.remote if other.node not in leaving]
        for worker in list(self._scheduler.workers):
            spared = _serve(others, worker.commands) or (worker in self._released and self._others_serve(worker))
            if spared:
                self._scheduler.step_back(worker, now)
            elif worker in self._scheduler.stepped_back:
                self._scheduler.step_up(worker, now)

    def release(self, worker: Worker, now: float) -> bool:
        """A worker's turn to go has come: it steps back if others of this node serve all of its commands. Whether it
        takes no more."""
        scheduler = self._scheduler
        if scheduler.draining or worker in scheduler.stepped_back or not worker.takes_work:
            return True
        if not self._others_serve(worker):
            return False
        self._released.add(worker)
        scheduler.step_back(worker, now)
        return True

    def _others_serve(self, worker: Worker) -> bool:
        """Whether workers of this node that take requests serve all that this one does."""
        out = self._scheduler.stepped_back
        others = [other for other in self._scheduler.workers if other is not worker and other not in out]
        return _serve(others, worker.commands)


def _serve(workers: Collection[Worker], commands: frozenset[str] | None) -> bool:
    """Whether there is a worker that takes requests for each of these commands (None: for all that there may be)."""
    if commands is None:
        return any(worker.commands is None and worker.takes_work for worker in workers)
    return all(any(worker.takes(command) for worker in workers) for command in commands)
