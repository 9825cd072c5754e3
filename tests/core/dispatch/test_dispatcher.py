"""Dispatch, rule by rule: answers, time-outs, failover, streams, cancelling, asking one client."""

from collections.abc import Callable
from random import Random

import pytest
from msgspec import Raw

from service.core.counters import Counters
from service.core.dispatch.dispatcher import Dispatcher, DispatchRules, OutcomeKind, Request, Verdict, Worker
from service.core.dispatch.pools import STRATEGIES

from .dispatch_bench import NULL, Bench, Link, Someone

# Answers


def test_an_answer_reaches_its_caller_with_who_gave_it() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1")
    data = Raw(b'{"message": "hi"}')
    request = bench.dispatcher.submit(caller, "t1", "echo", data)
    assert link.sent == [request]
    assert (request.command, request.data, request.token, request.attempt) == ("echo", data, "t1", 1)
    bench.time += 0.02
    assert bench.done(worker, request, b'"Echo: hi"') is Verdict.ACCEPTED
    [(answered, outcome)] = caller.answers
    assert answered is request
    assert (
        outcome.kind,
        outcome.success,
        bytes(outcome.data or b""),
        outcome.error,
        outcome.processed_by,
        outcome.partial,
    ) == (
        OutcomeKind.OK,
        True,
        b'"Echo: hi"',
        None,
        "w1",
        False,
    )
    assert bench.counters.requests == {"ok": 1}
    assert sum(bench.counters.request_latency.buckets) == 1
    assert bench.counters.request_latency.sum == pytest.approx(0.02)
    assert bench.is_empty()


def test_ids_are_the_gateway_s_own_and_differ_even_where_tokens_are_the_same() -> None:
    bench, caller = Bench(), Someone()
    bench.worker("w1")
    ids = {bench.submit(caller, "same").id for _ in range(10)}
    assert len(ids) == 10
    assert "same" not in ids


@pytest.mark.parametrize(
    ("error", "result", "text"),
    [
        ("no such file", None, "no such file"),
        ("no such file", b'"other"', "no such file"),
        ("", b'"other"', ""),
        (None, b'"it broke"', "it broke"),
        (None, b'{"code": 7}', '{"code": 7}'),
        (None, None, "The worker gave no reason"),
        (None, b"null", "The worker gave no reason"),
    ],
)
def test_a_worker_s_error_is_passed_on_and_not_tried_again(error: str | None, result: bytes | None, text: str) -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1")
    bench.worker("w2")
    request = bench.submit(caller, "t")
    raw = None if result is None else Raw(result)
    bench.dispatcher.on_answer(worker, request.id, success=False, result=raw, error=error)
    [(_, outcome)] = caller.answers
    assert (outcome.kind, outcome.success, outcome.error, outcome.data, outcome.processed_by) == (
        OutcomeKind.ERROR,
        False,
        text,
        None,
        "w1",
    )
    assert bench.counters.requests == {"error": 1}
    assert bench.is_empty()


@pytest.mark.parametrize("commands", [None, ["sum"]], ids=["nobody there", "nobody serves it"])
def test_nobody_to_serve_it_is_answered_at_once(commands: list[str] | None) -> None:
    bench, caller = Bench(), Someone()
    if commands is not None:
        bench.worker("w1", commands)
    request = bench.submit(caller, "t")
    assert caller.told == [("t", "No available workers")]
    assert caller.answers[0][1].kind is OutcomeKind.NO_WORKERS
    assert request.over
    assert bench.is_empty()


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_strategy_spreads_a_thousand_quick_calls(strategy: str) -> None:
    bench, caller = Bench(strategy), Someone()
    workers = [bench.worker(f"w{number}")[0] for number in range(3)]
    for number in range(1000):
        request = bench.submit(caller, str(number))
        bench.time += 0.001
        assert request.worker is not None
        bench.done(request.worker, request)
    for worker in workers:
        assert abs(worker.statistics.answers - 333) <= (3 if strategy in ("least_loaded", "round_robin") else 60)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="least_loaded"):
        Dispatcher(DispatchRules(strategy="fastest"), now=lambda: 0.0, random=Random(), counters=Counters())


def test_a_worker_that_says_nothing_has_the_defaults() -> None:
    bench = Bench()
    worker, _ = bench.worker("w1")
    assert (worker.commands, worker.capacity, worker.weight) == (None, 16, 1.0)


# Answers that nobody waits for


