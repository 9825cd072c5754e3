"""The scheduler decides where a request goes: to a worker here, to another node, into the queue, or nowhere.

It knows which workers have room, what waits, and which worker a key is bound to; not what workers answer, nor when time
is up. The order is: the worker that the request's key is bound to, or else a worker of this node with room; then
the other node with the most room; then the queue. A guest, which another node sent here, is never sent on.

A request with an affinity key goes to the worker that the key is bound to while that worker lives and serves the
command, and waits for it if need be. With other nodes there, the key alone decides which node's worker that is, so that
all nodes choose the same one. Only a key that two nodes meet first before and after workers came may have two.

Promises: a worker is never sent more than its capacity; no request waits while a worker that may get it has room; a
request that may not be tried again, or that no worker is left for, is ended at once. Bookkeeping is done before a link
is told anything.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from ..counters import Counters
from .affinity import Affinity
from .fair_queue import FairQueue, Line
from .model import GONE, Outcome, OutcomeKind, Request, Statistics, Worker, WorkerLink
from .pools import Pools
from .remote_workers import RemoteWorker, RemoteWorkers
from .request_table import RequestTable

NO_WORKERS: Final = Outcome(OutcomeKind.NO_WORKERS, error="No available workers")
BUSY: Final = Outcome(OutcomeKind.BUSY, error="Workers busy")
TIMEOUT: Final = Outcome(OutcomeKind.TIMEOUT, error="Worker response timeout")
LOST: Final = Outcome(OutcomeKind.LOST, error="Worker lost")


@dataclass(frozen=True, slots=True)
class DispatchRules:
    """The settings of dispatch.

    `strategy`: a name in `pools.STRATEGIES`. `worker_timeout`: seconds for a request that doesn't say. `queue_limit`:
    requests that may wait. `max_attempts`: how often one may be sent in all. `default_capacity`: of workers that don't
    say. `affinity_limit`: keys remembered, the least recently used forgotten first.
    """

    strategy: str = "least_loaded"
    worker_timeout: float = 30.0
    queue_limit: int = 1000
    max_attempts: int = 3
    default_capacity: int = 16
    affinity_limit: int = 100_000


class Scheduler:
    """Places requests. `workers` are those of this node, in the order in which they came; `remote` those of others;
    `asked` the clients that were sent a request."""

    def __init__(
        self,
        pools: Pools,
        queue: FairQueue,
        affinity: Affinity,
        requests: RequestTable,
        *,
        rules: DispatchRules,
        counters: Counters,
    ) -> None:
        self.workers: Final[dict[Worker, None]] = {}
        self.remote: Final = RemoteWorkers()
        self.asked: Final[dict[WorkerLink, Worker]] = {}
        self.draining = False
        """True once the workers of this node are sent nothing more."""
        self._pools = pools
        self._queue = queue
        self._affinity = affinity
        self._requests = requests
        self._queue_limit = rules.queue_limit
        self._max_attempts = rules.max_attempts
        self._counters = counters

    # Requests that are at no worker and in no line

    def place_request(self, request: Request, now: float, *, accepted: bool = False) -> None:
        """Send a request, or let it wait, or refuse it. One that was `accepted` before is not refused for want of room
        in the queue."""
        bound = self._affinity.worker_for(request)
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
            bound = self._bind_over_nodes(request)
        if bound is not None:
            worker = bound if len(bound.requests) < bound.capacity else None
            line = bound
        else:
            worker = self._pick_other(request) if request.tried else self._pools.pick_worker(request.command)
            line = request.command
        if worker is None and self.remote and not request.guest:
            worker = self._pick_remote(request, bound)
        if worker is not None:
            self._send(request, worker, now)
        elif bound is None and not self._serves(request):
            self._refuse(request)
        elif accepted or len(self._queue) < self._queue_limit:
            self._queue.add_request(request, line, front=request.attempt > 0)
        else:
            self._requests.end_request(request, BUSY)

    def move_line(self, line: Line, now: float) -> None:
        """Place anew what waits in a line."""
        for request in self._queue.drop_line(line):
            if not request.over:
                self.place_request(request, now, accepted=True)

    def send_to_client(self, request: Request, link: WorkerLink, client_id: str | None, now: float) -> None:
        """Send a request to one client. It has at most `queue_limit` at a time."""
        asked = self.asked.get(link)
        if asked is None:
            asked = Worker(link, client_id, frozenset(), max(self._queue_limit, 1), 1.0, Statistics())
            self.asked[link] = asked
        if len(asked.requests) < asked.capacity:
            self._send(request, asked, now)
        else:
            self._requests.end_request(request, BUSY)

    def _pick_other(self, request: Request) -> Worker | None:
        had_it = [worker for worker in self.workers if worker.client_id in request.tried]
        return self._pools.pick_worker_avoiding(request.command, had_it)

    def _pick_remote(self, request: Request, bound: Worker | None) -> RemoteWorker | None:
        if isinstance(bound, RemoteWorker):
            return bound if bound.takes(wait=True) else None
        if bound is not None and not self.draining:
            return None
        return self.remote.pick(request.command, wait=self.draining or not self._pools.serves(request.command))

    def _bind_over_nodes(self, request: Request) -> Worker | None:
        """Bind a new key to the worker that all nodes would choose, with room or not; None if no worker takes any."""
        command = request.command
        here = [worker for worker in self.workers if worker.capacity and worker.serves(command)]
        worker: Worker | None = self.remote.home(request.affinity or "", command, here=bool(here))
        if worker is None and here:
            worker = self._pick_other(request) if request.tried else self._pools.pick_worker(command)
            worker = worker or min(here, key=_load)
        if worker is not None:
            self._affinity.bind_key(request, worker)
        return worker

    def _serves(self, request: Request) -> bool:
        return self._pools.serves(request.command) or (not request.guest and self.remote.serves(request.command))

    def _send(self, request: Request, worker: Worker, now: float) -> None:
        request.attempt += 1
        if request.attempt - 1 > request.retries:
            request.retries += 1
            self._counters.requests_retried += 1
        request.worker = worker
        request.sent_at = now
        worker.requests[request.id] = request
        self._pools.on_worker_changed(worker)
        self._affinity.bind_key(request, worker)
        worker.link.send_request(request, max(1, int((request.deadline - now) * 1000)))

    def _refuse(self, request: Request) -> None:
        """No worker can be sent it (again). A guest's attempts are counted by its own node."""
        self._requests.end_request(request, LOST if request.attempt and not request.guest else NO_WORKERS)

    # Workers with room

    def on_room(self, worker: Worker, now: float) -> None:
        """A worker has more room than it had."""
        if worker.pool is not None:
            self.feed_worker(worker, now)
        elif isinstance(worker, RemoteWorker):
            self.feed_remote(worker, now)
        elif not worker.requests and self.asked.get(worker.link) is worker:
            del self.asked[worker.link]

    def feed_worker(self, worker: Worker, now: float) -> None:
        """Send a worker the requests that wait for it, as long as it has room."""
        while self._queue.length and worker.alive and len(worker.requests) < worker.capacity:
            request = self._queue.take_for_worker(worker)
            if request is None:
                break
            self._send_taken(request, worker, now)
        self._pools.on_worker_changed(worker)

    def feed_remote(self, worker: RemoteWorker, now: float) -> None:
        """Send another node requests that wait, as long as it takes them."""
        while self._queue.length and worker.alive and worker.takes(wait=True):
            room = worker.takes(wait=False)
            lines: list[Line] = [
                command
                for command in self._queue.commands()
                if worker.serves(command) and (room or not self._pools.serves(command))
            ]
            request = self._queue.take_for_other_node([worker, *lines])
            if request is None:
                break
            self._send_taken(request, worker, now)

    def _send_taken(self, request: Request, worker: Worker, now: float) -> None:
        if request.deadline <= now:
            self._requests.end_request(request, TIMEOUT)
            return
        bound = self._affinity.worker_for(request)
        if bound is None or bound is worker:
            self._send(request, worker, now)
        else:  # its key was bound to another worker while it waited
            self.place_request(request, now, accepted=True)

    # Workers that are gone

    def drain(self, now: float) -> None:
        """Send the workers of this node nothing more, for good. What waits is refused, unless another node takes it at
        once."""
        self.draining = True
        if self._pools.observer is not None:
            self._pools.observer.on_room_changed()
        for line in self._queue.lines():
            self.move_line(line, now)

    def redistribute(self, worker: Worker, now: float) -> None:
        """Give what a worker had, and what waits for it alone, to others; what may not be sent again is lost."""
        had = list(worker.requests.values())
        bound = self._queue.drop_line(worker)
        worker.requests.clear()
        for request in had:
            request.worker = None
        again = [request for request in had if not request.over and self.may_retry(request, worker.client_id, now)]
        for request in reversed(again):  # each is put before those that wait
            if not request.over:
                self.place_request(request, now, accepted=True)
        for request in bound:
            if not request.over:
                self.place_request(request, now, accepted=True)

    def may_retry(self, request: Request, client_id: str | None, now: float) -> bool:
        """True if another worker may be sent what this one lost; otherwise the request is ended."""
        if request.guest:  # its own node decides, and doesn't try this worker again
            self._requests.end_request(request, Outcome(OutcomeKind.LOST, error="Worker lost", processed_by=client_id))
            return False
        if not request.idempotent or request.partial_sent or request.attempt >= self._max_attempts:
            self._requests.end_request(request, LOST)
            return False
        if request.deadline <= now:
            self._requests.end_request(request, TIMEOUT)
            return False
        if client_id is not None:
            request.tried += (client_id,)
        return True

    def refuse_unserved(self, now: float) -> None:
        """End the requests that wait for a command which no worker serves any more."""
        for command in self._queue.commands():
            if self._pools.serves(command):
                continue
            elsewhere = self.remote.serves(command)
            for request in self._queue.guests_in(command) if elsewhere else self._queue.drop_line(command):
                if not request.over:
                    self._refuse(request)
            if elsewhere:
                for worker in self.remote.serving(command):
                    self.feed_remote(worker, now)

    # What other nodes say

    def on_remote_room(self, workers: Iterable[RemoteWorker], now: float) -> None:
        """These workers of other nodes may take more than before."""
        for worker in workers:
            self.feed_remote(worker, now)

    def withdraw_remote(self, workers: Collection[RemoteWorker], now: float) -> None:
        """Send these nothing more; what they have they may finish."""
        for worker in workers:
            worker.alive = False
            self.remote.remove(worker)
        for worker in workers:  # only now, so that nothing is placed at another one that is gone
            self.move_line(worker, now)
        self.refuse_unserved(now)

    def remove_remote(self, workers: Collection[RemoteWorker], now: float) -> None:
        """A node is gone: give what its workers had to others, or end it as lost."""
        for worker in workers:
            worker.alive = False
            worker.link = GONE
            self.remote.remove(worker)
        for worker in workers:
            self.redistribute(worker, now)
        self.refuse_unserved(now)

    def on_remote_lost(self, request: Request, client_id: str | None, now: float) -> None:
        """The worker of another node that had the request is gone."""
        worker = _take_back(request)
        if self.may_retry(request, client_id, now):
            self.place_request(request, now, accepted=True)
        self.on_room(worker, now)  # after the request was placed, which goes before what waits

    def on_remote_returned(self, request: Request, now: float) -> None:
        """Another node could send the request to no worker: that was no attempt."""
        worker = _take_back(request)
        request.attempt -= 1
        if isinstance(worker, RemoteWorker):
            worker.has_none()
        if request.direct:
            self._requests.end_request(request, LOST)
        else:
            self.place_request(request, now, accepted=True)
        self.on_room(worker, now)


def _take_back(request: Request) -> Worker:
    worker = request.worker
    assert worker is not None  # a request that comes back was at a worker
    del worker.requests[request.id]
    request.worker = None
    return worker


def _load(worker: Worker) -> float:
    return len(worker.requests) / worker.weight
