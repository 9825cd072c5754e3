"""Requests that cross nodes: those of this node that other nodes' workers answer.

The node whose caller made a request owns it, from `submit` to its one answer: it counts the attempts, keeps the time,
and decides what is tried again. Another node is asked for one attempt (the request is a guest there, see `guests`), and
says how that ended. So a request goes from its own node to one other at most, and never round in circles.

What a node tells of its workers (`remote_capacity`) may be out of date when it arrives. Then the request goes to
another worker there that has room, or comes back. Requests that wait at another node are recalled when there is room
elsewhere. A node that has said nothing for SILENCE seconds is sent nothing. Messages arrive at most once: what is lost
with one is noticed soon (`reconciliation`), and a request ends when its time is up, whatever happens.

Synchronous, and with no clock of its own; nothing here is called while no other node lives. Source: protocol
reference, "Requester dialect".
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Raw

from ..cluster.backplane import LARGEST_MESSAGE, Backplane
from ..cluster.cluster_messages import ClusterMessages
from ..counters import Counters
from ..ports import Defer, Monotonic
from .dispatcher import Dispatcher
from .first_offers import FirstOffers
from .guests import Guests
from .model import UNREACHED, OutcomeKind, Request, Worker, WorkerLink
from .other_nodes import OtherNode, OtherNodes
from .reconciliation import Reconciliation
from .remote_capacity import RemoteCapacity
from .remote_messages import (
    ATTEMPT,
    CANCEL,
    EXPIRED,
    OFFER,
    RECALL,
    RESULT,
    Attempt,
    OfferedWorker,
    decode_offer,
    decode_result,
    encode,
)
from .remote_workers import RemotePlace, RemoteWorker

SILENCE: Final = 8.0
"""Seconds without a word of what it takes, after which a node's workers are not counted on."""
RETURN_SECONDS: Final = 60.0
"""Seconds that a node which is out of sight has to come back, if it is to find the keys that it had."""


