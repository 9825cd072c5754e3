"""Which node a client is sent to."""

from collections import Counter
from random import Random

from service.core.cluster.backplane import NodeState
from service.core.cluster.node_selection import Listening, NodeSelection, announcement

HERE = Listening(8001, "10.0.0.5", "box-1")


class Nodes:
    """Nodes with these loads; they announce when told to."""

    def __init__(self, **loads: int) -> None:
        self.states = {
            name: announcement(name, "websocket", HERE, public_url=None, draining=False, load=load)
            for name, load in loads.items()
        }
        self.selection = NodeSelection(self.states.values, Random(7))

    def ask(self, times: int) -> Counter[str]:
        """Ask so often; how often each node was named."""
        named: Counter[str] = Counter()
        for _ in range(times):
            found = self.selection.choose()
            assert found is not None
            named[found[0].node] += 1
        return named


def test_a_crowd_that_asks_at_once_is_spread() -> None:
    named = Nodes(a=0, b=0, c=0).ask(3000)
    assert all(abs(count - 1000) < 60 for count in named.values())


def test_the_less_loaded_get_more_until_all_are_equal() -> None:
    named = Nodes(a=900, b=500, c=100).ask(2000)
    # 3,500 connections in all.
    assert all(abs(load + named[name] - 3500 / 3) < 80 for name, load in (("a", 900), ("b", 500), ("c", 100)))


def test_what_is_announced_goes_before_what_was_counted() -> None:
    nodes = Nodes(a=0, b=0)
    nodes.ask(1000)
    # Those that were sent to one of them never came.
    nodes.states["a"] = nodes.states["a"]._replace(load=500)
    nodes.states["b"] = nodes.states["b"]._replace(load=1)
    assert nodes.ask(100) == {"b": 100}


def test_nobody_is_sent_to_one_that_drains_or_went_or_takes_none() -> None:
    nodes = Nodes(a=0, b=100, c=200)
    nodes.states["a"] = nodes.states["a"]._replace(draining=True)
    nodes.states["api"] = announcement("api", "api", None, public_url=None, draining=False, load=0)
    nodes.states["odd"] = NodeState("odd", "websocket", None, False, 0, b"what is this?")
    assert nodes.ask(10) == {"b": 10}
    del nodes.states["b"]
    assert nodes.ask(10) == {"c": 10}
    del nodes.states["c"]
    assert nodes.selection.choose() is None


def test_what_is_remembered_is_about_nodes_that_are_there() -> None:
    nodes = Nodes(a=0)
    for load in range(1000):
        nodes.states["a"] = nodes.states["a"]._replace(load=load)
        nodes.ask(1)
    assert len(nodes.selection._sent) == 1
