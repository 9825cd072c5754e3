"""Departure: a node that is about to go lets its workers work until the workers of others can."""

import pytest

from service.core.dispatch.departure import NOTICE
from service.core.dispatch.remote_messages import OFFER

from .dispatch_bench import Bench, Someone
from .remote_bench import Deployment, Node


def leave(node: Node) -> None:
    """It announces that it goes, as a node does, and begins."""
    (state,) = (state for state in node.cable.nodes() if state.node == node.name)
    node.cable.announce(state._replace(draining=True))
    node.dispatcher.leave()


def test_alone_its_workers_go_on() -> None:
    bench, someone = Bench(), Someone()
    worker, link = bench.worker("w", capacity=1)
    bench.submit(someone, "a")
    bench.submit(someone, "waits")
    bench.dispatcher.leave()
    bench.dispatcher.departure.tick(bench.time + NOTICE, set)
    bench.submit(someone, "late")
    for number in range(3):
        bench.done(worker, link.sent[number])
    assert someone.told == [("a", '"done"'), ("waits", '"done"'), ("late", '"done"')]
    assert bench.is_empty()


@pytest.mark.shows("go to the workers there", "1.5 s after the drain began")
def test_they_step_back_once_others_serve_all_of_their_commands() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    _, one = here.worker("one", ["echo"])
    _, two = here.worker("two", ["echo", "sum"])
    _, other = there.worker("other", ["echo"])
    all_of_us.settle()
    leave(here)
    all_of_us.passes(NOTICE)
    assert there.knows() == {"n1": 16}
    someone = Someone()
    for number in range(17):
        there.submit(someone, str(number))
    there.submit(someone, "sum", command="sum")
    assert not one.sent
    assert len(two.sent) + len(other.sent) == 18
    here.submit(someone, "mine", affinity="k")
    assert not one.sent


def test_what_waits_for_one_that_steps_back_goes_on_elsewhere() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    own, link = here.worker("own", capacity=1)
    someone = Someone()
    for token in ("at work", "waits", "keyed"):
        here.submit(someone, token, affinity="k" if token == "keyed" else None)
    leave(here)
    all_of_us.passes(NOTICE)
    assert len(link.sent) == 1
    worker, elsewhere = there.worker("w")
    all_of_us.passes(0.1)
    here.done(own, link.sent[0])
    for request in list(elsewhere.sent):
        there.done(worker, request)
    all_of_us.settle()
    assert sorted(someone.told) == [("at work", '"done"'), ("keyed", '"done"'), ("waits", '"done"')]
    assert len(link.sent) == 1
    assert all_of_us.is_empty()


def test_they_step_up_again_when_nobody_else_serves_any_more() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    _, link = here.worker("own")
    worker, _ = there.worker("w")
    all_of_us.settle()
    leave(here)
    all_of_us.passes(NOTICE)
    assert there.knows() == {}
    there.dispatcher.remove_worker(worker)
    all_of_us.passes(0.1)
    all_of_us.passes(0.1)
    someone = Someone()
    there.submit(someone, "a")
    here.submit(someone, "b")
    assert len(link.sent) == 2
    here.dispatcher.drain()
    all_of_us.passes(0.1)
    assert there.knows() == {}
    there.submit(someone, "c")
    assert someone.told == [("c", "No available workers")]


@pytest.mark.shows("are answered, since no node counts on another that goes", "the same")
def test_nodes_that_go_at_once_do_not_count_on_one_another() -> None:
    all_of_us = Deployment(3)
    here, there, asks = all_of_us.nodes
    links = [node.worker(f"of {node.name}")[1] for node in (here, there)]
    all_of_us.settle()
    leave(here)
    leave(there)
    for _ in range(30):
        all_of_us.passes(0.1)
    someone = Someone()
    for number in range(4):
        asks.submit(someone, str(number))
    all_of_us.settle()
    assert sum(len(link.sent) for link in links) == 4


def test_of_those_that_can_stand_in_for_one_another_all_but_the_last_are_released() -> None:
    bench = Bench()
    first, link_of_first = bench.worker("first", ["echo"])
    second, link = bench.worker("second", ["echo", "sum"])
    third, _ = bench.worker("third", ["echo"], capacity=0)
    fourth, _ = bench.worker("fourth")
    bench.dispatcher.leave()
    release = bench.dispatcher.release_worker
    assert release(third), "it takes nothing in any case"
    assert not release(fourth), "nobody else serves every command"
    assert release(first)
    assert release(second), "the fourth serves all that it does"
    bench.dispatcher.remove_worker(third)
    bench.dispatcher.remove_worker(fourth)
    someone = Someone()
    bench.dispatcher.change_worker(first, commands=["echo", "more"])
    bench.submit(someone, "more", command="more")
    assert (someone.told, link_of_first.tokens, link.tokens) == ([], ["more"], [])
    assert not release(first), "now it is the only one"


def test_before_one_is_refused_those_that_stepped_back_are_asked() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    _, link = here.worker("own", ["echo"])
    worker, _ = there.worker("w", ["echo"], capacity=1)
    all_of_us.settle()
    leave(here)
    all_of_us.passes(NOTICE)
    there.submit(Someone(), "at work")
    someone = Someone()
    for number in range(20):
        here.submit(someone, str(number))
    there.dispatcher.change_worker(worker, commands=["sum"])
    all_of_us.settle()
    here.submit(someone, "late")
    assert someone.told == []
    assert len(link.sent) == 16
    here.submit(someone, "sum", command="other")
    assert someone.told == [("sum", "No available workers")]


@pytest.mark.parametrize("affinity", [None, "k"])
def test_a_guest_is_not_given_to_one_that_stepped_back(affinity: str | None) -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    own, link = here.worker("own")
    someone = Someone()
    all_of_us.settle()
    there.submit(someone, "first", affinity=affinity)
    here.done(own, link.sent[0])
    there.worker("w", capacity=1)
    all_of_us.settle()
    leave(here)
    here.cable.lose = {OFFER}
    all_of_us.passes(NOTICE)
    for number in range(4):
        there.submit(someone, str(number), affinity=affinity)
    all_of_us.settle()
    assert len(link.sent) == 1
    assert someone.told == [("first", '"done"')]


def test_what_waits_for_a_node_that_is_lost_is_given_to_those_that_stepped_back() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    _, link = here.worker("own")
    there.worker("w")
    all_of_us.settle()
    leave(here)
    all_of_us.passes(NOTICE)
    here.cable.cut_off("no way to the others")
    all_of_us.passes(0.1)
    someone = Someone()
    here.submit(someone, "waits")
    assert here.dispatcher.queue_length == 1
    here.cluster_messages.on_node_left(there.name)
    assert (someone.told, link.tokens) == ([], ["waits"])
