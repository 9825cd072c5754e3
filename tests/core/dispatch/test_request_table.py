"""The table of requests: in all of it until they end, and in none of it after."""

from msgspec import Raw

from service.core.counters import Counters
from service.core.dispatch.fair_queue import FairQueue
from service.core.dispatch.model import Outcome, OutcomeKind, Request, Statistics, Verdict, Worker
from service.core.dispatch.request_table import RequestTable

from .dispatch_bench import Link, Someone


def a_request(caller: Someone, name: str, timeout: float = 10.0) -> Request:
    return Request(name, caller, name, "echo", Raw(b"null"), timeout, False, None, True, 0.0, timeout)


def test_a_request_is_its_caller_s_until_it_ends_and_its_caller_is_told_after_that() -> None:
    counters = Counters()
    table = RequestTable(FairQueue(), counters)
    seen: list[int] = []

    class Looking(Someone):
        def on_answer(self, request: Request, outcome: Outcome) -> None:
            seen.append(len(table))
            super().on_answer(request, outcome)

    caller = Looking()
    request = a_request(caller, "a")
    table.add_request(request)
    assert list(table.requests_of(caller)) == [request]
    table.end_request(request, Outcome(OutcomeKind.OK, success=True, data=Raw(b"1")))
    assert seen == [0]
    assert list(table.requests_of(caller)) == []
    assert caller.told == [("a", "1")]
    assert counters.requests == {"ok": 1}


def test_what_is_due_comes_out_once() -> None:
    table = RequestTable(FairQueue(), Counters())
    caller = Someone()
    soon, later = a_request(caller, "soon", 1.0), a_request(caller, "later", 9.0)
    table.add_request(soon)
    table.add_request(later)
    assert table.take_due(0.5) == []
    assert table.take_due(1.2) == [soon]
    assert table.take_due(1.4) == []


def test_a_late_answer_is_told_from_one_to_a_request_that_was_never_sent() -> None:
    counters = Counters()
    table = RequestTable(FairQueue(), counters)
    mine, other = Link(), Link()
    worker = Worker(mine, "w", None, 1, 1.0, Statistics())
    request = a_request(Someone(), "a")
    table.add_request(request)
    request.worker = worker
    worker.requests[request.id] = request
    table.close_request(request, OutcomeKind.TIMEOUT)
    assert worker.requests == {}
    assert table.judge_stray_answer(mine, "a") is Verdict.LATE
    assert table.judge_stray_answer(other, "a") is Verdict.UNKNOWN
    assert table.judge_stray_answer(mine, "b") is Verdict.UNKNOWN
    assert counters.late_answers == 1