class RemoteDispatch:
    """One node's part in everybody's requests. `tick` it every 100 ms or so."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        cluster_messages: ClusterMessages,
        *,
        now: Monotonic,
        defer: Defer,
        counters: Counters,
        process: str,
    ) -> None:
        """`process`: a name that no other process of the deployment has, nor has had before."""
        self._dispatcher = dispatcher
        self._scheduler = dispatcher.scheduler
        self._backplane: Backplane = cluster_messages.backplane
        self._now = now
        self._counters = counters
        self._nodes = OtherNodes(now)
        self._issued = 0
        dispatcher.remote.this_node = self._backplane
        self._capacity = RemoteCapacity(self._scheduler, self._backplane, now=now, defer=defer, process=process)
        self._first_offers = FirstOffers(self._scheduler, now=now)
        self.guests: Final = Guests(dispatcher, cluster_messages, self._nodes, self._capacity, now=now)
        self._reconciliation = Reconciliation(cluster_messages, self, now=now)
        cluster_messages.on(OFFER, self._on_offer)
        cluster_messages.on(RESULT, self._on_result)
        cluster_messages.watch(self)

    @property
    def sent(self) -> int:
        """How many of this node's requests are at others."""
        return sum(len(node.sent) for node in self._nodes.values())

    @property
    def has_others(self) -> bool:
        """Whether another node lives."""
        return self._capacity.has_others

    def client_link(self, node: str, client_id: str) -> WorkerLink:
        """How a client that is connected to another node is asked (`Dispatcher.ask_client`)."""
        return NodeLink(self, self._nodes.known(node), client_id)

    def on_nodes_changed(self) -> None:
        """Nodes came or went."""
        self._capacity.nodes_changed()

    def on_joined(self) -> None:
        """This node hears the others from now on: it asks what workers there are."""
        self._first_offers.on_joined({state.node for state in self._backplane.nodes()} - {self._backplane.node})
        self._capacity.ask_all()

    def tick(self) -> None:
        """Tell the others what has changed; give up nodes that say nothing; recall what needn't wait."""
        now = self._now()
        cut_off = self._backplane.trouble is not None
        for name, node in list(self._nodes.items()):
            if node.heard_at + SILENCE <= now:
                node.waits = False
                if node.place is not None:
                    place, node.place = node.place, None
                    self._scheduler.remove_place(place, now, lost=False)
                if node.is_idle:
                    del self._nodes[name]
            elif cut_off and node.place is not None:
                node.place.close_lines()
                for worker in node.place.workers.values():
                    worker.on_full()
                    self._scheduler.pools.on_worker_changed(worker)
        self._first_offers.tick()
        self._scheduler.remote.forget_away(now - RETURN_SECONDS)
        self._scheduler.remote.distance.before_pick(now, alone=False)
        self._note_who_waits()
        if cut_off:
            self._capacity.misled()
        else:
            self._capacity.tick()
            self._reconciliation.tick(self._nodes)
            self._recall()
        self._dispatcher.departure.tick(now, self._leaving)

    def _leaving(self) -> set[str]:
        return {state.node for state in self._backplane.nodes() if state.draining}

    def _note_who_waits(self) -> None:
        self._capacity.on_wanted(any(node.waits for node in self._nodes.values()))

    # What others have

    def _on_offer(self, sender: str, body: bytes) -> None:
        """Another node tells what its workers take."""
        offer = decode_offer(body)
        node = self._nodes.known(sender)
        node.heard_at = self._now()
        node.waits = offer.waits
        self._note_who_waits()
        if offer.whole:
            node.command_sets.clear()
        for number, commands in offer.command_sets.items():
            node.command_sets[number] = None if commands is None else frozenset(commands)
        place = node.place
        if place is None and offer.workers:
            place = node.place = RemotePlace(sender, NodeLink(self, node, None), offer.process)
            self._scheduler.add_place(place)
        if place is not None:
            self._update(node, place, offer.workers)
            numbers = {*offer.follow, *(offered.number for offered in offer.workers)} if offer.whole else None
            gone = [
                worker
                for number, worker in place.workers.items()
                if (number in offer.gone if numbers is None else number not in numbers)
            ]
            place.open_lines()
            if gone:
                self._scheduler.withdraw_remote(place, gone, self._now())
            told = [place.workers[offered.number] for offered in offer.workers if offered.number in place.workers]
            if not all(worker.takes_work for worker in told):
                self._scheduler.move_line(place.keyed, self._now())
            self._scheduler.on_remote_room(place, told, self._now())
            self._recall()
            if not place.workers and not offer.follow and node.place is place:
                node.place = None
                self._scheduler.remove_place(place, self._now(), lost=False)
        self._first_offers.on_offer(sender, offer)
        if offer.asks:
            self._capacity.tell_one(sender)

    def _update(self, node: OtherNode, place: RemotePlace, workers: list[OfferedWorker]) -> None:
        pools = self._scheduler.pools
        here = self._backplane.node
        for offered in workers:
            if offered.commands not in node.command_sets:
                continue  # the message that told this set was lost; all is told again soon
            commands = node.command_sets[offered.commands]
            worker = place.workers.get(offered.number)
            known = worker is not None
            if worker is None:
                link = NodeLink(self, node, None)
                worker = RemoteWorker(node.name, offered.number, link, offered.client_id, commands, place.way)
                place.workers[offered.number] = worker
            elif (worker.commands, worker.weight) != (commands, offered.weight):
                pools.remove_worker(worker)
                worker.commands = commands
                known = False
            worker.client_id = offered.client_id
            worker.weight = offered.weight
            others = offered.outstanding - offered.has.get(here, 0)
            changed = worker.on_offered(offered.capacity, others, offered.average, offered.sick)
            if not known:
                pools.add_worker(worker)
            elif changed:
                pools.on_worker_changed(worker)
            if not worker.takes_work:
                self._scheduler.move_line(worker, self._now())

    def on_node_left(self, name: str) -> None:
        """A node is gone, or has lost us out of its sight."""
        self._capacity.on_node_left(name)
        self._first_offers.on_node_left(name)
        node = self._nodes.pop(name, None)
        if node is None:
            return
        self._note_who_waits()
        now = self._now()
        if node.place is not None:
            self._scheduler.remove_place(node.place, now, lost=True)
        for request in list(node.sent.values()):  # at workers that it had withdrawn, or at clients
            worker = request.worker
            if worker is None or request.over:
                continue
            if request.direct:
                self._dispatcher.forget_client(worker.link)
            elif not worker.alive:
                self._scheduler.on_remote_lost(request, worker.client_id, now)
        self.guests.send_home(node)

    def _recall(self) -> None:
        """Ask for requests back that wait at another node, while a worker elsewhere has room for them. Those with a key
        are asked for where the node takes no more for them, and come if they wait for none of its workers."""
        planned: Counter[Worker] = Counter()
        for node in self._nodes.values():
            if node.place is None or not (node.place.ahead.requests or node.place.keyed.requests):
                continue
            names = []
            for request in (*node.place.ahead.requests.values(), *node.place.keyed.requests.values()):
                name = request.sent_as
                if name in node.recalled or (request.affinity is not None and node.place.keyed.takes(request.command)):
                    continue
                worker = self._scheduler.pools.pick_worker(request.command)
                if worker is None or (isinstance(worker, RemoteWorker) and worker.node == node.name):
                    continue
                if planned[worker] < worker.capacity - len(worker.requests):
                    planned[worker] += 1
                    names.append(name)
            if names:
                node.recalled.update(names)
                self._backplane.tell(node.name, RECALL, encode(names))

    # This node's requests at others

    def send_attempt(self, node: OtherNode, request: Request, deadline_ms: int, client_id: str | None) -> None:
        """Have another node make an attempt (for its links)."""
        worker = request.worker
        assert worker is not None
        # A name of its own for each: an answer to a question about one must not be taken for one about the next.
        self._issued += 1
        name = request.sent_as = f"{request.id}.{self._issued}"
        body = encode(
            Attempt(
                name,
                id(request.caller),  # used again by another, it would only make two take turns as one
                request.command,
                bytes(request.data),
                deadline_ms,
                request.stream,
                request.attempt,
                request.affinity,
                request.tried,
                worker.number if isinstance(worker, RemoteWorker) else None,
                not isinstance(worker, RemoteWorker),
                client_id,
                request.caller.trusted,
                request.caller.party,
            )
        )
        if len(body) > LARGEST_MESSAGE:
            error = f"The parameters are too large to be passed between nodes: more than {LARGEST_MESSAGE} bytes"
            self._dispatcher.on_answer(worker, request.id, success=False, error=error)
            return
        node.sent[name] = request
        self._backplane.tell(node.name, ATTEMPT, body)

    def send_cancel(self, node: OtherNode, request: Request) -> None:
        """Tell another node that the answer is no longer wanted (for its links)."""
        name = request.sent_as
        node.recalled.discard(name)
        if node.sent.pop(name, None) is not None:
            kind = EXPIRED if request.deadline <= self._now() else CANCEL
            self._backplane.tell(node.name, kind, name.encode())

    def _on_result(self, sender: str, body: bytes) -> None:
        """Another node says what came of an attempt."""
        result = decode_result(body)
        node = self._nodes.get(sender)
        request = None if node is None else node.sent.get(result.name)
        if node is None or request is None or request.worker is None:
            self._counters.late_answers += 1
            return
        recalled = result.name in node.recalled
        if not result.partial:
            del node.sent[result.name]
            node.recalled.discard(result.name)
        if result.kind is OutcomeKind.LOST:
            self._scheduler.on_remote_lost(request, result.processed_by, self._now())
        elif result.kind in UNREACHED:
            self._scheduler.on_remote_returned(request, self._now(), recalled=recalled)
        else:
            self._dispatcher.on_answer(
                request.worker,
                request.id,
                success=result.kind is OutcomeKind.OK,
                result=None if result.data is None else Raw(result.data),
                error=result.error,
                partial=result.partial,
                processed_by=result.processed_by,
                seconds_there=result.seconds,
            )

    def sent_to(self, node: str) -> Mapping[str, Request]:
        """See ReconciliationObserver."""
        return self._nodes[node].sent

    def guests_of(self, node: str) -> Collection[str]:
        """See ReconciliationObserver."""
        return self.guests.names_of(node)

    def on_missing(self, sender: str, name: str) -> None:
        """See ReconciliationObserver."""
        node = self._nodes.get(sender)
        request = None if node is None else node.sent.pop(name, None)
        if request is not None and request.worker is not None:
            self._scheduler.on_remote_lost(request, None, self._now())


class NodeLink:
    """How another node, or a client there, is reached (dispatch's WorkerLink)."""

    __slots__ = ("_client_id", "_node", "_remote")

    def __init__(self, remote: RemoteDispatch, node: OtherNode, client_id: str | None) -> None:
        self._remote = remote
        self._node = node
        self._client_id = client_id

    def send_request(self, request: Request, deadline_ms: int) -> None:
        """Pass it on."""
        self._remote.send_attempt(self._node, request, deadline_ms, self._client_id)

    def send_cancel(self, request: Request) -> None:
        """Pass that on, too."""
        self._remote.send_cancel(self._node, request)
