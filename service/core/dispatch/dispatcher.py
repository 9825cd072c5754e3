"""The dispatcher: what callers and workers may do. Requests come in here, and so do workers and their answers.

It knows callers and workers by their protocols only, and reads no clock. Promises: every request that is not cancelled
ends in exactly one final answer, at the latest about 0.1 s after its time is up; a worker is never sent more than its
capacity; a request that is not idempotent, or of which a part was passed on, is never sent twice; new requests are
refused when the queue is full (one that its worker lost comes back into the queue all the same: it was accepted once).

    submit ──room──▶ at a worker ──answer, error, time──▶ over
       └──no room──▶ in the queue ──room──▶ (at a worker)   worker lost ──▶ (another worker, or the queue)

The choice of a worker is made in `scheduler`; `request_table` keeps the requests and ends each once; `remote_dispatch`
talks to other nodes. A guest is a request of another node: it gets one attempt at a worker of this node, is
never sent on, and is not counted here.

Bookkeeping is done before a caller or a link is told anything, so these may call back at once. Source: protocol
reference, "Requester dialect" and "Envelope dialect".
"""

from collections.abc import Iterable
from enum import Enum
from random import Random
from typing import Final

from msgspec import Raw

from portico.wire.codes import ErrorCode
from portico.wire.dialects.envelope import as_text
from portico.wire.faults import PeerFault
from portico.wire.messages import EMPTY_OBJECT, NULL

from ..counters import Counters
from ..ports import Monotonic
from .affinity import Affinity
from .departure import Departure
from .fair_queue import FairQueue
from .model import (
    GONE,
    Caller,
    Guest,
    Outcome,
    OutcomeKind,
    Request,
    Statistics,
    Verdict,
    Worker,
    WorkerLink,
    WorkerStatus,
)
from .pools import STRATEGIES
from .remote_workers import RemoteWorker
from .request_table import DispatchObserver, RequestTable
from .scheduler import LOST, TIMEOUT, DispatchRules, Scheduler

