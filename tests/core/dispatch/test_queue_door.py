"""Who may wait, when not everybody can: shares of the queue, its bytes, and callers that have shown a key."""

from collections import Counter

import pytest
from msgspec import Raw

from portico.wire.faults import PeerFault

from .dispatch_bench import Bench, Someone


def full(queue_limit: int = 10, queue_bytes: int = 1 << 20) -> Bench:
    """A bench whose only worker is busy."""
    bench = Bench(queue_limit=queue_limit, queue_bytes=queue_bytes)
    bench.worker("w", capacity=1)
    bench.submit(Someone(), "busy")
    return bench


def ask(bench: Bench, caller: Someone, number: int, size: int = 10) -> None:
    for count in range(number):
        bench.dispatcher.submit(caller, f"{count}", "echo", Raw(b'"' + b"x" * (size - 2) + b'"'))


def crowd_of(party: str, number: int) -> list[Someone]:
    """Connections of one party."""
    return [Someone(party) for _ in range(number)]


def busy(caller: Someone) -> int:
    return sum(error == "Workers busy" for _, error in caller.told)


def test_one_caller_may_fill_what_is_free_and_gives_it_back_to_others() -> None:
    bench = full(10)
    hog, second, third = Someone(), Someone(), Someone()
    ask(bench, hog, 15)
    assert (bench.dispatcher.queue_length, busy(hog)) == (10, 5)
    ask(bench, second, 7)
    assert busy(second) == 2, "its share of 10 is 5, now that two wait"
    assert busy(hog) == 5 + 5
    ask(bench, third, 7)
    waiting = Counter({"hog": 15 - busy(hog), "second": 7 - busy(second), "third": 7 - busy(third)})
    assert sum(waiting.values()) == bench.dispatcher.queue_length == 10
    assert min(waiting.values()) >= 3


def test_what_is_given_back_is_what_came_last() -> None:
    bench = full(4)
    hog = Someone()
    ask(bench, hog, 4)
    ask(bench, Someone(), 1)
    assert hog.told == [("3", "Workers busy")]


def test_bytes_are_shared_as_well() -> None:
    bench = full(1000, queue_bytes=100_000)
    hog, small = Someone(), Someone()
    ask(bench, hog, 12, size=10_000)
    assert busy(hog) >= 3
    assert bench.dispatcher.queue_bytes <= 100_000
    ask(bench, small, 5, size=5_000)
    assert busy(small) == 0
    assert bench.dispatcher.queue_bytes <= 100_000
    ask(bench, Someone(), 1, size=200_000)
    assert bench.dispatcher.queue_bytes <= 100_000


def test_bytes_are_counted_back_whatever_becomes_of_a_request() -> None:
    bench = full(1000, queue_bytes=100_000)
    caller = Someone()
    ask(bench, caller, 5, size=10_000)
    assert bench.dispatcher.queue_bytes > 50_000
    bench.dispatcher.cancel_requests_of(caller)
    assert bench.dispatcher.queue_bytes == 0
    ask(bench, caller, 3, size=10_000)
    bench.passes(31)
    assert bench.dispatcher.queue_bytes == 0


def test_callers_with_a_key_are_served_before_the_backlog_of_anonymous_ones() -> None:
    bench = full(10)
    (worker,) = bench.dispatcher.scheduler.workers
    anonymous, back_end = Someone(), Someone()
    back_end.trusted = True
    ask(bench, anonymous, 10)
    ask(bench, back_end, 3)
    assert (busy(back_end), busy(anonymous)) == (0, 3)
    for _ in range(4):
        bench.done(worker, next(iter(worker.requests.values())))
    assert [token for token, _ in back_end.told] == ["0", "1", "2"]
    assert busy(anonymous) == len(anonymous.told) == 3


def test_a_caller_with_a_key_may_take_the_place_of_all_anonymous_ones_and_they_no_more_than_half() -> None:
    bench = full(10)
    back_end = Someone()
    back_end.trusted = True
    crowd = [Someone() for _ in range(10)]
    for one in crowd:
        ask(bench, one, 1)
    ask(bench, back_end, 12)
    assert busy(back_end) == 2
    assert sum(map(busy, crowd)) == 10
    for one in crowd:
        ask(bench, one, 1)
    assert busy(back_end) == 2 + 5
    assert sum(map(busy, crowd)) == 10 + 5


def test_a_crowd_shares_evenly_and_newcomers_are_refused_when_everybody_has_one() -> None:
    bench = full(10)
    crowd = [Someone() for _ in range(14)]
    for one in crowd:
        ask(bench, one, 1)
    assert [busy(one) for one in crowd] == [0] * 10 + [1] * 4


