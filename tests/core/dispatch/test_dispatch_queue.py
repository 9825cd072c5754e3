"""Waiting: the bound, whose turn it is, and keys that belong to one worker."""

import pytest

from service.core.dispatch.dispatcher import OutcomeKind, Worker

from .dispatch_bench import Bench, Link, Someone


def serve(bench: Bench, worker: Worker, link: Link, number: int) -> list[str | None]:
    """Let the worker answer what it has, one after the other; the tokens it is sent meanwhile."""
    before = len(link.sent)
    for _ in range(number):
        request = next(iter(worker.requests.values()), None)
        if request is None:
            break
        bench.done(worker, request)
    return link.tokens[before:]


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
    bench.dispatcher.leave(first)
    assert caller.answers == []
    assert bench.dispatcher.queue_length == 4
    bench.submit(caller, "refused")
    assert caller.told == [("refused", "Workers busy")]
    assert serve(bench, second, link, 5) == ["a", "c", "d", "e"]
    assert bench.is_empty()


# Turns


def test_callers_take_turns_however_much_one_has_waiting() -> None:
    bench, greedy, modest, late = Bench(), Someone(), Someone(), Someone()
    worker, link = bench.worker("w1", capacity=1)
    for number in range(6):
        bench.submit(greedy, f"g{number}")
    for number in range(2):
        bench.submit(modest, f"m{number}")
    assert serve(bench, worker, link, 2) == ["g1", "m0"]
    bench.submit(late, "l0")
    assert serve(bench, worker, link, 6) == ["g2", "m1", "l0", "g3", "g4", "g5"]


def test_a_caller_gains_nothing_by_spreading_its_backlog_over_commands() -> None:
    bench, clever, plain = Bench(), Someone(), Someone()
    worker, link = bench.worker("w1", capacity=1)
    bench.submit(plain, "sent")
    for number in range(20):
        bench.submit(clever, f"c{number}", f"command {number}")
    for number in range(5):
        bench.submit(plain, f"p{number}")
    sent = serve(bench, worker, link, 10)
    assert sum(str(token).startswith("p") for token in sent) == 5


@pytest.mark.parametrize("callers", [1, 2])
@pytest.mark.parametrize("commands", [None, ["echo", "sum"]], ids=["serves all", "serves both"])
def test_one_command_s_backlog_does_not_starve_another(commands: list[str] | None, callers: int) -> None:
    bench = Bench()
    everybody = [Someone() for _ in range(callers)]
    worker, link = bench.worker("w1", commands, capacity=1)
    bench.submit(everybody[0], "sent")
    for number in range(20):
        bench.submit(everybody[0], f"e{number}", "echo")
    for number in range(3):
        bench.submit(everybody[-1], f"s{number}", "sum")
    assert serve(bench, worker, link, 6) == ["e0", "s0", "e1", "s1", "e2", "s2"]


def test_a_backlog_for_other_workers_holds_up_nobody() -> None:
    bench, others = Bench(), [Someone() for _ in range(50)]
    bench.worker("stuck", ["slow"], capacity=1)
    worker, link = bench.worker("w1", ["echo"], capacity=1)
    for caller in others:
        bench.submit(caller, "slow", "slow")
    for number, caller in enumerate(others[:4]):
        bench.submit(caller, str(number))
    assert serve(bench, worker, link, 3) == ["1", "2", "3"]
    assert bench.dispatcher.queue_length == 49


def test_turns_hold_across_workers_that_serve_different_things() -> None:
    bench, a, b = Bench(), Someone(), Someone()
    sums, sums_link = bench.worker("sums", ["sum"], capacity=1)
    both, both_link = bench.worker("both", ["sum", "echo"], capacity=1)
    bench.submit(a, "sent", "sum")
    bench.submit(a, "sent", "sum")
    for number in range(3):
        bench.submit(a, f"a{number}", "sum")
        bench.submit(b, f"b{number}", "echo")
    assert serve(bench, sums, sums_link, 1) == ["a0"]
    assert serve(bench, both, both_link, 3) == ["b0", "a1", "b1"]
    assert serve(bench, sums, sums_link, 1) == ["a2"]
    assert serve(bench, both, both_link, 1) == ["b2"]


def test_within_one_caller_and_command_the_oldest_is_first() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1", capacity=1)
    for number in range(50):
        bench.submit(caller, str(number))
    assert serve(bench, worker, link, 60) == [str(number) for number in range(1, 50)]
    assert bench.is_empty()


# Keys


def test_a_key_stays_with_its_worker_and_waits_for_it() -> None:
    bench, caller = Bench(), Someone()
    first, link = bench.worker("w1", capacity=1)
    _, other = bench.worker("w2", capacity=5)
    for token in ("k1", "k2", "k3"):
        bench.submit(caller, token, affinity="k")
    bench.submit(caller, "free")
    assert (link.tokens, other.tokens) == (["k1"], ["free"])
    assert bench.dispatcher.queue_length == 2
    assert serve(bench, first, link, 3) == ["k2", "k3"]
    bench.submit(caller, "k4", affinity="k")
    assert link.tokens[-1] == "k4"


