"""Affinity: which worker a key is bound to.

A key is bound to the worker that was sent the first request with it, while that worker lives and takes work (its
capacity isn't 0, as it is while workers are replaced one after another). If that worker doesn't serve some command, the
pair of key and command is bound to another worker, so that requests for two commands don't move one key to and fro. The
number of keys is bounded: the least recently used is forgotten first, and its next request may go to any worker.
"""

from collections import OrderedDict

from .model import Request, Worker

_Key = str | tuple[str, str]


class Affinity:
    """At most `limit` keys and their workers."""

    __slots__ = ("_limit", "_workers")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._workers: OrderedDict[_Key, Worker] = OrderedDict()

    def __len__(self) -> int:
        return len(self._workers)

    def worker_for(self, request: Request) -> Worker | None:
        """The worker that its key is bound to; None if any worker may get the request."""
        affinity = request.affinity
        if affinity is None:
            return None
        key: _Key
        for key in ((affinity, request.command), affinity):
            worker = self._workers.get(key)
            if worker is None or not worker.alive or not worker.takes_work or not worker.serves(request.command):
                continue
            if not (request.guest and worker.remote):  # which would be sent from node to node
                self._workers.move_to_end(key)
                return worker
        return None

    def bind_key(self, request: Request, worker: Worker) -> None:
        """The request is about to be sent to this worker: bind its key, unless `worker_for` names this worker already.
        (It may not name another one.)"""
        affinity = request.affinity
        if affinity is None or self.worker_for(request) is worker:
            return
        first = self._workers.get(affinity)
        moves = first is None or not first.alive or not first.takes_work
        key: _Key = affinity if moves else (affinity, request.command)
        self._workers[key] = worker
        self._workers.move_to_end(key)
        if len(self._workers) > self._limit:
            self._workers.popitem(last=False)

    def forget_gone_workers(self) -> None:
        """Forget the keys of workers that have left."""
        for key in [key for key, worker in self._workers.items() if not worker.alive]:
            del self._workers[key]
