"""Requests that cross nodes: who gets them, how they end, and what the nodes say to one another."""

import pytest
from msgspec import Raw

from service.backplane.memory import World
from service.core.cluster.backplane import LARGEST_MESSAGE
from service.core.dispatch.dispatcher import OutcomeKind, Verdict
from service.core.dispatch.remote_capacity import REPEAT
from service.core.dispatch.remote_dispatch import SILENCE
from service.core.dispatch.remote_messages import OFFER, RESULT, AttemptResult, encode
from service.core.dispatch.remote_workers import AHEAD

from .dispatch_bench import NULL, Link, Someone
from .remote_bench import Deployment, Node


def test_a_request_goes_to_the_only_worker_there_is_and_its_answer_comes_back() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a", timeout=7.0)
    (request,) = link.sent
    assert (request.command, bytes(request.data), link.deadlines, link.attempts) == ("echo", b"{}", [7000], [1])
    assert there.done(worker, request) is Verdict.ACCEPTED
    assert someone.told == [("a", '"done"')]
    assert someone.answers[0][1].processed_by == "w"
    assert here.counters.requests == {"ok": 1}
    assert there.counters.requests == {}
    assert all_of_us.is_empty()


def test_local_workers_with_room_come_first_then_the_node_with_the_most_room_then_the_queue() -> None:
    all_of_us = Deployment(3)
    here, second, third = all_of_us.nodes
    _, own = here.worker("own", capacity=1)
    _, few = second.worker("few", capacity=1)
    _, many = third.worker("many", capacity=2)
    all_of_us.settle()
    for number in range(6):
        here.submit(Someone(), str(number))
    assert own.tokens == ["0"]
    assert len(many.sent) == 2
    assert len(few.sent) == 1
    assert here.dispatcher.queue_length == 2


def test_the_queue_is_fed_when_another_node_has_room() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    here.worker("own", capacity=1)
    worker, link = there.worker("w", capacity=1)
    busy = Someone()
    there.submit(busy, "its own")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    here.submit(someone, "b")
    assert here.dispatcher.queue_length == 1
    all_of_us.passes(0.02)
    there.done(worker, link.sent[0])
    all_of_us.settle()
    assert len(link.sent) == 2
    assert here.dispatcher.queue_length == 0


def test_without_a_worker_anywhere_it_is_refused_at_once() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    there.worker("w", ["sum"])
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    assert someone.told == [("a", "No available workers")]


def test_the_last_worker_elsewhere_goes_and_what_waits_is_refused() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, _ = there.worker("w", capacity=0)
    all_of_us.settle()
    someone = Someone()
    for number in range(AHEAD + 1):
        here.submit(someone, str(number))
    assert someone.told == []
    assert (here.dispatcher.queue_length, there.dispatcher.queue_length) == (1, AHEAD)
    there.dispatcher.remove_worker(worker)
    all_of_us.settle()
    assert sorted(someone.told) == [(str(number), "No available workers") for number in range(AHEAD + 1)]
    assert all_of_us.is_empty()


def test_streams_cross_nodes() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a", stream=True)
    there.part(worker, link.sent[0], b'"1"')
    there.part(worker, link.sent[0], b'"2"')
    there.done(worker, link.sent[0])
    assert [outcome.partial for _, outcome in someone.answers] == [True, True, False]
    assert someone.told == [("a", '"1"'), ("a", '"2"'), ("a", '"done"')]


def test_a_worker_s_error_is_its_answer() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    there.dispatcher.on_answer(worker, link.sent[0].id, success=False, error="no such city")
    assert someone.told == [("a", "no such city")]
    assert someone.answers[0][1].kind is OutcomeKind.ERROR
    assert someone.answers[0][1].processed_by == "w"


def test_cancelling_reaches_the_worker_and_its_late_answer_is_dropped() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    here.dispatcher.cancel_requests_of(someone)
    assert link.cancelled == link.sent
    assert all_of_us.is_empty()
    assert there.done(worker, link.sent[0]) is Verdict.LATE
    assert someone.told == []


def test_time_is_kept_by_the_node_of_the_caller() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    _, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a", timeout=1.0)
    all_of_us.passes(1.2)
    assert someone.told == [("a", "Worker response timeout")]
    assert link.cancelled == link.sent
    assert all_of_us.is_empty()


