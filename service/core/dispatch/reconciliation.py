"""Reconciliation: asks other nodes about requests that have been there for long, so that a lost message doesn't cost
them all their time.

Messages among nodes arrive at most once: with a link to Redis that breaks, a request or its answer may be gone. So a
node names to each other one, every CHECK_EVERY seconds, what it has had there for at least that long, and is told what
of it isn't there. Messages of one node to another arrive in their order: an answer would have come before that. What
isn't there counts as lost with its worker.

What is answered within CHECK_EVERY seconds costs nothing. Synchronous, with no clock of its own.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from ..cluster.backplane import Backplane
from ..cluster.cluster_messages import ClusterMessages
from ..ports import Monotonic
from .model import Request
from .remote_messages import CHECK, GONE, decode_names, encode

CHECK_EVERY: Final = 1.0
"""Seconds between two checks, and after which a request is old enough for one."""
NAMES_A_MESSAGE: Final = 1000


class Reconciliation:
    """One node's. `sent_to` gives this node's requests at another by their names, oldest first; `guests_of` the names
    of that node's requests here; `gone` is told of one that isn't where it was sent."""

    def __init__(
        self,
        cluster_messages: ClusterMessages,
        *,
        now: Monotonic,
        sent_to: Callable[[str], Mapping[str, Request]],
        guests_of: Callable[[str], Collection[str]],
        gone: Callable[[str, str], None],
    ) -> None:
        self._backplane: Backplane = cluster_messages.backplane
        self._now = now
        self._sent_to = sent_to
        self._guests_of = guests_of
        self._gone = gone
        self._due = 0.0
        cluster_messages.on(CHECK, self._checked)
        cluster_messages.on(GONE, self._not_there)

    def tick(self, nodes: Collection[str]) -> None:
        """Ask these nodes, if it is time. Not for a node that is cut off."""
        now = self._now()
        if now < self._due:
            return
        self._due = now + CHECK_EVERY
        for node in nodes:
            names = []
            for name, request in self._sent_to(node).items():
                if request.sent_at > now - CHECK_EVERY:
                    break
                names.append(name)
            for start in range(0, len(names), NAMES_A_MESSAGE):
                self._backplane.tell(node, CHECK, encode(names[start : start + NAMES_A_MESSAGE]))

    def _checked(self, sender: str, body: bytes) -> None:
        """Another node asks what of this is here."""
        guests = self._guests_of(sender)
        if missing := [name for name in decode_names(body) if name not in guests]:
            self._backplane.tell(sender, GONE, encode(missing))

    def _not_there(self, sender: str, body: bytes) -> None:
        """What another node doesn't have of ours."""
        for name in decode_names(body):
            self._gone(sender, name)
