"""The strategies, over the pools that offers them the workers with room."""

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

import pytest
from msgspec import Raw

from service.core.dispatch.balancing import PASSES
from service.core.dispatch.model import GONE, WINDOW, Request, Statistics, Worker
from service.core.dispatch.pools import STRATEGIES, Pools

ALL = sorted(STRATEGIES)
EVEN = ["least_loaded", "round_robin"]


def worker(
    name: str, commands: Iterable[str] | None = None, capacity: int = 16, weight: float = 1.0, average: float = 0.0
) -> Worker:
    made = Worker(GONE, name, None if commands is None else frozenset(commands), capacity, weight, Statistics())
    made.statistics.average = average
    return made


def roster_of(strategy: str, *workers: Worker) -> Pools:
    pools = STRATEGIES[strategy](Random(7))
    for one in workers:
        pools.add(one)
    return pools


class _Nobody:
    def answer(self, request: Request, outcome: object) -> None:
        raise AssertionError


def give(pools: Pools, to: Worker, number: int = 1) -> None:
    """`to` gets work, as far as the pools can see."""
    for _ in range(number):
        name = f"{to.client_id}-{to.turn}-{len(to.requests)}"
        to.requests[name] = REQUEST
        pools.refresh(to)


def take(pools: Pools, of: Worker) -> None:
    """`of` answers one."""
    of.requests.popitem()
    pools.refresh(of)


def _request() -> Request:
    return Request("r", _Nobody(), None, "c", Raw(b"null"), 1.0, False, None, True, 0.0)


REQUEST = _request()


def sequence(
    pools: Pools, command: str, calls: int, seconds: Callable[[Worker], float] = lambda _: 0.001
) -> Counter[str]:
    """Calls one after the other, each answered before the next."""
    spread: Counter[str] = Counter()
    for number in range(calls):
        chosen = pools.pick(command)
        assert chosen is not None
        give(pools, chosen)
        chosen.statistics.record(float(number), seconds(chosen), False)
        take(pools, chosen)
        spread[chosen.client_id or ""] += 1
    return spread


# What holds for every strategy


@pytest.mark.parametrize("strategy", ALL)
def test_nobody_serves_it(strategy: str) -> None:
    pools = roster_of(strategy, worker("a", ["sum"]))
    assert not pools.serves("echo")
    assert pools.pick("echo") is None
    assert pools.serves("sum")


@pytest.mark.parametrize("strategy", ALL)
def test_only_workers_that_serve_the_command_are_chosen(strategy: str) -> None:
    pools = roster_of(strategy, worker("sums", ["sum"]), worker("all"), worker("both", ["sum", "echo"]))
    chosen = {one.client_id for _ in range(200) if (one := pools.pick("echo"))}
    assert chosen <= {"all", "both"}
    chosen = {one.client_id for _ in range(20) if (one := pools.pick("unheard of"))}
    assert chosen == {"all"}


@pytest.mark.parametrize("strategy", ALL)
def test_full_workers_are_not_chosen_until_they_have_room_again(strategy: str) -> None:
    small, large = worker("small", capacity=1), worker("large", ["echo"], capacity=2)
    pools = roster_of(strategy, small, large)
    give(pools, small)
    assert {pools.pick("echo") for _ in range(20)} == {large}
    give(pools, large, 2)
    assert pools.pick("echo") is None
    assert pools.serves("echo")
    take(pools, small)
    assert {pools.pick("echo") for _ in range(20)} == {small}


@pytest.mark.parametrize("strategy", ALL)
def test_capacity_zero_serves_but_is_never_chosen(strategy: str) -> None:
    pools = roster_of(strategy, worker("tired", capacity=0))
    assert pools.serves("echo")
    assert pools.pick("echo") is None


@pytest.mark.parametrize("strategy", ALL)
def test_who_has_left_is_not_chosen_and_leaves_nothing_behind(strategy: str) -> None:
    some, every = worker("some", ["echo", "sum"]), worker("every")
    pools = roster_of(strategy, some, every)
    pools.remove(every)
    assert {pools.pick("echo") for _ in range(20)} == {some}
    assert not pools.serves("other")
    pools.remove(some)
    assert not pools.serves("echo")
    assert pools.pick("echo") is None
    pools.add(every)
    assert pools.pick("echo") is every
    pools.remove(every)
    for table in ("_groups", "_by_command", "_for_all"):
        assert not getattr(pools, table)


