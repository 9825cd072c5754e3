"""Affinity: which worker a key is bound to.

A key is bound to the worker that was sent the first request with it, while that worker lives and takes work (its
capacity isn't 0, as it is while workers are replaced one after another). If that worker doesn't serve some command, the
pair of key and command is bound to another worker, so that requests for two commands don't move one key to and fro. The
number of keys is bounded: the least recently used is forgotten first, and its next request may go to any worker.

What is bound may also be another node's line (see `remote_workers`), and such a node may be out of sight for a while
though it lives. Its keys count as free then, and those that are used meanwhile are bound to other workers; when the
node is back its keys are its own again, since the workers that hold them were there all the time, and nodes that have
seen it throughout have gone on sending to it.
"""

from collections import OrderedDict

from .model import Request, Worker

_Key = str | tuple[str, str]


class Affinity:
    """At most `limit` keys and their workers."""

    __slots__ = ("_away", "_limit", "_workers")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._workers: OrderedDict[_Key, Worker] = OrderedDict()
        self._away: dict[_Key, Worker] = {}  # who had a key before, and may come back for it

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
            if worker is None or not worker.alive or not worker.takes(request.command):
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
        before = self._workers.get(key)
        if before is not None and before.may_return and len(self._away) < self._limit:
            self._away.setdefault(key, before)
        self._workers[key] = worker
        self._workers.move_to_end(key)
        if len(self._workers) > self._limit:
            self._workers.popitem(last=False)

    def on_returned(self, worker: Worker) -> None:
        """It was away, and is there again: so are the keys that it had."""
        for key in [key for key, before in self._away.items() if before is worker]:
            del self._away[key]
            if key in self._workers:  # and not forgotten
                self._workers[key] = worker

    def forget_gone_workers(self) -> None:
        """Forget the keys of workers that have left for good."""
        for key in [key for key, worker in self._workers.items() if not worker.alive and not worker.may_return]:
            del self._workers[key]
        self._away = {key: worker for key, worker in self._away.items() if worker.may_return}
