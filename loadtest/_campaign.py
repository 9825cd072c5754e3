"""One process's part of a load test: what runs in it, what it measured, and whether it is ending.

Knows steps, stages, connections and the tally; never sockets. Every measurement passes through here, so that each
is counted once, in the stage in which it was meant to begin, and none is after the end.
"""

from __future__ import annotations

import contextlib
import random
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Final, Protocol

from gevent.event import Event

from loadtest._figures import Attempts, Count, Fault, Part, Strain
from loadtest._histogram import Histogram
from loadtest._kept import KeptPushes
from loadtest._reactor import Reactor
from loadtest._schedule import Schedule
from loadtest._tally import Tally

REQUEST_TYPES: Final = {
    "discover": "HTTP",
    "connect": "WS",
    "register": "WS",
    "resume": "WS",
    "heartbeat": "WS",
    "push": "HTTP",
    "batch": "HTTP",
    "delivery": "WS",
    "broadcast": "WS",
    "durable": "WS",
    "request": "WS",
    "partial": "WS",
}
"""Each step's type in locust's statistics."""

_TRANSCRIPTS: Final = 20
# What fell due less than this many seconds before the end is not counted as never sent: a load may stand still so long.
_GRACE: Final = 1.0


class Environment(Protocol):
    """Locust's, so far as it is used here: locust itself patches whatever process imports it."""

    @property
    def parsed_options(self) -> Namespace | None:
        """The command line's options."""

    @property
    def host(self) -> str | None:
        """The gateway's base URL."""


class UnansweredError(Exception):
    """What was asked got no answer while the test lasted."""


class Member(Protocol):
    """A registered connection that can be pushed to."""

    user_id: str
    slot: int

    def unanswered(self) -> int:
        """How many answers it waits for."""

    def abandon(self, error: Exception) -> None:
        """Report those as failed."""

    def break_off(self, wait: float) -> None:
        """Have it end its connection without a good-bye, and come back after so many seconds."""