HOSTILE = ["", "r-", "r-0", "r-999999999", "R-1", "r-1 ", "r-١", "\x00", "r-1" * 100_000, "__class__", "-1", "t"]


@pytest.mark.parametrize("request_id", HOSTILE)
def test_an_answer_to_what_was_never_sent_is_unknown(request_id: str) -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1")
    request = bench.submit(caller, "t")
    verdict = bench.dispatcher.on_answer(worker, request_id, success=True, result=NULL)
    assert verdict is Verdict.UNKNOWN
    assert caller.answers == []
    assert not request.over
    assert bench.counters.late_answers == 0


def test_another_worker_s_answer_is_unknown_before_and_after() -> None:
    bench, caller = Bench(), Someone()
    right, _ = bench.worker("right")
    wrong, _ = bench.worker("wrong")
    request = bench.submit(caller, "t")
    assert request.worker is right
    assert bench.done(wrong, request) is Verdict.UNKNOWN
    assert caller.answers == []
    assert bench.done(right, request) is Verdict.ACCEPTED
    assert bench.done(wrong, request) is Verdict.UNKNOWN
    assert len(caller.answers) == 1


def test_a_request_that_waits_cannot_be_answered() -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1", capacity=1)
    bench.submit(caller, "first")
    waiting = bench.submit(caller, "second")
    assert bench.done(worker, waiting) is Verdict.UNKNOWN
    assert caller.answers == []


def _answer(bench: Bench, worker: Worker, request: Request) -> None:
    bench.done(worker, request)


def _time_out(bench: Bench, worker: Worker, request: Request) -> None:
    bench.passes(31)


def _cancel(bench: Bench, worker: Worker, request: Request) -> None:
    bench.dispatcher.cancel_request(request)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("end", [_answer, _time_out, _cancel])
def test_an_answer_after_the_end_is_late_and_dropped(
    end: Callable[[Bench, Worker, Request], None], partial: bool
) -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1")
    request = bench.submit(caller, "t", stream=True)
    end(bench, worker, request)
    told = list(caller.told)
    assert (bench.part if partial else bench.done)(worker, request) is Verdict.LATE
    assert caller.told == told
    assert bench.counters.late_answers == 1
    assert bench.is_empty()


def test_what_has_ended_is_remembered_within_bounds() -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1")
    requests = [bench.submit(caller, "t") for _ in range(1)]
    for _ in range(20_000):
        bench.done(worker, requests[-1])
        requests.append(bench.submit(caller, "t"))
    assert bench.done(worker, requests[-3000]) is Verdict.LATE
    assert bench.done(worker, requests[0]) is Verdict.UNKNOWN
    remembers = bench.dispatcher._requests
    assert len(remembers._ended) + len(remembers._ended_before) <= 8192


# Time


def test_a_request_times_out_the_worker_is_told_and_its_room_is_free() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1", capacity=1)
    request = bench.submit(caller, "t")
    assert link.deadlines == [30_000]
    bench.passes(29.9)
    assert caller.answers == []
    bench.passes(0.3)
    assert caller.told == [("t", "Worker response timeout")]
    assert caller.answers[0][1].kind is OutcomeKind.TIMEOUT
    assert link.cancelled == [request]
    assert worker.outstanding == 0
    assert bench.is_empty()
    bench.submit(caller, "next")
    assert link.tokens == ["t", "next"]


def test_the_time_runs_while_a_request_waits_and_what_remains_is_passed_on() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1", capacity=1)
    first = bench.submit(caller, "first")
    bench.submit(caller, "in time", timeout=5.0)
    bench.submit(caller, "too late", timeout=3.0)
    bench.passes(3.2)
    assert caller.told == [("too late", "Worker response timeout")]
    assert link.cancelled == []
    bench.passes(0.8)
    bench.done(worker, first)
    assert link.tokens == ["first", "in time"]
    assert link.deadlines[1] == pytest.approx(1000, abs=2)
    bench.passes(1.2)
    assert caller.told[-1] == ("in time", "Worker response timeout")
    assert bench.is_empty()


def test_what_remains_is_never_nothing() -> None:
    bench, caller = Bench(), Someone()
    _, link = bench.worker("w1")
    bench.submit(caller, "t", timeout=0.0001)
    assert link.deadlines == [1]


def test_a_request_whose_time_is_up_is_not_sent_even_before_the_ticker_sees_it() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1", capacity=1)
    first = bench.submit(caller, "first")
    bench.submit(caller, "stale", timeout=1.0)
    bench.submit(caller, "fresh")
    bench.time += 1.01
    bench.done(worker, first)
    assert link.tokens == ["first", "fresh"]
    assert caller.told == [("first", '"done"'), ("stale", "Worker response timeout")]


