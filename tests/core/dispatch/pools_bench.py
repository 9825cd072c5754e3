"""Workers in pools, which are given work and give it back as dispatch would do it."""

from collections.abc import Iterable
from random import Random

from msgspec import Raw

from service.core.dispatch.model import GONE, Request, Statistics, Worker
from service.core.dispatch.pools import STRATEGIES, Pools

ALL = sorted(STRATEGIES)


def worker(
    name: str, commands: Iterable[str] | None = None, capacity: int = 16, weight: float = 1.0, average: float = 0.0
) -> Worker:
    made = Worker(GONE, name, None if commands is None else frozenset(commands), capacity, weight, Statistics())
    made.statistics.average = average
    return made


def pools_of(strategy: str, *workers: Worker) -> Pools:
    pools = STRATEGIES[strategy](Random(7))
    for one in workers:
        pools.add_worker(one)
    return pools


class _Nobody:
    trusted = False
    party = "somebody"

    def on_answer(self, request: Request, outcome: object) -> None:
        raise AssertionError


def give(pools: Pools, to: Worker, number: int = 1) -> None:
    """`to` gets work, as far as the pools can see."""
    for _ in range(number):
        name = f"{to.client_id}-{to.turn}-{len(to.requests)}"
        to.requests[name] = REQUEST
        pools.on_worker_changed(to)


def take(pools: Pools, of: Worker) -> None:
    """`of` answers one."""
    of.requests.popitem()
    pools.on_worker_changed(of)


def _request() -> Request:
    return Request("r", _Nobody(), None, "c", Raw(b"null"), 1.0, False, None, True, 0.0, 1.0)


REQUEST = _request()
