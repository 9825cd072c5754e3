"""What a node tells the others of its workers, and how soon."""

import pytest

from service.core.dispatch.remote_capacity import BRIEF, GREET_AFTER, PACE, REPEAT
from service.core.dispatch.remote_messages import OFFER

from .dispatch_bench import Someone
from .remote_bench import Deployment


def test_who_comes_later_learns_what_there_is() -> None:
    all_of_us = Deployment(1)
    all_of_us.nodes[0].worker("w", capacity=3)
    all_of_us.settle()
    assert all_of_us.nodes[0].cable.told == []
    later = Deployment(0)
    later.world = all_of_us.world
    newcomer = type(all_of_us.nodes[0])(all_of_us.world, "n2")
    assert newcomer.knows() == {"n1": 3}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_newcomer_asks_once_and_is_answered_once_by_each(workers: int) -> None:
    all_of_us = Deployment(4)
    for node in all_of_us.nodes[:workers]:
        node.worker(f"w of {node.name}")
    all_of_us.settle()
    told = [len(node.cable.told) for node in all_of_us.nodes]
    newcomer = type(all_of_us.nodes[0])(all_of_us.world, "n5")
    all_of_us.nodes.append(newcomer)
    for _ in range(5):
        all_of_us.passes(GREET_AFTER)
    assert newcomer.cable.told == [OFFER] * 4, "one message to all, which is counted for each here"
    assert [len(node.cable.told) - before for node, before in zip(all_of_us.nodes, told, strict=False)] == [1] * 4
    assert newcomer.knows() == {f"n{number + 1}": 16 for number in range(workers)}


def test_what_a_newcomer_did_not_get_is_told_again_though_nothing_changes() -> None:
    all_of_us = Deployment(1)
    (here,) = all_of_us.nodes
    here.worker("w")
    here.cable.lose = {OFFER}
    newcomer = type(here)(all_of_us.world, "n2")
    all_of_us.nodes.append(newcomer)
    here.cable.lose = set()
    assert newcomer.knows() == {}
    all_of_us.passes(REPEAT)
    assert newcomer.knows() == {"n1": 16}


@pytest.mark.shows("its workers and the others' are known on both sides", "0.2 s after it is seen again")
def test_who_took_another_for_dead_that_knows_nothing_of_it_asks_it_and_tells_it() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    here.worker("v", capacity=2)
    there.worker("w", capacity=3)
    all_of_us.settle()
    here.cluster_messages.on_node_left("n2")
    here.cable.cut_off("for a moment")  # so that nothing is told otherwise
    here.cluster_messages.on_nodes_changed()
    here.cable.cut_off(None)
    assert here.knows() == {}
    told = len(here.cable.told), len(there.cable.told)
    all_of_us.passes(GREET_AFTER)
    assert (here.knows(), there.knows()) == ({"n2": 3}, {"n1": 2})
    assert (len(here.cable.told), len(there.cable.told)) == (told[0] + 1, told[1] + 1)


def test_a_node_of_a_name_that_was_there_a_moment_ago_is_greeted_like_any() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    here.worker("v")
    all_of_us.settle()
    # Its goodbye was lost: the new one of its name is seen first.
    here.cluster_messages.on_node_left("n2")
    there.cluster_messages.on_node_left("n1")  # it is new, and knows nobody
    here.cluster_messages.on_nodes_changed()
    assert there.knows() == {}
    all_of_us.passes(GREET_AFTER)
    assert there.knows() == {"n1": 16}


def test_alone_nothing_is_told_and_with_others_no_request_of_one_s_own_is() -> None:
    all_of_us = Deployment(2)
    here, _ = all_of_us.nodes
    worker, link = here.worker("w", capacity=10)
    all_of_us.settle()
    told = len(here.cable.told)
    for number in range(5):
        here.submit(Someone(), str(number))
        here.done(worker, link.sent[-1])
    all_of_us.settle()
    assert len(here.cable.told) == told
    for _ in range(30):
        all_of_us.passes(0.1)
    assert len(here.cable.told) == told + 1