@pytest.mark.parametrize("ok", [True, False])
def test_no_request_may_take_longer_than_the_largest_time_out(ok: bool) -> None:
    bench = Bench(max_timeout=3600.0)
    bench.worker("w")
    if ok:
        bench.submit(Someone(), "t", timeout=3600.0)
        return
    with pytest.raises(PeerFault) as refused:
        bench.submit(Someone(), "t", timeout=3600.1)
    assert (refused.value.code, refused.value.field) == ("bad_field", "timeout")
    assert "3600" in refused.value.message


def test_what_was_sent_once_is_never_refused_for_others_not_even_where_nothing_else_could_give_way() -> None:
    bench = Bench(queue_limit=1)
    lost, _ = bench.worker("w1", capacity=3)
    caller, other = Someone(), Someone()
    for number in range(3):
        bench.submit(caller, f"sent {number}")
    bench.worker("w2", capacity=0)
    bench.dispatcher.remove_worker(lost)
    assert bench.dispatcher.queue_length == 3, "they were accepted once"
    bench.submit(other, "new")
    bench.submit(caller, "new too")
    assert (caller.told, other.told) == ([("new too", "Workers busy")], [("new", "Workers busy")])
    trusted = Someone()
    trusted.trusted = True
    bench.submit(trusted, "with a key")
    assert trusted.told == [("with a key", "Workers busy")]
    assert bench.dispatcher.queue_length == 3


def test_nothing_gives_way_for_a_request_that_finds_no_room_all_the_same() -> None:
    bench = Bench(queue_limit=100, queue_bytes=10_000)
    lost, _ = bench.worker("w1", capacity=1)
    bench.worker("w2", capacity=0)
    hog, other = Someone(), Someone()
    ask(bench, hog, 1, 5_000)
    bench.dispatcher.remove_worker(lost)
    for _ in range(3):
        ask(bench, hog, 1, 500)
    other.trusted = True
    ask(bench, other, 1, 9_000)
    assert (busy(other), busy(hog)) == (1, 0)
    assert bench.dispatcher.queue_length == 4


# Parties: one address, one user or one key, however many connections it has


def test_a_party_with_many_connections_has_one_share() -> None:
    bench = full(10)
    many = crowd_of("10.0.0.1", 14)
    for one in many:
        ask(bench, one, 1)
    assert (bench.dispatcher.queue_length, sum(map(busy, many))) == (10, 4)
    other = Someone("10.0.0.2")
    ask(bench, other, 6)
    assert busy(other) == 1, "its share of 10 is 5, now that two parties wait"
    assert sum(map(busy, many)) == 4 + 5
    assert bench.dispatcher.queue_length == 10


def test_within_a_party_its_connections_share_what_it_has() -> None:
    bench = full(12)
    other = Someone("10.0.0.2")
    hog, modest, third = crowd_of("10.0.0.1", 3)
    ask(bench, other, 6)
    ask(bench, hog, 6)
    ask(bench, modest, 4)
    assert (busy(other), busy(hog), busy(modest)) == (0, 3, 1), "each has half of the party's half"
    ask(bench, third, 3)
    assert (busy(other), busy(third)) == (0, 1), "a third of the party's six"
    assert bench.dispatcher.queue_length == 12


def test_what_was_lent_to_a_party_is_taken_back_from_the_connection_of_it_that_has_most() -> None:
    bench = full(10)
    small, hog = crowd_of("10.0.0.1", 2)
    ask(bench, small, 2)
    ask(bench, hog, 8)
    ask(bench, Someone("10.0.0.2"), 5)
    assert (busy(small), busy(hog)) == (0, 5)


def test_a_party_s_bytes_are_shared_as_well() -> None:
    bench = full(1000, queue_bytes=100_000)
    many = crowd_of("10.0.0.1", 12)
    for one in many:
        ask(bench, one, 1, size=9_500)
    assert sum(map(busy, many)) == 2
    other = Someone("10.0.0.2")
    ask(bench, other, 5, size=9_500)
    assert (busy(other), sum(map(busy, many))) == (0, 2 + 5)
    assert bench.dispatcher.queue_bytes <= 100_000


def test_parties_with_a_key_share_by_party_too() -> None:
    bench = full(10)
    many, other = crowd_of("key a", 20), Someone("key b")
    for one in (*many, other):
        one.trusted = True
    for one in many:
        ask(bench, one, 1)
    ask(bench, other, 6)
    assert (busy(other), sum(map(busy, many))) == (1, 10 + 5)
