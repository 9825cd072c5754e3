"""What becomes of requests while other nodes have yet to tell of their workers."""

import pytest

from service.backplane.memory import World
from service.core.cluster.backplane import NodeObserver, PushObserver
from service.core.dispatch.first_offers import WAIT
from service.core.dispatch.remote_messages import OFFER

from .dispatch_bench import Someone
from .remote_bench import Cable, Deployment, Node

REFUSED = "No available workers"


class Unplugged(Cable):
    """A backplane that has not joined the others yet; `plug_in` has it do so."""

    def attach(self, pushes: PushObserver, nodes: NodeObserver) -> None:
        """Nobody is told of the other, either way."""
        self._pushes, self._nodes = pushes, nodes
        del self._world.nodes[self.node]

    def plug_in(self) -> None:
        """Join."""
        self._world.nodes[self.node] = self
        super().attach(self._pushes, self._nodes)


class LateNode(Node):
    """A node that joins the others when the test says so."""

    cable_class = Unplugged
    cable: Unplugged


def newcomer_to(deployment: Deployment, *, slow: bool = True) -> Node:
    """One node more, to which the answers of the others are on their way."""
    for node in deployment.nodes:
        node.cable.slow = slow
    newcomer = Node(deployment.world, f"n{len(deployment.nodes) + 1}")
    deployment.nodes.append(newcomer)
    return newcomer


def test_a_request_waits_until_the_others_have_told_of_their_workers() -> None:
    all_of_us = Deployment(2)
    there = all_of_us.nodes[1]
    worker, link = there.worker("w")
    all_of_us.settle()
    newcomer = newcomer_to(all_of_us)
    someone = Someone()
    newcomer.submit(someone, "a")
    assert (someone.told, newcomer.dispatcher.queue_length) == ([], 1)
    there.cable.deliver(newcomer.name)
    (request,) = link.sent
    there.cable.slow = False
    there.done(worker, request)
    assert someone.told == [("a", '"done"')]


def test_what_nobody_serves_is_refused_as_soon_as_all_have_told() -> None:
    all_of_us = Deployment(3)
    for node in all_of_us.nodes[:2]:
        node.worker(f"w of {node.name}", ["sum"])
    all_of_us.settle()
    newcomer = newcomer_to(all_of_us)
    someone = Someone()
    newcomer.submit(someone, "a")
    for number, node in enumerate(all_of_us.nodes[:3]):
        assert someone.told == [], f"n{number + 1} has not told"
        node.cable.deliver(newcomer.name)
    assert someone.told == [("a", REFUSED)]
    newcomer.submit(someone, "b")
    assert someone.told == [("a", REFUSED), ("b", REFUSED)], "and later ones at once"


@pytest.mark.shows("what a known worker serves is sent to it; the rest waits for that node", "2 s")
def test_one_that_tells_nothing_holds_up_nothing_else_and_is_waited_for_so_long() -> None:
    all_of_us = Deployment(3)
    hung, there, _ = all_of_us.nodes
    hung.worker("h", ["sum"])
    _, link = there.worker("w", ["echo"])
    all_of_us.settle()
    hung.cable.lose = {OFFER}
    newcomer = newcomer_to(all_of_us, slow=False)
    someone = Someone()
    newcomer.submit(someone, "served")
    assert len(link.sent) == 1
    newcomer.submit(someone, "not served", "sum")
    newcomer.time += WAIT * 0.75
    newcomer.remote.tick()
    assert someone.told == []
    newcomer.time += WAIT * 0.25
    newcomer.remote.tick()
    assert someone.told == [("not served", REFUSED)]
    assert WAIT == 2.0


def test_one_that_goes_is_waited_for_no_longer() -> None:
    all_of_us = Deployment(1)
    (hung,) = all_of_us.nodes
    newcomer = newcomer_to(all_of_us)
    someone = Someone()
    newcomer.submit(someone, "a")
    assert someone.told == []
    hung.dies()
    assert someone.told == [("a", REFUSED)]