def test_what_expires_together_is_not_sent_to_the_room_it_leaves() -> None:
    bench, caller = Bench(), Someone()
    _, link = bench.worker("w1", capacity=1)
    bench.submit(caller, "first", timeout=1.0)
    bench.submit(caller, "second", timeout=1.0)
    bench.submit(caller, "third")
    bench.passes(1.2)
    assert link.tokens == ["first", "third"]
    assert [token for token, _ in caller.told] == ["first", "second"]


def test_time_outs_count_as_errors_of_the_worker() -> None:
    bench, caller = Bench("least_loaded"), Someone()
    mute, _ = bench.worker("mute", ["echo"])
    for _ in range(5):
        bench.submit(caller, "t", timeout=1.0)
    bench.passes(1.2)
    assert mute.sick
    good, link = bench.worker("good", ["echo"])
    bench.submit(caller, "a")
    bench.submit(caller, "b")
    assert link.tokens == ["a", "b"]
    bench.passes(400)
    assert not mute.sick
    bench.submit(caller, "c")
    bench.submit(caller, "d")
    assert (mute.outstanding, good.outstanding) == (1, 1)


# Workers that go


def test_a_lost_worker_s_requests_go_to_others() -> None:
    bench, caller = Bench(), Someone()
    first, _ = bench.worker("w1")
    second, link = bench.worker("w2")
    request = bench.submit(caller, "t", timeout=10.0)
    assert request.worker is first
    bench.time += 4
    bench.dispatcher.remove_worker(first)
    assert (link.sent, link.attempts) == ([request], [2])
    assert link.deadlines == [pytest.approx(6000, abs=1)]
    assert bench.counters.requests_retried == 1
    bench.done(second, request)
    assert caller.told == [("t", '"done"')]
    assert caller.answers[0][1].processed_by == "w2"
    assert bench.counters.requests == {"ok": 1}
    assert bench.is_empty()


@pytest.mark.parametrize("max_attempts", [1, 2, 3])
def test_at_most_so_many_attempts_then_it_is_lost(max_attempts: int) -> None:
    bench, caller = Bench(max_attempts=max_attempts), Someone()
    for number in range(5):
        bench.worker(f"w{number}")
    request = bench.submit(caller, "t")
    for attempt in range(1, max_attempts + 1):
        assert caller.answers == []
        assert request.attempt == attempt
        assert request.worker is not None
        bench.dispatcher.remove_worker(request.worker)
    assert caller.told == [("t", "Worker lost")]
    assert caller.answers[0][1].kind is OutcomeKind.LOST
    assert bench.is_empty()


@pytest.mark.parametrize("why", ["not idempotent", "a part was passed on", "nobody else serves it"])
def test_what_cannot_be_tried_again_is_lost(why: str) -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1", ["echo"])
    _, other = bench.worker("w2", ["sum"] if why == "nobody else serves it" else ["echo"])
    request = bench.submit(caller, "t", stream=True, idempotent=why != "not idempotent")
    if why == "a part was passed on":
        bench.part(worker, request)
    bench.dispatcher.remove_worker(worker)
    assert caller.told[-1] == ("t", "Worker lost")
    assert other.sent == []
    assert bench.is_empty()


def test_parts_that_were_not_passed_on_do_not_bind_a_request() -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1")
    _, other = bench.worker("w2")
    request = bench.submit(caller, "t")
    assert bench.part(worker, request) is Verdict.ACCEPTED
    assert caller.answers == []
    bench.dispatcher.remove_worker(worker)
    assert other.sent == [request]


def test_a_retry_prefers_a_worker_that_has_not_lost_it_yet() -> None:
    bench, caller = Bench(), Someone()
    first, _ = bench.worker("w1")
    request = bench.submit(caller, "t")
    _, again = bench.worker("w1")  # already back under its name, and next in turn
    other, link = bench.worker("w2")
    bench.dispatcher.remove_worker(first)
    assert (again.sent, link.sent) == ([], [request])
    bench.dispatcher.remove_worker(other)  # better the same name than nobody
    assert again.sent == [request]


