"""Dispatch over nodes is dispatch: a deployment of several nodes chooses workers as one process would."""

from dataclasses import dataclass, field
from functools import cache
from typing import Final

import pytest

from service.core.dispatch.pools import STRATEGIES

from .simulation import SimulatedCaller, Simulation


@cache
def shares(nodes: int, strategy: str, in_flight: int, at_once: int, at: int | None, total: int) -> dict[str, float]:
    """What each of six workers got, two on each of three nodes, or all on one; one has three times the weight. Those
    that take one request at a time are quick, the others take 20 ms for each."""
    simulation = Simulation(nodes, strategy)
    for number in range(6):
        weight = 3.0 if number == 5 else 1.0
        simulation.worker(
            simulation.nodes[number % nodes],
            f"w{number}",
            seconds=0.001 if at_once == 1 else 0.02,
            at_once=at_once,
            weight=weight,
        )
    simulation.run(1.0)
    simulation.ask(at if nodes > 1 else 0, in_flight, total)
    assert sum(simulation.spread.values()) == total
    return {name: number / total for name, number in simulation.spread.items()}


@pytest.mark.parametrize("at_once", [1, 1000], ids=["serial", "concurrent"])
@pytest.mark.parametrize("at", [0, None], ids=["asked at one node", "asked at all"])
@pytest.mark.parametrize("in_flight", [1, 64])
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_distribution_over_three_nodes_is_that_of_one(
    strategy: str, in_flight: int, at: int | None, at_once: int
) -> None:
    total = 3000 if strategy in ("least_loaded", "round_robin") else 6000
    alone = shares(1, strategy, in_flight, at_once, 0, total)  # wherever it is asked: there is one node
    together = shares(3, strategy, in_flight, at_once, at, total)
    for name, share in alone.items():
        assert abs(together[name] - share) <= 0.15 * share, (name, alone, together)


@dataclass(frozen=True)
class Case:
    """A deployment of six workers that take 1, 1, 1, 1, 1 and 3 shares. `at`: the nodes that are asked (none: all);
    `on`: those that have workers, in turn; `farther`: seconds that messages to or from a node take besides."""

    nodes: int = 3
    seconds: float = 0.0005
    at: tuple[int, ...] = ()
    on: tuple[int, ...] = (0, 1, 2)
    farther: dict[str, float] = field(default_factory=dict)

    def shares(self) -> list[float]:
        """What each gets, with 64 requests under way, once it goes its way."""
        simulation = Simulation(self.nodes, latency=0.0035)
        simulation.farther = self.farther
        simulation.uneven = True
        for number in range(6):
            node = simulation.nodes[self.on[number % len(self.on)]]
            weight = 3.0 if number == 5 else 1.0
            simulation.worker(node, f"w{number}", seconds=self.seconds, capacity=64, weight=weight)
        simulation.run(1.0)
        asked = self.at or tuple(range(self.nodes))
        for number, at in enumerate(asked):
            in_flight = len(range(number, 64, len(asked)))
            SimulatedCaller(simulation, simulation.nodes[at], in_flight, 9999)
        simulation.run(until=lambda: simulation.spread.total() >= 1000)
        before = dict(simulation.spread)
        simulation.run(until=lambda: simulation.spread.total() >= 5000)
        return [(simulation.spread[name] - before[name]) / 4000 for name in sorted(before)]


ONE_PROCESS: Final = [0.125] * 5 + [0.375]


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(seconds=0.004),
        Case(seconds=0.020),
        Case(nodes=5, on=(0, 1, 2, 3, 4)),
        Case(nodes=5, on=(0, 1, 2, 3, 4), seconds=0.004),
        Case(nodes=4, at=(3,)),
        Case(nodes=4, at=(3,), seconds=0.004),
        Case(at=(0,)),
        Case(on=(0,)),
        Case(farther={"n3": 0.015}),
        Case(farther={"n3": 0.015}, seconds=0.020),
    ],
    ids=[
        "quick workers",
        "4 ms",
        "20 ms",
        "five nodes",
        "five nodes, 4 ms",
        "asked where no workers are",
        "asked where no workers are, 4 ms",
        "asked at one",
        "workers at one",
        "a node is farther",
        "a node is farther, 20 ms",
    ],
)
def test_weights_hold_however_much_of_the_time_requests_are_on_their_way(case: Case) -> None:
    shares = case.shares()
    off = max(abs(there - here) / here for there, here in zip(shares, ONE_PROCESS, strict=True))
    # With five nodes each knows less of what is under way; the promise is for three.
    assert off <= (0.15 if case.nodes < 5 else 0.18), shares