@pytest.mark.parametrize("strategy", ALL)
def test_avoiding_prefers_others_but_takes_what_there_is(strategy: str) -> None:
    a, b = worker("a"), worker("b", ["echo"])
    pools = roster_of(strategy, a, b)
    assert {pools.pick_avoiding("echo", [a]) for _ in range(20)} == {b}
    assert pools.pick_avoiding("echo", [a, b]) in (a, b)
    assert {pools.pick("echo") for _ in range(200)} >= {a}
    give(pools, b, 16)
    assert pools.pick_avoiding("echo", [a]) is a
    assert pools.pick_avoiding("echo", [b]) is a


@pytest.mark.parametrize("groups", [[None, None, None], [["echo"], ["echo", "b"], None]])
@pytest.mark.parametrize("strategy", ALL)
def test_idle_workers_share_sequential_calls_evenly(strategy: str, groups: list[list[str] | None]) -> None:
    pools = roster_of(strategy, *(worker(name, group) for name, group in zip("abc", groups, strict=True)))
    noise = Random(3)
    spread = sequence(pools, "echo", 3000, lambda _: 0.2 if noise.random() < 0.05 else noise.uniform(0.0003, 0.015))
    tolerance = 30 if strategy in EVEN else 150
    assert all(abs(number - 1000) <= tolerance for number in spread.values()), spread


@pytest.mark.parametrize("strategy", EVEN)
def test_a_newcomer_gets_its_share_and_no_more(strategy: str) -> None:
    pools = roster_of(strategy, worker("a"), worker("b"))
    sequence(pools, "echo", 1000)
    pools.add(worker("new"))
    spread = sequence(pools, "echo", 300)
    assert all(abs(number - 100) <= 2 for number in spread.values()), spread


# least_loaded


def test_least_loaded_takes_the_smallest_outstanding_by_weight() -> None:
    light, heavy = worker("light", weight=1.0), worker("heavy", weight=4.0)
    pools = roster_of("least_loaded", light, heavy)
    give(pools, light)  # 1 ÷ 1
    give(pools, heavy, 3)  # 3 ÷ 4
    assert pools.pick("echo") is heavy
    give(pools, heavy, 2)  # 5 ÷ 4
    assert pools.pick("echo") is light


def test_least_loaded_follows_the_weights_under_load() -> None:
    workers = [worker("one", weight=1.0, capacity=100), worker("three", ["echo"], weight=3.0, capacity=100)]
    pools = roster_of("least_loaded", *workers)
    for _ in range(80):
        chosen = pools.pick("echo")
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
    pools = roster_of(
        "least_loaded",
        *(
            worker(name, ["echo", name] if apart else None, average=average)
            for name, average in zip("abc", averages, strict=True)
        ),
    )
    chosen = set()
    for _ in range(PASSES):
        one = pools.pick("echo")
        assert one is not None
        give(pools, one)
        take(pools, one)
        chosen.add(one.client_id)
    assert chosen == expected


def test_a_slow_worker_gets_a_turn_now_and_then_and_comes_back_when_it_is_quick() -> None:
    slow = worker("slow", average=2.0)
    pools = roster_of("least_loaded", slow, worker("a"), worker("b"))
    spread = sequence(pools, "echo", 300, lambda one: 2.0 if one is slow else 0.001)
    assert 3 <= spread["slow"] <= 15
    sequence(pools, "echo", 2000)
    spread = sequence(pools, "echo", 300)
    assert abs(spread["slow"] - 100) <= 2


def test_load_counts_before_speed() -> None:
    slow, quick = worker("slow", average=2.0), worker("quick", average=0.001)
    pools = roster_of("least_loaded", slow, quick)
    give(pools, quick)
    assert pools.pick("echo") is slow