def test_a_lost_request_that_is_not_idempotent_but_never_sent_stays_in_the_queue() -> None:
    bench, caller = Bench(), Someone()
    first, _ = bench.worker("w1", capacity=1)
    second, link = bench.worker("w2", capacity=1)
    one, two = bench.submit(caller, "1"), bench.submit(caller, "2")
    bench.submit(caller, "waits", idempotent=False)
    bench.dispatcher.remove_worker(first)
    assert caller.answers == []
    bench.done(second, two)
    bench.done(second, one)
    assert link.tokens == ["2", "1", "waits"]


def test_what_waits_when_the_last_worker_leaves_has_no_workers() -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1", ["echo", "sum"], capacity=1)
    bench.worker("w2", ["other"], capacity=1)
    bench.submit(caller, "sent")
    bench.submit(caller, "waits")
    bench.submit(caller, "waits too", "sum", idempotent=False)
    bench.submit(caller, "elsewhere", "other")
    bench.submit(caller, "waits elsewhere", "other")
    bench.dispatcher.remove_worker(worker)
    assert caller.told == [
        ("sent", "Worker lost"),
        ("waits", "No available workers"),
        ("waits too", "No available workers"),
    ]
    assert bench.dispatcher.queue_length == 1


def test_leaving_twice_and_what_comes_after_do_nothing() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1")
    request = bench.submit(caller, "t")
    bench.dispatcher.remove_worker(worker)
    bench.dispatcher.remove_worker(worker)
    bench.dispatcher.change_worker(worker, capacity=5, commands=None)
    assert bench.done(worker, request) is not Verdict.ACCEPTED
    bench.submit(caller, "u")
    assert link.tokens == ["t"]
    assert caller.told == [("t", "Worker lost"), ("u", "No available workers")]


def test_a_link_that_breaks_while_it_is_written_to() -> None:
    bench, caller = Bench(), Someone()

    class Breaking(Link):
        def send_request(self, request: Request, deadline_ms: int) -> None:
            super().send_request(request, deadline_ms)
            assert request.worker is not None
            bench.dispatcher.remove_worker(request.worker)

    broken = [Breaking(), Breaking()]
    for number, link in enumerate(broken):
        bench.dispatcher.add_worker(link, f"broken {number}", None, 1, None)
    worker, good = bench.worker("good")
    request = bench.submit(caller, "t")
    assert [link.tokens for link in broken] == [["t"], ["t"]]
    assert good.sent == [request]
    bench.done(worker, request)
    assert caller.told == [("t", '"done"')]
    assert bench.is_empty()


# Streams


def test_parts_are_passed_on_in_order_then_the_end() -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1")
    request = bench.submit(caller, "t", stream=True)
    for part in (b"1", b"2"):
        assert bench.part(worker, request, part) is Verdict.ACCEPTED
    bench.done(worker, request, b"3")
    assert caller.told == [("t", "1"), ("t", "2"), ("t", "3")]
    assert [outcome.partial for _, outcome in caller.answers] == [True, True, False]
    assert bench.counters.requests == {"ok": 1}


def test_who_did_not_ask_for_a_stream_gets_the_end_only() -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1")
    request = bench.submit(caller, "t")
    bench.part(worker, request)
    bench.done(worker, request)
    assert caller.told == [("t", '"done"')]


def test_parts_do_not_prolong_the_time() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1")
    request = bench.submit(caller, "t", stream=True, timeout=1.0)
    bench.passes(0.9)
    bench.part(worker, request)
    bench.passes(0.3)
    assert caller.told == [("t", '"part"'), ("t", "Worker response timeout")]
    assert link.cancelled == [request]


# Callers that go


def test_a_caller_that_leaves_cancels_what_it_has_and_nothing_else() -> None:
    bench, leaving, staying = Bench(), Someone(), Someone()
    worker, link = bench.worker("w1", capacity=2)
    sent = bench.submit(leaving, "sent")
    other = bench.submit(staying, "other")
    bench.submit(leaving, "waits")
    bench.submit(staying, "waits too")
    bench.dispatcher.cancel_requests_of(leaving)
    assert leaving.answers == []
    assert link.cancelled == [sent]
    assert link.tokens == ["sent", "other", "waits too"]
    assert bench.dispatcher.queue_length == 0
    assert bench.counters.requests == {"cancelled": 2}
    bench.dispatcher.cancel_requests_of(leaving)
    bench.dispatcher.cancel_request(sent)
    assert bench.counters.requests == {"cancelled": 2}
    bench.done(worker, other)
    assert staying.told == [("other", '"done"')]


