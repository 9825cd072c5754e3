"""Where a request goes: to a worker here, to another node's, into the queue, or nowhere.

Knows who has room, what waits, and which key is whose; not what workers answer, nor when time is up. The order is:
the worker that its key is bound to, or else one here that has room; then the other node with the most room; then the
queue. A guest, which another node sent here, is never sent on.

A request with an affinity goes to the worker that had this key first, while that one lives and serves the
command, and waits for it if need be. With other nodes there, which node's worker that is depends on the key alone, so
that all nodes find the same one; only a key that nodes meet first before and after workers came may have two.

Promises: a worker is never sent more than its capacity; nothing waits for one that has room; a request that may not be
tried again, or that nobody is left for, is ended at once. Bookkeeping is done before a link is told anything.
"""

from typing import Final

from ..counters import Counters
from .affinity import Affinity
from .fair_queue import FairQueue, Line
from .model import Outcome, OutcomeKind, Request, Statistics, Worker, WorkerLink
from .pools import Pools
from .remote_workers import RemoteWorker, RemoteWorkers
from .request_table import RequestTable

NO_WORKERS: Final = Outcome(OutcomeKind.NO_WORKERS, error="No available workers")
BUSY: Final = Outcome(OutcomeKind.BUSY, error="Workers busy")
TIMEOUT: Final = Outcome(OutcomeKind.TIMEOUT, error="Worker response timeout")
LOST: Final = Outcome(OutcomeKind.LOST, error="Worker lost")