def test_a_lost_worker_s_request_goes_elsewhere_as_the_next_attempt() -> None:
    all_of_us = Deployment(3)
    here, second, third = all_of_us.nodes
    first, _ = second.worker("w2", capacity=2)
    other, link = third.worker("w3", capacity=1)
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    second.dispatcher.remove_worker(first)
    assert link.attempts == [2]
    third.done(other, link.sent[0])
    assert someone.told == [("a", '"done"')]
    assert here.counters.requests_retried == 1
    assert third.counters.requests_retried == 0


@pytest.mark.parametrize("how", ["not idempotent", "partial answer"])
def test_what_may_not_be_sent_twice_is_lost_with_its_worker(how: str) -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w1")
    _, other = there.worker("w2")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a", stream=True, idempotent=how == "partial answer")
    if how == "partial answer":
        there.part(worker, link.sent[0])
    there.dispatcher.remove_worker(worker)
    assert someone.told[-1] == ("a", "Worker lost")
    assert other.sent == []


def test_attempts_are_counted_over_all_nodes() -> None:
    all_of_us = Deployment(2, max_attempts=3)
    here, there = all_of_us.nodes
    workers = [there.worker(f"w{number}") for number in range(4)]
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    for _ in range(3):
        worker, _link = next((w, link) for w, link in workers if w.outstanding)
        there.dispatcher.remove_worker(worker)
    assert someone.told == [("a", "Worker lost")]
    assert sorted(attempt for _, link in workers for attempt in link.attempts) == [1, 2, 3]


def test_a_node_that_dies_is_a_worker_lost() -> None:
    all_of_us = Deployment(3)
    here, second, third = all_of_us.nodes
    second.worker("w2", capacity=5)
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "once", idempotent=False)
    here.submit(someone, "again")
    worker, link = third.worker("w3", capacity=2)
    all_of_us.settle()
    second.dies()
    assert someone.told == [("once", "Worker lost")]
    assert link.attempts == [2]
    third.done(worker, link.sent[0])
    assert someone.told[1:] == [("again", '"done"')]


def test_the_requests_of_a_node_that_dies_are_cancelled() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    _, link = there.worker("w", capacity=1)
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    here.submit(someone, "b")
    here.dies()
    assert link.cancelled == link.sent
    assert len(link.sent) == 1
    assert there.is_empty()


def test_a_node_that_loses_another_out_of_sight_says_what_becomes_of_its_requests() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w", capacity=1)
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "at the worker", idempotent=False)
    here.submit(someone, "waits", idempotent=False)
    there.cluster_messages.on_node_left("n1")
    assert someone.told == [("at the worker", "Worker lost")]
    all_of_us.passes(0.1)
    assert len(link.sent) == 2
    there.done(worker, link.sent[1])
    assert someone.told[1:] == [("waits", '"done"')]


def test_a_node_that_drains_is_sent_nothing_and_sends_its_own_elsewhere() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w", capacity=2)
    there_busy = Someone()
    there.submit(there_busy, "x")
    there.submit(there_busy, "y")
    here.worker("own", capacity=1)
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "0")
    here.submit(someone, "1")
    assert here.dispatcher.queue_length == 1
    all_of_us.passes(0.1)
    there.done(worker, link.sent[0])
    all_of_us.settle()
    assert link.tokens[:2] == ["x", "y"]
    assert len(link.sent) == 3
    here.dispatcher.drain()
    all_of_us.settle()
    assert there.knows() == {}
    here.submit(someone, "2")
    assert someone.told == []
    assert here.remote.sent == 2


@pytest.mark.parametrize("affinity", [None, "k"])
def test_what_a_node_that_drains_has_no_room_for_elsewhere_waits_for_the_workers_there(affinity: str | None) -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    own, own_link = here.worker("own", capacity=1)
    worker, link = there.worker("w", capacity=1)
    all_of_us.settle()
    someone = Someone()
    tokens = [str(number) for number in range(4 * AHEAD)]
    for token in tokens[: 2 * AHEAD]:
        here.submit(someone, token, affinity=affinity)
    here.dispatcher.drain()
    for token in tokens[2 * AHEAD :]:
        here.submit(someone, token, affinity=affinity)
    for sent in own_link.sent:
        here.done(own, sent)
    for number in range(len(tokens)):
        all_of_us.passes(0.1)
        if number < len(link.sent):
            there.done(worker, link.sent[number])
    assert sorted(someone.told) == sorted((token, '"done"') for token in tokens)


