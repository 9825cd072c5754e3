"""The scheduler decides where a request goes: to a worker, to another node as a whole, into the queue, or nowhere.

It knows which workers have room, what waits, and which worker a key is bound to; not what workers answer, nor when time
is up. Workers of other nodes are in the same pools as those of this node, so the strategy chooses among all. The order
is: the worker that the request's key is bound to, or else the strategy's choice; if no worker has room, and none of
this node serves the command, then the line of another node, where its turn comes as soon as that of requests made
there; then the queue. Where no worker serves the command, a request is refused, unless other nodes have yet to tell of
their workers (`first_offers`): then it waits. A guest, which another node sent here, goes to the worker that its node
chose, or to another one of this node if that has no more room, or comes back; it is never sent on.

A request with an affinity key goes to the worker that the key is bound to while that worker lives, takes work and
serves the command, and waits for it if need be. With other nodes there, a new key alone decides which node's worker
that is, so that all nodes choose the same one; that node decides which of its workers it is. Only a key that two nodes
meet first before and after a node's first workers came may have two. A node that is out of sight for a while has its
keys again when it is back (`affinity`).

Promises: a worker is never sent more than its capacity; no request waits while a worker that may get it has room; a
request that may not be tried again, or that no worker is left for, is ended at once. Bookkeeping is done before a link
is told anything.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from ..counters import Counters
from .affinity import Affinity
from .fair_queue import FairQueue
from .model import GONE, Outcome, OutcomeKind, Request, Statistics, Worker, WorkerLink
from .pools import Pools
from .remote_workers import RemoteLine, RemotePlace, RemoteWorker, RemoteWorkers
from .request_table import RequestTable
from .turns import Line

NO_WORKERS: Final = Outcome(OutcomeKind.NO_WORKERS, error="No available workers")
BUSY: Final = Outcome(OutcomeKind.BUSY, error="Workers busy")
TIMEOUT: Final = Outcome(OutcomeKind.TIMEOUT, error="Worker response timeout")
LOST: Final = Outcome(OutcomeKind.LOST, error="Worker lost")


@dataclass(frozen=True, slots=True)
class DispatchRules:
    """The settings of dispatch.

    `strategy`: a name in `pools.STRATEGIES`. `worker_timeout`: seconds for a request that doesn't say; `max_timeout`:
    the most that one may say. `queue_limit`: requests that may wait, and `queue_bytes` their bytes. `max_attempts`: how
    often one may be sent in all. `default_capacity`: of workers that don't say. `affinity_limit`: keys remembered, the
    least recently used forgotten first.
    """

    strategy: str = "least_loaded"
    worker_timeout: float = 30.0
    max_timeout: float = 3600.0
    queue_limit: int = 1000
    queue_bytes: int = 64 << 20
    max_attempts: int = 3
    default_capacity: int = 16
    affinity_limit: int = 100_000


class QueueObserver(Protocol):
    """Is told when requests begin to wait. Must not call back."""

    def on_request_waits(self) -> None:
        """A request of this node waits for a worker."""


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
        self.pools: Final = pools
        self.draining = False
        """True once the workers of this node are sent nothing more."""
        self.stepped_back: Final[set[Worker]] = set()
        """The workers of this node that are sent nothing more before that (`departure`)."""
        self.expects_workers = False
        """True while other nodes have yet to tell of workers: no request of this node is refused for want of one."""
        self.observer: QueueObserver | None = None
        self._queue = queue
        self._affinity = affinity
        self._requests = requests
        self._queue_limit = rules.queue_limit
        self._max_attempts = rules.max_attempts
        self._counters = counters

    @property
    def own_request_waits(self) -> bool:
        """True if a request waits for a worker."""
        return self._queue.length > 0

    # Requests that are at no worker and in no line

    def place_request(self, request: Request, now: float, *, accepted: bool = False) -> None:
        """Send a request, or let it wait, or refuse it. One that was `accepted` before is not refused for want of room
        in the queue."""
        if request.guest:
            self.place_guest(request, now, may_wait=True)
            return
        distance = self.pools.distance
        if distance is not None:
            distance.before_pick(now, alone=self._requests.own == 1)
        bound = None
        if request.affinity is not None:
            bound = self._affinity.worker_for(request)
            if self.remote:
                bound = self._bind_over_nodes(request, bound)
        worker: Worker | None
        line: Line
        if bound is not None and not self._has_stepped_back(bound):
            worker = bound if len(bound.requests) < bound.capacity else None
            line = bound
        else:
            bound = None
            command = request.command
            line = command
            if request.tried:
                worker = self.pools.pick_worker_avoiding(command, self._lost_with(request))
            else:
                worker = self.pools.pick_worker(command)
            if worker is None and self.remote and not self.pools.serves_here(command):
                worker = self.remote.line_to_wait_in(command)
        if worker is not None:
            self._send(request, worker, now)
        elif bound is None and not self.pools.serves(request.command):
            if self._step_up_for(request.command, now):
                self.place_request(request, now, accepted=accepted)
            elif self.expects_workers and not self.draining:
                self._let_wait(request, line, accepted)
            else:
                self._refuse(request)
        else:
            self._let_wait(request, line, accepted)

    def place_guest(self, request: Request, now: float, *, may_wait: bool) -> None:
        """Send a request of another node to a worker of this one, or let it wait for one, or send it back."""
        if self.draining:
            self._refuse(request)
            return
        bound = self._affinity.worker_for(request)
        line: Line
        if bound is not None and self._has_stepped_back(bound):
            bound = None
        if bound is not None:
            worker = bound if len(bound.requests) < bound.capacity else None
            line = bound
            may_wait = True  # no other worker will do
        else:
            worker = self._pick_here(request)
            line = request.command
        if worker is not None:
            self._send(request, worker, now)
        elif bound is None and not self.pools.serves_here(request.command):
            self._refuse(request)
        elif may_wait:
            self._let_wait(request, line, False)
        else:
            self._requests.end_request(request, BUSY)

    def _let_wait(self, request: Request, line: Line, accepted: bool) -> None:
        out = [] if accepted else self._queue.make_room(request)
        if out is None:
            self._requests.end_request(request, BUSY)
            return
        self._queue.add_request(request, line, front=request.attempt > 0)
        for other in out:
            if not other.over:
                self._requests.end_request(other, BUSY)
        if self.observer is not None and not request.guest:
            self.observer.on_request_waits()

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

    def _lost_with(self, request: Request) -> list[Worker]:
        """The workers that a request was at when they were lost, as far as others of their names are there."""
        here = [worker for worker in self.workers if worker.client_id in request.tried]
        return here + [worker for worker in self.remote if worker.client_id in request.tried]

    def _pick_here(self, request: Request) -> Worker | None:
        """The worker of this node for a guest: the one that its node chose, or else the least loaded with room."""
        chosen = None if request.guest is None else request.guest.chosen
        if (
            chosen is not None
            and chosen.pool is not None
            and len(chosen.requests) < chosen.capacity
            and chosen.serves(request.command)
        ):
            return chosen
        command = request.command
        able = [
            w for w in self.workers if len(w.requests) < w.capacity and w.serves(command) and w not in self.stepped_back
        ]
        fresh = [worker for worker in able if worker.client_id not in request.tried] if request.tried else able
        return min(fresh or able, key=partial(_preference, request), default=None)

    def _bind_over_nodes(self, request: Request, bound: Worker | None) -> Worker | None:
        """The worker that a key is bound to, with room or not, where there are other nodes: a new key is bound to the
        one that all nodes would choose. None if no worker takes any."""
        if bound is not None and not self._has_stepped_back(bound):
            return bound
        command = request.command
        here = [w for w in self.workers if not self._has_stepped_back(w) and w.takes(command)]
        worker: Worker | None = self.remote.home_of(request.affinity or "", command, here=bool(here))
        if worker is None and here:
            worker = self._pick_here(request) or min(here, key=partial(_preference, request))
        if worker is not None:
            self._affinity.bind_key(request, worker)
        return worker

    def _send(self, request: Request, worker: Worker, now: float) -> None:
        request.attempt += 1
        if request.attempt - 1 > request.retries:
            request.retries += 1
            self._counters.requests_retried += 1
        request.worker = worker
        request.sent_at = now
        worker.requests[request.id] = request
        self.pools.on_worker_changed(worker)
        if request.affinity is not None:
            self._affinity.bind_key(request, self._keeper(worker))
        worker.link.send_request(request, max(1, int((request.deadline - now) * 1000)))

    def _keeper(self, worker: Worker) -> Worker:
        """What a key is bound to whose request goes to this worker: at another node that node, which knows more."""
        if isinstance(worker, RemoteLine):
            return worker.place.keyed
        place = self.remote.places.get(worker.node) if isinstance(worker, RemoteWorker) else None
        return worker if place is None else place.keyed

    def _refuse(self, request: Request) -> None:
        """No worker can be sent it (again). A guest's attempts are counted by its own node."""
        self._requests.end_request(request, LOST if request.attempt and not request.guest else NO_WORKERS)

    # Workers with room

    def on_room(self, worker: Worker, now: float) -> None:
        """A worker has more room than it had."""
        if worker.pool is not None:
            if self._queue.length:
                self.feed_worker(worker, now)
            else:
                self.pools.on_worker_changed(worker)
        elif isinstance(worker, RemoteLine):
            self._feed_line(worker, now)
        elif not worker.requests and self.asked.get(worker.link) is worker:
            del self.asked[worker.link]

    def feed_worker(self, worker: Worker, now: float) -> None:
        """Send a worker the requests that wait for it, as long as it has room."""
        queue = self._queue
        while queue.length and worker.pool is not None and len(worker.requests) < worker.capacity:
            request = (
                queue.take_for_other_node(self._lines_for(worker)) if worker.remote else queue.take_for_worker(worker)
            )
            if request is None:
                break
            self._send_taken(request, worker, now)
        self.pools.on_worker_changed(worker)

    def _lines_for(self, worker: Worker) -> list[Line]:
        return [worker, *(command for command in self._queue.commands() if worker.serves(command))]

    def _feed_line(self, line: RemoteLine, now: float) -> None:
        """Send another node the requests that wait for it as a whole, as long as it takes them."""
        while self._queue.length and line.alive and line.has_room:
            lines: list[Line] = [line]
            if line is line.place.ahead:
                lines += [c for c in self._queue.commands() if line.serves(c) and not self.pools.serves_here(c)]
            request = self._queue.take_for_other_node(lines)
            if request is None:
                break
            self._send_taken(request, line, now)

    def _send_taken(self, request: Request, worker: Worker, now: float) -> None:
        if request.deadline <= now:
            self._requests.end_request(request, TIMEOUT)
            return
        bound = self._affinity.worker_for(request)
        if bound is None and request.affinity is not None and self.remote and not request.guest:
            bound = self._bind_over_nodes(request, None)  # it waited while nobody took work
        if bound is None or bound is worker:
            self._send(request, worker, now)
        else:  # its key was bound to another worker while it waited
            self.place_request(request, now, accepted=True)

    # Workers that are gone

    def drain(self, now: float) -> None:
        """Send the workers of this node nothing more, for good. What waits is placed at other nodes, or waits for their
        workers; what none of them serves is refused."""
        if self.draining:
            return
        self.draining = True
        for worker in self.workers:
            if worker.pool is not None:
                self.pools.remove_worker(worker)
        for line in self._queue.lines():
            self.move_line(line, now)

    def step_back(self, worker: Worker, now: float) -> None:
        """Send a worker of this node nothing more, unless it steps up again. What waits for it goes to others."""
        if worker in self.stepped_back:
            return
        self.stepped_back.add(worker)
        if worker.pool is not None:
            self.pools.remove_worker(worker)
        self.move_line(worker, now)
        self.refuse_unserved(now)

    def step_up(self, worker: Worker, now: float) -> None:
        """Send a worker that stepped back requests again."""
        self.stepped_back.discard(worker)
        self.pools.add_worker(worker)
        self.feed_worker(worker, now)

    def _step_up_for(self, command: str, now: float) -> bool:
        """Before requests are refused for want of a worker: those that stepped back and serve this command step up."""
        able = [] if self.draining else [worker for worker in self.stepped_back if worker.takes(command)]
        for worker in able:
            self.step_up(worker, now)
        return bool(able)

    def may_be_sent(self, worker: Worker) -> bool:
        """Whether a worker of this node is sent requests, if it takes any."""
        return not self.draining and worker not in self.stepped_back

    def _has_stepped_back(self, worker: Worker) -> bool:
        return not worker.remote and not self.may_be_sent(worker)

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
        """End the requests that wait for a command which no worker serves any more, unless one may be told of soon."""
        for command in self._queue.commands():
            if self.pools.serves_here(command):
                continue
            if not self.pools.serves(command) and self._step_up_for(command, now):
                continue
            elsewhere = self.pools.serves(command) or (self.expects_workers and not self.draining)
            for request in self._queue.guests_in(command) if elsewhere else self._queue.drop_line(command):
                if not request.over:
                    self._refuse(request)
        for place in list(self.remote.places.values()):
            self._feed_line(place.ahead, now)

    # What other nodes say

    def add_place(self, place: RemotePlace) -> None:
        """There is another node, or there is one again."""
        self.remote.places[place.node] = place
        self.remote.distance.add_way(place.way)
        self.pools.measure(self.remote.distance)
        keyed = self.remote.take_returned(place.process)
        if keyed is not None:
            place.take_back(keyed)
            self._affinity.on_returned(keyed)

    def withdraw_remote(self, place: RemotePlace, workers: Collection[RemoteWorker], now: float) -> None:
        """Send these nothing more; what they have they may finish."""
        for worker in workers:
            worker.alive = False
            del place.workers[worker.number]
            self.pools.remove_worker(worker)
        for worker in workers:  # only now, so that nothing is placed at another one that is gone
            self.move_line(worker, now)
        self.move_line(place.keyed, now)
        self.refuse_unserved(now)

    def remove_place(self, place: RemotePlace, now: float, *, lost: bool) -> None:
        """A node is not to be sent anything more. If it is `lost`, what its workers had goes to others, or is lost."""
        self.remote.places.pop(place.node, None)
        self.remote.distance.remove_way(place.way)
        if not self.remote:
            self.remote.distance.before_pick(now, alone=True)
            self.pools.measure(None)
        if place.workers:  # which may live, though the node is out of sight
            self.remote.keep_for_return(place, now)
        workers = list(place.workers.values())
        everything: list[Worker] = [*workers, place.keyed, place.ahead]
        for worker in everything:
            worker.alive = False
            if lost:
                worker.link = GONE
        for remote in workers:
            self.pools.remove_worker(remote)
        place.workers.clear()
        for worker in everything:
            if lost:
                self.redistribute(worker, now)
            else:
                self.move_line(worker, now)
        self.refuse_unserved(now)

    def on_remote_room(self, place: RemotePlace, workers: Iterable[RemoteWorker], now: float) -> None:
        """These workers of another node may take more than before."""
        for worker in workers:
            if self._queue.length and worker.alive and len(worker.requests) < worker.capacity:
                self.feed_worker(worker, now)
        if self._queue.length:
            self._feed_line(place.keyed, now)
            self._feed_line(place.ahead, now)

    def on_remote_lost(self, request: Request, client_id: str | None, now: float) -> None:
        """The worker of another node that had the request is gone."""
        worker = _take_back(request)
        if self.may_retry(request, client_id, now):
            self.place_request(request, now, accepted=True)
        self.pools.on_worker_changed(worker)
        self.on_room(worker, now)  # after the request was placed, which goes before what waits

    def on_remote_returned(self, request: Request, now: float, *, recalled: bool) -> None:
        """Another node sent the request to no worker: that was no attempt. It has no room, unless this node `recalled`
        the request."""
        worker = _take_back(request)
        request.attempt -= 1
        if isinstance(worker, RemoteWorker):
            worker.on_full()
            self.pools.on_worker_changed(worker)
        elif isinstance(worker, RemoteLine) and not recalled:
            worker.capacity = 0
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


def _preference(request: Request, worker: Worker) -> tuple[bool, float, int, int]:
    """Workers that are well come first, then the least loaded, then the least recently used, then any."""
    return worker.sick, worker.load, worker.turn, hash((request.affinity or request.id, id(worker)))
