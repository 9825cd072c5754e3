"""First offers: which nodes have yet to tell this one of their workers.

A node that joins the others, at its start or after it may have missed what they said, asks for their workers, and each
answers at once (`remote_capacity`). Until all that were there have answered, a request waits in the queue that no known
worker serves, instead of being refused; everything else goes on. That ends after WAIT seconds in any case: a node that
hangs, or died a moment ago, answers nothing. It begins with the node, since it may be asked before it has joined; in a
node that is alone it is over at once.

Synchronous, with no clock of its own.
"""

from collections.abc import Iterable
from typing import Final

from ..ports import Monotonic
from .remote_messages import Offer
from .scheduler import Scheduler

WAIT: Final = 2.0
"""Seconds that requests wait, at most, for what the others answer; from its first tick for a node that joins none."""


class FirstOffers:
    """One node's. `tick` it every 100 ms or so."""

    def __init__(self, scheduler: Scheduler, *, now: Monotonic) -> None:
        self._scheduler = scheduler
        self._now = now
        self._until: float | None = None
        self._joined = False
        # Nodes, and which of their workers are told of in messages that follow (None: nothing was told yet).
        self._awaited: dict[str, set[int] | None] = {}
        scheduler.expects_workers = True

    def on_joined(self, others: Iterable[str]) -> None:
        """These nodes are there, and are about to be asked."""
        self._joined = True
        self._awaited = dict.fromkeys(others)
        self._until = self._now() + WAIT
        self._scheduler.expects_workers = True
        self._end_if_all()

    def on_offer(self, sender: str, offer: Offer) -> None:
        """A node has told of workers, and they are placed."""
        if sender not in self._awaited:
            return
        left = self._awaited[sender]
        if offer.whole:
            left = set(offer.follow)
        elif left is not None:
            left.difference_update(worker.number for worker in offer.workers)
        self._awaited[sender] = left
        if left is not None and not left:
            self.on_node_left(sender)

    def on_node_left(self, name: str) -> None:
        """Nothing of this node is awaited any more."""
        if name in self._awaited:
            del self._awaited[name]
            self._end_if_all()

    def tick(self) -> None:
        """Give up what takes too long."""
        if not self._scheduler.expects_workers:
            return
        now = self._now()
        if self._until is None:
            self._until = now + WAIT
        elif now >= self._until:
            self._end()

    def _end_if_all(self) -> None:
        if self._joined and not self._awaited:
            self._end()

    def _end(self) -> None:
        self._awaited.clear()
        if self._scheduler.expects_workers:
            self._scheduler.expects_workers = False
            self._scheduler.refuse_unserved(self._now())