def test_cancelling_what_waits_frees_its_place_in_the_queue() -> None:
    bench, caller = Bench(queue_limit=1), Someone()
    _, link = bench.worker("w1", capacity=1)
    bench.submit(caller, "sent")
    waits = bench.submit(caller, "waits")
    bench.dispatcher.cancel_request(waits)
    assert link.cancelled == []
    bench.submit(caller, "instead")
    assert caller.answers == []
    assert bench.dispatcher.queue_length == 1


# Changes of mind


def test_more_capacity_drains_the_queue_and_none_stops_it() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1", capacity=1)
    for number in range(6):
        bench.submit(caller, str(number))
    bench.dispatcher.change_worker(worker, capacity=3)
    assert link.tokens == ["0", "1", "2"]
    bench.dispatcher.change_worker(worker, capacity=0)
    bench.done(worker, link.sent[0])
    bench.done(worker, link.sent[1])
    bench.done(worker, link.sent[2])
    assert link.tokens == ["0", "1", "2"]
    bench.submit(caller, "6")
    assert bench.dispatcher.queue_length == 4
    bench.dispatcher.change_worker(worker, capacity=10)
    assert link.tokens == [str(number) for number in range(7)]


def test_a_worker_that_joins_takes_what_waits_for_its_commands() -> None:
    bench, caller = Bench(), Someone()
    bench.worker("w1", capacity=0)
    for number in range(4):
        bench.submit(caller, str(number), "echo" if number % 2 else "sum")
    _, link = bench.worker("w2", ["sum"], capacity=5)
    assert link.tokens == ["0", "2"]


def test_changed_commands_hold_at_once() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1", ["echo"], capacity=1)
    sent = bench.submit(caller, "sent")
    bench.submit(caller, "waits")
    bench.dispatcher.change_worker(worker, commands=["sum"])
    assert caller.told == [("waits", "No available workers")]
    bench.submit(caller, "refused")
    assert caller.told[1:] == [("refused", "No available workers")]
    bench.done(worker, sent)
    bench.submit(caller, "served", "sum")
    assert link.tokens == ["sent", "served"]
    bench.dispatcher.change_worker(worker, commands=None, capacity=2)
    bench.submit(caller, "anything", "whatever")
    assert link.tokens == ["sent", "served", "anything"]


def test_a_changed_weight_holds_at_once() -> None:
    bench, caller = Bench("least_loaded"), Someone()
    light, _ = bench.worker("light", capacity=100)
    heavy, _ = bench.worker("heavy", capacity=100)
    bench.dispatcher.change_worker(heavy, weight=3.0)
    for number in range(40):
        bench.submit(caller, str(number))
    assert (light.outstanding, heavy.outstanding) == (10, 30)


# One client and no other


def test_one_client_is_asked_and_answers() -> None:
    bench, caller, link = Bench(), Someone(), Link()
    bench.worker("w1")
    request = bench.dispatcher.ask_client(link, caller, None, "beep", Raw(b"{}"), 5.0, "c1")
    assert link.sent == [request]
    assert link.deadlines == [5000]
    assert bench.dispatcher.outstanding == 1
    assert bench.dispatcher.on_answer(link, request.id, success=True, result=Raw(b"7")) is Verdict.ACCEPTED
    assert caller.told == [(None, "7")]
    assert caller.answers[0][1].processed_by == "c1"
    assert bench.is_empty()
    assert bench.dispatcher.on_answer(link, request.id, success=True) is Verdict.LATE


def test_only_the_client_that_was_asked_may_answer() -> None:
    bench, caller, link = Bench(), Someone(), Link()
    worker, _ = bench.worker("w1")
    request = bench.dispatcher.ask_client(link, caller, None, "beep", NULL, 5.0)
    assert bench.done(worker, request) is Verdict.UNKNOWN
    assert bench.dispatcher.on_answer(Link(), request.id, success=True) is Verdict.UNKNOWN
    assert caller.answers == []


def test_a_worker_can_be_asked_as_a_client_too() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1", capacity=1)
    asked = bench.dispatcher.ask_client(link, caller, "asked", "beep", NULL, 5.0)
    served = bench.submit(caller, "served")
    assert link.sent == [asked, served]
    assert bench.done(worker, asked) is Verdict.ACCEPTED
    assert bench.done(worker, served) is Verdict.ACCEPTED
    assert bench.is_empty()