def test_a_node_that_drains_refuses_what_waits_once_nobody_elsewhere_serves_it() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    here.worker("own", capacity=1)
    worker, _ = there.worker("w", capacity=1)
    all_of_us.settle()
    someone = Someone()
    for number in range(AHEAD + 4):
        here.submit(someone, str(number))
    here.dispatcher.drain()
    assert someone.told == []
    there.dispatcher.remove_worker(worker)
    for _ in range(4):
        all_of_us.passes(0.1)
    assert [told for _, told in someone.told].count("Worker lost") <= 1  # what was at the worker
    assert [told for _, told in someone.told].count("No available workers") >= AHEAD + 2
    assert len(someone.told) == AHEAD + 3  # what is at the own worker may be finished


def test_a_node_that_drains_sends_its_keys_elsewhere_too() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    here.worker("own")
    someone = Someone()
    here.submit(someone, "a", affinity="k")
    _, link = there.worker("w")
    all_of_us.settle()
    here.dispatcher.drain()
    here.submit(someone, "b", affinity="k")
    assert len(link.sent) == 1


def test_what_waits_at_a_node_that_drains_comes_back_and_goes_elsewhere() -> None:
    all_of_us = Deployment(3)
    here, second, third = all_of_us.nodes
    second.worker("w2", capacity=0)
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a", idempotent=False)
    assert second.dispatcher.queue_length == 1
    worker, link = third.worker("w3", capacity=1)
    all_of_us.settle()
    second.dispatcher.drain()
    all_of_us.settle()
    assert link.attempts == [1]
    third.done(worker, link.sent[0])
    assert someone.told == [("a", '"done"')]


def test_stale_news_cost_no_request() -> None:
    all_of_us = Deployment(2, queue_limit=0)
    here, there = all_of_us.nodes
    worker, link = there.worker("w", capacity=1)
    all_of_us.settle()
    there.cable.lose = {OFFER}
    there.submit(Someone(), "its own")
    someone = Someone()
    here.submit(someone, "a", idempotent=False)
    assert someone.told == []
    assert here.dispatcher.queue_length == 1
    there.cable.lose = set()
    there.done(worker, link.sent[0])
    all_of_us.passes(0.1)
    assert link.attempts == [1, 1]
    there.done(worker, link.sent[1])
    assert someone.told == [("a", '"done"')]


def test_turns_go_by_callers_of_other_nodes_too() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w", capacity=1)
    local, first, second = Someone(), Someone(), Someone()
    for number in range(4):
        there.submit(local, f"local {number}")
    all_of_us.settle()
    for number in range(2):
        here.submit(first, f"first {number}")
    here.submit(second, "second")
    for _ in range(7):
        there.done(worker, link.sent[-1])
    assert [(token, len(someone.told)) for token, someone in (("f", first), ("s", second), ("l", local))] == [
        ("f", 2),
        ("s", 1),
        ("l", 4),
    ]
    # By turns: the third caller's one request and the first's two were not left to the end.
    assert link.tokens.index("local 3") == 6


def test_a_party_has_one_share_of_a_queue_whichever_nodes_its_connections_are_at() -> None:
    all_of_us = Deployment(3, queue_limit=8)
    first, second, there = all_of_us.nodes
    worker, link = there.worker("w", capacity=1)
    there.submit(Someone("10.0.0.9"), "busy")
    all_of_us.settle()
    many = [Someone("10.0.0.1") for _ in range(12)]
    for number, one in enumerate(many):
        (first, second)[number % 2].submit(one, f"m{number}")
    other = Someone("10.0.0.2")
    for number in range(4):
        there.submit(other, f"other {number}")
    assert other.told == [], "it has half of the queue there"
    for _ in range(8):
        there.done(worker, link.sent[-1])
    assert link.tokens[2:9:2] == [f"other {number}" for number in range(4)], "and every second turn"
    while there.dispatcher.outstanding:
        there.done(worker, link.sent[-1])
        all_of_us.settle()
    assert [one.told for one in many] == [[(f"m{number}", '"done"')] for number in range(12)], "nobody was refused"


def test_the_same_key_has_the_same_worker_from_another_node() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    workers = [there.worker(f"w{number}") for number in range(3)]
    all_of_us.settle()
    someone = Someone()
    for number in range(6):
        here.submit(someone, str(number), affinity="k")
    assert sorted(len(link.sent) for _, link in workers) == [0, 0, 6]


