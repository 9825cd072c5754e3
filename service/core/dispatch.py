"""Requests to workers: who gets which, what waits, what is tried again, and how each one ends.

Knows callers and workers by their protocols only, and no clock or chance of its own. Promises: every request
that is not cancelled ends in exactly one final answer, at the latest about 0.1 s after its time is up; a
worker is never sent more than its capacity; a request that is not idempotent, or of which a part was passed on,
is never sent twice; new requests are refused when `queue_limit` wait already (one that its worker lost comes
back into the queue whatever waits there: it was accepted once).

Workers of other nodes (`remote`) come after the ones here that have room and before the queue. A guest, which another
node sent here, is that node's: it gets one attempt at a worker here, is never sent on, and is not counted.

    submit ──room──▶ at a worker ──answer, error, time──▶ over
       └──no room──▶ in the queue ──room──▶ (at a worker)   worker lost ──▶ (another worker, or the queue)

A request with an affinity goes to the worker that had this key first, while that one lives and serves the
command, and waits for it if need be. With other nodes there, which node's worker that is depends on the key alone, so
that all nodes find the same one; only a key that nodes meet first before and after workers came may have two.

Bookkeeping is done before anybody is told anything, so callers and links may call back at once. Source: protocol
reference, "Requester dialect" and "Envelope dialect".
"""

from collections.abc import Collection, Iterable
from enum import Enum
from random import Random
from typing import Final

from msgspec import Raw

from service.wire.dialects.envelope import as_text
from service.wire.messages import NULL

from .affinity import Affinity
from .counters import Counters
from .deadlines import DeadlineWheel
from .fair_queue import FairQueue, Line
from .pending import (
    GONE,
    Caller,
    Outcome,
    OutcomeKind,
    Request,
    Statistics,
    Verdict,
    Worker,
    WorkerLink,
    WorkerStatus,
)
from .ports import Monotonic
from .remote_workers import RemoteWorker, RemoteWorkers
from .roster import STRATEGIES, Watch

__all__ = [
    "UNCHANGED",
    "Caller",
    "Dispatcher",
    "Outcome",
    "OutcomeKind",
    "Request",
    "Unchanged",
    "Verdict",
    "Worker",
    "WorkerLink",
    "WorkerStatus",
]

RESOLUTION: Final = 0.1
"""Seconds by which a time-out may be late."""
REMEMBERED: Final = 8192
"""Of how many ended requests it is known at least that they were sent, and to whom."""
GONE_LIMIT: Final = 10_000
"""Statistics of workers that are gone, kept for their return; the oldest are dropped above that."""


