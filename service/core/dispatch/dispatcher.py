"""Requests to workers: who asks, who answers, what comes and goes, and how each one ends.

Knows callers and workers by their protocols only, and no clock or chance of its own. Promises: every request
that is not cancelled ends in exactly one final answer, at the latest about 0.1 s after its time is up; a
worker is never sent more than its capacity; a request that is not idempotent, or of which a part was passed on,
is never sent twice; new requests are refused when `queue_limit` wait already (one that its worker lost comes
back into the queue whatever waits there: it was accepted once).

    submit ──room──▶ at a worker ──answer, error, time──▶ over
       └──no room──▶ in the queue ──room──▶ (at a worker)   worker lost ──▶ (another worker, or the queue)

Here is what workers and callers may do. Which worker gets a request is `scheduler`'s; which requests there are, and
that each is ended once, `request_table`'; what the word of another node changes, `remote_changes`'. A guest, which
another node sent here, is that node's: it gets one attempt at a worker here, is never sent on, and is not counted.

Bookkeeping is done before anybody is told anything, so callers and links may call back at once. Source: protocol
reference, "Requester dialect" and "Envelope dialect".
"""

from collections.abc import Iterable
from enum import Enum
from random import Random
from typing import Final

from msgspec import Raw

from portico.wire.dialects.envelope import as_text
from portico.wire.messages import NULL

from ..counters import Counters
from ..ports import Monotonic
from .affinity import Affinity
from .fair_queue import FairQueue
from .model import (
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
from .pools import STRATEGIES, Watch
from .remote_changes import RemoteChanges
from .request_table import RequestTable
from .scheduler import LOST, TIMEOUT, Scheduler

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


class Dispatcher:
    """All requests and workers of this gateway.

    `now`: a monotonic clock; `strategy`: a name in `pools.STRATEGIES`; `worker_timeout`: seconds for a
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
        self._default_capacity = default_capacity
        self._counters = counters
        self._roster = STRATEGIES[strategy](random)
        self._queue = FairQueue()
        self._affinity = Affinity(affinity_limit)
        self._requests = RequestTable(self._queue, counters)
        self._placement = Scheduler(
            self._roster,
            self._queue,
            self._affinity,
            self._requests,
            queue_limit=queue_limit,
            max_attempts=max_attempts,
            counters=counters,
        )
        self.remote: Final = self._placement.remote
        self.remote_changes: Final = RemoteChanges(self._placement, self._requests, now=now)
        self._workers = self._placement.workers
        self._asked = self._placement.asked
        self._gone: dict[str, Statistics] = {}
        self._issued = 0

    # What is there

    @property
    def queue_length(self) -> int:
        """How many requests wait for a worker."""
        return len(self._queue)

    @property
    def outstanding(self) -> int:
        """How many requests are at workers or at clients that were asked."""
        return len(self._requests) - len(self._queue)

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
        return bool(self._requests.of(caller))

    def is_asked(self, link: WorkerLink) -> bool:
        """Whether the client of this link has yet to answer what it was asked."""
        return link in self._asked

    def drain(self) -> None:
        """Send the workers here nothing more, for good: what they have they may finish, what waits is refused, unless
        another node takes it at once."""
        self._placement.drain(self._now())

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
        self._placement.feed(worker, now)
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
            self._placement.place_line(worker, now)
            self._placement.refuse_unserved(now)
        self._placement.feed(worker, now)

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
        self._placement.scatter(worker, now)
        self._placement.refuse_unserved(now)

    def drop_statistics(self) -> None:
        """Forget how workers did that are gone, and which keys were theirs."""
        self._gone.clear()
        self._affinity.forget_the_gone()

    # For other nodes

    def watch(self, changed: Watch | None) -> None:
        """Have somebody told when there may be something else in `room`; None: nobody."""
        self._roster.watch = changed

    def room(self) -> dict[frozenset[str] | None, tuple[int, int]]:
        """For each set of commands that somebody here serves (None: every one), how many requests more they take, and
        how many in all."""
        room: dict[frozenset[str] | None, tuple[int, int]] = {}
        if not self._placement.draining:
            for worker in self._workers:
                free, capacity = room.get(worker.commands, (0, 0))
                free += max(0, worker.capacity - len(worker.requests))
                room[worker.commands] = free, capacity + worker.capacity
        return room

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
        self._requests.accept(request)
        self._placement.place(request, now)
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
        self._requests.accept(request)
        self._placement.place(request, now)
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
        self._requests.accept(request)
        self._placement.ask(request, link, client_id, now)
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
                self._requests.end(request, LOST)

    def cancel(self, request: Request) -> None:
        """The caller wants no answer any more, and gets none. A request that is over is left alone."""
        if request.over:
            return
        worker = request.worker
        self._requests.close(request, OutcomeKind.CANCELLED)
        if worker is not None:
            worker.link.send_cancel(request)
            self._placement.released(worker, self._now())

    def cancel_all(self, caller: Caller) -> None:
        """The caller is gone."""
        requests = list(self._requests.of(caller))
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
                return self._requests.stray(link, request_id)
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
        self._requests.close(request, outcome.kind)
        request.caller.answer(request, outcome)
        self._placement.released(at, now)
        return _ACCEPTED

    def expire(self, now: float) -> None:
        """End what took too long. To be called about every `request_table.RESOLUTION` seconds."""
        freed: dict[Worker, None] = {}
        for request in self._requests.due(now):
            if request.over:
                continue
            worker = request.worker
            if worker is not None:
                self._record(worker, now, now - request.sent_at, True)
                freed[worker] = None
            self._requests.end(request, TIMEOUT)
            if worker is not None:
                worker.link.send_cancel(request)
        for worker in freed:
            self._placement.released(worker, now)
        for worker in list(self._workers):
            if worker.sick and not worker.statistics.sick(now):
                worker.sick = False
                self._roster.refresh(worker)

    def _record(self, worker: Worker, now: float, seconds: float, failed: bool) -> None:
        worker.statistics.record(now, seconds, failed)
        if failed or worker.sick:
            worker.sick = worker.statistics.sick(now)


def _is_sent(request: Request) -> bool:
    return request.worker is not None
