"""Which worker a key belongs to.

A key belongs to the worker that was sent the first request with it, while that worker lives. Where it doesn't
serve a command, the key and that command together belong to another, so that neither moves the other about.
Bounded: the least recently used key is forgotten first, and its next request goes anywhere.
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

    def find(self, request: Request) -> Worker | None:
        """The worker that must get the request; None if any may."""
        affinity = request.affinity
        if affinity is None:
            return None
        key: _Key
        for key in ((affinity, request.command), affinity):
            worker = self._workers.get(key)
            if worker is None or not worker.alive or not worker.serves(request.command):
                continue
            if not (request.guest and worker.remote):  # which would be sent from node to node
                self._workers.move_to_end(key)
                return worker
        return None

    def bind(self, request: Request, worker: Worker) -> None:
        """The request is about to be sent to this worker, which `find` had named, or it had named none."""
        affinity = request.affinity
        if affinity is None or self.find(request) is worker:
            return
        first = self._workers.get(affinity)
        key: _Key = affinity if first is None or not first.alive else (affinity, request.command)
        self._workers[key] = worker
        self._workers.move_to_end(key)
        if len(self._workers) > self._limit:
            self._workers.popitem(last=False)

    def forget_the_gone(self) -> None:
        """Let go of the keys of workers that have left."""
        for key in [key for key, worker in self._workers.items() if not worker.alive]:
            del self._workers[key]
