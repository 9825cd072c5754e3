"""Nodes, workers and callers on one clock: messages between nodes take time, and so does work.

A discrete simulation: what is to happen is kept in a heap by its time. Nothing waits for real, so a run of thousands of
requests takes a second, and comes out the same each time.
"""

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random

from msgspec import Raw

from service.backplane.memory import World
from service.core.dispatch.model import Outcome, Request, Worker

from .remote_bench import Cable, Node

TICK = 0.1


class SlowCable(Cable):
    """A backplane whose messages arrive `latency` seconds later, in their order."""

    simulation: "Simulation"

    def tell(self, node: str, kind: str, body: bytes) -> None:
        """Send a message."""
        receiver = self._world.nodes.get(node)
        if receiver is None or node == self.node:
            return
        self.told.append(kind)
        seconds = self.simulation.latency + max(self.simulation.farther.get(name, 0.0) for name in (self.node, node))
        self.simulation.at(seconds, lambda: receiver._nodes.on_message(self.node, kind, body))

    def tell_all(self, kind: str, body: bytes) -> None:
        """Send a message to all others."""
        for node in list(self._world.nodes):
            self.tell(node, kind, body)


class SimulatedNode(Node):
    """A node whose messages take their time."""

    cable_class = SlowCable


class SimulatedWorker:
    """A worker's program: it takes `seconds` for a request, `at_once` of them at a time (the rest waits in it), and
    answers all with errors if `fails`."""

    def __init__(
        self, simulation: "Simulation", node: SimulatedNode, name: str, seconds: float, at_once: int, fails: bool
    ) -> None:
        self.simulation = simulation
        self.node = node
        self.name = name
        self.seconds = seconds
        self.at_once = at_once
        self.fails = fails
        self.worker: Worker | None = None
        self.working = 0
        self.waiting: list[Request] = []

    def send_request(self, request: Request, deadline_ms: int) -> None:
        """Take a request."""
        self.simulation.spread[self.name] += 1
        self.waiting.append(request)
        self._work()

    def send_cancel(self, request: Request) -> None:
        """Nothing is cancelled."""

    def _work(self) -> None:
        while self.waiting and self.working < self.at_once:
            request = self.waiting.pop(0)
            self.working += 1
            self.simulation.at(self.simulation.varied(self.seconds), lambda request=request: self._answer(request))  # type: ignore[misc]  # a loop's variable

    def _answer(self, request: Request) -> None:
        self.working -= 1
        assert self.worker is not None
        self.node.dispatcher.on_answer(self.worker, request.id, success=not self.fails, result=Raw(b"1"))
        self._work()


class SimulatedCaller:
    """A caller at a node that keeps `in_flight` requests under way until it has made `total`."""

    trusted = False
    party = "somebody"

    def __init__(self, simulation: "Simulation", node: SimulatedNode, in_flight: int, total: int) -> None:
        self.simulation = simulation
        self.node = node
        self.left = total
        self.outcomes: Counter[str] = Counter()
        self.waits: list[float] = []
        for _ in range(min(in_flight, total)):
            self._ask()

    def _ask(self) -> None:
        if not self.left:
            return
        self.left -= 1
        self.node.submit(self, "t", "echo")  # type: ignore[arg-type]  # a Caller like another

    def on_answer(self, request: Request, outcome: Outcome) -> None:
        """Ask again, if there is anything left to ask."""
        self.outcomes[outcome.kind] += 1
        self.waits.append(self.simulation.time - request.submitted_at)
        self.simulation.at(0.0, self._ask)


class Simulation:
    """So many nodes. `latency`: seconds that a message between two takes; `farther`: what one to or from these takes
    besides. `uneven`: work takes between half of its time and half as much again, the same in each run; otherwise
    all goes on in step, and what is measured is the step."""

    def __init__(self, nodes: int, strategy: str = "least_loaded", latency: float = 0.001, **rules: int) -> None:
        self.time = 0.0
        self.latency = latency
        self.farther: dict[str, float] = {}
        self.uneven = False
        self._random = Random(7)
        self.spread: Counter[str] = Counter()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.world = World(now=lambda: 0.0)
        SlowCable.simulation = self
        self.nodes = [
            SimulatedNode(self.world, f"n{number}", strategy=strategy, **rules)  # type: ignore[arg-type]
            for number in range(1, nodes + 1)
        ]
        for number, node in enumerate(self.nodes):
            node.dispatcher._pools._strategy._random = Random(number).random  # type: ignore[attr-defined]  # each its own
            self._tick(node, TICK * (number + 1) / nodes)
        self.run(1.0)

    def varied(self, seconds: float) -> float:
        """The time that work of so many seconds takes this time."""
        return seconds * self._random.uniform(0.5, 1.5) if self.uneven else seconds

    def at(self, seconds: float, happen: Callable[[], None]) -> None:
        """Let something happen so many seconds from now."""
        heappush(self._heap, (self.time + seconds, next(self._order), happen))

    def worker(
        self,
        node: SimulatedNode,
        name: str,
        *,
        seconds: float = 0.02,
        at_once: int = 1000,
        fails: bool = False,
        capacity: int = 16,
        weight: float = 1.0,
    ) -> SimulatedWorker:
        """Connect a worker."""
        link = SimulatedWorker(self, node, name, seconds, at_once, fails)
        link.worker = node.dispatcher.add_worker(link, name, None, capacity, weight)
        return link

    def run(self, seconds: float = 1e9, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, at most so much, or until something holds."""
        end = self.time + seconds
        while self._heap and self._heap[0][0] <= end and not until():
            self.time, _, happen = heappop(self._heap)
            for node in self.nodes:
                node.time = self.time
            happen()
            for node in self.nodes:
                node.defer.run()
        for node in self.nodes:
            assert node.broken == []
        if not until():
            self.time = max(self.time, end if end < 1e9 else self.time)
        for node in self.nodes:
            node.time = self.time

    def ask(self, at: int | None, in_flight: int, total: int) -> list[SimulatedCaller]:
        """Have `total` requests made, at one node, or at all in equal parts; return when all are answered."""
        places = self.nodes if at is None else [self.nodes[at]]
        callers = [
            SimulatedCaller(self, node, max(1, in_flight // len(places)), total // len(places)) for node in places
        ]
        self.run(600.0, lambda: all(len(caller.waits) == total // len(places) for caller in callers))
        return callers

    def _tick(self, node: SimulatedNode, first: float) -> None:
        def tick() -> None:
            node.dispatcher.expire_requests(self.time)
            node.remote.tick()
            self.at(TICK, tick)

        self.at(first, tick)
