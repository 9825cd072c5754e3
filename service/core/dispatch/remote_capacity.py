"""What this node tells the others of its workers, so that they can choose among them as this node does.

How old is what another node knows? That there is a new worker, and that one begins to take work, is told at once: keys
are bound by it (a worker that connects is there first and takes work then). Whether a worker has room, is well, or
has left is told at the end of the pass in which it changes, unless something was told within the last BRIEF seconds;
that it has room again even then, if requests wait at another node. How much a worker has to do is told every PACE
seconds while it changes. What is held back is told at the next change, and at the next tick (every 100 ms) at the
latest. Everything is told again every REPEAT seconds, so that a lost message does no lasting harm.

A node that joins the others tells all of them everything in one message, and asks for what they have: each answers at
once, with one. A node that is new to this one, and hasn't asked within GREET_AFTER seconds, is told and asked by this
one. For example, it was taken for dead, and doesn't know.

What happens within one pass is told in one message, or in several if it is too much for one. Nothing is told, and
nothing observed, while no other node lives. A node that never had workers or waiting requests only asks and answers.
"""

from typing import Final

from ..cluster.backplane import Backplane
from ..ports import Defer, Monotonic
from .model import Worker
from .remote_messages import OFFER, Offer, OfferedWorker, offer_messages
from .scheduler import Scheduler

REPEAT: Final = 2.0
GREET_AFTER: Final = 0.1
BRIEF: Final = 0.01
PACE: Final = 0.02
PER_WORKER: Final = 50e-6
"""Seconds by which PACE is longer for each worker that has changed: with a thousand of them, 70 ms."""

_Told = tuple[bool, bool, int, int]


