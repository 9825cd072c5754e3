"""Requests and workers: the records that dispatch moves about.

They hold state and decide nothing; `scheduler` and `request_table` change them. They know no session: a caller is
anything that takes an answer (`Caller`), a link anything that passes a request on to a worker (`WorkerLink`).
Requests and workers refer to each other, and a worker to the pool that offers it, so all three stand in this file.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from enum import Enum, StrEnum
from typing import ClassVar, Final, Protocol

from msgspec import Raw, Struct

WINDOW: Final = 300.0
"""Seconds over which a worker's health is judged."""
_BUCKETS: Final = 10
_BUCKET_SECONDS: Final = WINDOW / _BUCKETS
_MIN_ANSWERS: Final = 5
_SICK_SHARE: Final = 0.5

SMOOTHING: Final = 0.2
"""What one response time weighs in the moving average."""
FAIR_CHANCE: Final = 1.0
"""Seconds that a worker has had a request, at least, if it is to blame for not having answered in time."""
_MEAN_OF: Final = 50
SLACK: Final = 0.010
"""Seconds by which response times may differ without it meaning anything."""


class OutcomeKind(StrEnum):
    """How a request ended; a label of the metrics."""

    OK = "ok"
    ERROR = "error"
    NO_WORKERS = "no_workers"
    BUSY = "busy"
    TIMEOUT = "timeout"
    LOST = "lost"
    CANCELLED = "cancelled"


UNREACHED: Final = (OutcomeKind.NO_WORKERS, OutcomeKind.BUSY)
"""No worker was reached, so there was no attempt."""


class Verdict(Enum):
    """What became of a worker's answer."""

    ACCEPTED = "accepted"
    LATE = "late"  # to a request that is over: dropped and counted
    UNKNOWN = "unknown"  # to a request that this worker was never sent


class Outcome(Struct, eq=False, gc=False):
    """What a caller is told. `data` on success, `error` otherwise; `processed_by` where a worker answered."""

    kind: OutcomeKind
    success: bool = False
    data: Raw | None = None
    error: str | None = None
    processed_by: str | None = None
    partial: bool = False


class Caller(Protocol):
    """The maker of a request: a session, or a back end that calls over HTTP. Callers are told apart by identity, and
    workers take from their parties in turn, those that are trusted first."""

    @property
    def party(self) -> str:
        """Whom the caller counts for where requests wait: an address, a user, a key. It is asked for only then, and
        when the request goes to another node."""

    @property
    def trusted(self) -> bool:
        """True if the caller has shown a key: its requests don't wait behind those of callers that haven't. Stays what
        it is while a request of the caller waits."""

    def on_answer(self, request: "Request", outcome: Outcome) -> None:
        """An answer came: any number of partial ones if a stream was asked for, then one final one. Must not wait or
        raise. May be called before the `submit` that made the request has returned."""


class WorkerLink(Protocol):
    """The connection of a worker, or of a client that is asked something. Must not wait or raise."""

    def send_request(self, request: "Request", deadline_ms: int) -> None:
        """Pass the request on. `deadline_ms`: how much of its time remains, at least 1."""

    def send_cancel(self, request: "Request") -> None:
        """Tell the worker that the answer is no longer wanted."""


class _Gone:
    """The link of a worker that has left. It replaces the real one, so that the session can be freed."""

    __slots__ = ()

    def send_request(self, request: "Request", deadline_ms: int) -> None:
        """Nobody is there."""

    def send_cancel(self, request: "Request") -> None:
        """Nobody is there."""


GONE: Final = _Gone()


class Guest:
    """Of a request that belongs to another `node`: which, and the worker here that it has `chosen`, if any."""

    __slots__ = ("chosen", "node")

    def __init__(self, node: str, chosen: "Worker | None" = None) -> None:
        self.node = node
        self.chosen = chosen


