"""Where a request goes: to a worker, into the queue and its bound, or nowhere."""

from service.core.dispatch.dispatcher import OutcomeKind

from .dispatch_bench import Bench, Someone, serve


def test_a_request_goes_to_a_worker_with_room_or_waits_or_is_refused_if_no_worker_serves_it() -> None:
    bench = Bench()
    worker, link = bench.worker("w", ["echo"], capacity=1)
    someone = Someone()
    for token, command in (("a", "echo"), ("b", "echo"), ("c", "sum")):
        bench.submit(someone, token, command)
    assert link.tokens == ["a"]
    assert bench.dispatcher.queue_length == 1
    assert someone.told == [("c", "No available workers")]
    bench.done(worker, link.sent[0])
    assert link.tokens == ["a", "b"]


def test_once_it_drains_workers_finish_what_they_have_and_what_waits_is_refused() -> None:
    bench = Bench()
    worker, link = bench.worker("w", capacity=1)
    someone = Someone()
    bench.submit(someone, "a")
    bench.submit(someone, "b")
    bench.dispatcher.drain()
    bench.submit(someone, "c")
    bench.done(worker, link.sent[0])
    assert link.tokens == ["a"]
    assert someone.told == [("b", "No available workers"), ("c", "No available workers"), ("a", '"done"')]
    assert bench.is_empty()


# The bound


def test_above_the_limit_workers_are_busy() -> None:
    bench, caller = Bench(queue_limit=2), Someone()
    worker, link = bench.worker("w1", capacity=1)
    for token in ("sent", "1", "2", "refused"):
        bench.submit(caller, token)
    assert caller.told == [("refused", "Workers busy")]
    assert caller.answers[0][1].kind is OutcomeKind.BUSY
    assert bench.dispatcher.queue_length == 2
    assert serve(bench, worker, link, 1) == ["1"]
    bench.submit(caller, "3")
    assert bench.dispatcher.queue_length == 2
    assert bench.counters.requests == {"busy": 1, "ok": 1}


def test_the_limit_holds_for_what_waits_for_one_worker_too() -> None:
    bench, caller = Bench(queue_limit=1), Someone()
    bench.worker("w1", capacity=1)
    bench.submit(caller, "sent", affinity="k")
    bench.submit(caller, "1", affinity="k")
    bench.submit(caller, "refused", affinity="k")
    bench.submit(caller, "refused too")
    assert caller.told == [("refused", "Workers busy"), ("refused too", "Workers busy")]


def test_without_a_queue_nothing_waits() -> None:
    bench, caller = Bench(queue_limit=0), Someone()
    bench.worker("w1", capacity=1)
    bench.submit(caller, "sent")
    bench.submit(caller, "refused")
    assert caller.told == [("refused", "Workers busy")]


def test_what_a_worker_lost_comes_back_before_the_others_even_if_the_queue_is_full() -> None:
    bench, caller = Bench(queue_limit=2), Someone()
    first, _ = bench.worker("w1", capacity=2)
    second, link = bench.worker("w2", capacity=1)
    for token in ("a", "b", "c", "d", "e"):
        bench.submit(caller, token)
    assert [request.token for request in first.requests.values()] == ["a", "c"]
    bench.dispatcher.remove_worker(first)
    assert caller.answers == []
    assert bench.dispatcher.queue_length == 4
    bench.submit(caller, "refused")
    assert caller.told == [("refused", "Workers busy")]
    assert serve(bench, second, link, 5) == ["a", "c", "d", "e"]
    assert bench.is_empty()
