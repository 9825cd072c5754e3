"""What the workers of other nodes take, as far as those nodes have told.

A RemoteWorker stands for all workers of one node that serve the same commands. Its capacity is what their node has
free, and what it has of ours already; so whatever is on its way there, or back, counts against it. Knows nothing of
messages and clocks: `remote` keeps this up to date, and `dispatch` picks.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import ClassVar, Final, Protocol

from .model import Statistics, Worker, WorkerLink

AHEAD: Final = 8
"""Requests that may wait at a node, for workers of one set of commands, where there are none of our own: its queue is
fair between its callers and ours, as it would not be if ours came only when its own had left room."""


class RemoteWorker(Worker):
    """The workers of `node` that serve `commands`; `number` is the node's own name for these."""

    remote: ClassVar[bool] = True

    __slots__ = ("ahead", "node", "number", "total")

    def __init__(self, node: str, number: int, link: WorkerLink, commands: frozenset[str] | None) -> None:
        super().__init__(link, None, commands, 0, 1.0, Statistics())
        self.node = node
        self.number = number
        self.ahead = AHEAD
        self.total = 0  # what these workers take, of anybody's

    @property
    def takes_work(self) -> bool:
        """See Worker."""
        return self.total > 0

    @property
    def room(self) -> int:
        """What it takes at once; below 0 where something waits there."""
        return self.capacity - len(self.requests)

    def takes(self, *, wait: bool) -> bool:
        """True if it takes one more: at once, or with `wait`, to let it wait there."""
        return self.room > (-self.ahead if wait else 0)

    def has_none(self) -> None:
        """It takes no more than it has, until its node says otherwise."""
        self.capacity = len(self.requests)
        self.ahead = 0

    def has(self, capacity: int, total: int) -> None:
        """Its node says what it takes of ours in all, and of anybody's."""
        self.capacity = capacity
        self.total = total
        self.ahead = AHEAD


class NamedNode(Protocol):
    """This node (its backplane)."""

    @property
    def node(self) -> str:
        """Its name, which changes if it turns out to be taken: to be asked for each time, never to be kept."""


class RemoteWorkers:
    """The workers of all other nodes. Looking for one takes as long as there are nodes, times sets of commands."""

    __slots__ = ("_by_node", "this_node")

    def __init__(self) -> None:
        self.this_node: NamedNode | None = None
        self._by_node: dict[str, dict[int, RemoteWorker]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_node)

    def __iter__(self) -> Iterator[RemoteWorker]:
        return (worker for workers in self._by_node.values() for worker in workers.values())

    def of(self, node: str) -> dict[int, RemoteWorker]:
        """A node's, by number."""
        return self._by_node.get(node, {})

    def add(self, worker: RemoteWorker) -> None:
        """It is there from now on."""
        self._by_node.setdefault(worker.node, {})[worker.number] = worker

    def remove(self, worker: RemoteWorker) -> None:
        """It is gone. One that isn't there is ignored."""
        workers = self._by_node.get(worker.node)
        if workers is not None and workers.get(worker.number) is worker:
            del workers[worker.number]
            if not workers:
                del self._by_node[worker.node]

    def serves(self, command: str) -> bool:
        """True if any node serves this command, with or without room."""
        return bool(self._by_node) and any(worker.serves(command) for worker in self)

    def serving(self, command: str) -> list[RemoteWorker]:
        """All that serve a command."""
        return [worker for worker in self if worker.serves(command)]

    def pick(self, command: str, *, wait: bool) -> RemoteWorker | None:
        """Of the node with the most room for a command, the one with the most. With `wait`, where no node has room,
        one at which the request may wait."""
        best: RemoteWorker | None = None
        most = 0
        for workers in self._by_node.values():
            with_room = [worker for worker in workers.values() if worker.room > 0 and worker.serves(command)]
            room = sum(map(_room, with_room))
            if room > most:
                best, most = max(with_room, key=_room), room
        if best is None and wait:
            patient = [worker for worker in self if worker.takes(wait=True) and worker.serves(command)]
            best = max(patient, key=_room, default=None)
        return best

    def home(self, key: str, command: str, *, here: bool) -> RemoteWorker | None:
        """Where a key belongs, of all nodes whose workers take this command at all (`here`: this one's do): the same
        on each node, whatever room there is. None: here, or nowhere."""
        nodes = {worker.node for worker in self if worker.total and worker.serves(command)}
        if here:
            assert self.this_node is not None  # there are other nodes
            nodes.add(self.this_node.node)
        home = max(nodes, key=lambda node: _rank(key, node), default="")
        takes = [worker for worker in self.of(home).values() if worker.total and worker.serves(command)]
        return max(takes, key=_room, default=None)


def _rank(key: str, node: str) -> bytes:
    """Rendezvous hashing: a node that comes or goes moves no key but its own."""
    return blake2b(f"{node}\n{key}".encode(), digest_size=8).digest()


def _room(worker: RemoteWorker) -> int:
    return worker.room