__all__ = [
    "UNCHANGED",
    "Caller",
    "DispatchRules",
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

GONE_LIMIT: Final = 10_000
"""The number of workers that are gone whose statistics are kept for their return; the oldest are dropped first."""


class Unchanged(Enum):
    """Says that a value stays what it is, where None is a value of its own."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED

# Named once: looking a member up in its enum costs more than the rest of the line.
_OK: Final = OutcomeKind.OK
_ERROR: Final = OutcomeKind.ERROR
_ACCEPTED: Final = Verdict.ACCEPTED


class Dispatcher:
    """All requests and workers of this gateway. `now`: a monotonic clock. Raises ValueError for an unknown strategy."""

    def __init__(
        self,
        rules: DispatchRules,
        *,
        now: Monotonic,
        random: Random,
        counters: Counters,
        observer: DispatchObserver | None = None,
    ) -> None:
        if rules.strategy not in STRATEGIES:
            raise ValueError(f"the strategy must be one of {', '.join(STRATEGIES)}, not {rules.strategy!r}")
        self._now = now
        self._rules = rules
        self.counters: Final = counters
        self._pools = STRATEGIES[rules.strategy](random)
        self._queue = FairQueue(rules.queue_limit, rules.queue_bytes)
        self._affinity = Affinity(rules.affinity_limit)
        self._requests = RequestTable(self._queue, counters, observer)
        self.scheduler: Final = Scheduler(
            self._pools, self._queue, self._affinity, self._requests, rules=rules, counters=counters
        )
        """Where requests are placed; for `remote_dispatch`."""
        self.departure: Final = Departure(self.scheduler)
        self.remote: Final = self.scheduler.remote
        self._workers = self.scheduler.workers
        self._asked = self.scheduler.asked
        self._gone: dict[str, Statistics] = {}
        self._issued = 0

    # What there is to know

    @property
    def queue_length(self) -> int:
        """How many requests wait for a worker."""
        return len(self._queue)

    @property
    def queue_bytes(self) -> int:
        """How many bytes the requests take that wait for a worker."""
        return self._queue.bytes

    @property
    def outstanding(self) -> int:
        """How many requests are at workers or at clients that were asked."""
        return len(self._requests) - len(self._queue)

    def worker_statuses(self) -> list[WorkerStatus]:
        """The workers of this node and how they are doing, in the order in which they came."""
        now = self._now()
        return [
            WorkerStatus(
                worker.client_id,
                None if worker.commands is None else sorted(worker.commands),
                worker.full_capacity,
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

    def awaits_answer(self, caller: Caller) -> bool:
        """True if a caller has a request that is not answered yet."""
        return bool(self._requests.requests_of(caller))

    def is_named(self, command: str) -> bool:
        """True if a worker, of this node or another, names this command among those that it serves. Those that serve
        every command name none."""
        return self._pools.names(command)

    @property
    def max_timeout(self) -> float:
        """The most seconds that a request may ask for."""
        return self._rules.max_timeout

    def requests_of(self, caller: Caller) -> Iterable[Request]:
        """What a caller has asked and not been answered, the oldest first. Not to be walked while requests end."""
        return self._requests.requests_of(caller)

    def awaits_client(self, link: WorkerLink) -> bool:
        """True if the client of this link has been asked something that it has not answered."""
        return link in self._asked

    def leave(self) -> None:
        """This node is about to go: its workers are sent requests as long as nobody else serves their commands."""
        self.departure.begin(self._now())

    def release_worker(self, worker: Worker) -> bool:
        """It is a worker's turn to go, at a node that leaves: whether it is sent nothing more, since it can be
        spared."""
        return self.departure.release(worker, self._now())

    def drain(self) -> None:
        """Send the workers of this node nothing more, for good. What they have they may finish; what waits goes to the
        workers of other nodes, as soon as they have room, and is refused only if none of them serves it."""
        self.scheduler.drain(self._now())

    # Workers

    def add_worker(
        self,
        link: WorkerLink,
        client_id: str | None,
        commands: Iterable[str] | None,
        capacity: int | None = None,
        weight: float | None = None,
    ) -> Worker:
        """A worker is connected: it serves `commands` (None: every one), takes `capacity` requests at a time (None:
        the default), and gets `weight` (above 0; None: 1) shares of the work. It may be sent requests before this
        returns."""
        statistics = self._gone.pop(client_id, None) if client_id is not None else None
        worker = Worker(
            link,
            client_id,
            None if commands is None else frozenset(commands),
            self._rules.default_capacity if capacity is None else capacity,
            1.0 if weight is None else weight,
            statistics or Statistics(),
        )
        now = self._now()
        worker.sick = worker.statistics.sick(now)
        self._workers[worker] = None
        if self.scheduler.may_be_sent(worker):
            self._pools.add_worker(worker)
            self.scheduler.feed_worker(worker, now)
        return worker

    def change_worker(
        self,
        worker: Worker,
        *,
        commands: Iterable[str] | Unchanged | None = UNCHANGED,
        capacity: int | None = None,
        weight: float | None = None,
    ) -> None:
        """A worker takes something else from now on. With capacity 0 it gets no more requests; those it has stay."""
        if not worker.alive:
            return
        now = self._now()
        if worker.pool is not None:
            self._pools.remove_worker(worker)
        if capacity is not None:
            blocked = worker.blocked
            worker.full_capacity = capacity
            worker.capacity = 0 if blocked else capacity
        if weight is not None:
            worker.weight = weight
        if not isinstance(commands, Unchanged):
            worker.commands = None if commands is None else frozenset(commands)
        if self.scheduler.may_be_sent(worker):
            self._pools.add_worker(worker)
        if not isinstance(commands, Unchanged) or not worker.takes_work:
            self.scheduler.move_line(worker, now)
            self.scheduler.refuse_unserved(now)
        self.scheduler.feed_worker(worker, now)

    def block_worker(self, worker: Worker) -> None:
        """The worker's link has a backlog: it counts as full until there is room; requests wait or go to others."""
        worker.capacity = 0
        self._pools.on_worker_changed(worker)

    def unblock_worker(self, worker: Worker) -> None:
        """The worker's link has room again."""
        if worker.alive and worker.blocked:
            worker.capacity = worker.full_capacity
            self.scheduler.feed_worker(worker, self._now())

    def remove_worker(self, worker: Worker) -> None:
        """A worker's connection is over: what it had goes to other workers, or is lost."""
        if not worker.alive:
            return
        now = self._now()
        worker.alive = False
        worker.link = GONE
        del self._workers[worker]
        self.scheduler.stepped_back.discard(worker)
        if worker.pool is not None:
            self._pools.remove_worker(worker)
        if worker.client_id is not None:
            if len(self._gone) >= GONE_LIMIT:
                del self._gone[next(iter(self._gone))]
            self._gone[worker.client_id] = worker.statistics
        self.scheduler.redistribute(worker, now)
        self.scheduler.refuse_unserved(now)

    def drop_statistics(self) -> None:
        """Forget the statistics of workers that are gone, and the keys that were bound to them."""
        self._gone.clear()
        self._affinity.forget_gone_workers()

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
        """Make a request for any worker that serves `command`. `timeout` in seconds, above 0, over all waiting and all
        attempts (None: the default). The answer may come before this returns. Raises PeerFault `bad_field` for a
        `timeout` above the largest."""
        now = self._now()
        if timeout is None:
            timeout = self._rules.worker_timeout
        else:
            self._check_timeout(timeout)
        if data == NULL:
            data = EMPTY_OBJECT  # many workers are written as `params.get(…)`
        self._issued += 1
        request = Request(
            f"r-{self._issued}",
            caller,
            token,
            command,
            data,
            timeout,
            stream,
            affinity,
            idempotent,
            now,
            now + timeout,
            now,
        )
        self._requests.add_request(request)
        self.scheduler.place_request(request, now)
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
        guest: Guest,
        may_wait: bool,
    ) -> Request:
        """Make an attempt (the `attempt`-th) at a request of another node, with a worker of this one: with the
        one that its node has chosen, or any. If none has room, it waits (if it `may_wait`), or ends as BUSY. A caller
        has either guests only, or none."""
        now = self._now()
        self._issued += 1
        request = Request(
            f"r-{self._issued}", caller, token, command, data, timeout, stream, affinity, False, now, now + timeout, now
        )
        request.guest = guest
        request.attempt = request.retries = attempt - 1
        request.tried = tried
        self._requests.add_request(request)
        self.scheduler.place_guest(request, now, may_wait=may_wait)
        return request

    def ask_client(
        self,
        link: WorkerLink,
        caller: Caller,
        token: str | None,
        action: str,
        params: Raw,
        timeout: float | None = None,
        client_id: str | None = None,
        *,
        stream: bool = False,
        guest: Guest | None = None,
    ) -> Request:
        """Make a request for one client. `client_id`: what is named as `processed_by`. At most `queue_limit` at a time;
        call `forget_client` when its connection is over. `guest`: if another node asks."""
        now = self._now()
        if timeout is None:
            timeout = self._rules.worker_timeout
        elif guest is None:
            self._check_timeout(timeout)
        if params == NULL:
            params = EMPTY_OBJECT
        self._issued += 1
        request = Request(
            f"r-{self._issued}", caller, token, action, params, timeout, stream, None, False, now, now + timeout, now
        )
        request.direct = True
        request.guest = guest
        self._requests.add_request(request)
        self.scheduler.send_to_client(request, link, client_id, now)
        return request

    def _check_timeout(self, timeout: float) -> None:
        if timeout > self._rules.max_timeout:
            limit = self._rules.max_timeout
            raise PeerFault(
                ErrorCode.BAD_FIELD, f"The field 'timeout' must be at most {limit:g} seconds.", field="timeout"
            )

    def forget_client(self, link: WorkerLink) -> None:
        """The connection of a client is over; what it was asked is lost."""
        asked = self._asked.pop(link, None)
        if asked is None:
            return
        asked.alive = False
        asked.link = GONE
        for request in list(asked.requests.values()):
            if not request.over:
                self._requests.end_request(request, LOST)

    def cancel_request(self, request: Request) -> None:
        """The caller wants no answer any more, and gets none. A request that is over is ignored."""
        if request.over:
            return
        worker = request.worker
        self._requests.close_request(request, OutcomeKind.CANCELLED)
        if worker is not None:
            worker.link.send_cancel(request)
            self.scheduler.on_room(worker, self._now())

    def cancel_requests_of(self, caller: Caller) -> None:
        """The caller is gone."""
        requests = list(self._requests.requests_of(caller))
        # Those that wait first, lest they be sent to the workers that the others leave.
        for request in sorted(requests, key=_is_sent):
            self.cancel_request(request)

    # Answers

    def on_answer(
        self,
        worker: Worker | WorkerLink,
        request_id: str,
        *,
        success: bool,
        result: Raw | None = None,
        error: str | None = None,
        partial: bool = False,
        processed_by: str | None = None,
        seconds_there: float = 0.0,
    ) -> Verdict:
        """A worker, or the client of a link, answered. `request_id` is what it says, and may be anything. From another
        node, `processed_by` is the name of the worker, and `seconds_there` for how long it had the request."""
        request = worker.requests.get(request_id) if isinstance(worker, Worker) else None
        if request is None:
            link = worker.link if isinstance(worker, Worker) else worker
            asked = self._asked.get(link)
            request = asked.requests.get(request_id) if asked is not None else None
            if request is None:
                return self._requests.judge_stray_answer(link, request_id)
        at = request.worker
        assert at is not None  # what a worker has is at that worker
        by = at.client_id if processed_by is None else processed_by
        if success:
            outcome = Outcome(_OK, True, result, None, by, partial)
        else:
            if error is None:
                error = "The worker gave no reason" if result is None or result == NULL else as_text(result)
            outcome = Outcome(_ERROR, False, None, error, by, partial)
        if partial:
            if request.stream:
                request.partial_sent = True
                request.caller.on_answer(request, outcome)
            return _ACCEPTED
        now = self._now()
        if not request.guest:
            self.counters.request_latency.observe(now - request.submitted_at)
        distance = self._pools.distance
        if distance is not None:
            if isinstance(at, RemoteWorker):
                distance.on_far_answer(at, at.way, now - request.sent_at, seconds_there, now)
            elif not request.direct:
                distance.on_near_answer(at, now - request.sent_at, now, own=not request.guest)
        if at.remote:
            pass  # its own node judges it
        elif success and not at.sick:
            at.statistics.record(now, now - request.sent_at, False)
        else:
            self._record(at, now, now - request.sent_at, not success)
        self._requests.close_request(request, outcome.kind)
        request.caller.on_answer(request, outcome)
        if not success:
            self._requests.tell_failed(request, outcome)
        self.scheduler.on_room(at, now)
        return _ACCEPTED

    def reject_answer(
        self, worker: Worker | WorkerLink, names: Iterable[str], reason: str, *, certain: bool = False
    ) -> bool:
        """A worker, or the client of a link, answered what can't be accepted. `names`: of the requests that it may have
        meant; the first that it has is answered with the reason, and given to no other worker. If it has one request
        only, that was meant, unless the names are `certain`. Returns whether one was answered."""
        asked = worker if isinstance(worker, Worker) else self._asked.get(worker)
        if asked is None:
            return False
        name = next((name for name in names if name in asked.requests), None)
        if name is None and not certain and len(asked.requests) == 1:
            name = next(iter(asked.requests))
        if name is None:
            return False
        self.counters.answers_rejected += 1
        error = f"The worker's answer could not be accepted: {reason}"
        return self.on_answer(worker, name, success=False, error=error) is _ACCEPTED

    def expire_requests(self, now: float) -> None:
        """End the requests whose time is up. To be called about every `request_table.RESOLUTION` seconds."""
        freed: dict[Worker, None] = {}
        for request in self._requests.take_due(now):
            if request.over:
                continue
            worker = request.worker
            if worker is not None:
                self._blame(worker, request, now)
                freed[worker] = None
            self._requests.end_request(request, TIMEOUT)
            if worker is not None:
                worker.link.send_cancel(request)
        for worker in freed:
            self.scheduler.on_room(worker, now)
        for worker in list(self._workers):
            if worker.sick and not worker.statistics.sick(now):
                worker.sick = False
                self._pools.on_worker_changed(worker)

    def expire_guest(self, request: Request) -> None:
        """Another node says that the time of its request is up."""
        if request.worker is not None and not request.over:
            self._blame(request.worker, request, self._now())
        self.cancel_request(request)

    def _blame(self, worker: Worker, request: Request, now: float) -> None:
        seconds = now - request.sent_at
        if not worker.remote and worker.statistics.is_overdue(
            seconds, min(request.timeout, self._rules.worker_timeout)
        ):
            self._record(worker, now, seconds, True)

    def _record(self, worker: Worker, now: float, seconds: float, failed: bool) -> None:
        worker.statistics.record(now, seconds, failed)
        if failed or worker.sick:
            worker.sick = worker.statistics.sick(now)


def _is_sent(request: Request) -> bool:
    return request.worker is not None
