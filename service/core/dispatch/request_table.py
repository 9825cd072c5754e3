"""The requests that are not over: whose they are, when their time is up, and how each one ends.

Knows callers and workers as what a request names; never who should get it. Promises: what was accepted is on every
table until it is closed, and then on none; its caller is told once, after that, so that it may call back at once.
Of those that ended at a worker the last few thousand are remembered, so that a late answer is told from a false one.
"""

from collections.abc import Iterable
from typing import Final

from ..counters import Counters
from ..deadlines import DeadlineWheel
from .fair_queue import FairQueue
from .model import Caller, Outcome, OutcomeKind, Request, Verdict, Worker, WorkerLink

RESOLUTION: Final = 0.1
"""Seconds by which a time-out may be late."""
REMEMBERED: Final = 8192
"""Of how many ended requests it is known at least that they were sent, and to whom."""


class RequestTable:
    """All requests of this gateway that are not over. `queue`: where those wait that are at no worker."""

    __slots__ = ("_by_caller", "_counters", "_deadlines", "_ended", "_ended_before", "_queue")

    def __init__(self, queue: FairQueue, counters: Counters) -> None:
        self._queue = queue
        self._counters = counters
        self._by_caller: dict[Caller, dict[Request, None]] = {}
        self._deadlines: DeadlineWheel[Request] = DeadlineWheel(RESOLUTION)
        # Two generations of ended requests that were sent: the older is dropped when the newer is full.
        self._ended: dict[str, Worker] = {}
        self._ended_before: dict[str, Worker] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def of(self, caller: Caller) -> Iterable[Request]:
        """A caller's, the oldest first."""
        return self._by_caller.get(caller, ())

    def due(self, now: float) -> list[Request]:
        """Those whose time is up. Each comes out once, to be ended."""
        return self._deadlines.expire(now)

    def accept(self, request: Request) -> None:
        """It is to be answered from now on."""
        self._deadlines.add(request, request.deadline)
        requests = self._by_caller.get(request.caller)
        if requests is None:
            self._by_caller[request.caller] = {request: None}
        else:
            requests[request] = None

    def end(self, request: Request, outcome: Outcome) -> None:
        """This is its final answer."""
        self.close(request, outcome.kind)
        request.caller.answer(request, outcome)

    def close(self, request: Request, kind: OutcomeKind) -> None:
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

    def stray(self, link: WorkerLink, request_id: str) -> Verdict:
        """What to say of an answer to a request that isn't at this link."""
        worker = self._ended.get(request_id) or self._ended_before.get(request_id)
        if worker is None or worker.link is not link:
            return Verdict.UNKNOWN
        self._counters.late_answers += 1
        return Verdict.LATE