@pytest.mark.parametrize("commands", [None, ["echo"]], ids=["one pool", "two pools"])
def test_the_sick_come_last_however_idle(commands: list[str] | None) -> None:
    sick, well = worker("sick"), worker("well", commands, capacity=2)
    pools = roster_of("least_loaded", sick, well)
    sick.sick = True
    pools.refresh(sick)
    give(pools, well)
    assert pools.pick("echo") is well
    give(pools, well)
    assert pools.pick("echo") is sick
    take(pools, well)
    sick.sick = False
    pools.refresh(sick)
    assert pools.pick("echo") is sick


def test_loads_that_nobody_has_any_more_are_forgotten() -> None:
    changing = worker("changing", capacity=10**6)
    pools = roster_of("least_loaded", changing)
    give(pools, changing)
    chance = Random(1)
    for _ in range(5000):
        changing.weight = chance.random() + 0.1
        pools.refresh(changing)
    assert changing.pool is not None
    assert len(changing.pool.well._loads) <= 257  # type: ignore[attr-defined]  # looks inside LoadPool


# round_robin and the random ones


def test_round_robin_goes_round() -> None:
    pools = roster_of("round_robin", worker("a"), worker("b", ["echo"]), worker("c", ["echo"]))
    names = [one.client_id for _ in range(9) if (one := pools.pick("echo"))]
    assert names == ["a", "b", "c"] * 3


def test_random_ignores_weight_and_weighted_random_follows_it() -> None:
    for strategy, share in (("random", 0.5), ("weighted_random", 0.9)):
        for commands in (None, ["echo"]):
            pools = roster_of(strategy, worker("light", weight=1.0), worker("heavy", commands, weight=9.0))
            heavy = sum(one.client_id == "heavy" for _ in range(4000) if (one := pools.pick("echo")))
            assert abs(heavy / 4000 - share) < 0.04, strategy


def test_weighted_random_sees_who_comes_and_goes() -> None:
    a, b, c = worker("a", capacity=1), worker("b"), worker("c")
    pools = roster_of("weighted_random", a, b, c)
    assert {pools.pick("echo") for _ in range(100)} == {a, b, c}
    give(pools, a)
    assert {pools.pick("echo") for _ in range(100)} == {b, c}
    pools.remove(b)
    assert {pools.pick("echo") for _ in range(100)} == {c}
    take(pools, a)
    assert {pools.pick("echo") for _ in range(100)} == {a, c}


# Statistics


@pytest.mark.parametrize(
    ("answers", "errors", "sick"),
    [(4, 4, False), (5, 5, True), (5, 3, True), (6, 3, False), (10, 6, True), (100, 50, False), (0, 0, False)],
)
def test_more_than_half_of_at_least_five_makes_sick(answers: int, errors: int, sick: bool) -> None:
    statistics = Statistics()
    for number in range(answers):
        statistics.record(1000.0, 0.01, number < errors)
    assert statistics.sick(1000.0) is sick
    assert (statistics.answers, statistics.errors) == (answers, errors)


def test_errors_are_forgotten_after_the_window_but_not_long_before() -> None:
    statistics = Statistics()
    for second in range(10):
        statistics.record(1000.0 + second, 0.01, True)
    assert statistics.sick(1000.0 + 0.85 * WINDOW)
    assert not statistics.sick(1010.0 + WINDOW)
    assert statistics.error_share(1010.0 + 100 * WINDOW) == 0.0
    assert statistics.errors == 10


def test_the_window_slides() -> None:
    statistics = Statistics()
    for second in range(0, 1000, 10):
        statistics.record(float(second), 0.01, second < 500)
    assert statistics.error_share(499.0 + WINDOW / 2) < 0.5
    assert statistics.error_share(1000.0) == 0.0


def test_the_average_shrugs_off_one_hiccup_and_believes_many() -> None:
    statistics = Statistics()
    for _ in range(50):
        statistics.record(0.0, 0.001, False)
    statistics.record(0.0, 5.0, False)
    assert statistics.average < 0.005
    for _ in range(60):
        statistics.record(0.0, 0.5, False)
    assert statistics.average == pytest.approx(0.5, rel=0.1)
