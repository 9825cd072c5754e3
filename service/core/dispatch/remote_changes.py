"""What moves when another node says something: of its workers, or of what became of an attempt.

Knows the requests and workers that are meant, not how they were named on the way: messages are `remote`'s. Promises:
workers that are gone are off all tables before anything is placed anew, so nothing goes back to them; what comes back
is placed before its worker is fed again.
"""

from collections.abc import Collection, Iterable

from ..ports import Monotonic
from .model import GONE, Request, Worker
from .remote_workers import RemoteWorker
from .request_table import RequestTable
from .scheduler import LOST, Scheduler


class RemoteChanges:
    """What other nodes may change here."""

    __slots__ = ("_now", "_placement", "_remote", "_requests")

    def __init__(self, scheduler: Scheduler, requests: RequestTable, *, now: Monotonic) -> None:
        self._placement = scheduler
        self._remote = scheduler.remote
        self._requests = requests
        self._now = now

    # Of workers

    def offered(self, workers: Iterable[RemoteWorker]) -> None:
        """Other nodes may take more than they did."""
        now = self._now()
        for worker in workers:
            self._placement.feed_remote(worker, now)

    def withdrawn(self, workers: Collection[RemoteWorker]) -> None:
        """Nothing more is to be sent there; what they have they may finish."""
        now = self._now()
        for worker in workers:
            worker.alive = False
            self._remote.remove(worker)
        for worker in workers:
            self._placement.place_line(worker, now)
        self._placement.refuse_unserved(now)

    def vanished(self, workers: Collection[RemoteWorker]) -> None:
        """A node is gone: what its workers had goes to others, or is lost."""
        now = self._now()
        for worker in workers:
            worker.alive = False
            worker.link = GONE
            self._remote.remove(worker)
        for worker in workers:
            self._placement.scatter(worker, now)
        self._placement.refuse_unserved(now)

    # Of attempts

    def lost(self, request: Request, client_id: str | None) -> None:
        """The worker there which had the request is gone."""
        worker = _take_back(request)
        now = self._now()
        if self._placement.may_retry(request, client_id, now):
            self._placement.place(request, now, accepted=True)
        self._placement.released(worker, now)

    def returned(self, request: Request) -> None:
        """It could be passed on to no worker there: that was no attempt."""
        worker = _take_back(request)
        now = self._now()
        request.attempt -= 1
        if isinstance(worker, RemoteWorker):
            worker.has_none()
        if request.direct:
            self._requests.end(request, LOST)
        else:
            self._placement.place(request, now, accepted=True)
        self._placement.released(worker, now)


def _take_back(request: Request) -> Worker:
    worker = request.worker
    assert worker is not None  # whoever sends it back had it
    del worker.requests[request.id]
    request.worker = None
    return worker
