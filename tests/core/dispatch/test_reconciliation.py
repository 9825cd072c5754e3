"""Messages between nodes that are lost with a link: whose request is noticed to be nowhere, and what becomes of it."""

import pytest

from service.core.dispatch.reconciliation import CHECK_EVERY
from service.core.dispatch.remote_messages import ATTEMPT, CHECK, RESULT

from .dispatch_bench import Someone
from .remote_bench import Deployment


@pytest.mark.shows("it is sent to a worker again")
def test_a_request_that_was_lost_on_its_way_is_sent_again() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.cable.lose = {ATTEMPT}
    here.submit(someone, "a")
    assert link.sent == []
    here.cable.lose = set()
    all_of_us.passes(CHECK_EVERY)
    there.done(worker, link.sent[0])
    assert someone.told == [("a", '"done"')]
    assert all_of_us.is_empty()


def test_an_answer_that_was_lost_is_asked_for_again_of_a_worker() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    there.cable.lose = {RESULT}
    there.done(worker, link.sent[0])
    there.cable.lose = set()
    all_of_us.passes(CHECK_EVERY)
    assert link.attempts == [1, 2]
    there.done(worker, link.sent[1])
    assert someone.told == [("a", '"done"')]


@pytest.mark.shows("it is answered `Worker lost`, and given to no worker twice")
@pytest.mark.parametrize("lost", [ATTEMPT, RESULT])
def test_what_may_not_be_done_twice_is_lost_with_its_message(lost: str) -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.cable.lose = there.cable.lose = {lost}
    here.submit(someone, "a", idempotent=False)
    for request in link.sent:
        there.done(worker, request)
    all_of_us.passes(CHECK_EVERY)
    assert someone.told == [("a", "Worker lost")]
    assert len(link.sent) == (lost != ATTEMPT)
    assert all_of_us.is_empty()


@pytest.mark.parametrize("lost", ["check", "gone"])
def test_it_is_asked_about_until_there_is_an_answer(lost: str) -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    _, link = there.worker("w")
    all_of_us.settle()
    here.cable.lose = {ATTEMPT}
    here.submit(Someone(), "a")
    here.cable.lose = there.cable.lose = {lost}
    all_of_us.passes(CHECK_EVERY)
    assert link.sent == []
    here.cable.lose = there.cable.lose = set()
    all_of_us.passes(CHECK_EVERY)
    assert len(link.sent) == 1


def test_what_is_under_way_and_answered_soon_is_not_asked_about() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    for _ in range(3):
        here.submit(someone, "a")
        all_of_us.passes(CHECK_EVERY / 2)
        there.done(worker, link.sent[-1])
    assert CHECK not in here.cable.told


def test_what_takes_its_time_stays_where_it_is() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w")
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    for _ in range(4):
        all_of_us.passes(CHECK_EVERY)
    assert here.cable.told.count(CHECK) == 4
    assert len(link.sent) == 1
    there.done(worker, link.sent[0])
    assert someone.told == [("a", '"done"')]


def test_nothing_is_asked_while_nobody_can_be() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    there.worker("w")
    all_of_us.settle()
    here.submit(Someone(), "a")
    here.cable.cut_off("Redis does not answer")
    all_of_us.passes(CHECK_EVERY)
    assert CHECK not in here.cable.told
    here.cable.cut_off(None)
    all_of_us.passes(0.1)
    assert CHECK in here.cable.told


def test_what_came_back_and_was_sent_again_is_not_taken_for_lost() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w", capacity=1)
    all_of_us.settle()
    there.submit(Someone(), "theirs")  # so there is no room, which has not been told yet
    here.cable.slow = there.cable.slow = True
    someone = Someone()
    here.submit(someone, "a", idempotent=False, timeout=100.0)
    here.time += CHECK_EVERY
    here.remote.tick()
    for _ in range(2):
        here.cable.deliver("n2")  # the attempt, which comes back, and the question about it
    while there.cable.on_their_way:
        there.cable.deliver("n1")  # it came back, it is sent again to wait there; the first one isn't there
    assert someone.told == []
    while here.cable.on_their_way:
        here.cable.deliver("n2")
    there.done(worker, link.sent[0])
    there.done(worker, link.sent[1])
    while there.cable.on_their_way:
        there.cable.deliver("n1")
    assert someone.told == [("a", '"done"')]
