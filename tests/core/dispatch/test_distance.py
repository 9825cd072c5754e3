"""How loads of near workers and far ones are compared."""

import pytest
from msgspec import Raw

from service.core.dispatch.distance import Distance
from service.core.dispatch.model import GONE, Mean, Request, Statistics, Way, Worker
from service.core.dispatch.remote_workers import RemoteWorker

from .dispatch_bench import Someone
from .remote_bench import Deployment


def near(weight: float = 1.0) -> Worker:
    return Worker(GONE, "near", None, 10, weight, Statistics())


def far(way: Way) -> RemoteWorker:
    worker = RemoteWorker("there", 1, GONE, "far", None, way)
    worker.on_offered(10, 0, 0.0, False)
    return worker


def give(worker: Worker, number: int) -> None:
    for _ in range(number):
        name = f"r-{len(worker.requests)}"
        worker.requests[name] = Request(name, Someone(), None, "echo", Raw(b"1"), 1.0, False, None, True, 0.0, 1.0)


def measured(seconds: float, work: float) -> tuple[Distance, Way]:
    """One that has seen answers of another node's worker that takes `work` seconds, the way to which takes so many."""
    distance, way = Distance(), Way()
    distance.add_way(way)
    for _ in range(100):
        distance.on_far_answer(far(way), way, seconds + work, work, 0.0)
    return distance, way


def test_a_near_answer_counts_for_as_long_as_one_is_on_its_way_from_another_node() -> None:
    distance, _ = measured(0.008, 0.002)
    worker = near()
    distance.on_near_answer(worker, 0.002, 1.0, own=True)
    distance.before_pick(1.007, alone=False)
    assert (worker.lately, distance.load_of(worker, None)) == (1, 1.5)
    distance.before_pick(1.009, alone=False)
    assert (worker.lately, distance.load_of(worker, None)) == (0, 0.0)


def test_nothing_counts_that_was_answered_while_nothing_else_is_under_way() -> None:
    distance, _ = measured(0.008, 0.002)
    worker = near()
    distance.on_near_answer(worker, 0.002, 1.0, own=True)
    distance.before_pick(1.0, alone=True)
    assert worker.lately == 0


def test_answers_to_other_nodes_and_those_before_any_way_is_known_do_not_count_on() -> None:
    worker = near()
    Distance().on_near_answer(worker, 0.002, 1.0, own=True)
    distance, _ = measured(0.008, 0.002)
    distance.on_near_answer(worker, 0.002, 1.0, own=False)
    assert worker.lately == 0


def test_a_node_that_is_nearer_than_usual_counts_on_for_the_rest_of_the_way() -> None:
    distance, _ = measured(0.040, 0.002)
    nearer = Way()
    distance.add_way(nearer)
    worker = far(nearer)
    distance.on_far_answer(worker, nearer, 0.004, 0.002, 1.0)
    assert worker.lately == 1
    distance.before_pick(1.030, alone=False)
    assert worker.lately == 1
    distance.remove_way(nearer)
    assert worker.lately == 0


@pytest.mark.parametrize(("seconds", "weight"), [(0.002, 1.0), (0.0025, 1.0), (0.050, 4.34), (0.0002, 0.12)])
def test_a_request_weighs_what_it_is_at_the_worker_rather_than_on_its_way(seconds: float, weight: float) -> None:
    distance, _ = measured(0.008, 0.002)
    worker = near()
    worker.work.value = seconds
    give(worker, 2)
    assert distance.load_of(worker, None) == pytest.approx(2.5 * weight, rel=0.01)


def test_at_a_node_that_is_farther_more_are_on_their_way() -> None:
    distance, way = measured(0.008, 0.002)
    worker = far(way)
    worker.work.value = 0.002
    give(worker, 7)
    worker.on_offered(10, 1, 0.0, False)
    assert distance.load_of(worker, way) == 8.5
    farther = Way()
    farther.time.value = 0.018
    assert distance.load_of(worker, farther) == pytest.approx(8.5 / 2)


def test_loads_are_compared_half_a_request_up_and_idle_workers_are_all_alike() -> None:
    distance, _ = measured(0.008, 0.002)
    light, heavy = near(), near(3.0)
    assert distance.load_of(light, None) == distance.load_of(heavy, None) == 0
    give(light, 2)
    give(heavy, 6)
    assert distance.load_of(heavy, None) < distance.load_of(light, None), "2.5, and 6.5 ÷ 3"


def test_a_mean_is_one_of_all_at_first_and_one_hiccup_changes_it_little() -> None:
    mean = Mean()
    for seconds in (0.004, 0.006, 0.005):
        mean.record(seconds)
    assert mean.value == pytest.approx(0.005)
    for _ in range(50):
        mean.record(0.005)
    mean.record(1.5)
    assert mean.value == pytest.approx(0.005 + 0.015 / 50)


def test_alone_again_a_node_compares_what_is_outstanding_by_weight() -> None:
    all_of_us = Deployment(2, strategy="least_loaded")  # type: ignore[arg-type]  # a rule that is no number
    here, there = all_of_us.nodes
    here.worker("near", capacity=10)
    there.worker("far", capacity=10)
    all_of_us.settle()
    pools = here.dispatcher.scheduler.pools
    assert pools.distance is not None
    there.dies()
    all_of_us.settle()
    assert pools.distance is None


def test_strategies_that_compare_no_loads_measure_nothing() -> None:
    all_of_us = Deployment(2, strategy="round_robin")  # type: ignore[arg-type]  # a rule that is no number
    here, there = all_of_us.nodes
    there.worker("far")
    all_of_us.settle()
    assert here.dispatcher.scheduler.pools.distance is None
