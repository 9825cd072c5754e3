"""Dispatch over nodes is dispatch: a deployment of several nodes chooses workers as one process would."""

import pytest

from service.core.dispatch.pools import STRATEGIES

from .simulation import SimulatedCaller, Simulation


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
    total = 3000 if strategy in ("least_loaded", "round_robin") else 12000
    alone = shares(1, strategy, in_flight, at_once, at, total)
    together = shares(3, strategy, in_flight, at_once, at, total)
    for name, share in alone.items():
        assert abs(together[name] - share) <= 0.15 * share, (name, alone, together)


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