def test_what_matters_to_others_is_told_in_the_same_pass_and_once() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w", capacity=1)
    there.worker("v", capacity=1)
    all_of_us.run()
    # Once as it joined, to ask; then for each of the workers.
    assert (here.knows(), there.cable.told) == ({"n2": 2}, [OFFER] * 3)
    there.time += BRIEF
    for number in range(2):
        there.submit(Someone(), str(number))
    all_of_us.run()
    assert (here.knows(), there.cable.told) == ({"n2": 0}, [OFFER] * 4)
    there.time += BRIEF
    there.done(worker, link.sent[0])
    all_of_us.run()
    assert (here.knows(), there.cable.told) == ({"n2": 1}, [OFFER] * 5)


def test_how_much_there_is_to_do_is_told_every_so_often_while_it_changes() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    _, link = there.worker("w", capacity=100)
    all_of_us.settle()
    told = len(there.cable.told)
    for _ in range(40):
        there.time += PACE / 4
        there.submit(Someone(), "t")
        all_of_us.run()
    assert 5 <= len(there.cable.told) - told <= 12
    assert 60 <= here.knows()["n2"] <= 66
    assert len(link.sent) == 40


def test_a_request_that_came_back_is_not_sent_there_again_until_there_is_room() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    here.worker("own", capacity=0)
    worker, link = there.worker("w", capacity=1)
    all_of_us.settle()
    there.submit(Someone(), "theirs")  # which has not been told yet
    here.submit(Someone(), "ours")
    assert here.dispatcher.queue_length == 1
    assert here.cable.told.count("attempt") == 1
    all_of_us.settle()
    assert here.cable.told.count("attempt") == 1
    there.done(worker, link.sent[0])
    all_of_us.run()
    assert len(link.sent) == 2, "it was told in the same pass: somebody waits for it"


def test_changed_commands_and_weights_are_told_and_hold() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("w", ["sum"])
    all_of_us.settle()
    there.time += BRIEF
    there.dispatcher.change_worker(worker, commands=["echo"], weight=4.0)
    all_of_us.settle()
    someone = Someone()
    here.submit(someone, "a")
    here.submit(someone, "b", "sum")
    assert len(link.sent) == 1
    assert someone.told == [("b", "No available workers")]
    assert [(w.client_id, w.weight) for w in here.dispatcher.remote] == [("w", 4.0)]


def test_what_was_lost_is_told_again() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    there.worker("w", ["echo"])
    all_of_us.settle()
    there.cable.lose = {OFFER}
    there.worker("v", ["sum"])
    all_of_us.settle()
    assert here.knows() == {"n2": 16}
    there.cable.lose = set()
    all_of_us.passes(REPEAT)
    assert here.knows() == {"n2": 32}


def test_workers_that_are_too_much_for_one_message_are_told_all_the_same() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    sets = [[f"{name}-" + name * (3 << 20)] for name in "abcd"]
    workers = [there.worker(f"w{number}", commands) for number, commands in enumerate(sets)]
    all_of_us.settle()
    for _ in range(6):  # longer than a node may be silent
        all_of_us.passes(REPEAT)
    assert here.knows() == {"n2": 64}
    newcomer = type(here)(all_of_us.world, "n3")
    all_of_us.nodes.append(newcomer)
    all_of_us.settle()
    assert newcomer.knows() == {"n2": 64}
    someone = Someone()
    newcomer.submit(someone, "r", sets[3][0])
    all_of_us.settle()
    worker, link = workers[3]
    there.done(worker, link.sent[-1])
    all_of_us.settle()
    assert newcomer.is_empty()
    # One that goes is forgotten, though it was told in another message than the first.
    there.dispatcher.remove_worker(worker)
    all_of_us.passes(REPEAT)
    assert here.knows() == newcomer.knows() == {"n2": 48}
