"""Requests that cross nodes: what this node has to offer the others, what it sends them, and what it does for them.

The node whose caller made a request owns it, from `submit` to its one answer: it counts the attempts, keeps the time,
and decides what is tried again. Another node is asked for one attempt (a guest there), and says how that ended: with
an answer, with the worker lost, or with no worker reached, which was no attempt. So a request goes from its own node
to one other at most, and never round in circles.

What a node tells of its workers (`remote_offers`) may be out of date when it arrives: then a request waits at the other
node, or comes back. A node that has said nothing for SILENCE seconds is sent nothing. Messages arrive at most once:
what is lost with one is noticed soon (`remote_checks`), and a request ends when its time is up, whatever happens.

Synchronous, and with no clock of its own; nothing here is called while no other node lives. Source: protocol
reference, "Requester dialect".
"""

from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Raw

from ..cluster.backplane import Backplane
from ..cluster.cluster_messages import ClusterMessages
from ..counters import Counters
from ..ports import Defer, Monotonic
from .dispatcher import Dispatcher
from .model import Outcome, OutcomeKind, Request, WorkerLink
from .reconciliation import Reconciliation
from .remote_capacity import RemoteCapacity
from .remote_messages import (
    CANCEL,
    LARGEST,
    REQUEST,
    RESPONSE,
    WORKERS,
    Call,
    Reply,
    decode_call,
    decode_offer,
    decode_reply,
    encode,
)
from .remote_workers import RemoteWorker

SILENCE: Final = 8.0
"""Seconds without a word of what it takes, after which a node's workers are not counted on."""
_UNREACHED: Final = (OutcomeKind.NO_WORKERS, OutcomeKind.BUSY)


FindClient = Callable[[str], WorkerLink | None]
"""The link by which a client of this node is asked, by its id; None if it isn't here, or cannot be asked."""