def test_the_same_key_has_the_same_worker_whichever_node_is_asked() -> None:
    all_of_us = Deployment(3)
    places = [(node, *node.worker(f"w{number}", capacity=2)) for node in all_of_us.nodes for number in range(2)]
    all_of_us.settle()
    someone = Someone()
    for key in range(20):
        before = [len(link.sent) for _, _, link in places]
        for node in all_of_us.nodes * 2:
            node.submit(someone, "t", affinity=f"k{key}")
        # Its capacity is 2: the others wait for it, although there is room elsewhere.
        assert sorted(len(link.sent) - had for (_, _, link), had in zip(places, before, strict=True)) == [0] * 5 + [2]
        for _ in range(3):
            for node, worker, _ in places:
                for request in list(worker.requests.values()):
                    node.done(worker, request)
        assert sorted(len(link.sent) - had for (_, _, link), had in zip(places, before, strict=True)) == [0] * 5 + [6]
    assert len(someone.told) == 120
    assert sum(bool(link.sent) for _, _, link in places) > 3


def test_a_node_that_was_renamed_keeps_its_share_of_the_keys() -> None:
    world = World(now=lambda: 0.0)
    first, second = Node(world, "n"), Node(world, "n-2", born_as="n")
    _, other = first.worker("w1", capacity=100)
    _, own = second.worker("w2", capacity=100)
    for _ in range(2):
        for node in (first, second):
            node.remote.tick()
            node.defer.run()
    for key in range(40):
        second.submit(Someone(), "t", affinity=f"k{key}")
    assert len(own.sent) + len(other.sent) == 40
    assert 10 <= len(own.sent) <= 30  # it was 0: the node looked for itself under the name it no longer had


def test_a_key_whose_worker_went_with_its_node_gets_another_one() -> None:
    all_of_us = Deployment(3)
    here, *others = all_of_us.nodes
    links = [node.worker("w")[1] for node in others]
    all_of_us.settle()
    someone = Someone()
    for _ in range(3):
        here.submit(someone, "t", affinity="k")
    first, second = sorted(links, key=lambda link: -len(link.sent))
    assert (len(first.sent), len(second.sent)) == (3, 0)
    others[links.index(first)].dies()
    here.submit(someone, "t", affinity="k")
    assert len(second.sent) == 4


def test_what_waits_at_another_node_comes_back_and_goes_where_there_is_room() -> None:
    all_of_us = Deployment(3)
    here, second, third = all_of_us.nodes
    worker, link = second.worker("w2", capacity=1)
    second.submit(Someone(), "its own")
    all_of_us.settle()
    here.submit(Someone(), "a")
    assert second.dispatcher.queue_length == 1
    _, other = third.worker("w3", capacity=5)
    all_of_us.settle()
    assert (len(other.sent), other.attempts) == (1, [1])
    assert second.dispatcher.queue_length == 0
    second.done(worker, link.sent[0])
    assert len(link.sent) == 1


def test_a_node_that_falls_silent_is_sent_nothing_more() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a", timeout=100.0)
    there.cable.lose = {OFFER}
    all_of_us.passes(SILENCE)
    here.submit(someone, "b")
    assert someone.told == [("b", "No available workers")]
    there.cable.lose = set()
    all_of_us.passes(REPEAT)
    there.done(worker, link.sent[0])
    assert someone.told[1:] == [("a", '"done"')]
    here.submit(someone, "c")
    assert len(link.sent) == 2


def test_a_node_that_is_cut_off_keeps_its_own_until_it_is_back() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    _, link = there.worker("w")
    all_of_us.settle()
    here.cable.cut_off("Redis does not answer")
    here.remote.tick()
    someone = Someone()
    here.submit(someone, "a")
    assert (someone.told, here.dispatcher.queue_length) == ([], 1)
    here.cable.cut_off(None)
    all_of_us.passes(REPEAT)
    assert len(link.sent) == 1


def test_answers_of_5_mib_pass_and_larger_ones_are_refused_in_words() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    large = b'"' + b"x" * (5 << 20) + b'"'
    there.done(worker, link.sent[0], large)
    assert someone.told == [("a", large.decode())]
    here.submit(someone, "b")
    there.done(worker, link.sent[1], b'"' + b"x" * LARGEST_MESSAGE + b'"')
    assert someone.told[1][1].startswith("The answer is too large to be passed between nodes")
    here.dispatcher.submit(someone, "c", "echo", Raw(b'"' + b"x" * LARGEST_MESSAGE + b'"'))
    assert someone.told[2][1].startswith("The parameters are too large to be passed between nodes")
    assert all_of_us.is_empty()


