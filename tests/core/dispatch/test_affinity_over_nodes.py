"""Keys over several nodes: who holds each, and that it stays there as long as its worker lives and takes work."""

import pytest

from service.core.dispatch.model import Worker
from service.core.dispatch.remote_capacity import REPEAT
from service.core.dispatch.remote_dispatch import RETURN_SECONDS, SILENCE
from service.core.dispatch.remote_messages import OFFER

from .dispatch_bench import Link, Someone
from .remote_bench import Deployment, Node

KEYS = [f"k{number}" for number in range(20)]


def arrives(node: Node, name: str) -> tuple[Worker, Link]:
    """As a worker that connects: it is there, and takes nothing yet; then it does."""
    worker, link = node.worker(name, capacity=0)
    node.dispatcher.change_worker(worker, capacity=16)
    return worker, link


def ask_all(node: Node) -> None:
    for key in KEYS:
        node.submit(Someone(), key, affinity=key)


def answer_all(node: Node, worker: Worker) -> None:
    for request in list(worker.requests.values()):
        node.done(worker, request)


def test_a_key_stays_with_its_worker_though_others_come_in_the_same_moment() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    _, link = arrives(there, "v")
    here.submit(Someone(), "1", affinity="k")
    assert len(link.sent) == 1
    _, other = arrives(here, "w")
    for number in range(2, 6):
        here.submit(Someone(), str(number), affinity="k")
    assert (len(link.sent), len(other.sent)) == (5, 0)


def test_a_key_that_waits_while_nobody_takes_work_goes_to_whoever_does_first() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("v", capacity=0)
    all_of_us.settle()
    here.submit(Someone(), "1", affinity="k", idempotent=False)
    assert there.dispatcher.queue_length == 1
    _, other = arrives(here, "w")
    all_of_us.settle()
    assert other.tokens == ["1"], "it would have waited until its time was up, beside an idle worker"
    there.dispatcher.change_worker(worker, capacity=16)
    all_of_us.settle()
    here.submit(Someone(), "2", affinity="k")
    assert (len(link.sent), len(other.sent)) == (0, 2)
    assert not here.remote.sent


def test_what_waits_for_a_node_that_takes_no_more_moves_with_its_key() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("v", capacity=1)
    all_of_us.settle()
    for number in range(30):  # more than may wait at the other node
        here.submit(Someone(), str(number), affinity="k", idempotent=False)
    assert len(link.sent) == 1
    assert here.dispatcher.queue_length > 0
    _, other = here.worker("w", capacity=100)
    all_of_us.settle()
    assert other.sent == []
    there.dispatcher.change_worker(worker, capacity=0)
    all_of_us.passes(0.1)
    assert (len(link.sent), len(other.sent)) == (1, 29)
    there.done(worker, link.sent[0])
    assert here.dispatcher.queue_length == there.dispatcher.queue_length == 0


@pytest.mark.parametrize("how", ["taken for dead", "silent"])
@pytest.mark.parametrize("asked_meanwhile", [True, False])
def test_a_node_that_was_out_of_sight_has_its_keys_again_when_it_is_back(how: str, asked_meanwhile: bool) -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, link = there.worker("v", capacity=100)
    all_of_us.settle()
    ask_all(here)
    answer_all(there, worker)
    own, other = here.worker("w", capacity=100)
    all_of_us.settle()
    there.cable.lose = {OFFER}
    if how == "silent":
        all_of_us.passes(SILENCE)
    else:
        here.cluster_messages.on_node_left("n2")
    if asked_meanwhile:
        ask_all(here)
        answer_all(here, own)
        assert len(other.sent) == len(KEYS), "to whom else"
        here.dispatcher.drop_statistics()
    there.cable.lose = set()
    all_of_us.passes(REPEAT)
    ask_all(here)
    assert len(link.sent) == 2 * len(KEYS)
    assert len(other.sent) == len(KEYS) * asked_meanwhile


def test_a_node_that_was_started_anew_has_none_of_the_keys_that_it_had() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    worker, _ = there.worker("v", capacity=100)
    all_of_us.settle()
    ask_all(here)
    answer_all(there, worker)
    own, other = here.worker("w", capacity=100)
    all_of_us.settle()
    there.dies()
    ask_all(here)
    answer_all(here, own)
    anew = Node(all_of_us.world, "n2")
    anew.time = here.time
    all_of_us.nodes[1] = anew
    _, link = anew.worker("v", capacity=100)
    all_of_us.settle()
    ask_all(here)
    assert (len(link.sent), len(other.sent)) == (0, 2 * len(KEYS)), "they stay where they are now"


def test_the_keys_of_a_node_that_does_not_come_back_are_forgotten() -> None:
    all_of_us = Deployment(2)
    here, there = all_of_us.nodes
    there.worker("v", capacity=100)
    all_of_us.settle()
    ask_all(here)
    there.dies()
    here.dispatcher.drop_statistics()
    assert len(here.dispatcher._affinity) == len(KEYS)
    here.time += RETURN_SECONDS
    here.remote.tick()
    here.dispatcher.drop_statistics()
    assert len(here.dispatcher._affinity) == 0
