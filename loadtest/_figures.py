"""What one process counted in one stage, in a form that adds up over processes.

Knows plain numbers; never sockets, never locust. Each process counts, hands over what is new every second, and the
judge adds it to the sum.
"""

from __future__ import annotations

import msgspec

from loadtest._histogram import Histogram

DELIVERY_KINDS = ("aimed", "broadcast", "durable")
"""The kinds of pushes, each with losses of its own: to one user, to all, to one user and kept."""


class Attempts(msgspec.Struct):
    """All attempts at one step.

    Attributes:
        times: of every attempt, failed ones too.
        errors: how often it failed for which reason.
        size: bytes received.
    """

    times: Histogram = msgspec.field(default_factory=Histogram)
    errors: dict[str, int] = {}
    size: int = 0

    def add(self, other: Attempts) -> None:
        """Add another's."""
        self.times.add(other.times)
        add_counts(self.errors, other.errors)
        self.size += other.size

    @property
    def failures(self) -> int:
        """How many failed."""
        return sum(self.errors.values())


class Count(msgspec.Struct):
    """Deliveries of one kind. What broadcasts should have reached is in the tally: no process knows it alone."""

    expected: int = 0
    delivered: int = 0
    doubled: int = 0
    reordered: int = 0
    misdirected: int = 0

    def add(self, other: Count) -> None:
        """Add another's."""
        self.expected += other.expected
        self.delivered += other.delivered
        self.doubled += other.doubled
        self.reordered += other.reordered
        self.misdirected += other.misdirected


class Part(msgspec.Struct):
    """Everything of one stage.

    Attributes:
        steps: by step.
        deliveries: by kind.
        protocol_errors: what the gateway must not have said, by kind.
        disconnects: connections that ended without our wishing it, by reason.
        matched: how many connections broadcasts reached by their receipts.
        nodes: the times of heartbeats by the node that answered.
    """

    steps: dict[str, Attempts] = {}
    deliveries: dict[str, Count] = {}
    protocol_errors: dict[str, int] = {}
    disconnects: dict[str, int] = {}
    matched: int = 0
    nodes: dict[str, Histogram] = {}

    def add(self, other: Part) -> None:
        """Add another's."""
        for step, attempts in other.steps.items():
            self.steps.setdefault(step, Attempts()).add(attempts)
        for kind, count in other.deliveries.items():
            self.deliveries.setdefault(kind, Count()).add(count)
        add_counts(self.protocol_errors, other.protocol_errors)
        add_counts(self.disconnects, other.disconnects)
        self.matched += other.matched
        for node, times in other.nodes.items():
            self.nodes.setdefault(node, Histogram()).add(times)


class Strain(msgspec.Struct):
    """How one process fared in one stage; see `loadtest._result.Load`.

    Attributes:
        seconds: for how long it was watched.
        late: by how much its timer was late.
        send_late: by how much what it sent left later than meant.
        read_late: how long what had arrived lay unread.
        cpu: seconds of processor time.
        run_delay: seconds for which it was ready to run and did not.
        stolen: ticks that the machine's host gave to others.
        ticks: all ticks of the machine.
        unstamped: reads without a stamp of the kernel's.
        messages, blurred: see `loadtest._reactor.Reactor`.
    """

    seconds: float = 0.0
    late: Histogram = msgspec.field(default_factory=Histogram)
    send_late: Histogram = msgspec.field(default_factory=Histogram)
    read_late: Histogram = msgspec.field(default_factory=Histogram)
    cpu: float = 0.0
    run_delay: float = 0.0
    stolen: int = 0
    ticks: int = 0
    run_queue: int = 0
    memory: int = 0
    never_sent: int = 0
    clock_step: float = 0.0
    unstamped: int = 0
    messages: int = 0
    blurred: int = 0

    def add(self, other: Strain) -> None:
        """Add what the same process counted later, or in another stage."""
        self.seconds += other.seconds
        self.late.add(other.late)
        self.send_late.add(other.send_late)
        self.read_late.add(other.read_late)
        self.cpu += other.cpu
        self.run_delay += other.run_delay
        self.stolen += other.stolen
        self.ticks += other.ticks
        self.run_queue = max(self.run_queue, other.run_queue)
        self.memory = max(self.memory, other.memory)
        self.never_sent += other.never_sent
        self.clock_step = max(self.clock_step, other.clock_step)
        self.unstamped += other.unstamped
        self.messages += other.messages
        self.blurred += other.blurred


class Fault(msgspec.Struct):
    """One protocol error, with the last messages on its connection."""

    kind: str
    client: str
    at: float
    messages: list[str]


def add_counts(counts: dict[str, int], others: dict[str, int]) -> None:
    """Add one table of counts to another."""
    for name, count in others.items():
        counts[name] = counts.get(name, 0) + count