def test_what_is_told_in_several_messages_is_awaited_to_the_last() -> None:
    all_of_us = Deployment(1)
    (there,) = all_of_us.nodes
    sets = [[f"{name}-" + name * (3 << 20)] for name in "abcd"]
    links = [there.worker(f"w{number}", commands)[1] for number, commands in enumerate(sets)]
    newcomer = newcomer_to(all_of_us)
    someone = Someone()
    newcomer.submit(someone, "last", sets[3][0])
    newcomer.submit(someone, "nobody's")
    parts = len(there.cable.on_their_way[newcomer.name])
    assert parts > 1
    for _ in range(parts):
        assert someone.told == []
        there.cable.deliver(newcomer.name)
    assert someone.told == [("nobody's", REFUSED)]
    assert len(links[3].sent) == 1


def test_a_worker_that_goes_meanwhile_has_nothing_refused() -> None:
    all_of_us = Deployment(1)
    (there,) = all_of_us.nodes
    _, link = there.worker("w")
    newcomer = newcomer_to(all_of_us)
    own, own_link = newcomer.worker("own", capacity=1)
    someone = Someone()
    newcomer.submit(someone, "sent")
    newcomer.submit(someone, "waits")
    assert len(own_link.sent) == 1
    newcomer.dispatcher.remove_worker(own)
    assert someone.told == []
    while newcomer.name in there.cable.on_their_way:
        there.cable.deliver(newcomer.name)
    assert len(link.sent) == 2


def test_a_node_that_goes_itself_waits_for_nobody() -> None:
    all_of_us = Deployment(1)
    newcomer = newcomer_to(all_of_us)
    someone = Someone()
    newcomer.submit(someone, "a")
    newcomer.dispatcher.drain()
    assert someone.told == [("a", REFUSED)]
    newcomer.submit(someone, "b")
    assert someone.told == [("a", REFUSED), ("b", REFUSED)]


def test_a_node_that_is_alone_refuses_at_once() -> None:
    node = Node(World(now=lambda: 0.0), "n1")
    someone = Someone()
    node.submit(someone, "a")
    assert someone.told == [("a", REFUSED)]


@pytest.mark.parametrize("seconds", [0.0, WAIT * 5])
def test_a_node_that_has_not_joined_waits_so_long_and_again_when_it_has(seconds: float) -> None:
    all_of_us = Deployment(1)
    (there,) = all_of_us.nodes
    _, link = there.worker("w")
    late = LateNode(all_of_us.world, "n2")
    all_of_us.nodes.append(late)
    someone = Someone()
    late.submit(someone, "early")
    late.remote.tick()
    assert someone.told == []
    late.time += seconds
    late.remote.tick()
    assert someone.told == ([("early", REFUSED)] if seconds else [])
    there.cable.slow = True
    late.cable.plug_in()
    late.submit(someone, "joined")
    there.cable.deliver(late.name)
    assert len(link.sent) == (1 if seconds else 2)
    assert late.dispatcher.queue_length == 0


def test_two_that_start_at_the_same_moment_tell_one_another() -> None:
    all_of_us = Deployment(0)
    one, other = (LateNode(all_of_us.world, name) for name in ("n1", "n2"))
    all_of_us.nodes += [one, other]
    one.worker("v")
    other.worker("w")
    for node in (one, other):
        node.cable.slow = True
        node.cable.plug_in()
    for node in (one, other, one, other):
        for name in list(node.cable.on_their_way):
            node.cable.deliver(name)
    assert (one.knows(), other.knows()) == ({"n2": 16}, {"n1": 16})
    someone = Someone()
    one.submit(someone, "a")
    other.submit(someone, "b")
    assert someone.told == []
    assert (one.dispatcher.outstanding, other.dispatcher.outstanding) == (1, 1)
