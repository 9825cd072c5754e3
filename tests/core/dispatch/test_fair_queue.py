"""Whose turn it is: the queue alone, and as callers see it."""

import pytest
from msgspec import Raw

from service.core.dispatch.fair_queue import FairQueue
from service.core.dispatch.model import GONE, Guest, Request, Statistics, Worker

from .dispatch_bench import Bench, Someone, serve


def waiting(caller: Someone, name: str, command: str = "echo", guest: bool = False) -> Request:
    request = Request(name, caller, name, command, Raw(b"null"), 30.0, False, None, True, 0.0, 30.0)
    request.guest = Guest("other") if guest else None
    return request


def worker(*commands: str) -> Worker:
    return Worker(GONE, "w", frozenset(commands) or None, 1, 1.0, Statistics())


def taken(queue: FairQueue, by: Worker) -> list[str | None]:
    names = []
    while (request := queue.take_for_worker(by)) is not None:
        names.append(request.token)
    return names


def test_a_worker_takes_from_callers_in_turn_and_from_each_the_oldest() -> None:
    queue = FairQueue()
    many, one = Someone(), Someone()
    for number in range(3):
        queue.add_request(waiting(many, f"m{number}"), "echo")
    queue.add_request(waiting(one, "o"), "echo")
    assert len(queue) == 4
    assert taken(queue, worker()) == ["m0", "o", "m1", "m2"]
    assert len(queue) == 0


def test_what_is_put_in_front_is_next_among_its_caller_s() -> None:
    queue = FairQueue()
    caller = Someone()
    queue.add_request(waiting(caller, "a"), "echo")
    queue.add_request(waiting(caller, "b"), "echo", front=True)
    assert taken(queue, worker("echo")) == ["b", "a"]


def test_a_line_that_is_dropped_comes_out_whole_and_others_stay() -> None:
    queue = FairQueue()
    caller, other = Someone(), Someone()
    for name, who, command in (("a", caller, "echo"), ("b", other, "echo"), ("c", caller, "sum")):
        queue.add_request(waiting(who, name, command), command)
    assert [request.token for request in queue.drop_line("echo")] == ["a", "b"]
    assert queue.lines() == ["sum"]
    assert taken(queue, worker("echo")) == []
    assert taken(queue, worker("sum")) == ["c"]


def test_another_node_is_given_no_guests() -> None:
    queue = FairQueue()
    queue.add_request(waiting(Someone(), "guest", guest=True), "echo")
    queue.add_request(waiting(Someone(), "own"), "echo")
    assert [request.token for request in queue.guests_in("echo")] == ["guest"]
    request = queue.take_for_other_node(["echo"])
    assert request is not None
    assert request.token == "own"
    assert queue.take_for_other_node(["echo"]) is None
    assert len(queue) == 1


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


def test_a_party_gains_no_turns_by_opening_more_connections() -> None:
    bench, one = Bench(), Someone("10.0.0.2")
    worker, link = bench.worker("w1", capacity=1)
    bench.submit(Someone(), "sent")
    for number in range(20):
        bench.submit(Someone("10.0.0.1"), f"m{number}")
    for number in range(5):
        bench.submit(one, f"o{number}")
    assert serve(bench, worker, link, 9) == ["m0", "o0", "m1", "o1", "m2", "o2", "m3", "o3", "m4"]


def test_the_connections_of_a_party_take_its_turns_in_turn() -> None:
    bench, greedy, modest, other = Bench(), Someone("10.0.0.1"), Someone("10.0.0.1"), Someone("10.0.0.2")
    worker, link = bench.worker("w1", capacity=1)
    bench.submit(Someone(), "sent")
    for number in range(4):
        bench.submit(greedy, f"g{number}", f"command {number}")
    for number in range(2):
        bench.submit(modest, f"m{number}")
    for number in range(4):
        bench.submit(other, f"o{number}")
    assert serve(bench, worker, link, 10) == ["g0", "o0", "m0", "o1", "g1", "o2", "m1", "o3", "g2", "g3"]


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
