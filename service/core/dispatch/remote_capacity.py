"""What this node tells the others of its workers, so that they may send it requests.

It tells them as soon as there is room where there was none, or none where there was some, which is what others act
on; at the next tick where there is only more or less; and every REPEAT seconds, so that a message that was lost does
no lasting harm. What happens within one pass, or within BRIEF seconds, is told as one. Nothing is told, and nothing
watched, while no other node lives; nor by a node that never had workers.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from ..cluster.backplane import Backplane
from ..ports import Defer, Monotonic
from .dispatcher import Dispatcher
from .model import Request
from .remote_messages import WORKERS, Offered, encode

REPEAT: Final = 2.0
"""Seconds after which a node tells again what it told before."""
BRIEF: Final = 0.01
"""Seconds between two tellings at least; what changes meanwhile is told at the next tick."""

Guests = Callable[[], Iterable[tuple[str, Request]]]
"""The requests of other nodes that are here, with the names of the nodes."""


class RemoteCapacity:
    """This node's word to the others."""

    def __init__(
        self, dispatcher: Dispatcher, backplane: Backplane, *, now: Monotonic, defer: Defer, guests: Guests
    ) -> None:
        self._dispatcher = dispatcher
        self._backplane = backplane
        self._now = now
        self._defer = defer
        self._guests = guests
        self._others: set[str] = set()
        self._numbers: dict[frozenset[str] | None, int] = {}
        self._numbered = 0
        self._told: list[Offered] = []
        self._told_at: float | None = None  # None until there was something to tell
        self._misled = False
        self._deferred = False

    def nodes_changed(self) -> None:
        """Nodes came or went: who is new knows nothing yet."""
        others = {state.node for state in self._backplane.nodes()} - {self._backplane.node}
        came = others - self._others
        self._others = others
        self._dispatcher.observe_room(self if others else None)
        for node in sorted(came):
            self.tell_one(node)

    def tell_one(self, node: str) -> None:
        """Tell one node, if there is anything to tell."""
        offer = self._offer()
        if offer:
            self._backplane.tell(node, WORKERS, encode(offer))

    def tick(self) -> None:
        """Tell what has changed, or is due again."""
        if self._others:
            now = self._now()
            offer = self._offer()
            due = self._misled or (self._told_at is not None and now >= self._told_at + REPEAT)
            if due or offer != self._told:
                self._tell(offer, now)

    def misled(self) -> None:
        """Somebody sent what had to be sent back: the others are told again at the next tick, changed or not."""
        self._misled = True

    def on_room_changed(self) -> None:
        """Something may have changed: see once what is ready now has been handled."""
        if not self._deferred:
            self._deferred = True
            self._defer(self._tell_at_once)

    def _tell_at_once(self) -> None:
        self._deferred = False
        now = self._now()
        if not self._others or (self._told_at is not None and now < self._told_at + BRIEF):
            return
        offer = self._offer()
        if _rooms(offer) != _rooms(self._told):
            self._tell(offer, now)

    def _tell(self, offer: list[Offered], now: float) -> None:
        if offer or self._told_at is not None:
            self._misled = False
            self._told = offer
            self._told_at = now
            self._backplane.tell_all(WORKERS, encode(offer))

    def _offer(self) -> list[Offered]:
        room = self._dispatcher.room_by_commands()
        has: dict[frozenset[str] | None, Counter[str]] = {commands: Counter() for commands in room}
        for node, request in self._guests():
            worker = request.worker
            if worker is not None and not request.direct and worker.commands in has:
                has[worker.commands][node] += 1
        self._numbers = {commands: number for commands, number in self._numbers.items() if commands in room}
        for commands in room:
            if commands not in self._numbers:
                self._numbered += 1
                self._numbers[commands] = self._numbered
        return [
            Offered(number, None if commands is None else sorted(commands), *room[commands], dict(has[commands]))
            for commands, number in self._numbers.items()
        ]


def _rooms(offer: list[Offered]) -> list[tuple[int, bool]]:
    """Where there is room."""
    return [(workers.number, workers.room > 0) for workers in offer]