def test_late_and_unknown_answers_are_dropped_and_counted() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    request = here.submit(someone, "a")
    there.cable.lose = {RESULT}
    there.done(worker, link.sent[0])
    all_of_us.passes(31.0)
    assert someone.told == [("a", "Worker response timeout")]
    there.cable.lose = set()
    there.cable.tell("n1", RESULT, encode(AttemptResult(f"{request.id}.1", OutcomeKind.OK, False, b"1", None, "w")))
    assert here.counters.late_answers == 1
    assert len(someone.told) == 1


def test_a_client_at_another_node_is_asked() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    client = Link()
    there.clients["c1"] = client
    someone = Someone()
    ask = here.dispatcher.ask_client(here.remote.client_link("n2", "c1"), someone, "q", "beep", NULL, 5.0, "c1")
    (request,) = client.sent
    assert there.dispatcher.on_answer(client, request.id, success=True, result=Raw(b"1")) is Verdict.ACCEPTED
    assert someone.told == [("q", "1")]
    assert someone.answers[0][0] is ask
    assert all_of_us.is_empty()


@pytest.mark.parametrize("how", ["unknown", "goes", "node dies", "cancelled"])
def test_a_client_at_another_node_that_cannot_answer_is_lost(how: str) -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    client = Link()
    if how != "unknown":
        there.clients["c1"] = client
    someone = Someone()
    request = here.dispatcher.ask_client(here.remote.client_link("n2", "c1"), someone, "q", "beep", NULL, 5.0, "c1")
    if how == "goes":
        there.dispatcher.forget_client(client)
    elif how == "node dies":
        there.dies()
    elif how == "cancelled":
        here.dispatcher.cancel_request(request)
        assert client.cancelled == client.sent
    assert someone.told == ([] if how == "cancelled" else [("q", "Worker lost")])
    assert here.is_empty()


def test_the_next_attempt_avoids_the_client_that_was_lost_on_whatever_node() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, _ = there.worker("w1", capacity=1)
    all_of_us.settle()
    here.submit(Someone(), "a")
    _, same_again = there.worker("w1")
    _, other = there.worker("w2")
    there.dispatcher.remove_worker(worker)
    assert (same_again.attempts, other.attempts) == ([], [2])


def test_a_key_that_is_thought_to_be_at_home_where_it_comes_from_stays() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = here.worker("w1")
    all_of_us.settle()
    there.submit(Someone(), "a", affinity="k")
    here.done(worker, link.sent[0])
    here.cable.lose = {OFFER}
    here.dispatcher.remove_worker(worker)
    _, other = there.worker("w2")
    all_of_us.settle()
    here.submit(Someone(), "b", affinity="k")
    assert len(other.sent) == 1


def test_an_error_too_large_to_be_passed_between_nodes_is_answered_once_and_in_words() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    there.dispatcher.on_answer(worker, link.sent[0].id, success=False, error="x" * LARGEST_MESSAGE)
    assert len(link.sent) == 1
    ((_, error),) = someone.told
    assert error.startswith("The answer is too large to be passed between nodes")
    assert all(len(message) <= LARGEST_MESSAGE for message in there.cable.bodies)


def test_a_part_too_large_to_be_passed_between_nodes_ends_the_stream_in_words() -> None:
    """What came after it would be a stream with a hole in it that nobody is told of."""
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a", stream=True)
    there.part(worker, link.sent[0])
    there.part(worker, link.sent[0], b'"' + b"x" * LARGEST_MESSAGE + b'"')
    (_, first), (_, last) = someone.answers
    assert (first.partial, first.success) == (True, True)
    assert (last.partial, last.success, last.processed_by) == (False, False, "w")
    assert last.error is not None
    assert last.error.startswith("The answer is too large to be passed between nodes")
    assert link.cancelled == [link.sent[0]]
    assert there.done(worker, link.sent[0]) is Verdict.LATE
    assert len(someone.answers) == 2
    assert all_of_us.is_empty()


def test_time_outs_count_against_a_worker_of_another_node() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    mute, _ = there.worker("mute", capacity=100)
    all_of_us.settle()
    for _ in range(6):
        here.submit(Someone(), "t", timeout=2.0)
    for node in all_of_us.nodes:
        node.time += 2.1
    here.dispatcher.expire_requests(here.time)
    assert mute.sick
    all_of_us.settle()
    assert [worker.sick for worker in here.dispatcher.remote] == [True]
