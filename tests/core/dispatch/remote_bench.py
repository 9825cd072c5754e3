"""Nodes of one deployment, as far as dispatch goes: each a dispatcher bench with a place in a World of memory."""

from collections import deque
from typing import ClassVar

from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target
from service.backplane.memory import MemoryBackplane, World
from service.core.cluster.backplane import LARGEST_MESSAGE
from service.core.cluster.cluster_messages import ClusterMessages
from service.core.dispatch.model import Request, WorkerLink
from service.core.dispatch.other_nodes import OtherNode
from service.core.dispatch.remote_dispatch import RemoteDispatch
from tests.fakes import FifoDefer, RecordingJournal

from .dispatch_bench import Bench


class Cable(MemoryBackplane):
    """A backplane whose messages can be lost, kept on their way, and cut off; those too large are lost. `told` are the
    kinds, in order; `lose` those that are lost. While `slow`, messages wait in `on_their_way`, by receiver, for
    `deliver`."""

    def __init__(self, world: World, node: str) -> None:
        self.told: list[str] = []
        self.bodies: list[bytes] = []
        self.lose: set[str] = set()
        self.slow = False
        self.on_their_way: dict[str, deque[tuple[str, bytes]]] = {}
        super().__init__(world, node, lambda: f"id-{node}")

    def cut_off(self, trouble: str | None) -> None:
        """Be cut off from the others, or not any more."""
        self.__dict__["trouble"] = trouble

    def tell(self, node: str, kind: str, body: bytes) -> None:
        """Tell, or lose it on the way, or let it take its time."""
        if node == self.node:
            return
        self.told.append(kind)
        self.bodies.append(body)
        if kind in self.lose or self.trouble is not None or len(body) > LARGEST_MESSAGE:
            return
        if self.slow:
            self.on_their_way.setdefault(node, deque()).append((kind, body))
        else:
            super().tell(node, kind, body)

    def deliver(self, node: str) -> None:
        """Let the first message to a node arrive."""
        waiting = self.on_their_way[node]
        kind, body = waiting.popleft()
        if not waiting:
            del self.on_their_way[node]
        receiver = self._world.nodes.get(node)
        if receiver is not None:
            receiver._nodes.on_message(self.node, kind, body)


class OnceOnly(RemoteDispatch):
    """A RemoteDispatch that sees to it that no request is sent from node to node to node."""

    def send_attempt(self, node: OtherNode, request: Request, deadline_ms: int, client_id: str | None) -> None:
        """Check, and send."""
        assert not request.guest
        super().send_attempt(node, request, deadline_ms, client_id)


class Node(Bench):
    """One node. `clients` are those that can be asked here. `born_as`: its name until it learnt that this is taken."""

    cable_class: ClassVar[type[Cable]] = Cable

    def __init__(self, world: World, name: str, *, born_as: str | None = None, **rules: int) -> None:
        super().__init__(**rules)  # type: ignore[arg-type]
        self.name = name
        self.defer = FifoDefer()
        self.clients: dict[str, WorkerLink] = {}
        self.cable = self.cable_class(world, name)
        self.cable.node = born_as or name  # until it has learnt that this name is taken
        self.errors = RecordingJournal()
        self.cluster_messages = ClusterMessages(self.cable, self.errors, now=lambda: self.time, make_id=lambda: "q")
        self.remote = OnceOnly(
            self.dispatcher,
            self.cluster_messages,
            now=lambda: self.time,
            defer=self.defer,
            counters=self.counters,
            process=f"{name} {id(self)}",
        )
        self.remote.guests.client_finder = self
        self.cable.node = name
        self.cable.attach(self, self.cluster_messages)

    @property
    def broken(self) -> list[Exception]:
        """The bugs that came up."""
        return self.errors.broken

    def refusal(self, target: Target) -> PeerFault | None:
        """No pushes here."""
        return None

    def on_push(self, target: Target, event: Event) -> tuple[int, int]:
        """No pushes here."""
        return 0, 0

    def on_gap(self, target: Target, epoch: str, offset: int) -> None:
        """Nor durable ones."""

    def find_client(self, client_id: str) -> WorkerLink | None:
        """See ClientFinder."""
        return self.clients.get(client_id)

    def dies(self) -> None:
        """Its connections end without a word of its own, and the others learn of it."""
        self.cable.cut_off("it is dead")
        self.cable.leave_world()

    def knows(self) -> dict[str, int]:
        """The room that it sees at the others."""
        rooms: dict[str, int] = {}
        for worker in self.dispatcher.remote:
            rooms[worker.node] = rooms.get(worker.node, 0) + worker.capacity - len(worker.requests)
        return rooms

    def is_empty(self) -> bool:
        """Whether nothing is under way, between nodes either."""
        return super().is_empty() and not self.remote.sent and not self.remote.guests


class Deployment:
    """Some nodes, `n1`, `n2`, …, with one clock."""

    def __init__(self, count: int, **rules: int) -> None:
        self.world = World(now=lambda: 0.0)
        self.nodes = [Node(self.world, f"n{number}", born_as=None, **rules) for number in range(1, count + 1)]
        self.settle()

    def settle(self) -> None:
        """Let happen what was deferred, and let every node say what there is to say."""
        self.run()
        for node in self.nodes:
            node.remote.tick()
        self.run()

    def run(self) -> None:
        """Let happen what was deferred."""
        while any(len(node.defer) for node in self.nodes):
            for node in self.nodes:
                node.defer.run()
        for node in self.nodes:
            assert node.broken == []

    def passes(self, seconds: float) -> None:
        """Let time pass, and every node tick."""
        for node in self.nodes:
            node.time += seconds
        for node in self.nodes:
            node.dispatcher.expire_requests(node.time)
        self.settle()

    def is_empty(self) -> bool:
        """Whether nothing is under way anywhere."""
        return all(node.is_empty() for node in self.nodes)
