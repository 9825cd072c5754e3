"""The strategies, over the pools that offers them the workers with room."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from service.core.dispatch.balancing import PASSES
from service.core.dispatch.model import Worker
from service.core.dispatch.pools import Pools

from .pools_bench import ALL, give, pools_of, take, worker

EVEN = ["least_loaded", "round_robin"]


def sequence(
    pools: Pools, command: str, calls: int, seconds: Callable[[Worker], float] = lambda _: 0.001
) -> Counter[str]:
    """Calls one after the other, each answered before the next."""
    spread: Counter[str] = Counter()
    for number in range(calls):
        chosen = pools.pick_worker(command)
        assert chosen is not None
        give(pools, chosen)
        chosen.statistics.record(float(number), seconds(chosen), False)
        take(pools, chosen)
        spread[chosen.client_id or ""] += 1
    return spread


@pytest.mark.parametrize("groups", [[None, None, None], [["echo"], ["echo", "b"], None]])
@pytest.mark.parametrize("strategy", ALL)
def test_idle_workers_share_sequential_calls_evenly(strategy: str, groups: list[list[str] | None]) -> None:
    pools = pools_of(strategy, *(worker(name, group) for name, group in zip("abc", groups, strict=True)))
    noise = Random(3)
    spread = sequence(pools, "echo", 3000, lambda _: 0.2 if noise.random() < 0.05 else noise.uniform(0.0003, 0.015))
    tolerance = 30 if strategy in EVEN else 150
    assert all(abs(number - 1000) <= tolerance for number in spread.values()), spread


@pytest.mark.parametrize("strategy", EVEN)
def test_a_newcomer_gets_its_share_and_no_more(strategy: str) -> None:
    pools = pools_of(strategy, worker("a"), worker("b"))
    sequence(pools, "echo", 1000)
    pools.add_worker(worker("new"))
    spread = sequence(pools, "echo", 300)
    assert all(abs(number - 100) <= 2 for number in spread.values()), spread


# least_loaded


def test_least_loaded_takes_the_smallest_outstanding_by_weight() -> None:
    light, heavy = worker("light", weight=1.0), worker("heavy", weight=4.0)
    pools = pools_of("least_loaded", light, heavy)
    give(pools, light)  # 1 ÷ 1
    give(pools, heavy, 3)  # 3 ÷ 4
    assert pools.pick_worker("echo") is heavy
    give(pools, heavy, 2)  # 5 ÷ 4
    assert pools.pick_worker("echo") is light


def test_least_loaded_follows_the_weights_under_load() -> None:
    workers = [worker("one", weight=1.0, capacity=100), worker("three", ["echo"], weight=3.0, capacity=100)]
    pools = pools_of("least_loaded", *workers)
    for _ in range(80):
        chosen = pools.pick_worker("echo")
        assert chosen is not None
        give(pools, chosen)
    assert [len(one.requests) for one in workers] == [20, 60]


@pytest.mark.parametrize("apart", [False, True], ids=["one pool", "several pools"])
@pytest.mark.parametrize(
    ("averages", "expected"),
    [
        ((0.5, 0.1, 0.4), {"b"}),
        ((0.5, 0.1, 0.15), {"b", "c"}),  # within a factor of two
        ((0.009, 0.001, 0.002), {"a", "b", "c"}),  # all within 10 ms
        ((0.5, 0.0, 0.5), {"b"}),  # unknown yet: as quick as any
    ],
)
def test_equally_loaded_the_quicker_ones_share(averages: tuple[float, ...], expected: set[str], apart: bool) -> None:
    pools = pools_of(
        "least_loaded",
        *(
            worker(name, ["echo", name] if apart else None, average=average)
            for name, average in zip("abc", averages, strict=True)
        ),
    )
    chosen = set()
    for _ in range(PASSES):
        one = pools.pick_worker("echo")
        assert one is not None
        give(pools, one)
        take(pools, one)
        chosen.add(one.client_id)
    assert chosen == expected


def test_a_slow_worker_gets_a_turn_now_and_then_and_comes_back_when_it_is_quick() -> None:
    slow = worker("slow", average=2.0)
    pools = pools_of("least_loaded", slow, worker("a"), worker("b"))
    spread = sequence(pools, "echo", 300, lambda one: 2.0 if one is slow else 0.001)
    assert 3 <= spread["slow"] <= 15
    sequence(pools, "echo", 2000)
    spread = sequence(pools, "echo", 300)
    assert abs(spread["slow"] - 100) <= 2


def test_load_counts_before_speed() -> None:
    slow, quick = worker("slow", average=2.0), worker("quick", average=0.001)
    pools = pools_of("least_loaded", slow, quick)
    give(pools, quick)
    assert pools.pick_worker("echo") is slow


@pytest.mark.parametrize("commands", [None, ["echo"]], ids=["one pool", "two pools"])
def test_the_sick_come_last_however_idle(commands: list[str] | None) -> None:
    sick, well = worker("sick"), worker("well", commands, capacity=2)
    pools = pools_of("least_loaded", sick, well)
    sick.sick = True
    pools.on_worker_changed(sick)
    give(pools, well)
    assert pools.pick_worker("echo") is well
    give(pools, well)
    assert pools.pick_worker("echo") is sick
    take(pools, well)
    sick.sick = False
    pools.on_worker_changed(sick)
    assert pools.pick_worker("echo") is sick


def test_loads_that_nobody_has_any_more_are_forgotten() -> None:
    changing = worker("changing", capacity=10**6)
    pools = pools_of("least_loaded", changing)
    give(pools, changing)
    chance = Random(1)
    for _ in range(5000):
        changing.weight = chance.random() + 0.1
        pools.on_worker_changed(changing)
    assert changing.pool is not None
    assert len(changing.pool.well._loads) <= 257  # type: ignore[attr-defined]  # looks inside LoadPool


# round_robin and the random ones


def test_round_robin_goes_round() -> None:
    pools = pools_of("round_robin", worker("a"), worker("b", ["echo"]), worker("c", ["echo"]))
    names = [one.client_id for _ in range(9) if (one := pools.pick_worker("echo"))]
    assert names == ["a", "b", "c"] * 3


def test_random_ignores_weight_and_weighted_random_follows_it() -> None:
    for strategy, share in (("random", 0.5), ("weighted_random", 0.9)):
        for commands in (None, ["echo"]):
            pools = pools_of(strategy, worker("light", weight=1.0), worker("heavy", commands, weight=9.0))
            heavy = sum(one.client_id == "heavy" for _ in range(4000) if (one := pools.pick_worker("echo")))
            assert abs(heavy / 4000 - share) < 0.04, strategy


def test_weighted_random_sees_who_comes_and_goes() -> None:
    a, b, c = worker("a", capacity=1), worker("b"), worker("c")
    pools = pools_of("weighted_random", a, b, c)
    assert {pools.pick_worker("echo") for _ in range(100)} == {a, b, c}
    give(pools, a)
    assert {pools.pick_worker("echo") for _ in range(100)} == {b, c}
    pools.remove_worker(b)
    assert {pools.pick_worker("echo") for _ in range(100)} == {c}
    take(pools, a)
    assert {pools.pick_worker("echo") for _ in range(100)} == {a, c}