def test_the_own_line_and_the_common_one_take_turns() -> None:
    bench, keyed, free = Bench(), Someone(), Someone()
    worker, link = bench.worker("w1", ["echo"], capacity=1)
    bench.submit(keyed, "sent", affinity="k")
    for number in range(4):
        bench.submit(keyed, f"k{number}", affinity="k")
    for number in range(2):
        bench.submit(free, f"f{number}")
    assert serve(bench, worker, link, 7) == ["k0", "f0", "k1", "f1", "k2", "k3"]
    assert bench.is_empty()


def test_a_key_moves_when_its_worker_leaves_and_all_that_waited_moves_together() -> None:
    bench, caller = Bench(), Someone()
    first, _ = bench.worker("w1", capacity=1)
    links = [bench.worker(f"w{number}", capacity=5)[1] for number in (2, 3)]
    for token in ("k1", "k2", "k3"):
        bench.submit(caller, token, affinity="k")
    bench.dispatcher.leave(first)
    assert sorted(link.tokens for link in links) == [[], ["k1", "k2", "k3"]]


def test_what_waited_for_a_worker_that_left_alone_has_no_workers() -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1", capacity=1)
    bench.submit(caller, "sent", affinity="k", idempotent=False)
    bench.submit(caller, "waits", affinity="k", idempotent=False)
    bench.dispatcher.leave(worker)
    assert caller.told == [("sent", "Worker lost"), ("waits", "No available workers")]
    assert bench.is_empty()


def test_what_waited_for_its_worker_is_not_refused_when_it_moves() -> None:
    bench, caller = Bench(queue_limit=2), Someone()
    first, _ = bench.worker("w1", ["echo"], capacity=2)
    second, link = bench.worker("w2", capacity=1)
    bench.submit(caller, "a", affinity="k")
    bench.submit(caller, "full")
    bench.submit(caller, "b", affinity="k")
    bench.submit(caller, "c", affinity="k")
    bench.submit(caller, "d", affinity="k")
    bench.dispatcher.leave(first)
    assert caller.answers == []
    assert bench.dispatcher.queue_length == 4
    assert serve(bench, second, link, 9) == ["a", "b", "c", "d"]


def test_a_key_that_waits_in_the_common_line_is_not_torn_apart() -> None:
    bench, caller, other = Bench(), Someone(), Someone()
    workers = [bench.worker(f"w{number}", capacity=1) for number in range(2)]
    for _ in range(2):
        bench.submit(other, "load")
    for number in range(4):
        bench.submit(caller, f"k{number}", affinity="k")
    (first, link), (second, other_link) = workers
    assert serve(bench, first, link, 1) == ["k0"]
    assert serve(bench, second, other_link, 5) == []
    assert serve(bench, first, link, 5) == ["k1", "k2", "k3"]


def test_a_worker_that_does_not_serve_the_command_does_not_lose_its_key_over_it() -> None:
    bench, caller = Bench(), Someone()
    _, echo = bench.worker("e1", ["echo"])
    _, other_echo = bench.worker("e2", ["echo"])
    _, sums = bench.worker("s1", ["sum"])
    _, other_sums = bench.worker("s2", ["sum"])
    for number in range(6):
        bench.submit(caller, str(number), "sum" if number % 2 else "echo", affinity="k")
    assert (echo.tokens, sums.tokens) == (["0", "2", "4"], ["1", "3", "5"])
    assert (other_echo.sent, other_sums.sent) == ([], [])


def test_a_worker_that_no_longer_serves_the_command_hands_over_what_waits_for_it() -> None:
    bench, caller = Bench(), Someone()
    worker, link = bench.worker("w1", ["echo", "sum"], capacity=1)
    _, other = bench.worker("w2", ["echo"], capacity=5)
    bench.submit(caller, "sent", affinity="k")
    bench.submit(caller, "echo", affinity="k")
    bench.submit(caller, "sum", "sum", affinity="k")
    bench.dispatcher.change(worker, commands=["sum"])
    assert other.tokens == ["echo"]
    assert serve(bench, worker, link, 1) == ["sum"]


def test_keys_are_remembered_within_bounds_the_most_recently_used_longest() -> None:
    bench, caller = Bench(affinity_limit=2), Someone()
    _, first = bench.worker("w1")
    _, second = bench.worker("w2")
    bench.submit(caller, "a", affinity="a")
    bench.submit(caller, "b", affinity="b")
    bench.submit(caller, "a", affinity="a")
    bench.submit(caller, "c", affinity="c")  # b is forgotten
    assert (first.tokens, second.tokens) == (["a", "a", "c"], ["b"])
    bench.submit(caller, "d")
    bench.submit(caller, "b", affinity="b")  # anywhere: it is the first worker's turn
    assert first.tokens[-1] == "b"
    assert len(bench.dispatcher._affinity) == 2


def test_without_room_for_keys_they_mean_nothing() -> None:
    bench, caller = Bench(affinity_limit=0), Someone()
    _, first = bench.worker("w1")
    _, second = bench.worker("w2")
    bench.submit(caller, "1", affinity="k")
    bench.submit(caller, "2", affinity="k")
    assert (first.tokens, second.tokens) == (["1"], ["2"])


def test_the_keys_of_workers_that_are_gone_are_dropped() -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1")
    stays, _ = bench.worker("w2")
    for key in "abcd":
        bench.submit(caller, key, affinity=key)
    bench.dispatcher.leave(worker)
    for request in list(stays.requests.values()):
        bench.done(stays, request)
    bench.dispatcher.leave(stays)
    bench.dispatcher.drop_statistics()
    assert len(bench.dispatcher._affinity) == 0
