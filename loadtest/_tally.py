"""What only the whole test can know: who was registered when, and which pushes reached whom.

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
    """Registrations, disconnects and deliveries. All times are Unix seconds: they cross process borders.

    Attributes:
        registered: when each connection was registered.
        ended: when each of those was no more.
        disconnects: connections that ended without our wishing it, by reason.
        aimed_sent: pushes sent to one registered connection.
        aimed_delivered: how many of them arrived there, each counted once.
        broadcasts: when each push to all was sent.
        broadcast_delivered: arrivals of those at connections that were registered when they were sent, each
            counted once.
    """

    registered: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    disconnects: dict[str, int] = field(default_factory=dict)
    aimed_sent: int = 0
    aimed_delivered: int = 0
    broadcasts: list[float] = field(default_factory=list)
    broadcast_delivered: int = 0

    def add(self, other: Tally) -> None:
        """Add what another process counted since it last handed its own over."""
        self.registered += other.registered
        self.ended += other.ended
        for reason, count in other.disconnects.items():
            self.disconnects[reason] = self.disconnects.get(reason, 0) + count
        self.aimed_sent += other.aimed_sent
        self.aimed_delivered += other.aimed_delivered
        self.broadcasts += other.broadcasts
        self.broadcast_delivered += other.broadcast_delivered

    def peak_registered(self) -> int:
        """The largest number of connections that were registered at the same moment."""
        # Of two that fall on the same instant the end comes first, or a reconnect would count twice.
        moves = sorted([(at, 1) for at in self.registered] + [(at, -1) for at in self.ended])
        peak = now = 0
        for _, change in moves:
            now += change
            peak = max(peak, now)
        return peak

    def expected(self) -> int:
        """Deliveries that there should be, of the pushes sent so far."""
        registered, ended = sorted(self.registered), sorted(self.ended)
        return self.aimed_sent + sum(bisect_right(registered, at) - bisect_left(ended, at) for at in self.broadcasts)

    def delivered(self) -> int:
        """Deliveries that there were."""
        return self.aimed_delivered + self.broadcast_delivered