class RemoteCapacity:
    """This node's word to the others (the observer of the pools and of the queue)."""

    def __init__(
        self, scheduler: Scheduler, backplane: Backplane, *, now: Monotonic, defer: Defer, process: str
    ) -> None:
        self._process = process
        self._wanted = False
        self._scheduler = scheduler
        self._backplane = backplane
        self._now = now
        self._defer = defer
        self._others: set[str] = set()
        self._left: set[str] = set()  # of these, who is gone, though another may have the name by now
        self._to_greet: dict[str, float] = {}  # nodes that came, and since when
        self._numbers: dict[Worker, int] = {}
        self._by_number: dict[int, Worker] = {}
        self._numbered = 0
        self._sets: dict[frozenset[str] | None, int] = {}
        self._told_sets: set[int] = set()
        self._told: dict[Worker, _Told] = {}
        self._changed: dict[Worker, None] = {}
        self._gone: list[int] = []
        self._told_at: float | None = None  # None until there was something to tell
        self._whole_at = 0.0
        self._told_waiting = False
        self._misled = False
        self._deferred = False

    @property
    def has_others(self) -> bool:
        """Whether another node lives."""
        return bool(self._others)

    def worker_numbered(self, number: int | None) -> Worker | None:
        """The worker that the others know by this number, if it is still there."""
        return None if number is None else self._by_number.get(number)

    # When

    def nodes_changed(self) -> None:
        """Nodes came or went: new ones know nothing yet, and will ask."""
        others = {state.node for state in self._backplane.nodes()} - {self._backplane.node}
        new = others - (self._others - self._left)
        self._left.clear()
        observed = bool(self._others)
        self._others = others
        if bool(others) is not observed:
            self._scheduler.pools.observer = self if others else None
            self._scheduler.observer = self if others else None
        now = self._now()
        seen = {node: at for node, at in self._to_greet.items() if node in others - new}
        self._to_greet = seen | dict.fromkeys(sorted(new), now)

    def on_node_left(self, node: str) -> None:
        """A node is gone. One that has its name may be there already, and knows nothing."""
        self._left.add(node)

    def ask_all(self) -> None:
        """Tell the others everything, and ask for what they have."""
        if self._others:
            self._to_greet.clear()
            self._tell(self._everything(asks=True), self._now())

    def tell_one(self, node: str, *, asks: bool = False) -> None:
        """Tell one node everything, also where that is nothing: it waits to know. `asks`: for what it has itself."""
        self._to_greet.pop(node, None)
        offer = self._everything(asks=asks)
        if offer.workers and self._told_at is None:
            self._told_at = self._whole_at = self._now()  # so that it is told again, should this be lost
        for message in offer_messages(offer):
            self._backplane.tell(node, OFFER, message)

    def tick(self) -> None:
        """Tell what has not been told, or is due again. Every 100 ms or so."""
        if not self._others:
            return
        now = self._now()
        for node in [node for node, at in self._to_greet.items() if now >= at + GREET_AFTER]:
            self.tell_one(node, asks=True)
        if self._misled or (self._told_at is not None and now >= self._whole_at + REPEAT):
            self._tell(self._everything(), now)
        elif self._changed or self._gone or self._told_waiting is not self._scheduler.own_request_waits:
            self._tell_changes(now)

    def misled(self) -> None:
        """Another node was sent back a request, so it believes that there is no room here; or this node was cut off.
        Tell everything again at the next tick, and room as soon as there is any."""
        self._misled = True
        for worker, told in self._told.items():
            self._told[worker] = False, *told[1:]

    def on_wanted(self, wanted: bool) -> None:
        """Whether requests wait at another node: then room is told at once."""
        if wanted and not self._wanted:
            self._look_soon()
        self._wanted = wanted

    def on_worker_changed(self, worker: Worker) -> None:
        """See PoolsObserver."""
        if worker.remote:
            return
        self._changed[worker] = None
        told = self._told.get(worker)
        begins = told is not None and not told[2] and worker.takes_work
        if begins or worker not in self._numbers:  # a new worker: one that it replaces may be about to go
            self._tell_changes(self._now())
        elif not self._deferred:
            self._look_soon()

    def on_worker_removed(self, worker: Worker) -> None:
        """See PoolsObserver."""
        if worker.remote:
            return
        if worker.alive and self._scheduler.may_be_sent(worker):  # it is about to be added again
            self._changed[worker] = None
            told = self._told.get(worker)
            if told is not None:  # whatever it is then, it has not been told
                self._told[worker] = False, told[1], told[2], -1
            return
        number = self._numbers.pop(worker, None)
        self._changed.pop(worker, None)
        if number is not None:
            del self._by_number[number]
            self._told.pop(worker, None)
            self._gone.append(number)
            self._look_soon()

    def on_request_waits(self) -> None:
        """See QueueObserver."""
        if not self._told_waiting:
            self._look_soon()

    def _look_soon(self) -> None:
        if not self._deferred:
            self._deferred = True
            self._defer(self._look)

    def _look(self) -> None:
        """What was ready has been handled: tell what has changed, if it is time."""
        self._deferred = False
        if not self._others:
            return
        now = self._now()
        wait = BRIEF if self._gone or self._is_news() else PACE + PER_WORKER * len(self._changed)
        if self._told_at is None or now >= self._told_at + wait or self._is_urgent():
            self._tell_changes(now)

    def _is_news(self) -> bool:
        return any(self._told.get(worker, ())[:3] != _state(worker)[:3] for worker in self._changed)

    def _is_urgent(self) -> bool:
        if self._scheduler.own_request_waits and not self._told_waiting:
            return True
        if not self._wanted:
            return False
        return any(_has_room(worker) and not self._told_room(worker) for worker in self._changed)

    def _told_room(self, worker: Worker) -> bool:
        told = self._told.get(worker)
        return told is not None and told[0]

    # What

    def _tell(self, offer: Offer, now: float) -> None:
        worth_telling = offer.workers or offer.gone or offer.waits or self._told_at is not None
        if worth_telling:
            self._told_at = now
            self._told_waiting = offer.waits
            self._gone.clear()
            self._changed.clear()
            self._told_sets.update(offer.command_sets)
            for offered in offer.workers:
                worker = self._by_number[offered.number]
                self._told[worker] = _state(worker)
            if offer.whole:
                self._misled = False
                self._whole_at = now
        if worth_telling or offer.asks:
            for message in offer_messages(offer):
                self._backplane.tell_all(OFFER, message)

    def _tell_changes(self, now: float) -> None:
        workers = [self._offered(worker) for worker in self._changed if self._told.get(worker) != _state(worker)]
        self._changed.clear()
        if not workers and not self._gone and self._scheduler.own_request_waits is self._told_waiting:
            return
        sets = {number: _listed(commands) for commands, number in self._sets.items() if number not in self._told_sets}
        waits = self._scheduler.own_request_waits
        self._tell(Offer(False, waits, sets, workers, list(self._gone), process=self._process), now)

    def _everything(self, *, asks: bool = False) -> Offer:
        offered = [worker for worker in self._scheduler.workers if worker.pool is not None]
        used = {worker.commands for worker in offered}
        self._sets = {commands: number for commands, number in self._sets.items() if commands in used}
        workers = [self._offered(worker) for worker in offered]
        sets = {number: _listed(commands) for commands, number in self._sets.items()}
        waits = self._scheduler.own_request_waits
        return Offer(True, waits, sets, workers, [], process=self._process, asks=asks)

    def _offered(self, worker: Worker) -> OfferedWorker:
        number = self._numbers.get(worker)
        if number is None:
            number = self._numbers[worker] = self._next_number()
            self._by_number[number] = worker
        commands = self._sets.get(worker.commands)
        if commands is None:
            commands = self._sets[worker.commands] = self._next_number()
        has: dict[str, int] = {}
        for request in worker.requests.values():
            guest = request.guest
            if guest is not None and guest.chosen is worker:
                has[guest.node] = has.get(guest.node, 0) + 1
        return OfferedWorker(
            number,
            commands,
            worker.client_id,
            worker.weight,
            worker.full_capacity,
            max(len(worker.requests), worker.full_capacity) if worker.blocked else len(worker.requests),
            round(worker.statistics.average, 6),
            worker.sick,
            has,
        )

    def _next_number(self) -> int:
        self._numbered += 1
        return self._numbered


def _has_room(worker: Worker) -> bool:
    return len(worker.requests) < worker.capacity


def _state(worker: Worker) -> _Told:
    """What others choose by; the first three at once."""
    return _has_room(worker), worker.sick, worker.full_capacity, len(worker.requests)


def _listed(commands: frozenset[str] | None) -> list[str] | None:
    return None if commands is None else sorted(commands)