class RemoteDispatch:
    """One node's part in everybody's requests. `tick` it every 100 ms or so (or more
    often: what changes is told at a tick)."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        cluster_messages: ClusterMessages,
        *,
        now: Monotonic,
        defer: Defer,
        counters: Counters,
    ) -> None:
        self.find_client: FindClient | None = None
        """Where requests that other nodes have for clients here are to go."""
        self._dispatcher = dispatcher
        self._scheduler = dispatcher.scheduler
        dispatcher.remote.this_node = cluster_messages.backplane
        self._backplane: Backplane = cluster_messages.backplane
        self._now = now
        self._defer = defer
        self._counters = counters
        self._nodes: dict[str, OtherNode] = {}
        self._offers = RemoteCapacity(dispatcher, self._backplane, now=now, defer=defer, guests=self._guests)
        self._checks = Reconciliation(
            cluster_messages, now=now, sent_to=self._sent_to, guests_of=self._guests_of, gone=self._gone
        )
        cluster_messages.on(WORKERS, self._offered)
        cluster_messages.on(REQUEST, self._asked)
        cluster_messages.on(CANCEL, self._cancelled)
        cluster_messages.on(RESPONSE, self._answered)
        cluster_messages.watch(self)

    @property
    def sent(self) -> int:
        """How many of this node's requests are at others."""
        return sum(len(node.sent) for node in self._nodes.values())

    @property
    def guests(self) -> int:
        """How many requests of other nodes are here."""
        return sum(len(node.guests) for node in self._nodes.values())

    def client_link(self, node: str, client_id: str) -> WorkerLink:
        """How a client that is connected to another node is asked (`Dispatcher.ask`)."""
        return _Link(self, self._node(node), client_id)

    def on_nodes_changed(self) -> None:
        """Nodes came or went."""
        self._offers.nodes_changed()

    def tick(self) -> None:
        """Tell the others what has changed; give up who says nothing."""
        now = self._now()
        cut_off = self._backplane.trouble is not None
        for name, node in list(self._nodes.items()):
            workers = list(self._dispatcher.remote.of(name).values())
            if node.heard_at + SILENCE <= now:
                if workers:
                    self._scheduler.withdraw_remote(workers, now)
                if node.is_idle:
                    del self._nodes[name]
            elif cut_off:
                for worker in workers:
                    worker.has_none()
        if cut_off:
            self._offers.misled()
        else:
            self._offers.tick()
            self._checks.tick(self._nodes)

    def _guests(self) -> Iterator[tuple[str, Request]]:
        return ((name, request) for name, node in self._nodes.items() for request in node.guests.values())

    # What others have

    def _node(self, name: str) -> "OtherNode":
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = OtherNode(name, self._now())
        return node

    def _offered(self, sender: str, body: bytes) -> None:
        """What another node's workers take."""
        offer = decode_offer(body)
        new = sender not in self._nodes
        node = self._node(sender)
        node.heard_at = self._now()
        remote = self._dispatcher.remote
        before = dict(remote.of(sender))
        offered = []
        for workers in offer:
            worker = before.pop(workers.number, None)
            if worker is None:
                commands = None if workers.commands is None else frozenset(workers.commands)
                worker = RemoteWorker(sender, workers.number, _Link(self, node, None), commands)
                remote.add(worker)
            worker.has(workers.room + workers.has.get(self._backplane.node, 0), workers.capacity)
            offered.append(worker)
        if before:
            self._scheduler.withdraw_remote(list(before.values()), self._now())
        self._scheduler.on_remote_room(offered, self._now())
        if new:
            self._offers.tell_one(sender)

    def on_node_left(self, name: str) -> None:
        """A node is gone, or has lost us out of its sight."""
        node = self._nodes.pop(name, None)
        if node is None:
            return
        workers = dict.fromkeys(self._dispatcher.remote.of(name).values())
        for request in node.sent.values():
            if isinstance(request.worker, RemoteWorker):
                workers[request.worker] = None
            elif request.worker is not None:
                self._dispatcher.forget_client(request.worker.link)
        self._scheduler.remove_remote(workers, self._now())
        # Should it live: what it has here is over. Those that wait first, lest they take the place of the others.
        guests = sorted(node.guests.items(), key=lambda item: item[1].worker is not None)
        for call, request in guests:
            kind = OutcomeKind.NO_WORKERS if request.worker is None else OutcomeKind.LOST
            self._reply(name, Reply(call, kind, False, None, None, None))
            self._dispatcher.cancel_request(request)

    # This node's requests at others

    def send(self, node: "OtherNode", request: Request, deadline_ms: int, client_id: str | None) -> None:
        """Have another node make an attempt (for its links)."""
        data = bytes(request.data)
        if len(data) > LARGEST:
            assert request.worker is not None
            error = f"The parameters are too large to be passed between nodes: more than {LARGEST} bytes"
            self._dispatcher.on_answer(request.worker, request.id, success=False, error=error)
            return
        name = _name(request)
        node.sent[name] = request
        call = Call(
            name,
            id(request.caller),  # used again by another, it would only make two take turns as one
            request.command,
            data,
            deadline_ms,
            request.stream,
            request.attempt,
            request.affinity,
            request.tried,
            client_id,
        )
        self._backplane.tell(node.name, REQUEST, encode(call))

    def send_cancel(self, node: "OtherNode", request: Request) -> None:
        """Tell another node that the answer is no longer wanted (for its links)."""
        name = _name(request)
        if node.sent.pop(name, None) is not None:
            self._backplane.tell(node.name, CANCEL, name.encode())

    def _answered(self, sender: str, body: bytes) -> None:
        """What came of an attempt."""
        reply = decode_reply(body)
        node = self._nodes.get(sender)
        request = None if node is None else node.sent.get(reply.name)
        if node is None or request is None or request.worker is None:
            self._counters.late_answers += 1
            return
        if not reply.partial:
            del node.sent[reply.name]
        if reply.kind is OutcomeKind.LOST:
            self._scheduler.on_remote_lost(request, reply.processed_by, self._now())
        elif reply.kind in _UNREACHED:
            self._scheduler.on_remote_returned(request, self._now())
        else:
            self._dispatcher.on_answer(
                request.worker,
                request.id,
                success=reply.kind is OutcomeKind.OK,
                result=None if reply.data is None else Raw(reply.data),
                error=reply.error,
                partial=reply.partial,
                processed_by=reply.processed_by,
            )

    def _sent_to(self, name: str) -> dict[str, Request]:
        return self._nodes[name].sent

    def _gone(self, sender: str, name: str) -> None:
        """What was sent there isn't there, and its answer was lost if there was one."""
        node = self._nodes.get(sender)
        request = None if node is None else node.sent.pop(name, None)
        if request is not None and request.worker is not None:
            self._scheduler.on_remote_lost(request, None, self._now())

    # Other nodes' requests here

    def _guests_of(self, name: str) -> dict[str, Request]:
        node = self._nodes.get(name)
        return {} if node is None else node.guests

    def _asked(self, sender: str, body: bytes) -> None:
        """Another node's request."""
        call = decode_call(body)
        node = self._node(sender)
        before = node.guests.get(call.name)
        if before is not None:  # a node of this name was here before
            self._dispatcher.cancel_request(before)
            node.over(call.name)
        caller = node.caller(self, call.caller)
        if call.client_id is None:
            request = self._dispatcher.submit_guest(
                caller,
                call.name,
                call.command,
                Raw(call.data),
                timeout=call.deadline_ms / 1000,
                stream=call.stream,
                affinity=call.affinity,
                attempt=call.attempt,
                tried=call.tried,
            )
        else:
            link = None if self.find_client is None else self.find_client(call.client_id)
            if link is None:
                self._reply(sender, Reply(call.name, OutcomeKind.LOST, False, None, None, None))
                return
            request = self._dispatcher.ask_client(
                link,
                caller,
                call.name,
                call.command,
                Raw(call.data),
                call.deadline_ms / 1000,
                call.client_id,
                guest=True,
            )
        if not request.over:
            node.takes_in(call.name, request, caller)

    def _cancelled(self, sender: str, body: bytes) -> None:
        """Another node wants no answer any more."""
        node = self._nodes.get(sender)
        request = None if node is None else node.guests.get(body.decode())
        if node is not None and request is not None:
            node.over(body.decode())
            self._dispatcher.cancel_request(request)

    def guest_answered(self, node: "OtherNode", request: Request, outcome: Outcome) -> None:
        """What came of a guest (for its caller)."""
        name = request.token
        assert name is not None  # it was submitted under its name
        if not outcome.partial:
            node.over(name)
        if outcome.kind is OutcomeKind.TIMEOUT:
            return  # its own node keeps the time
        if outcome.kind in _UNREACHED:
            self._offers.misled()
        data = None if outcome.data is None else bytes(outcome.data)
        if data is not None and len(data) > LARGEST:
            outcome = Outcome(
                OutcomeKind.ERROR,
                error=f"The answer is too large to be passed between nodes: more than {LARGEST} bytes",
                processed_by=outcome.processed_by,
                partial=outcome.partial,
            )
            data = None
        reply = Reply(name, outcome.kind, outcome.partial, data, outcome.error, outcome.processed_by)
        self._reply(node.name, reply)

    def _reply(self, node: str, reply: Reply) -> None:
        self._backplane.tell(node, RESPONSE, encode(reply))


