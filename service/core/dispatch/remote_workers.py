"""Workers of other nodes, as far as those nodes have told of them.

A RemoteWorker stands for one worker of another node. It is in the same pools as the workers of this node, so
strategies, weights, response times and health hold over all nodes alike. What is known of it is as old as its node's
last offer (`remote_capacity` says how old that is); what this node has sent it since counts at once. A RemoteLine
stands for another node as a whole: requests go there whose key is at home there, or that wait there for room.

Knows nothing of messages and clocks: `remote_dispatch` keeps all this up to date, and `scheduler` places by it.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import ClassVar, Final, Protocol

from .distance import Distance
from .model import Statistics, Way, Worker, WorkerLink

AHEAD: Final = 8
"""Requests that may wait at another node for commands which no worker here serves. The queue there is fair between its
own callers and ours, as it would not be if ours came only when its own had left room."""


class RemoteWorker(Worker):
    """A worker of `node`, to which `way` leads, and which calls it by `number`. `capacity` is what it takes of this
    node's requests: what other nodes' requests leave of its own."""

    remote: ClassVar[bool] = True

    __slots__ = ("node", "number", "way")

    def __init__(
        self,
        node: str,
        number: int,
        link: WorkerLink,
        client_id: str | None,
        commands: frozenset[str] | None,
        way: Way,
    ) -> None:
        super().__init__(link, client_id, commands, 0, 1.0, Statistics())
        self.node = node
        self.number = number
        self.way = way

    def on_offered(self, capacity: int, others: int, average: float, sick: bool) -> bool:
        """Its node told how it is doing; `others`: how many requests it has that are not this node's. Returns whether
        that is something else than before."""
        changed = (self.full_capacity, self.others, self.sick) != (capacity, others, sick)
        self.full_capacity = capacity
        self.others = others
        self.capacity = capacity - others
        self.statistics.average = average
        self.sick = sick
        return changed

    def on_full(self) -> None:
        """It takes no more than it has, until its node says otherwise."""
        self.others = max(self.others, self.full_capacity - len(self.requests))
        self.capacity = len(self.requests)


class RemoteLine(Worker):
    """Another node as a whole: what is sent there for any of its workers. `capacity`: at most so many at a time."""

    remote: ClassVar[bool] = True

    __slots__ = ("away_since", "place")

    def __init__(self, place: "RemotePlace", link: WorkerLink) -> None:
        super().__init__(link, None, None, 0, 1.0, Statistics())
        self.place = place
        self.away_since: float | None = None  # while its node is out of sight and may come back

    @property
    def may_return(self) -> bool:
        """See Worker."""
        return self.away_since is not None

    @property
    def takes_work(self) -> bool:
        """See Worker."""
        return any(worker.takes_work for worker in self.place.workers.values())

    def serves(self, command: str) -> bool:
        """See Worker."""
        return any(worker.serves(command) for worker in self.place.workers.values())

    def takes(self, command: str) -> bool:
        """See Worker."""
        return any(worker.takes(command) for worker in self.place.workers.values())

    @property
    def has_room(self) -> bool:
        """True if it takes one more."""
        return len(self.requests) < self.capacity


class RemotePlace:
    """What one other node has to offer: its workers by number, the line of requests whose keys are at home there, and
    the line of those that wait there because no worker of this node serves them. `process`: the other end's own name,
    another one after each start ("": it doesn't say). `way`: how far it is."""

    __slots__ = ("ahead", "keyed", "node", "process", "way", "workers")

    def __init__(self, node: str, link: WorkerLink, process: str = "") -> None:
        self.node = node
        self.process = process
        self.way = Way()
        self.workers: dict[int, RemoteWorker] = {}
        self.keyed = RemoteLine(self, link)
        self.ahead = RemoteLine(self, link)

    def take_back(self, keyed: RemoteLine) -> None:
        """The process that this line led to was out of sight, and is this one: keys are bound to the line still."""
        keyed.alive = True
        keyed.away_since = None
        keyed.link = self.keyed.link
        keyed.place = self
        self.keyed = keyed

    def open_lines(self) -> None:
        """The node has told what there is: requests may be sent to it as a whole."""
        self.ahead.capacity = AHEAD
        self.keyed.capacity = AHEAD + sum(worker.full_capacity for worker in self.workers.values())

    def close_lines(self) -> None:
        """Send nothing to the node as a whole, until it tells what there is."""
        self.ahead.capacity = self.keyed.capacity = 0


class NamedNode(Protocol):
    """This node (its backplane)."""

    @property
    def node(self) -> str:
        """Its name, which changes if it turns out to be taken: to be asked for each time, never to be kept."""


class RemoteWorkers:
    """The workers of all other nodes."""

    __slots__ = ("_away", "distance", "places", "this_node")

    def __init__(self) -> None:
        self.places: Final[dict[str, RemotePlace]] = {}  # by the names of nodes
        self._away: dict[str, RemoteLine] = {}  # by process
        self.this_node: NamedNode | None = None
        self.distance: Final = Distance()

    def __bool__(self) -> bool:
        return bool(self.places)

    def __iter__(self) -> Iterator[RemoteWorker]:
        return (worker for place in self.places.values() for worker in place.workers.values())

    def keep_for_return(self, place: RemotePlace, now: float) -> None:
        """A node is out of sight. Should its process come back, keys are bound to the same line."""
        if place.process:
            place.keyed.away_since = now
            self._away[place.process] = place.keyed

    def take_returned(self, process: str) -> RemoteLine | None:
        """The line of a process that was out of sight and is there again; None if it was not."""
        return self._away.pop(process, None)

    def forget_away(self, since: float) -> None:
        """Who has been out of sight since then does not come back."""
        for process, line in list(self._away.items()):
            if line.away_since is None or line.away_since <= since:
                line.away_since = None
                del self._away[process]

    def line_to_wait_in(self, command: str) -> RemoteLine | None:
        """The node at which a request may wait: of those that serve its command the one with the fewest that wait."""
        lines = [place.ahead for place in self.places.values() if place.ahead.has_room and place.ahead.serves(command)]
        return min(lines, key=_length, default=None)

    def home_of(self, key: str, command: str, *, here: bool) -> RemoteLine | None:
        """The node at which a key is at home, of all nodes whose workers take this command (`here`: those of this node
        do): the same whichever node asks. None: this one, or none."""
        nodes = [place.node for place in self.places.values() if place.keyed.takes(command)]
        if here:
            assert self.this_node is not None  # there are other nodes, and so there is a name
            nodes.append(self.this_node.node)
        home = max(nodes, key=lambda node: _rank(key, node), default="")
        place = self.places.get(home)
        return None if place is None else place.keyed


def _rank(key: str, node: str) -> bytes:
    """Rendezvous hashing: a node that comes or goes moves no key but its own."""
    return blake2b(f"{node}\n{key}".encode(), digest_size=8).digest()


def _length(line: RemoteLine) -> int:
    return len(line.requests)