class Campaign:
    """One process's part of a load test.

    Attributes:
        tally: what only the sum over all processes can judge.
        run: marks this test's pushes; the same in all its processes.
        processes: how many processes share the work.
        members: the connections that can be pushed to now, in no order.
        awaited: pushes to one user that are under way: by step and number, whom for.
        kept: the durable pushes, by user.
        keepers: users that durable pushes are for, whether they are there or away; if there are none, any member is.
        connection_ids: those of the connections there are.
        asked: how many requests are under way.
        waiting: when each push was due that waits to be sent.
        arrived: how many users have been registered at least once, less those that were stopped.
        held_at: the Unix time at which the end began (what is due later is not sent), None before.
        finished: nothing is measured any more.
        clock_offset: seconds to add to this machine's clock for the master's.
        clock_error: by how many seconds that may be wrong.
        may_begin: set when users may come. A worker's wait until it knows the plan and the master's clock: what is
            timed by another clock counts for another time.
        rate: users that come per second, over all processes.
        source_addresses: how many local addresses connections come from, if more than one is needed.
        random: this process's own, as forked processes would otherwise draw the same numbers.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._in_flight: dict[object, tuple[str, float]] = {}
        self.random = random.Random()
        self.name = self.mark()
        self.run = self.name
        self.processes = 1
        self.strain = Strain()
        self.reactor = Reactor(lambda seconds: self.strain.read_late.record(seconds))
        self.schedule = Schedule()
        self.clock_offset = 0.0
        self.clock_error = 0.0
        self.may_begin = Event()
        self.may_begin.set()
        self.rate = 1.0
        self.source_addresses = 1
        self._clients = 0
        self._reset()

    def _reset(self) -> None:
        self.tally = Tally()
        self.parts: dict[int, Part] = {}
        self.strains: dict[int, Strain] = {}
        self.faults: list[Fault] = []
        self.told = 0
        self.arrived = 0
        self.asked = 0
        self.waiting: dict[object, float] = {}
        self._stages: list[tuple[float, int]] = [(0.0, 0)]
        self._next_start = 0.0
        self.members: list[Member] = []
        self.awaited: dict[tuple[str, int], str] = {}
        self.kept: dict[str, KeptPushes] = {}
        self.keepers: list[str] = []
        self.connection_ids: set[str] = set()
        self._present: dict[str, float] = {}
        self.held_at: float | None = None
        self.finished = False
        self._in_flight.clear()

    @property
    def options(self) -> Namespace:
        """The command line's options."""
        options: Namespace | None = self._environment.parsed_options
        assert options is not None
        return options

    @property
    def host(self) -> str:
        """The gateway's base URL."""
        return self._environment.host or ""

    def mark(self) -> str:
        """A name that nothing else has: of a process, or of one test."""
        return f"{self.random.getrandbits(40):010x}"

    def begin(self) -> None:
        """A test starts: forget the one before."""
        self._reset()

    def begin_stage(self, index: int, start: float) -> None:
        """From this Unix time of the master's on, what begins belongs to that stage."""
        self._stages.append((start - self.clock_offset, index))

    def take(self) -> tuple[dict[int, Part], dict[int, Strain], Tally, list[Fault]]:
        """Hand over what was counted since the last time."""
        taken = self.parts, self.strains, self.tally, self.faults
        self.parts, self.strains, self.tally, self.faults = {}, {}, Tally(), []
        return taken

    def note_strain(self) -> None:
        """How this process fared until now belongs to the stage that is under way."""
        self.strains.setdefault(self._stages[-1][1], Strain()).add(self.strain)
        self.strain = Strain()

    def storm(self, share: float, window: float) -> None:
        """Have that share of the members cut their connections, and come back within so many seconds."""
        for member in list(self.members):
            if self.random.random() < share:
                member.break_off(self.random.uniform(0, window))

    def next_client(self) -> str:
        """A client's name that no other client of any process has."""
        self._clients += 1
        return self.name_of(self._clients)

    def name_of(self, number: int) -> str:
        """The name of a client of this process: they count from 1."""
        return f"load-{self.name}-{number}"

    def source(self) -> str | None:
        """The local address for the next connection; None where the kernel may choose."""
        if self.source_addresses < 2:
            return None
        return f"127.0.0.{1 + self.random.randrange(self.source_addresses)}"

    def turn(self) -> float:
        """Take a turn to connect: the seconds to wait, so that those who start in a second do so evenly over it."""
        now = time.time()
        start = max(now, self._next_start)
        self._next_start = start + self.processes / self.rate
        return start - now

    def stage_of(self, began: float) -> int:
        """The stage to which that Unix time of this machine's belongs."""
        for start, index in reversed(self._stages):
            if began >= start:
                return index
        return self._stages[0][1]

    def part(self, stage: int) -> Part:
        """What is counted of that stage."""
        part = self.parts.get(stage)
        if part is None:
            part = self.parts[stage] = Part()
        return part

    def count(self, kind: str, stage: int) -> Count:
        """What is counted of that kind of delivery in that stage."""
        deliveries = self.part(stage).deliveries
        count = deliveries.get(kind)
        if count is None:
            count = deliveries[kind] = Count()
        return count

    def kept_of(self, user: str) -> KeptPushes:
        """That user's durable pushes."""
        kept = self.kept.get(user)
        if kept is None:
            kept = self.kept[user] = KeptPushes(user)
        return kept

    def report(self, step: str, began: float, ended: float, size: int = 0, error: Exception | None = None) -> None:
        """Count one attempt at a step, unless the end has passed.

        Args:
            step: its name.
            began: the Unix time at which it was meant to begin.
            ended: when it ended.
            size: bytes received.
            error: why it failed, if it did.
        """
        if self.finished:
            return
        # As in `stage_of`, which is for the rare case that it began before the stage did.
        start, stage = self._stages[-1]
        steps = self.part(stage if began >= start else self.stage_of(began)).steps
        attempts = steps.get(step)
        if attempts is None:
            attempts = steps[step] = Attempts()
        attempts.times.record(ended - began)
        attempts.size += size
        if error is not None:
            text = repr(error)
            attempts.errors[text] = attempts.errors.get(text, 0) + 1

    def answered(self, node: str, began: float, ended: float) -> None:
        """A node took so long for a heartbeat."""
        if not self.finished:
            nodes = self.part(self.stage_of(began)).nodes
            times = nodes.get(node)
            if times is None:
                times = nodes[node] = Histogram()
            times.record(ended - began)

    @contextlib.contextmanager
    def step(self, step: str, intended: float | None = None) -> Iterator[list[float]]:
        """Time what is done inside, and count it as failed if an Exception leaves it.

        What is done may put into the list when it ended: the arrival of an answer, before this greenlet's turn came.

        Args:
            step: its name.
            intended: when it was meant to begin (Unix time), if not now.
        """
        began = time.time() if intended is None else intended
        token, ended = object(), list[float]()
        self._in_flight[token] = (step, began)
        try:
            yield ended
        except Exception as error:
            self.report(step, began, time.time(), error=error)
            raise
        else:
            self.report(step, began, ended[0] if ended else time.time())
        finally:
            self._in_flight.pop(token, None)

    def fault(self, kind: str, client: str, began: float, messages: list[str]) -> None:
        """The gateway said what it must not say."""
        if self.finished:
            return
        errors = self.part(self.stage_of(began)).protocol_errors
        errors[kind] = errors.get(kind, 0) + 1
        if self.told < _TRANSCRIPTS:
            self.told += 1
            self.faults.append(Fault(kind, client, began, messages))

    def join(self, at: float, *, owed: bool = True) -> None:
        """A connection was registered at that Unix time; `owed`: pushes to all must reach it."""
        if not self.finished:
            (self.tally.registered if owed else self.tally.came).append(at + self.clock_offset)

    def left(self, at: float, *, owed: bool = True) -> None:
        """A registered connection was no more at that Unix time: pushes sent from then on are not owed to it."""
        if not self.finished:
            (self.tally.ended if owed else self.tally.went).append(at + self.clock_offset)

    def is_there(self, user: str, since: float) -> bool:
        """Whether the user has been connected, without a break, since that Unix time."""
        return self._present.get(user, float("inf")) <= since

    def enter(self, member: Member) -> None:
        """From now on the member can be pushed to."""
        self._present[member.user_id] = time.time()
        member.slot = len(self.members)
        self.members.append(member)

    def withdraw(self, member: Member) -> None:
        """From now on the member can't be pushed to; one that couldn't before is ignored."""
        if member.slot < 0:
            return
        self._present.pop(member.user_id, None)
        last = self.members.pop()
        if last is not member:
            self.members[member.slot] = last
            last.slot = member.slot
        member.slot = -1

    def disconnected(self, reason: str) -> None:
        """A registered connection ended without our wishing it."""
        if not self.finished:
            disconnects = self.part(self.stage_of(time.time())).disconnects
            disconnects[reason] = disconnects.get(reason, 0) + 1

    def hold(self) -> None:
        """Begin the end: from now on nothing new is sent, and answers are still taken."""
        if self.held_at is None:
            self.held_at = time.time()
            self.strain.never_sent += self.schedule.overdue(self.held_at - _GRACE)

    def unanswered(self) -> int:
        """How many steps, heartbeats and pushes are under way, or due and not sent yet."""
        return (
            len(self._in_flight)
            + len(self.waiting)
            + len(self.awaited)
            + self.asked
            + sum(member.unanswered() for member in self.members)
        )

    def finish(self) -> None:
        """End the test: what is still under way has failed, and nothing counts from now on."""
        if self.finished:
            return
        # Left out of the statistics, the slowest answers of all would flatter them.
        error = UnansweredError("unanswered when the test ended")
        now = time.time()
        for step, began in self._in_flight.values():
            self.report(step, began, now, error=error)
        for member in self.members:
            member.abandon(error)
        self.finished = True