class Request(Struct, eq=False):
    """A request, from `submit` to its final answer. Times in seconds on the dispatcher's clock.

    `token` is the caller's own name for it; `data` the parameters as JSON; `attempt` the number of times it was sent.
    It is at a `worker`, or waits in a `line` of the queue, or is `over`: exactly one of the three. A `guest` belongs
    to another node, which sent it here for one attempt at a worker of this node.

    A Struct, as Outcome is, because msgspec fills one in without a line of Python; equal is what is the same.
    """

    id: str
    caller: Caller
    token: str | None
    command: str
    data: Raw
    timeout: float
    stream: bool
    affinity: str | None
    idempotent: bool
    submitted_at: float
    deadline: float
    sent_at: float = 0.0
    sent_as: str = ""  # the name of the attempt, at another node
    attempt: int = 0
    retries: int = 0  # attempts that were counted as such
    direct: bool = False  # for one client and no other
    guest: Guest | None = None
    partial_sent: bool = False
    over: bool = False
    worker: "Worker | None" = None
    line: Hashable = None
    tried: tuple[str, ...] = ()  # client ids of the workers that were lost with it

    def __repr__(self) -> str:
        return f"<Request {self.id}>"


class Statistics:
    """How a worker is doing: the share of errors in the last 5 minutes, and a moving average of its response times.

    A response time above twice the average (and 10 ms) counts as that much: one hiccup doesn't make a worker slow, many
    do. The average starts at 0: a new worker counts as quick until it has answered.
    """

    __slots__ = (
        "_answers",
        "_bucket",
        "_errors",
        "_recent_answers",
        "_recent_errors",
        "_turn_at",
        "answers",
        "average",
        "errors",
    )

    def __init__(self) -> None:
        self.answers = 0
        self.errors = 0
        self.average = 0.0
        self._answers = [0] * _BUCKETS
        self._errors = [0] * _BUCKETS
        self._recent_answers = 0
        self._recent_errors = 0
        self._bucket = 0
        self._turn_at = _BUCKET_SECONDS

    def record(self, now: float, seconds: float, failed: bool) -> None:
        """One answer after `seconds`, or none in time (then `failed`)."""
        if now >= self._turn_at:
            self._turn(int(now / _BUCKET_SECONDS))
        place = self._bucket % _BUCKETS
        self.answers += 1
        self._answers[place] += 1
        self._recent_answers += 1
        if failed:
            self.errors += 1
            self._errors[place] += 1
            self._recent_errors += 1
        average = self.average
        most = 2 * average + SLACK
        self.average = average + SMOOTHING * ((seconds if seconds < most else most) - average)

    def is_overdue(self, seconds: float, patience: float) -> bool:
        """True if a worker that has had a request for so long is to blame that there is no answer yet.

        `patience`: seconds that the caller gave the request, waiting in the queue included, or the usual time-out if
        that is less. The worker is to blame if it had FAIR_CHANCE seconds, a quarter of these, and twice its own usual
        time or half of these. Otherwise overload would make healthy workers look sick, because what has waited is sent
        moments before its time is up; and so would callers with very short time-outs.
        """
        return seconds >= max(FAIR_CHANCE, patience / 4, min(2 * self.average, patience / 2))

    def error_share(self, now: float) -> float:
        """Errors ÷ answers over the window, 0.0 to 1.0."""
        self._turn(int(now / _BUCKET_SECONDS))
        return self._recent_errors / self._recent_answers if self._recent_answers else 0.0

    def sick(self, now: float) -> bool:
        """True with more than half of at least 5 answers in the window being errors."""
        return self.error_share(now) > _SICK_SHARE and self._recent_answers >= _MIN_ANSWERS

    def _turn(self, bucket: int) -> None:
        for gone in range(self._bucket + 1, min(bucket, self._bucket + _BUCKETS) + 1):
            place = gone % _BUCKETS
            self._recent_answers -= self._answers[place]
            self._recent_errors -= self._errors[place]
            self._answers[place] = self._errors[place] = 0
        self._bucket = bucket
        self._turn_at = (bucket + 1) * _BUCKET_SECONDS


