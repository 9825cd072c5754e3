"""Keys: which worker each is bound to, for how long, and how many are remembered."""

from .dispatch_bench import Bench, Someone, serve


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


def test_a_key_moves_when_its_worker_takes_no_more_and_so_does_what_waits_for_it() -> None:
    bench, caller = Bench(), Someone()
    first, link = bench.worker("w1", capacity=1)
    bench.submit(caller, "a", affinity="k")
    _, other = bench.worker("w2", capacity=1)
    bench.submit(caller, "b", affinity="k")
    assert (link.tokens, other.tokens) == (["a"], [])
    bench.dispatcher.change_worker(first, capacity=0)
    assert other.tokens == ["b"], "it would have waited until its time was up, beside an idle worker"
    bench.submit(caller, "c", affinity="k")
    bench.dispatcher.change_worker(first, capacity=1)
    bench.done(first, link.sent[0])
    assert link.tokens == ["a"], "the key has moved for good"


def test_a_key_waits_while_nobody_takes_work_and_goes_to_the_first_that_does() -> None:
    bench, caller = Bench(), Someone()
    first, link = bench.worker("w1", capacity=0)
    bench.submit(caller, "a", affinity="k")
    assert (link.tokens, caller.told) == ([], [])
    _, other = bench.worker("w2", capacity=1)
    assert other.tokens == ["a"]
    bench.dispatcher.change_worker(first, capacity=1)
    bench.submit(caller, "b", affinity="k")
    assert (link.tokens, other.tokens) == ([], ["a"])


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
    bench.dispatcher.remove_worker(first)
    assert sorted(link.tokens for link in links) == [[], ["k1", "k2", "k3"]]


def test_what_waited_for_a_worker_that_left_alone_has_no_workers() -> None:
    bench, caller = Bench(), Someone()
    worker, _ = bench.worker("w1", capacity=1)
    bench.submit(caller, "sent", affinity="k", idempotent=False)
    bench.submit(caller, "waits", affinity="k", idempotent=False)
    bench.dispatcher.remove_worker(worker)
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
    bench.dispatcher.remove_worker(first)
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
    bench.dispatcher.change_worker(worker, commands=["sum"])
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
    bench.dispatcher.remove_worker(worker)
    for request in list(stays.requests.values()):
        bench.done(stays, request)
    bench.dispatcher.remove_worker(stays)
    bench.dispatcher.drop_statistics()
    assert len(bench.dispatcher._affinity) == 0
