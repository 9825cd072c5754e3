"""Backplane: what joins the nodes of a deployment, as a port of the core's; one node alone has one too, in memory.

Three things go through it: pushes, to the nodes that have connections for them; the history of durable events, from
which clients resume; and messages between nodes.
Implementations live in `service/backplane`: `memory` for one process, `redis` for several. One contract suite
(`tests/backplane/contract.py`) runs over both.

Nothing here waits or raises. What takes a round trip is answered by a Reply, maybe before the method has returned (in
memory it always is). What is asked of a backplane that is out of reach is refused with a PeerFault `unavailable`
within PATIENCE seconds, and then nothing was done, or may have been done once: asking again with the same id is safe.

What it promises to a node:
- Pushes for one target from one publisher arrive in the order in which they were published; live ones at most once.
- Events of one stream arrive in the order of their offsets, each once, with none left out; where that cannot be kept
  (the history is gone), the node is told by `PushObserver.on_gap`.
- Offsets of a stream only grow, but not by one. They are never used again, whatever happens to the store.
- A node that has joined a target (its Reply was given) gets every push to it that is accepted from then on, while the
  backplane is in reach.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target

from ..reply import Reply

LARGEST_MESSAGE: Final = (8 << 20) - 1024
"""Bytes that the body of a message between nodes may have. Callers check the size: larger ones are not sent."""
HISTORY_BYTES: Final = 128 << 20
"""Bytes of durable events in a process's memory, unless another bound is set."""
PATIENCE: Final = 2.0
"""Seconds that something waits for a backplane that is out of reach, before it is refused."""


class Publication(NamedTuple):
    """A push to be published. `id`: the publisher's own, delivered once in 5 minutes (None: it has none);
    `durable`: kept in the history of the target's stream, `ttl` seconds of it at most (None: as long as the
    history keeps anything). After that time it is over: who comes back then doesn't get it, and has lost nothing."""

    target: Target
    event: Event
    id: str | None = None
    durable: bool = False
    ttl: float | None = None


class Published(NamedTuple):
    """What became of a publication, over all nodes: `matched` connections belong to the target, `queued` of them were
    handed the event, or stand in line for it; `stream` and `offset` are set for durable events only. `repeated`: the
    id was known, and this is what came of it then."""

    id: str
    stream: str | None
    offset: int | None
    matched: int
    queued: int
    repeated: bool = False


class StreamPositions(NamedTuple):
    """Where a client left off: of each stream, the offset of the last event that it has."""

    epoch: str
    offsets: Mapping[str, int]


class Joined(NamedTuple):
    """The answer to a join: the node gets the pushes of some targets from now on.

    `offsets`: where each of their streams is now, in the epoch `epoch`. `missed`: by stream, the events that a resuming
    client has not had, in the order of offsets and up to `offsets`. `lost`: the streams that the client named and of
    which something is gone, or may be; nothing of these is in `missed`. A stream in which a gap was told while the join
    waited is `lost` too. `recovered` is False if something is lost, or if the backplane is out of reach: then the
    targets are joined as soon as it is back, and `offsets` may be empty. `ahead`: streams of which the client has had
    more by another node than this node has read, and up to which offset: those events are not to be sent to it again.
    """

    epoch: str
    offsets: Mapping[str, int]
    missed: Mapping[str, list[Event]]
    lost: Collection[str]
    recovered: bool
    ahead: Mapping[str, int] = MappingProxyType({})


class PushObserver(Protocol):
    """Who delivers a node's pushes to the connections here. No call may wait or raise."""

    def refusal(self, target: Target) -> PeerFault | None:
        """Why this node takes no push for this target now, or None. Asked where a push enters the deployment."""

    def on_push(self, target: Target, event: Event) -> tuple[int, int]:
        """Deliver a push that was accepted. Returns how many connections matched, and how many were handed it."""

    def on_gap(self, target: Target, epoch: str, offset: int) -> None:
        """Events of this target's stream may have been missed and cannot be read again: its connections are told, and
        go on after `offset`."""


class NodeObserver(Protocol):
    """Who is told of the other nodes. No call may wait or raise."""

    def on_message(self, sender: str, kind: str, body: bytes) -> None:
        """A message of another node's (never one's own)."""

    def on_node_left(self, node: str) -> None:
        """A node is gone: its lease ran out, or it said goodbye. Once for each that was seen."""

    def on_nodes_changed(self) -> None:
        """`nodes()` gives something else than before."""

    def on_joined(self) -> None:
        """This node hears the others from now on, and `nodes()` gives all of them. Told at its start, and whenever it
        may have missed something that they said; maybe twice for one such time."""


class NodeState(NamedTuple):
    """A node as the others see it. `role` is `combined`, `api` or `websocket`; `websocket_url` where clients connect
    to it (None: it takes none, or at the address of the question); `load` its connections; `about`, anything else
    that it tells of itself, as JSON."""

    node: str
    role: str
    websocket_url: str | None
    draining: bool
    load: int
    about: bytes


class Backplane(Protocol):
    """What joins this node to the others. See the module for what all of it promises."""

    @property
    def node(self) -> str:
        """This node's name; no other node that lives has it."""

    @property
    def epoch(self) -> str:
        """Changes when the history was lost as a whole; offsets of another epoch mean nothing."""

    @property
    def trouble(self) -> str | None:
        """Why this node is cut off from the others (a sentence), or None. A node in trouble is not ready."""

    def attach(self, pushes: PushObserver, nodes: NodeObserver) -> None:
        """Say who is told; once, before anything else."""

    # Pushes and history

    def publish(self, publication: Publication, reply: Reply[Published | PeerFault]) -> None:
        """Push to all nodes, unless this one refuses it. Answered
        when the nodes that have connections for it have answered, within PATIENCE."""

    def join(self, targets: Collection[Target], resume: StreamPositions | None, reply: Reply[Joined]) -> None:
        """One more connection here belongs to these targets, from now until as many `leave`s."""

    def leave(self, targets: Collection[Target]) -> None:
        """One connection less belongs to these targets. May come before the answer to its `join`."""

    # Among nodes

    def tell(self, node: str, kind: str, body: bytes) -> None:
        """Send a message of at most LARGEST_MESSAGE bytes to one node. At most once; messages of one node to another
        arrive in their order."""

    def tell_all(self, kind: str, body: bytes) -> None:
        """Send a message to every other node."""

    def tell_holders(self, target: Target, kind: str, body: bytes, reply: Reply[int] | None = None) -> None:
        """Send a message to every other node that has joined a target; `reply` gets how many these are (0 also where
        the backplane is out of reach)."""

    def nodes(self) -> Collection[NodeState]:
        """The nodes that live, this one among them."""

    def announce(self, state: NodeState) -> None:
        """What the others are to know of this node from now on. Sent soon, several changes as one."""
