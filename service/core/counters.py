"""Counters and latency histograms as plain numbers, cheap enough for the hot path.

Nothing here knows Prometheus: `http.health` reads these when somebody asks for /metrics.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

LATENCY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latency buckets, in seconds."""


class Histogram:
    """Observations in seconds, counted by bucket; the last bucket is open."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.buckets[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.sum += seconds


class Metric(NamedTuple):
    """One number of a part that the core doesn't know. `counts`: it only grows, from the process's start on."""

    name: str
    text: str
    value: float
    counts: bool = False


class Counters:
    """Everything that this node has counted since it started. Attributes are added to in place."""

    def __init__(self) -> None:
        self.messages_in = 0
        self.bytes_in = 0
        self.messages_out = 0
        self.bytes_out = 0
        self.handshakes_refused = 0
        self.protocol_errors = 0
        self.contained_errors = 0
        self.internal_errors = 0
        self.slow_closed = 0
        self.mute_closed = 0
        self.handshakes_timed_out = 0
        self.accept_pauses = 0
        self.refused_by_limit: Counter[str] = Counter()  # by limit
        self.proofs_refused: Mapping[str, int] = {}  # by cause
        self.refused: Mapping[str, int] = {}  # by cause
        self.background_restarts: Counter[str] = Counter()  # by task
        self.connections_opened: Counter[str] = Counter()  # by transport
        self.connections_closed: Counter[str] = Counter()  # by close code
        self.faults: Counter[tuple[str, str]] = Counter()  # by dialect and error code
        self.pushes: Counter[str] = Counter()  # by target kind
        self.push_deliveries = 0
        self.pushes_dropped = 0
        self.streams_broken = 0
        self.requests: Counter[str] = Counter()  # by outcome
        self.requests_retried = 0
        self.late_answers = 0
        self.answers_mended = 0
        self.chat_answers: Counter[str] = Counter()  # by ending
        self.chat_tokens: Counter[str] = Counter()  # by kind
        self.answers_rejected = 0
        self.http_requests: Counter[tuple[str, str, str]] = Counter()  # by route, method and status
        self.http_bytes_in = 0
        self.http_bytes_out = 0
        self.http_latency = Histogram()
        self.request_latency = Histogram()
        self.push_latency = Histogram()
        self.chat_first_token_latency = Histogram()
        self.others: list[Callable[[], Iterable[Metric]]] = []
        """What other parts count: asked when somebody wants to know."""
