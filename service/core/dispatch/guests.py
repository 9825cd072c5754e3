"""Guests: requests of other nodes, for each of which this node makes one attempt.

The node that a request is of keeps the time and decides what is tried again; this one says how the attempt ended: with
an answer, with the worker lost, or with no worker reached, which was no attempt. For example, a guest whose worker goes
is not given to another here: its node is told, which knows of workers elsewhere too.
"""

from collections.abc import Collection
from typing import Protocol

from msgspec import Raw

from ..cluster.backplane import LARGEST_MESSAGE, Backplane
from ..cluster.cluster_messages import ClusterMessages
from ..ports import Monotonic
from .dispatcher import Dispatcher
from .model import UNREACHED, Guest, Outcome, OutcomeKind, Request, WorkerLink
from .other_nodes import OtherNode, OtherNodes
from .remote_capacity import RemoteCapacity
from .remote_messages import (
    ATTEMPT,
    CANCEL,
    EXPIRED,
    RECALL,
    RESULT,
    AttemptResult,
    decode_attempt,
    decode_names,
    encode,
)


class ClientFinder(Protocol):
    """Finds clients of this node that other nodes want to ask something."""

    def find_client(self, client_id: str) -> WorkerLink | None:
        """The link by which a client is asked; None if it isn't here, or can't be asked."""


class Guests:
    """The requests of other nodes that are here."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        cluster_messages: ClusterMessages,
        nodes: OtherNodes,
        capacity: RemoteCapacity,
        *,
        now: Monotonic,
    ) -> None:
        self.client_finder: ClientFinder | None = None
        self._dispatcher = dispatcher
        self._backplane: Backplane = cluster_messages.backplane
        self._nodes = nodes
        self._capacity = capacity
        self._now = now
        cluster_messages.on(ATTEMPT, self._on_attempt)
        cluster_messages.on(RECALL, self._on_recall)
        cluster_messages.on(CANCEL, self._on_cancel)
        cluster_messages.on(EXPIRED, self._on_expired)

    def __len__(self) -> int:
        return sum(len(node.guests) for node in self._nodes.values())

    def names_of(self, node: str) -> Collection[str]:
        """The names of those that are of this node."""
        other = self._nodes.get(node)
        return () if other is None else other.guests

    def send_home(self, node: OtherNode) -> None:
        """A node is gone, or has lost us out of its sight: should it live, what it has here is over."""
        # Those that wait first, lest they take the place of the others.
        for attempt, request in sorted(node.guests.items(), key=lambda item: item[1].worker is not None):
            kind = OutcomeKind.NO_WORKERS if request.worker is None else OutcomeKind.LOST
            self._send_result(node.name, AttemptResult(attempt, kind, False, None, None, None))
            self._dispatcher.cancel_request(request)

    def _on_attempt(self, sender: str, body: bytes) -> None:
        """Another node wants an attempt at its request."""
        attempt = decode_attempt(body)
        node = self._nodes.known(sender)
        before = node.guests.get(attempt.name)
        if before is not None:  # a node of this name was here before
            self._dispatcher.cancel_request(before)
            node.forget_guest(attempt.name)
        caller = node.caller(attempt.caller, attempt.party or f"{sender} {attempt.caller}", attempt.trusted, self)
        guest = Guest(sender, self._capacity.worker_numbered(attempt.worker))
        if attempt.client_id is None:
            request = self._dispatcher.submit_guest(
                caller,
                attempt.name,
                attempt.command,
                Raw(attempt.data),
                timeout=attempt.deadline_ms / 1000,
                stream=attempt.stream,
                affinity=attempt.affinity,
                attempt=attempt.attempt,
                tried=attempt.tried,
                guest=guest,
                may_wait=attempt.may_wait,
            )
        else:
            link = None if self.client_finder is None else self.client_finder.find_client(attempt.client_id)
            if link is None:
                self._send_result(sender, AttemptResult(attempt.name, OutcomeKind.LOST, False, None, None, None))
                return
            request = self._dispatcher.ask_client(
                link,
                caller,
                attempt.name,
                attempt.command,
                Raw(attempt.data),
                attempt.deadline_ms / 1000,
                attempt.client_id,
                guest=guest,
            )
        if not request.over:
            node.add_guest(attempt.name, request, caller)

    def _on_recall(self, sender: str, body: bytes) -> None:
        """Another node wants requests back, if they still wait here."""
        node = self._nodes.get(sender)
        for name in decode_names(body):
            request = None if node is None else node.guests.get(name)
            # One that waits in a worker's own line has to stay with that worker.
            if node is not None and request is not None and request.worker is None and isinstance(request.line, str):
                node.forget_guest(name)
                self._dispatcher.cancel_request(request)
                self._send_result(sender, AttemptResult(name, OutcomeKind.BUSY, False, None, None, None))

    def _on_cancel(self, sender: str, body: bytes) -> None:
        """Another node wants no answer any more."""
        request = self._take_guest(sender, body.decode())
        if request is not None:
            self._dispatcher.cancel_request(request)

    def _on_expired(self, sender: str, body: bytes) -> None:
        """The time of another node's request is up."""
        request = self._take_guest(sender, body.decode())
        if request is not None:
            self._dispatcher.expire_guest(request)

    def _take_guest(self, sender: str, name: str) -> Request | None:
        node = self._nodes.get(sender)
        return None if node is None else node.forget_guest(name)

    def on_guest_answered(self, node: "OtherNode", request: Request, outcome: Outcome) -> None:
        """There is an answer to another node's request (for their callers)."""
        name = request.token
        assert name is not None  # it was submitted under its name
        if not outcome.partial:
            node.forget_guest(name)
        if outcome.kind is OutcomeKind.TIMEOUT:
            return  # its own node keeps the time
        if outcome.kind in UNREACHED:
            self._capacity.misled()
        seconds = self._now() - request.sent_at
        data = None if outcome.data is None else bytes(outcome.data)
        passed = self._send_result(
            node.name,
            AttemptResult(name, outcome.kind, outcome.partial, data, outcome.error, outcome.processed_by, seconds),
        )
        if outcome.partial and not passed:
            node.forget_guest(name)
            self._dispatcher.cancel_request(request)

    def _send_result(self, node: str, result: AttemptResult) -> bool:
        """Tell what came of an attempt; False where that is too large, and the attempt has ended with an error."""
        body = encode(result)
        passed = len(body) <= LARGEST_MESSAGE
        if not passed:
            error = f"The answer is too large to be passed between nodes: more than {LARGEST_MESSAGE} bytes"
            body = encode(AttemptResult(result.name, OutcomeKind.ERROR, False, None, error, result.processed_by))
        self._backplane.tell(node, RESULT, body)
        return passed