class Unchanged(Enum):
    """Says that a value stays what it is, where None is a value of its own."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED

# Named once: looking a member up in its enum costs more than the rest of the line.
_OK: Final = OutcomeKind.OK
_ERROR: Final = OutcomeKind.ERROR
_ACCEPTED: Final = Verdict.ACCEPTED

_NO_WORKERS: Final = Outcome(OutcomeKind.NO_WORKERS, error="No available workers")
_BUSY: Final = Outcome(OutcomeKind.BUSY, error="Workers busy")
_TIMEOUT: Final = Outcome(OutcomeKind.TIMEOUT, error="Worker response timeout")
_LOST: Final = Outcome(OutcomeKind.LOST, error="Worker lost")


class Dispatcher:
    """All requests and workers of this gateway.

    `now`: a monotonic clock; `strategy`: a name in `roster.STRATEGIES`; `worker_timeout`: seconds for a
    request that doesn't say; `queue_limit`: requests that may wait; `max_attempts`: how often one may be sent
    in all; `default_capacity`: of workers that don't say; `affinity_limit`: keys remembered, the least recently
    used forgotten first. Raises ValueError for an unknown strategy.
    """

    def __init__(
        self,
        *,
        now: Monotonic,
        random: Random,
        strategy: str,
        worker_timeout: float = 30.0,
        queue_limit: int = 1000,
        max_attempts: int = 3,
        default_capacity: int = 16,
        affinity_limit: int = 100_000,
        counters: Counters,
    ) -> None:
        if strategy not in STRATEGIES:
            raise ValueError(f"the strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        self._now = now
        self._worker_timeout = worker_timeout
        self._queue_limit = queue_limit
        self._max_attempts = max_attempts
        self._default_capacity = default_capacity
        self._counters = counters
        self._roster = STRATEGIES[strategy](random)
        self._workers: dict[Worker, None] = {}
        self.remote: Final = RemoteWorkers()
        self._asked: dict[WorkerLink, Worker] = {}
        self._by_caller: dict[Caller, dict[Request, None]] = {}
        self._queue = FairQueue()
        self._deadlines: DeadlineWheel[Request] = DeadlineWheel(RESOLUTION)
        self._affinity = Affinity(affinity_limit)
        self._gone: dict[str, Statistics] = {}
        self._issued = 0
        self._draining = False
        # Two generations of ended requests that were sent: the older is dropped when the newer is full.
        self._ended: dict[str, Worker] = {}
        self._ended_before: dict[str, Worker] = {}

    # What is there

    @property
    def queue_length(self) -> int:
        """How many requests wait for a worker."""
        return len(self._queue)

    @property
    def outstanding(self) -> int:
        """How many requests are at workers or at clients that were asked."""
        return len(self._deadlines) - len(self._queue)

    def workers(self) -> list[WorkerStatus]:
        """How the workers are doing, in the order in which they came."""
        now = self._now()
        return [
            WorkerStatus(
                worker.client_id,
                None if worker.commands is None else sorted(worker.commands),
                worker.capacity,
                worker.weight,
                worker.outstanding,
                worker.statistics.answers,
                worker.statistics.errors,
                round(worker.statistics.error_share(now), 4),
                round(worker.statistics.average * 1000, 3),
                not worker.statistics.sick(now),
            )
            for worker in self._workers
        ]

    def awaits(self, caller: Caller) -> bool:
        """Whether a caller has a request that is not answered yet."""
        return caller in self._by_caller

    def is_asked(self, link: WorkerLink) -> bool:
        """Whether the client of this link has yet to answer what it was asked."""
        return link in self._asked

    def drain(self) -> None:
        """Send the workers here nothing more, for good: what they have they may finish, what waits is refused, unless
        another node takes it at once."""
        self._draining = True
        if self._roster.watch is not None:
            self._roster.watch()
        now = self._now()
        for line in self._queue.lines():
            for request in self._queue.drop(line):
                if not request.over:
                    self._place(request, now)

    # Workers

    def join(
        self,
        link: WorkerLink,
        client_id: str | None,
        commands: Iterable[str] | None,
        capacity: int | None = None,
        weight: float | None = None,
    ) -> Worker:
        """A worker is there: it serves `commands` (None: every one), `capacity` at a time (None: the default),
        and gets `weight` (above 0; None: 1) shares of the work. It may be sent requests before this returns."""
        statistics = self._gone.pop(client_id, None) if client_id is not None else None
        worker = Worker(
            link,
            client_id,
            None if commands is None else frozenset(commands),
            self._default_capacity if capacity is None else capacity,
            1.0 if weight is None else weight,
            statistics or Statistics(),
        )
        now = self._now()
        worker.sick = worker.statistics.sick(now)
        self._workers[worker] = None
        self._roster.add(worker)
        self._feed(worker, now)
        return worker

    def change(
        self,
        worker: Worker,
        *,
        commands: Iterable[str] | Unchanged | None = UNCHANGED,
        capacity: int | None = None,
        weight: float | None = None,
    ) -> None:
        """A worker takes something else from now on; capacity 0: no more requests, those it has it keeps."""
        if not worker.alive:
            return
        now = self._now()
        self._roster.remove(worker)
        if capacity is not None:
            worker.capacity = capacity
        if weight is not None:
            worker.weight = weight
        if not isinstance(commands, Unchanged):
            worker.commands = None if commands is None else frozenset(commands)
        self._roster.add(worker)
        if not isinstance(commands, Unchanged):
            for request in self._queue.drop(worker):
                if not request.over:
                    self._place(request, now, accepted=True)
            self._refuse_unserved()
        self._feed(worker, now)

    def leave(self, worker: Worker) -> None:
        """A worker's connection is over: what it had goes to others, or is lost."""
        if not worker.alive:
            return
        now = self._now()
        worker.alive = False
        worker.link = GONE
        del self._workers[worker]
        self._roster.remove(worker)
        if worker.client_id is not None:
            if len(self._gone) >= GONE_LIMIT:
                del self._gone[next(iter(self._gone))]
            self._gone[worker.client_id] = worker.statistics
        self._scatter(worker, now)
        self._refuse_unserved()

    # Workers of other nodes

    def watch(self, changed: Watch | None) -> None:
        """Have somebody told when there may be something else in `room`; None: nobody."""
        self._roster.watch = changed

    def room(self) -> dict[frozenset[str] | None, tuple[int, int]]:
        """For each set of commands that somebody here serves (None: every one), how many requests more they take, and
        how many in all."""
        room: dict[frozenset[str] | None, tuple[int, int]] = {}
        if not self._draining:
            for worker in self._workers:
                free, capacity = room.get(worker.commands, (0, 0))
                free += max(0, worker.capacity - len(worker.requests))
                room[worker.commands] = free, capacity + worker.capacity
        return room

    def offered(self, workers: Iterable[RemoteWorker]) -> None:
        """Other nodes may take more than they did."""
        now = self._now()
        for worker in workers:
            self._feed_remote(worker, now)

    def withdrawn(self, workers: Collection[RemoteWorker]) -> None:
        """Nothing more is to be sent there; what they have they may finish."""
        now = self._now()
        for worker in workers:
            worker.alive = False
            self.remote.remove(worker)
        for worker in workers:
            for request in self._queue.drop(worker):
                if not request.over:
                    self._place(request, now, accepted=True)
        self._refuse_unserved()

    def vanished(self, workers: Collection[RemoteWorker]) -> None:
        """A node is gone: what its workers had goes to others, or is lost."""
        now = self._now()
        for worker in workers:
            worker.alive = False
            worker.link = GONE
            self.remote.remove(worker)
        for worker in workers:
            self._scatter(worker, now)
        self._refuse_unserved()

    def lost(self, request: Request, client_id: str | None) -> None:
        """Another node says that the worker which had the request is gone."""
        worker = self._take_back(request)
        now = self._now()
        if self._may_retry(request, client_id, now):
            self._place(request, now, accepted=True)
        self._released(worker, now)

    def returned(self, request: Request) -> None:
        """Another node sends back what it could pass on to no worker: that was no attempt."""
        worker = self._take_back(request)
        now = self._now()
        request.attempt -= 1
        if isinstance(worker, RemoteWorker):
            worker.has_none()
        if request.direct:
            self._end(request, _LOST)
        else:
            self._place(request, now, accepted=True)
        self._released(worker, now)

    def _take_back(self, request: Request) -> Worker:
        worker = request.worker
        assert worker is not None  # whoever sends it back had it
        del worker.requests[request.id]
        request.worker = None
        return worker

    def drop_statistics(self) -> None:
        """Forget how workers did that are gone, and which keys were theirs."""
        self._gone.clear()
        self._affinity.forget_the_gone()

    # Callers

    def submit(
        self,
        caller: Caller,
        token: str | None,
        command: str,
        data: Raw,
        *,
        timeout: float | None = None,
        stream: bool = False,
        affinity: str | None = None,
        idempotent: bool = True,
    ) -> Request:
        """A request for any worker that serves `command`. `timeout` in seconds, above 0, over all waiting and
        all attempts (None: the default). The answer may come before this returns."""
        now = self._now()
        if timeout is None:
            timeout = self._worker_timeout
        self._issued += 1
        request = Request(f"r-{self._issued}", caller, token, command, data, timeout, stream, affinity, idempotent, now)
        self._accept(request)
        self._place(request, now)
        return request

    def submit_guest(
        self,
        caller: Caller,
        token: str,
        command: str,
        data: Raw,
        *,
        timeout: float,
        stream: bool,
        affinity: str | None,
        attempt: int,
        tried: tuple[str, ...],
    ) -> Request:
        """A request of another node's, for one attempt (its `attempt`-th) at a worker of this one. It waits for a
        worker with room if it must. Its caller has no requests that are not guests."""
        now = self._now()
        self._issued += 1
        request = Request(f"r-{self._issued}", caller, token, command, data, timeout, stream, affinity, False, now)
        request.guest = True
        request.attempt = request.retries = attempt - 1
        request.tried = tried
        self._accept(request)
        self._place(request, now)
        return request

    def ask(
        self,
        link: WorkerLink,
        caller: Caller,
        token: str | None,
        action: str,
        params: Raw,
        timeout: float | None = None,
        client_id: str | None = None,
        *,
        guest: bool = False,
    ) -> Request:
        """A request for one client and no other. `client_id`: who is named as having processed it. At most
        `queue_limit` at a time; `abandon` the link when its connection is over. `guest`: another node asks."""
        now = self._now()
        if timeout is None:
            timeout = self._worker_timeout
        self._issued += 1
        request = Request(f"r-{self._issued}", caller, token, action, params, timeout, False, None, False, now)
        request.direct = True
        request.guest = guest
        self._accept(request)
        asked = self._asked.get(link)
        if asked is None:
            asked = Worker(link, client_id, frozenset(), max(self._queue_limit, 1), 1.0, Statistics())
            self._asked[link] = asked
        if len(asked.requests) < asked.capacity:
            self._send(request, asked, now)
        else:
            self._end(request, _BUSY)
        return request

    def abandon(self, link: WorkerLink) -> None:
        """The connection of a client is over; what it was asked is lost."""
        asked = self._asked.pop(link, None)
        if asked is None:
            return
        asked.alive = False
        asked.link = GONE
        for request in list(asked.requests.values()):
            if not request.over:
                self._end(request, _LOST)

    def cancel(self, request: Request) -> None:
        """The caller wants no answer any more, and gets none. A request that is over is left alone."""
        if request.over:
            return
        worker = request.worker
        self._close(request, OutcomeKind.CANCELLED)
        if worker is not None:
            worker.link.send_cancel(request)
            self._released(worker, self._now())

    def cancel_all(self, caller: Caller) -> None:
        """The caller is gone."""
        requests = list(self._by_caller.get(caller, ()))
        # Those that wait first, lest they be sent to the workers that the others leave.
        for request in sorted(requests, key=_is_sent):
            self.cancel(request)

    # Answers

    def respond(
        self,
        worker: Worker | WorkerLink,
        request_id: str,
        *,
        success: bool,
        result: Raw | None = None,
        error: str | None = None,
        partial: bool = False,
        processed_by: str | None = None,
    ) -> Verdict:
        """What a worker, or the link of a client that was asked, answered. Nothing here trusts `request_id`.
        `processed_by`: whose answer it is, where it isn't the worker's own."""
        request = worker.requests.get(request_id) if isinstance(worker, Worker) else None
        if request is None:
            link = worker.link if isinstance(worker, Worker) else worker
            asked = self._asked.get(link)
            request = asked.requests.get(request_id) if asked is not None else None
            if request is None:
                return self._stray(link, request_id)
        at = request.worker
        assert at is not None  # what a worker has is at that worker
        by = at.client_id if processed_by is None else processed_by
        if success:
            outcome = Outcome(_OK, success=True, data=result, processed_by=by, partial=partial)
        else:
            if error is None:
                error = "The worker gave no reason" if result is None or result == NULL else as_text(result)
            outcome = Outcome(_ERROR, error=error, processed_by=by, partial=partial)
        if partial:
            if request.stream:
                request.partial_sent = True
                request.caller.answer(request, outcome)
            return _ACCEPTED
        now = self._now()
        if not request.guest:
            self._counters.request_latency.observe(now - request.submitted_at)
        self._record(at, now, now - request.sent_at, not success)
        self._close(request, outcome.kind)
        request.caller.answer(request, outcome)
        self._released(at, now)
        return _ACCEPTED

    def expire(self, now: float) -> None:
        """End what took too long. To be called about every RESOLUTION seconds."""
        freed: dict[Worker, None] = {}
        for request in self._deadlines.expire(now):
            if request.over:
                continue
            worker = request.worker
            if worker is not None:
                self._record(worker, now, now - request.sent_at, True)
                freed[worker] = None
            self._end(request, _TIMEOUT)
            if worker is not None:
                worker.link.send_cancel(request)
        for worker in freed:
            self._released(worker, now)
        for worker in list(self._workers):
            if worker.sick and not worker.statistics.sick(now):
                worker.sick = False
                self._roster.refresh(worker)

    # Within

    def _accept(self, request: Request) -> None:
        self._deadlines.add(request, request.deadline)
        requests = self._by_caller.get(request.caller)
        if requests is None:
            self._by_caller[request.caller] = {request: None}
        else:
            requests[request] = None

    def _place(self, request: Request, now: float, *, accepted: bool = False) -> None:
        """Send a request that is nowhere yet, or let it wait, or refuse it; never for want of room in the queue
        if it was `accepted` before."""
        bound = self._affinity.find(request)
        worker: Worker | None
        line: Line
        if self._draining:
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
            self._end(request, _BUSY)

    def _pick_other(self, request: Request) -> Worker | None:
        had_it = [worker for worker in self._workers if worker.client_id in request.tried]
        return self._roster.pick_avoiding(request.command, had_it)

    def _pick_remote(self, request: Request, bound: Worker | None) -> RemoteWorker | None:
        if isinstance(bound, RemoteWorker):
            return bound if bound.takes(wait=True) else None
        if bound is not None and not self._draining:
            return None
        return self.remote.pick(request.command, wait=self._draining or not self._roster.serves(request.command))

    def _settle(self, request: Request) -> Worker | None:
        """Bind a new key where all nodes would, room or not; None if nobody takes anything."""
        command = request.command
        here = [worker for worker in self._workers if worker.capacity and worker.serves(command)]
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

    def _released(self, worker: Worker, now: float) -> None:
        """A worker has room that it hadn't."""
        if worker.pool is not None:
            self._feed(worker, now)
        elif isinstance(worker, RemoteWorker):
            self._feed_remote(worker, now)
        elif not worker.requests and self._asked.get(worker.link) is worker:
            del self._asked[worker.link]

    def _feed(self, worker: Worker, now: float) -> None:
        """Send a worker what waits for it, as long as it has room."""
        while self._queue.length and worker.alive and len(worker.requests) < worker.capacity:
            request = self._queue.take(worker)
            if request is None:
                break
            self._send_taken(request, worker, now)
        self._roster.refresh(worker)

    def _feed_remote(self, worker: RemoteWorker, now: float) -> None:
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
            self._end(request, _TIMEOUT)
            return
        bound = self._affinity.find(request)
        if bound is None or bound is worker:
            self._send(request, worker, now)
        else:  # its key was bound to another while it waited
            self._place(request, now, accepted=True)

    def _scatter(self, worker: Worker, now: float) -> None:
        """What a worker had, and what waits for it alone, goes elsewhere or is lost."""
        had = list(worker.requests.values())
        bound = self._queue.drop(worker)
        worker.requests.clear()
        for request in had:
            request.worker = None
        again = [request for request in had if not request.over and self._may_retry(request, worker.client_id, now)]
        for request in reversed(again):  # each goes before those that wait
            if not request.over:
                self._place(request, now, accepted=True)
        for request in bound:
            if not request.over:
                self._place(request, now, accepted=True)

    def _may_retry(self, request: Request, client_id: str | None, now: float) -> bool:
        """True if another worker may get what this one lost; ends the request otherwise."""
        if request.guest:  # its own node decides, and would not try this worker again
            self._end(request, Outcome(OutcomeKind.LOST, error="Worker lost", processed_by=client_id))
            return False
        if not request.idempotent or request.partial_sent or request.attempt >= self._max_attempts:
            self._end(request, _LOST)
            return False
        if request.deadline <= now:
            self._end(request, _TIMEOUT)
            return False
        if client_id is not None:
            request.tried += (client_id,)
        return True

    def _refuse_unserved(self) -> None:
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
                    self._feed_remote(worker, self._now())

    def _record(self, worker: Worker, now: float, seconds: float, failed: bool) -> None:
        worker.statistics.record(now, seconds, failed)
        if failed or worker.sick:
            worker.sick = worker.statistics.sick(now)

    def _refuse(self, request: Request) -> None:
        """Nobody can be sent it, or not again. (A guest's attempts are its own node's.)"""
        self._end(request, _LOST if request.attempt and not request.guest else _NO_WORKERS)

    def _end(self, request: Request, outcome: Outcome) -> None:
        self._close(request, outcome.kind)
        request.caller.answer(request, outcome)

    def _close(self, request: Request, kind: OutcomeKind) -> None:
        """Take a request off every table. Nobody is told."""
        request.over = True
        if not request.guest:
            self._counters.requests[kind] += 1
        self._deadlines.discard(request)
        requests = self._by_caller[request.caller]
        del requests[request]
        if not requests:
            del self._by_caller[request.caller]
        worker = request.worker
        if worker is None:
            self._queue.remove(request)
        else:
            del worker.requests[request.id]
            request.worker = None
            if len(self._ended) >= REMEMBERED // 2:
                self._ended_before = self._ended
                self._ended = {}
            self._ended[request.id] = worker

    def _stray(self, link: WorkerLink, request_id: str) -> Verdict:
        worker = self._ended.get(request_id) or self._ended_before.get(request_id)
        if worker is None or worker.link is not link:
            return Verdict.UNKNOWN
        self._counters.late_answers += 1
        return Verdict.LATE


def _load(worker: Worker) -> float:
    return len(worker.requests) / worker.weight


def _is_sent(request: Request) -> bool:
    return request.worker is not None
