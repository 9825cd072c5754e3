"""The request table: which requests are not over, whose they are, when their time is up, and how each one ends.

Doesn't know which worker should get a request. Promises: an accepted request is in every table until it is closed, and
then in none; its caller is told once, after that, so that it may call back at once. Of the requests that ended at a
worker the last few thousand are remembered, so that a late answer can be told from an answer to a request that this
worker was never sent.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from ..counters import Counters
from ..deadlines import DeadlineWheel
from .fair_queue import FairQueue
from .model import Caller, Outcome, OutcomeKind, Request, Verdict, Worker, WorkerLink

RESOLUTION: Final = 0.1
"""Seconds by which a time-out may be late."""
REMEMBERED: Final = 8192
"""The number of ended requests of which it is remembered which worker had them."""


class DispatchObserver(Protocol):
    """Who is told what becomes of requests."""

    def on_request_failed(self, request: Request, outcome: Outcome) -> None:
        """A request of this node's has ended without success, and was not cancelled."""


class RequestTable:
    """All requests of this gateway that are not over. `queue`: the requests that are at no worker wait there."""

    __slots__ = ("_by_caller", "_counters", "_deadlines", "_ended", "_ended_before", "_observer", "_queue", "own")

    def __init__(self, queue: FairQueue, counters: Counters, observer: DispatchObserver | None = None) -> None:
        self._queue = queue
        self.own = 0
        """How many were made at this node, and not by another one."""
        self._counters = counters
        self._observer = observer
        self._by_caller: dict[Caller, dict[Request, None]] = {}
        self._deadlines: DeadlineWheel[Request] = DeadlineWheel(RESOLUTION)
        # Two generations of ended requests that were sent: the older is dropped when the newer is full.
        self._ended: dict[str, Worker] = {}
        self._ended_before: dict[str, Worker] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def requests_of(self, caller: Caller) -> Iterable[Request]:
        """The requests of a caller, the oldest first."""
        return self._by_caller.get(caller, ())

    def take_due(self, now: float) -> list[Request]:
        """The requests whose time is up, to be ended. Each comes out once."""
        return self._deadlines.expire(now)

    def add_request(self, request: Request) -> None:
        """Keep this request until it is closed."""
        self._deadlines.add(request, request.deadline)
        self.own += not request.guest
        requests = self._by_caller.get(request.caller)
        if requests is None:
            self._by_caller[request.caller] = {request: None}
        else:
            requests[request] = None

    def end_request(self, request: Request, outcome: Outcome) -> None:
        """Close the request, and give its caller the final answer."""
        self.close_request(request, outcome.kind)
        request.caller.on_answer(request, outcome)
        self.tell_failed(request, outcome)

    def tell_failed(self, request: Request, outcome: Outcome) -> None:
        """It is over; somebody may want to know where it failed."""
        if self._observer is None or outcome.success or request.guest or outcome.kind is OutcomeKind.CANCELLED:
            return
        self._observer.on_request_failed(request, outcome)

    def close_request(self, request: Request, kind: OutcomeKind) -> None:
        """Take a request out of every table, and tell nobody."""
        request.over = True
        if not request.guest:
            self._counters.requests[kind] += 1
            self.own -= 1
        self._deadlines.discard(request)
        requests = self._by_caller[request.caller]
        del requests[request]
        if not requests:
            del self._by_caller[request.caller]
        worker = request.worker
        if worker is None:
            self._queue.remove_request(request)
        else:
            del worker.requests[request.id]
            request.worker = None
            if len(self._ended) >= REMEMBERED // 2:
                self._ended_before = self._ended
                self._ended = {}
            self._ended[request.id] = worker

    def judge_stray_answer(self, link: WorkerLink, request_id: str) -> Verdict:
        """Whether an answer to a request that isn't at this link is late, or to a request that it was never sent."""
        worker = self._ended.get(request_id) or self._ended_before.get(request_id)
        if worker is None or worker.link is not link:
            return Verdict.UNKNOWN
        self._counters.late_answers += 1
        return Verdict.LATE