def test_an_asked_client_that_goes_has_lost_it_and_nobody_else_is_asked() -> None:
    bench, caller, link = Bench(), Someone(), Link()
    _, other = bench.worker("w1")
    bench.dispatcher.ask_client(link, caller, "a", "beep", NULL, 5.0)
    bench.dispatcher.ask_client(link, caller, "b", "beep", NULL, 5.0)
    bench.dispatcher.forget_client(link)
    bench.dispatcher.forget_client(link)
    assert caller.told == [("a", "Worker lost"), ("b", "Worker lost")]
    assert other.sent == []
    assert bench.is_empty()


def test_an_asked_client_that_is_silent_times_out_and_is_told() -> None:
    bench, caller, link = Bench(), Someone(), Link()
    request = bench.dispatcher.ask_client(link, caller, "a", "beep", NULL)
    bench.passes(30.2)
    assert caller.told == [("a", "Worker response timeout")]
    assert link.cancelled == [request]
    again = bench.dispatcher.ask_client(link, caller, "b", "beep", NULL)
    bench.dispatcher.cancel_request(again)
    assert link.cancelled == [request, again]
    assert bench.is_empty()


def test_one_client_is_not_asked_without_bounds() -> None:
    bench, caller, link = Bench(queue_limit=2), Someone(), Link()
    for token in "abc":
        bench.dispatcher.ask_client(link, caller, token, "beep", NULL, 5.0)
    assert link.tokens == ["a", "b"]
    assert caller.told == [("c", "Workers busy")]


# What is shown


def test_the_snapshot_says_how_each_worker_is_doing() -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1", ["sum", "echo"], capacity=4, weight=2.0)
    bench.worker("w2", [])
    request = bench.submit(caller, "a")
    bench.submit(caller, "b")
    bench.dispatcher.on_answer(worker, request.id, success=False, error="no")
    first, second = bench.dispatcher.worker_statuses()
    assert (first.client_id, first.commands, first.capacity, first.weight) == ("w1", ["echo", "sum"], 4, 2.0)
    assert (first.outstanding, first.answers, first.errors, first.error_share) == (1, 1, 1, 1.0)
    assert first.healthy
    assert (second.client_id, second.commands, second.answers) == ("w2", [], 0)
    assert (bench.dispatcher.outstanding, bench.dispatcher.queue_length) == (1, 0)


def test_statistics_wait_for_a_worker_that_comes_back_until_they_are_dropped() -> None:
    bench, caller = Bench(), Someone()
    for answers in (1, 2):
        worker, _ = bench.worker("w1")
        bench.done(worker, bench.submit(caller, "t"))
        assert worker.statistics.answers == answers
        bench.dispatcher.remove_worker(worker)
    bench.dispatcher.drop_statistics()
    worker, _ = bench.worker("w1")
    assert worker.statistics.answers == 0
    namesake, _ = bench.worker("w1")
    assert namesake.statistics is not worker.statistics


def test_a_gone_worker_s_link_is_let_go() -> None:
    bench = Bench()
    worker, link = bench.worker("w1")
    bench.dispatcher.remove_worker(worker)
    assert worker.link is not link


# Whose fault a time-out is


def test_a_request_sent_moments_before_its_time_is_up_is_no_error_of_its_worker() -> None:
    bench, caller = Bench("least_loaded"), Someone()
    worker, link = bench.worker("w", capacity=1)
    for number in range(12):
        bench.submit(caller, str(number), timeout=10.0)
    for _ in range(2):  # it answers one every 4 s, the rest waits
        bench.passes(4.0)
        bench.done(worker, next(iter(worker.requests.values())))
    bench.passes(1.95)
    for number in range(8):
        bench.submit(caller, f"late {number}", timeout=0.1)
    for _ in range(20):
        bench.passes(0.1)
    assert len(caller.told) > 12
    assert not worker.sick
    assert worker.statistics.errors == 0
    assert link.cancelled


def test_timeouts_too_short_for_anybody_make_no_worker_sick() -> None:
    bench, stranger = Bench("least_loaded"), Someone()
    worker, _ = bench.worker("w", capacity=100)
    for number in range(50):
        bench.submit(stranger, str(number), timeout=0.01)
    bench.passes(0.3)
    assert len(stranger.told) == 50
    assert not worker.sick


def test_a_worker_that_had_its_usual_time_and_more_is_at_fault() -> None:
    bench, caller = Bench("least_loaded"), Someone()
    worker, _ = bench.worker("w", capacity=100)
    for _ in range(10):
        bench.submit(caller, "t", timeout=1.5)
    bench.passes(1.7)
    assert worker.sick
