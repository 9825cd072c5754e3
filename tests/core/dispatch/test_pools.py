"""Who is in the pools: by command, by room, and no longer than it is there. For every strategy."""

import pytest

from .pools_bench import ALL, give, pools_of, take, worker


@pytest.mark.parametrize("strategy", ALL)
def test_nobody_serves_it(strategy: str) -> None:
    pools = pools_of(strategy, worker("a", ["sum"]))
    assert not pools.serves("echo")
    assert pools.pick_worker("echo") is None
    assert pools.serves("sum")


@pytest.mark.parametrize("strategy", ALL)
def test_only_workers_that_serve_the_command_are_chosen(strategy: str) -> None:
    pools = pools_of(strategy, worker("sums", ["sum"]), worker("all"), worker("both", ["sum", "echo"]))
    chosen = {one.client_id for _ in range(200) if (one := pools.pick_worker("echo"))}
    assert chosen <= {"all", "both"}
    chosen = {one.client_id for _ in range(20) if (one := pools.pick_worker("unheard of"))}
    assert chosen == {"all"}


@pytest.mark.parametrize("strategy", ALL)
def test_full_workers_are_not_chosen_until_they_have_room_again(strategy: str) -> None:
    small, large = worker("small", capacity=1), worker("large", ["echo"], capacity=2)
    pools = pools_of(strategy, small, large)
    give(pools, small)
    assert {pools.pick_worker("echo") for _ in range(20)} == {large}
    give(pools, large, 2)
    assert pools.pick_worker("echo") is None
    assert pools.serves("echo")
    take(pools, small)
    assert {pools.pick_worker("echo") for _ in range(20)} == {small}


@pytest.mark.parametrize("strategy", ALL)
def test_capacity_zero_serves_but_is_never_chosen(strategy: str) -> None:
    pools = pools_of(strategy, worker("tired", capacity=0))
    assert pools.serves("echo")
    assert pools.pick_worker("echo") is None


@pytest.mark.parametrize("strategy", ALL)
def test_who_has_left_is_not_chosen_and_leaves_nothing_behind(strategy: str) -> None:
    some, every = worker("some", ["echo", "sum"]), worker("every")
    pools = pools_of(strategy, some, every)
    pools.remove_worker(every)
    assert {pools.pick_worker("echo") for _ in range(20)} == {some}
    assert not pools.serves("other")
    pools.remove_worker(some)
    assert not pools.serves("echo")
    assert pools.pick_worker("echo") is None
    pools.add_worker(every)
    assert pools.pick_worker("echo") is every
    pools.remove_worker(every)
    for table in ("_groups", "_by_command", "_for_all"):
        assert not getattr(pools, table)


@pytest.mark.parametrize("strategy", ALL)
def test_avoiding_prefers_others_but_takes_what_there_is(strategy: str) -> None:
    a, b = worker("a"), worker("b", ["echo"])
    pools = pools_of(strategy, a, b)
    assert {pools.pick_worker_avoiding("echo", [a]) for _ in range(20)} == {b}
    assert pools.pick_worker_avoiding("echo", [a, b]) in (a, b)
    assert {pools.pick_worker("echo") for _ in range(200)} >= {a}
    give(pools, b, 16)
    assert pools.pick_worker_avoiding("echo", [a]) is a
    assert pools.pick_worker_avoiding("echo", [b]) is a
