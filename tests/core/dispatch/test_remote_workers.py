"""What is known of other nodes' workers: their load, their room, and where keys are at home."""

from collections import Counter

import pytest
from msgspec import Raw

from service.core.dispatch.distance import Distance
from service.core.dispatch.model import GONE, Request, Way
from service.core.dispatch.remote_workers import AHEAD, RemotePlace, RemoteWorker, RemoteWorkers

from .dispatch_bench import Someone


class ThisNode:
    node = "here"


def remote(number: int = 1, commands: frozenset[str] | None = None, capacity: int = 10) -> RemoteWorker:
    worker = RemoteWorker("there", number, GONE, f"w{number}", commands, Way())
    worker.on_offered(capacity, 0, 0.0, False)
    return worker


def give(worker: RemoteWorker, number: int) -> None:
    for _ in range(number):
        name = f"r-{len(worker.requests)}"
        worker.requests[name] = Request(name, Someone(), None, "echo", Raw(b"1"), 1.0, False, None, True, 0.0, 1.0)


def test_what_others_sent_it_leaves_less_and_weighs_as_much_as_one_s_own() -> None:
    worker = remote(capacity=10)
    give(worker, 2)
    assert worker.on_offered(10, 3, 0.5, False)
    assert (worker.capacity, worker.others, worker.statistics.average) == (7, 3, 0.5)
    assert (
        Distance().load_of(worker, worker.way) == 5.5
    )  # of which half a request is that with which loads are compared
    assert not worker.on_offered(10, 3, 0.6, False)
    assert worker.on_offered(10, 3, 0.6, True)


def test_a_full_one_takes_no_more_until_its_node_says_otherwise() -> None:
    worker = remote(capacity=10)
    give(worker, 2)
    worker.on_full()
    assert worker.capacity == 2
    worker.on_offered(10, 0, 0.0, False)
    assert worker.capacity == 10


def test_another_node_takes_so_many_that_wait_and_none_once_its_lines_are_closed() -> None:
    place = RemotePlace("there", GONE)
    place.workers[1] = remote()
    workers = RemoteWorkers()
    workers.places["there"] = place
    assert workers.line_to_wait_in("echo") is None
    place.open_lines()
    assert workers.line_to_wait_in("echo") is place.ahead
    assert (place.ahead.capacity, place.keyed.capacity) == (AHEAD, AHEAD + 10)
    place.close_lines()
    assert workers.line_to_wait_in("echo") is None


@pytest.mark.parametrize("here", [True, False])
def test_keys_are_at_home_at_each_node_that_takes_the_command_about_as_often(here: bool) -> None:
    workers = RemoteWorkers()
    workers.this_node = ThisNode()
    for node, commands, capacity in (("a", None, 1), ("b", frozenset({"echo"}), 5), ("c", frozenset({"sum"}), 5)):
        place = workers.places[node] = RemotePlace(node, GONE)
        place.workers[1] = remote(1, commands, capacity)
    homes: Counter[str] = Counter()
    for number in range(300):
        line = workers.home_of(f"k{number}", "echo", here=here)
        homes["here" if line is None else line.place.node] += 1
    assert set(homes) == ({"a", "b", "here"} if here else {"a", "b"})
    assert min(homes.values()) > 60
    workers.places["b"].workers[1].on_offered(0, 0, 0.0, False)
    moved = {workers.home_of(f"k{number}", "echo", here=False) for number in range(30)}
    assert moved == {workers.places["a"].keyed}