def test_workers_that_come_and_go_change_nothing_about_the_others_shares() -> None:
    simulation = Simulation(3, latency=0.0035)
    simulation.uneven = True
    for number in range(6):
        simulation.worker(
            simulation.nodes[number % 3], f"w{number}", seconds=0.004, capacity=64, weight=3.0 if number == 5 else 1.0
        )
    simulation.run(1.0)
    callers = [SimulatedCaller(simulation, node, 21, 9999) for node in simulation.nodes]
    for _ in range(10):
        extra = simulation.worker(simulation.nodes[0], "extra", seconds=0.004, capacity=64)
        assert extra.worker is not None
        simulation.run(0.05)
        simulation.nodes[0].dispatcher.remove_worker(extra.worker)
        simulation.run(0.05)
    stays = [simulation.spread[f"w{number}"] for number in range(6)]
    shares = [count / sum(stays) for count in stays]
    assert max(abs(there - here) / here for there, here in zip(shares, ONE_PROCESS, strict=True)) <= 0.12, shares
    assert {outcome for caller in callers for outcome in caller.outcomes} == {"ok"}


def test_a_slow_worker_is_not_sent_what_quick_ones_could_take_though_they_have_answered_much() -> None:
    """Requests that were answered count for as long as one is on its way: not as work that makes quick workers full."""
    alone: list[float] = []
    together: list[float] = []
    for nodes, spread in ((1, alone), (3, together)):
        simulation = Simulation(nodes, latency=0.0035)
        for number in range(6):
            seconds = 0.030 if number > 3 else 0.001
            simulation.worker(simulation.nodes[number % nodes], f"w{number}", seconds=seconds, capacity=64)
        simulation.run(1.0)
        simulation.ask(None, 63, 6300)
        spread.extend(simulation.spread[f"w{number}"] / 6300 for number in range(6))
    assert sum(together[4:]) <= 2 * sum(alone[4:]) + 0.01, (alone, together)
    assert max(together[:4]) <= 1.25 * min(together[:4]), together


def test_two_equal_workers_on_two_nodes_share_what_a_third_is_asked() -> None:
    simulation = Simulation(3)
    for number in (1, 2):
        simulation.worker(simulation.nodes[number], f"w{number}", seconds=0.001)
    simulation.run(1.0)
    simulation.ask(0, 1, 100)
    assert all(abs(number - 50) <= 5 for number in simulation.spread.values()), simulation.spread


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_worker_that_fails_everything_is_not_preferred_for_being_near(strategy: str) -> None:
    simulation = Simulation(2, strategy)
    simulation.worker(simulation.nodes[0], "failing", seconds=0.001, fails=True)
    simulation.worker(simulation.nodes[1], "healthy", seconds=0.001, weight=10.0)
    simulation.run(1.0)
    simulation.ask(0, 1, 300)
    expected = {"least_loaded": 0, "round_robin": 150, "random": 150, "weighted_random": 27}[strategy]
    assert abs(simulation.spread["failing"] - expected) <= 25, simulation.spread


def test_serial_workers_on_three_nodes_are_all_put_to_work_at_once() -> None:
    simulation = Simulation(3)
    for number in range(6):
        simulation.worker(simulation.nodes[number % 3], f"w{number}", seconds=0.1, capacity=1)
    simulation.run(1.0)
    start = simulation.time
    simulation.ask(0, 12, 12)
    assert set(simulation.spread.values()) == {2}
    assert simulation.time - start < 0.21 + 4 * simulation.latency


def test_workers_count_and_not_nodes() -> None:
    simulation = Simulation(2)
    for number in range(5):
        simulation.worker(simulation.nodes[number == 4], f"w{number}", seconds=1.0)
    simulation.run(1.0)
    simulation.ask(0, 48, 48)
    assert sorted(simulation.spread.values()) in ([9, 9, 10, 10, 10], [8, 10, 10, 10, 10])


@pytest.mark.parametrize("local", [False, True])
def test_nothing_waits_behind_a_busy_worker_while_another_is_free(local: bool) -> None:
    """The busy one's node was sent some requests to wait there; they come back when another node has room."""
    simulation = Simulation(3)
    slow = simulation.worker(simulation.nodes[1], "slow", seconds=30.0, at_once=1, capacity=1)
    simulation.run(1.0)
    at = simulation.nodes[0]
    caller = SimulatedCaller(simulation, at, 5, 5)
    simulation.run(0.5)
    assert simulation.spread == {"slow": 1}
    quick = simulation.worker(simulation.nodes[0 if local else 2], "quick", seconds=0.01, capacity=1)
    simulation.run(0.5)
    assert simulation.spread == {"slow": 1, "quick": 4}
    assert len(caller.waits) == 4
    assert slow.worker is not None
    assert quick.worker is not None


def test_room_that_another_waits_for_is_told_at_once() -> None:
    """Two serial workers at another node, kept busy by its own callers half of the time: what they leave is used."""
    simulation = Simulation(2)
    here, there = simulation.nodes
    own = simulation.worker(here, "own", seconds=10.0, capacity=1)
    far = simulation.worker(there, "far", seconds=0.003, capacity=1)
    simulation.run(1.0)
    SimulatedCaller(simulation, there, 1, 1)
    simulation.run(0.0005)
    start = simulation.time
    caller = SimulatedCaller(simulation, here, 2, 2)
    simulation.run(0.5)
    assert len(caller.waits) >= 1
    assert caller.waits[0] < 0.003 + 0.003 + 4 * simulation.latency, (start, caller.waits)
    assert own.worker is not None
    assert far.worker is not None