class Scheduler:
    """Who is there to be sent requests: `workers` of this node, in the order in which they came, those of others
    (`remote`), and the clients that were `asked` something. `queue_limit` and `max_attempts` as in Dispatcher."""

    def __init__(
        self,
        pools: Pools,
        queue: FairQueue,
        affinity: Affinity,
        requests: RequestTable,
        *,
        queue_limit: int,
        max_attempts: int,
        counters: Counters,
    ) -> None:
        self.workers: Final[dict[Worker, None]] = {}
        self.remote: Final = RemoteWorkers()
        self.asked: Final[dict[WorkerLink, Worker]] = {}
        self.draining = False
        """Whether the workers here are sent nothing more."""
        self._roster = pools
        self._queue = queue
        self._affinity = affinity
        self._requests = requests
        self._queue_limit = queue_limit
        self._max_attempts = max_attempts
        self._counters = counters

    # What is nowhere yet

    def place(self, request: Request, now: float, *, accepted: bool = False) -> None:
        """Send a request that is nowhere yet, or let it wait, or refuse it; never for want of room in the queue
        if it was `accepted` before."""
        bound = self._affinity.find(request)
        worker: Worker | None
        line: Line
        if self.draining:
            worker = None if request.guest else self._pick_remote(request, bound)
            if worker is None:
                self._refuse(request)
            else:
                self._send(request, worker, now)
            return
        if bound is None and request.affinity is not None and self.remote and not request.guest:
            bound = self._settle(request)
        if bound is not None:
            worker = bound if len(bound.requests) < bound.capacity else None
            line = bound
        else:
            worker = self._pick_other(request) if request.tried else self._roster.pick(request.command)
            line = request.command
        if worker is None and self.remote and not request.guest:
            worker = self._pick_remote(request, bound)
        if worker is not None:
            self._send(request, worker, now)
        elif bound is None and not self._serves(request):
            self._refuse(request)
        elif accepted or len(self._queue) < self._queue_limit:
            self._queue.push(request, line, front=request.attempt > 0)
        else:
            self._requests.end(request, BUSY)

    def place_line(self, line: Line, now: float) -> None:
        """What waits in a line must go elsewhere; it was accepted before."""
        for request in self._queue.drop(line):
            if not request.over:
                self.place(request, now, accepted=True)

    def ask(self, request: Request, link: WorkerLink, client_id: str | None, now: float) -> None:
        """Send a request to this client and no other. At most `queue_limit` are there at a time."""
        asked = self.asked.get(link)
        if asked is None:
            asked = Worker(link, client_id, frozenset(), max(self._queue_limit, 1), 1.0, Statistics())
            self.asked[link] = asked
        if len(asked.requests) < asked.capacity:
            self._send(request, asked, now)
        else:
            self._requests.end(request, BUSY)

    def _pick_other(self, request: Request) -> Worker | None:
        had_it = [worker for worker in self.workers if worker.client_id in request.tried]
        return self._roster.pick_avoiding(request.command, had_it)

    def _pick_remote(self, request: Request, bound: Worker | None) -> RemoteWorker | None:
        if isinstance(bound, RemoteWorker):
            return bound if bound.takes(wait=True) else None
        if bound is not None and not self.draining:
            return None
        return self.remote.pick(request.command, wait=self.draining or not self._roster.serves(request.command))

    def _settle(self, request: Request) -> Worker | None:
        """Bind a new key where all nodes would, room or not; None if nobody takes anything."""
        command = request.command
        here = [worker for worker in self.workers if worker.capacity and worker.serves(command)]
        worker: Worker | None = self.remote.home(request.affinity or "", command, here=bool(here))
        if worker is None and here:
            worker = self._pick_other(request) if request.tried else self._roster.pick(command)
            worker = worker or min(here, key=_load)
        if worker is not None:
            self._affinity.bind(request, worker)
        return worker

    def _serves(self, request: Request) -> bool:
        return self._roster.serves(request.command) or (not request.guest and self.remote.serves(request.command))

    def _send(self, request: Request, worker: Worker, now: float) -> None:
        request.attempt += 1
        if request.attempt - 1 > request.retries:
            request.retries += 1
            self._counters.requests_retried += 1
        request.worker = worker
        request.sent_at = now
        worker.requests[request.id] = request
        self._roster.refresh(worker)
        self._affinity.bind(request, worker)
        worker.link.send_request(request, max(1, int((request.deadline - now) * 1000)))

    def _refuse(self, request: Request) -> None:
        """Nobody can be sent it, or not again. (A guest's attempts are its own node's.)"""
        self._requests.end(request, LOST if request.attempt and not request.guest else NO_WORKERS)

    # Who has room

    def released(self, worker: Worker, now: float) -> None:
        """A worker has room that it hadn't."""
        if worker.pool is not None:
            self.feed(worker, now)
        elif isinstance(worker, RemoteWorker):
            self.feed_remote(worker, now)
        elif not worker.requests and self.asked.get(worker.link) is worker:
            del self.asked[worker.link]

    def feed(self, worker: Worker, now: float) -> None:
        """Send a worker what waits for it, as long as it has room."""
        while self._queue.length and worker.alive and len(worker.requests) < worker.capacity:
            request = self._queue.take(worker)
            if request is None:
                break
            self._send_taken(request, worker, now)
        self._roster.refresh(worker)

    def feed_remote(self, worker: RemoteWorker, now: float) -> None:
        """Send another node what waits, as long as it takes it."""
        while self._queue.length and worker.alive and worker.takes(wait=True):
            room = worker.takes(wait=False)
            lines: list[Line] = [
                command
                for command in self._queue.commands()
                if worker.serves(command) and (room or not self._roster.serves(command))
            ]
            request = self._queue.take_own([worker, *lines])
            if request is None:
                break
            self._send_taken(request, worker, now)

    def _send_taken(self, request: Request, worker: Worker, now: float) -> None:
        if request.deadline <= now:
            self._requests.end(request, TIMEOUT)
            return
        bound = self._affinity.find(request)
        if bound is None or bound is worker:
            self._send(request, worker, now)
        else:  # its key was bound to another while it waited
            self.place(request, now, accepted=True)

    # Who is gone

    def drain(self, now: float) -> None:
        """Send the workers here nothing more, for good; what waits is refused, unless another node takes it at once."""
        self.draining = True
        if self._roster.watch is not None:
            self._roster.watch()
        for line in self._queue.lines():
            self.place_line(line, now)

    def scatter(self, worker: Worker, now: float) -> None:
        """What a worker had, and what waits for it alone, goes elsewhere or is lost."""
        had = list(worker.requests.values())
        bound = self._queue.drop(worker)
        worker.requests.clear()
        for request in had:
            request.worker = None
        again = [request for request in had if not request.over and self.may_retry(request, worker.client_id, now)]
        for request in reversed(again):  # each goes before those that wait
            if not request.over:
                self.place(request, now, accepted=True)
        for request in bound:
            if not request.over:
                self.place(request, now, accepted=True)

    def may_retry(self, request: Request, client_id: str | None, now: float) -> bool:
        """True if another worker may get what this one lost; ends the request otherwise."""
        if request.guest:  # its own node decides, and would not try this worker again
            self._requests.end(request, Outcome(OutcomeKind.LOST, error="Worker lost", processed_by=client_id))
            return False
        if not request.idempotent or request.partial_sent or request.attempt >= self._max_attempts:
            self._requests.end(request, LOST)
            return False
        if request.deadline <= now:
            self._requests.end(request, TIMEOUT)
            return False
        if client_id is not None:
            request.tried += (client_id,)
        return True

    def refuse_unserved(self, now: float) -> None:
        """Nobody is left for some of those who wait."""
        for command in self._queue.commands():
            if self._roster.serves(command):
                continue
            elsewhere = self.remote.serves(command)
            for request in self._queue.guests(command) if elsewhere else self._queue.drop(command):
                if not request.over:
                    self._refuse(request)
            if elsewhere:
                for worker in self.remote.serving(command):
                    self.feed_remote(worker, now)


def _load(worker: Worker) -> float:
    return len(worker.requests) / worker.weight