class Mean:
    """A moving mean of times in seconds: early ones count alike, later ones for a fiftieth each. One above twice the
    mean (and 10 ms) counts as that much, as in Statistics."""

    __slots__ = ("_count", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._count = 0

    def record(self, seconds: float) -> None:
        """One more."""
        value = self.value
        most = 2 * value + SLACK
        if self._count < _MEAN_OF:
            self._count += 1
        self.value = value + ((seconds if seconds < most else most) - value) / self._count


class Way:
    """The way to the workers of one node: the mean `time` that requests are on it, there and back, and which of its
    workers answered when of those that still count as load (`distance`), oldest first."""

    __slots__ = ("answered_at", "answered_by", "time")

    def __init__(self) -> None:
        self.time = Mean()
        self.answered_at: deque[float] = deque()
        self.answered_by: deque[Worker] = deque()


class Pool(Protocol):
    """Workers that serve the same commands and have room, in the order of one strategy (`balancing`)."""

    def add_worker(self, worker: "Worker") -> None:
        """This worker has room now."""

    def remove_worker(self, worker: "Worker") -> None:
        """This worker has no more room, or is gone."""

    def on_load_changed(self, worker: "Worker") -> None:
        """This worker got or answered a request, and still has room."""


class Worker:
    """A program that answers requests: `full_capacity` at a time, for these `commands` (None: every one)."""

    remote: ClassVar[bool] = False
    """True for workers of other nodes (`remote_workers`)."""

    __slots__ = (
        "alive",
        "capacity",
        "client_id",
        "commands",
        "full_capacity",
        "index",
        "lately",
        "level",
        "link",
        "offered",
        "others",
        "passed_over",
        "pool",
        "requests",
        "sick",
        "statistics",
        "turn",
        "weight",
        "work",
    )

    def __init__(
        self,
        link: WorkerLink,
        client_id: str | None,
        commands: frozenset[str] | None,
        capacity: int,
        weight: float,
        statistics: Statistics,
    ) -> None:
        self.link = link
        self.client_id = client_id
        self.commands = commands
        self.full_capacity = capacity  # what it says that it takes
        self.capacity = capacity  # what it takes now: nothing more while its link is blocked
        self.weight = weight
        self.statistics = statistics
        self.requests: dict[str, Request] = {}  # sent and not answered, by id
        self.others = 0  # how many it has besides, of other nodes
        self.alive = True
        self.sick = False
        # Where the worker stands in its pool's order; only `pools` and `balancing` write these.
        self.pool: Pool | None = None
        self.offered = False
        self.level: OrderedDict[Worker, None] | None = None
        self.index = 0
        self.turn = 0
        self.passed_over = 0
        # What this node has seen of it, for `distance`, which alone writes these.
        self.work = Mean()  # seconds that it takes
        self.lately = 0  # requests that it has answered, and that still count

    @property
    def outstanding(self) -> int:
        """The number of requests it has not answered."""
        return len(self.requests)

    @property
    def load(self) -> float:
        """Outstanding requests ÷ weight, as least_loaded compares it."""
        return len(self.requests) / self.weight

    @property
    def takes_work(self) -> bool:
        """False while it has said that it takes no more requests (capacity 0)."""
        return self.full_capacity > 0

    @property
    def may_return(self) -> bool:
        """True if it is gone, as far as anybody knows, and may be there again as what it was."""
        return False

    def takes(self, command: str) -> bool:
        """True if it takes requests for this command: it serves it, and has not said that it takes no more."""
        return self.takes_work and self.serves(command)

    @property
    def blocked(self) -> bool:
        """True while its link has so much to send that it gets nothing more."""
        return self.capacity < self.full_capacity

    def serves(self, command: str) -> bool:
        """True if this command is one of its own."""
        return self.commands is None or command in self.commands


class WorkerStatus(Struct, frozen=True):
    """A worker, as lists of workers show it. `commands` None: every one; `average_ms`: the moving average."""

    client_id: str | None
    commands: list[str] | None
    capacity: int
    weight: float
    outstanding: int
    answers: int
    errors: int
    error_share: float
    average_ms: float
    healthy: bool
