"""The backplane of one process: everything happens at once, in plain calls.

A World holds what nodes share: one node in production, several in tests, where it stands for a deployment. Promises
what `service.core.cluster.backplane` does; what is kept ends with the process, so each World is an epoch of its own.
"""

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target, stream_of
from service.core.cluster.backplane import (
    HISTORY_BYTES,
    Joined,
    NodeObserver,
    NodeState,
    Publication,
    Published,
    PushObserver,
    StreamPositions,
)
from service.core.ports import Monotonic
from service.core.reply import Reply

from .history import History

LARGEST_KEPT: Final = 16 << 20
"""Bytes that the data of an event may have, at most, that is kept."""
REMEMBER_SECONDS: Final = 300.0
MAX_REMEMBERED: Final = 100_000


class World:
    """What the nodes of one process share. `length` and `ttl` (seconds) bound the history of each stream, `limit`
    (bytes) the history of all."""

    def __init__(
        self, *, now: Monotonic, length: int = 1000, ttl: float = 86_400.0, limit: int = HISTORY_BYTES
    ) -> None:
        self.epoch = os.urandom(8).hex()
        self.largest: Final = min(limit // 4, LARGEST_KEPT)
        """Bytes that the data of an event may have that is kept."""
        self.now = now
        self.history = History(now=now, length=length, ttl=ttl, limit=limit)
        self.nodes: dict[str, MemoryBackplane] = {}
        self.known: OrderedDict[str, tuple[float, Published]] = OrderedDict()
        self.repeated = 0
        """Publications under an id that was known."""

    def forget_old(self) -> None:
        """Drop what is too old. To be called every 100 ms or so."""
        self.history.expire()
        now = self.now()
        while self.known and next(iter(self.known.values()))[0] <= now:
            self.known.popitem(last=False)


class MemoryBackplane:
    """One node's place in a World."""

    trouble: Final = None

    def __init__(self, world: World, node: str, make_id: Callable[[], str]) -> None:
        if node in world.nodes:
            raise ValueError(f"there is a node {node!r} already; each needs a name of its own")
        self.node = node
        self._world = world
        self._make_id = make_id
        self._pushes: PushObserver
        self._nodes: NodeObserver
        self._joined: Counter[Target] = Counter()
        self._state = NodeState(node, "combined", None, False, 0, b"{}")
        world.nodes[node] = self

    @property
    def epoch(self) -> str:
        """This process's."""
        return self._world.epoch

    def attach(self, pushes: PushObserver, nodes: NodeObserver) -> None:
        """Say who is told."""
        self._pushes, self._nodes = pushes, nodes
        self._changed()
        nodes.on_joined()

    # Pushes and history

    def publish(self, publication: Publication, reply: Reply[Published | PeerFault]) -> None:
        """Push to all nodes, at once."""
        refusal = self._pushes.refusal(publication.target)
        if refusal is not None:
            reply(refusal)
            return
        try:
            published = self._publish(publication)
        except PeerFault as fault:
            reply(fault)
        else:
            reply(published)

    def _publish(self, publication: Publication) -> Published:
        world = self._world
        if publication.id is not None:
            known = world.known.get(publication.id)
            if known is not None and known[0] > world.now():
                world.repeated += 1
                return known[1]._replace(repeated=True)
        event = publication.event
        if publication.durable:
            if len(bytes(event.data)) > world.largest:
                raise PeerFault(ErrorCode.TOO_LARGE, "The event is too large to be kept; push it live.", field="data")
            event = world.history.append(stream_of(publication.target), event, publication.ttl)
        if len(world.nodes) == 1:
            matched, queued = self._pushes.on_push(publication.target, event)
        else:
            counts = [node._pushes.on_push(publication.target, event) for node in world.nodes.values()]
            matched, queued = sum(m for m, _ in counts), sum(q for _, q in counts)
        # A name that we gave cannot come again, and is not worth remembering.
        if publication.id is None:
            return Published(self._make_id(), event.stream, event.offset, matched, queued)
        published = Published(publication.id, event.stream, event.offset, matched, queued)
        world.known.pop(publication.id, None)
        world.known[publication.id] = (world.now() + REMEMBER_SECONDS, published)
        if len(world.known) > MAX_REMEMBERED:
            world.known.popitem(last=False)
        return published

    def join(self, targets: Collection[Target], resume: StreamPositions | None, reply: Reply[Joined]) -> None:
        """One more connection here belongs to these targets."""
        if len(self._world.nodes) > 1:
            self._joined.update(targets)
        history = self._world.history
        offsets = dict.fromkeys(map(stream_of, targets), history.position)
        missed: dict[str, list[Event]] = {}
        lost: list[str] = []
        if resume is not None:
            for stream, offset in resume.offsets.items():
                if stream not in offsets:
                    continue  # not its own any more
                events = history.since(stream, offset) if resume.epoch == self.epoch else None
                if events is None:
                    lost.append(stream)
                elif events:
                    missed[stream] = events
        reply(Joined(self.epoch, offsets, missed, lost, not lost))

    def leave(self, targets: Collection[Target]) -> None:
        """One connection less belongs to these targets."""
        if self._joined:
            self._joined.subtract(targets)

    # Among nodes

    def tell(self, node: str, kind: str, body: bytes) -> None:
        """Send a message to one node."""
        other = self._world.nodes.get(node)
        if other is not None and other is not self:
            other._nodes.on_message(self.node, kind, body)

    def tell_all(self, kind: str, body: bytes) -> None:
        """Send a message to every other node."""
        for node in list(self._world.nodes):
            self.tell(node, kind, body)

    def tell_holders(self, target: Target, kind: str, body: bytes, reply: Reply[int] | None = None) -> None:
        """Send a message to every other node that has joined a target."""
        holders = [name for name, other in self._world.nodes.items() if other is not self and other._joined[target] > 0]
        if reply is not None:
            reply(len(holders))
        for name in holders:
            self.tell(name, kind, body)

    def nodes(self) -> Collection[NodeState]:
        """The nodes that live."""
        return [node._state for node in self._world.nodes.values()]

    def announce(self, state: NodeState) -> None:
        """What the others are to know of this node."""
        self._state = state
        self._changed()

    def leave_world(self) -> None:
        """This node is gone."""
        del self._world.nodes[self.node]
        for other in list(self._world.nodes.values()):
            other._nodes.on_node_left(self.node)
        self._changed()

    def _changed(self) -> None:
        for other in list(self._world.nodes.values()):
            other._nodes.on_nodes_changed()
