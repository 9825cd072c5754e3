"""What only the whole test can know: who was registered when, and whom a push to all should have reached.

Knows plain numbers; never sockets, never locust. Every process keeps one, workers hand theirs to the master
in parts, and the master's sum is judged.

A push to all should reach every connection that was registered when it was sent, whichever process that
connection belongs to and whatever the gateway's receipt claims. So each process reports the moments at which
its connections were registered and ended and at which it sent such pushes, and the sum is exact.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Registrations and broadcasts. All times are Unix seconds: they cross process borders.

    Attributes:
        registered: when each connection was registered.
        ended: when each of those connections ended.
        came, went: the same for connections that need not get pushes to all, such as a slow reader's.
        broadcasts: for each push to all, the stage in which it was meant to be sent, and when it was.
    """

    registered: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    went: list[float] = field(default_factory=list)
    broadcasts: list[tuple[int, float]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another process counted since it last handed its own over."""
        self.registered += other.registered
        self.ended += other.ended
        self.came += other.came
        self.went += other.went
        self.broadcasts += other.broadcasts

    def now_registered(self) -> int:
        """How many connections are registered."""
        return len(self.registered) + len(self.came) - len(self.ended) - len(self.went)

    def peak_registered(self, start: float = 0.0, end: float = float("inf")) -> int:
        """The largest number of connections that were registered at the same moment of a span of time."""
        return self.range_registered(start, end)[1]

    def range_registered(self, start: float = 0.0, end: float = float("inf")) -> tuple[int, int, int]:
        """The fewest and the most connections that were registered at a moment of a span, and those at its end."""
        # Of two that fall on the same instant the end comes first, or a reconnect would count twice.
        came, went = self.registered + self.came, self.ended + self.went
        moves = sorted([(at, 1) for at in came if at <= end] + [(at, -1) for at in went if at <= end])
        now = sum(change for at, change in moves if at <= start)
        lowest = peak = now
        for at, change in moves:
            if at > start:
                now += change
                lowest, peak = min(lowest, now), max(peak, now)
        return lowest, peak, now

    def expected(self, stages: frozenset[int] | None = None) -> int:
        """Deliveries that there should be of the pushes to all; of those of some stages only, where these are given."""
        registered, ended = sorted(self.registered), sorted(self.ended)
        return sum(
            bisect_right(registered, at) - bisect_left(ended, at)
            for stage, at in self.broadcasts
            if stages is None or stage in stages
        )
