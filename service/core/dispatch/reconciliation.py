"""Reconciliation: asks other nodes about requests that have been there for long, so that a lost message doesn't cost
them all their time.

Messages among nodes arrive at most once: with a link to Redis that breaks, a request or its answer may be gone. So a
node sends every other one, every CHECK_EVERY seconds, the names of its requests that have been there for at least that
long, and is told which of them are not there. Messages of one node to another arrive in their order, so an answer would
have come before that. A request that is not there counts as lost with its worker.

What is answered within CHECK_EVERY seconds costs nothing. Synchronous, with no clock of its own.
"""

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from ..cluster.backplane import Backplane
from ..cluster.cluster_messages import ClusterMessages
from ..ports import Monotonic
from .model import Request
from .remote_messages import CHECK, GONE, decode_names, encode

CHECK_EVERY: Final = 1.0
"""Seconds between two checks, and after which a request is old enough for one."""
NAMES_A_MESSAGE: Final = 1000


class ReconciliationObserver(Protocol):
    """Who knows what is where."""

    def sent_to(self, node: str) -> Mapping[str, Request]:
        """This node's requests at another one, by the names of their attempts, oldest first."""

    def guests_of(self, node: str) -> Collection[str]:
        """The names of another node's requests that are here."""

    def on_missing(self, sender: str, name: str) -> None:
        """That node doesn't have this attempt: it, or its answer, was lost on the way."""


class Reconciliation:
    """One node's."""

    def __init__(self, cluster_messages: ClusterMessages, observer: ReconciliationObserver, *, now: Monotonic) -> None:
        self._backplane: Backplane = cluster_messages.backplane
        self._observer = observer
        self._now = now
        self._due = 0.0
        cluster_messages.on(CHECK, self._on_check)
        cluster_messages.on(GONE, self._on_gone)

    def tick(self, nodes: Collection[str]) -> None:
        """Ask these nodes, if it is time. Not for a node that is cut off."""
        now = self._now()
        if now < self._due:
            return
        self._due = now + CHECK_EVERY
        for node in nodes:
            names = []
            for name, request in self._observer.sent_to(node).items():
                if request.sent_at > now - CHECK_EVERY:
                    break
                names.append(name)
            for start in range(0, len(names), NAMES_A_MESSAGE):
                self._backplane.tell(node, CHECK, encode(names[start : start + NAMES_A_MESSAGE]))

    def _on_check(self, sender: str, body: bytes) -> None:
        """Another node asks what of this is here."""
        guests = self._observer.guests_of(sender)
        if missing := [name for name in decode_names(body) if name not in guests]:
            self._backplane.tell(sender, GONE, encode(missing))

    def _on_gone(self, sender: str, body: bytes) -> None:
        """What another node doesn't have of ours."""
        for name in decode_names(body):
            self._observer.on_missing(sender, name)