def _name(request: Request) -> str:
    return f"{request.id}.{request.attempt}"


class OtherNode:
    """Another node: what it has of ours, what we have of its, and who asks there."""

    __slots__ = ("callers", "guests", "heard_at", "name", "sent")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.heard_at = now
        self.sent: dict[str, Request] = {}
        self.guests: dict[str, Request] = {}
        self.callers: dict[int, _Guest] = {}

    @property
    def is_idle(self) -> bool:
        return not self.sent and not self.guests

    def caller(self, remote: RemoteDispatch, key: int) -> "_Guest":
        caller = self.callers.get(key)
        return _Guest(remote, self, key) if caller is None else caller

    def takes_in(self, name: str, request: Request, caller: "_Guest") -> None:
        self.guests[name] = request
        self.callers[caller.key] = caller
        caller.open += 1

    def over(self, name: str) -> None:
        request = self.guests.pop(name, None)
        if request is None or not isinstance(request.caller, _Guest):
            return
        request.caller.open -= 1
        if not request.caller.open:
            del self.callers[request.caller.key]


class _Guest:
    """Somebody who asks at another node (dispatch's Caller), so that turns in the queue go by who asks there. `open`:
    how many requests of this caller's are here."""

    __slots__ = ("_node", "_remote", "key", "open")

    def __init__(self, remote: RemoteDispatch, node: OtherNode, key: int) -> None:
        self._remote = remote
        self._node = node
        self.key = key
        self.open = 0

    def on_answer(self, request: Request, outcome: Outcome) -> None:
        """Pass it on."""
        self._remote.guest_answered(self._node, request, outcome)


class _Link:
    """How another node, or a client there, is reached (dispatch's WorkerLink)."""

    __slots__ = ("_client_id", "_node", "_remote")

    def __init__(self, remote: RemoteDispatch, node: OtherNode, client_id: str | None) -> None:
        self._remote = remote
        self._node = node
        self._client_id = client_id

    def send_request(self, request: Request, deadline_ms: int) -> None:
        """Pass it on."""
        self._remote.send(self._node, request, deadline_ms, self._client_id)

    def send_cancel(self, request: Request) -> None:
        """Pass that on, too."""
        self._remote.send_cancel(self._node, request)
