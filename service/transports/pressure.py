"""Pressure: how much may wait for peers that read slowly, and for how long.

Bytes alone don't say who is slow: a push of 2 MB is there at once, and the fastest reader needs a moment for it. So a
connection is closed with 4008 for one of three reasons, and for no other:

- More than `limit` bytes wait, and within `slow_seconds` its peer took next to nothing (less than LEAST). For example a
  phone that went into a tunnel with 3 MB on the way to it is gone after 5 s; one that takes 20 KB a second stays.
- More waits than `hard_limit` and what the peer took within the last `slow_seconds` together.
- More than `total_limit` bytes wait in the process. Then those that take least are closed, until it is less. A frame
  that several connections wait for counts once, since it is in memory once.

As much again may be kept of messages that come in and are not whole yet: see `unfinished`.

Knows connections as things that wait (`Waiting`), never a socket; one for all transports of a process. Only those with
a backlog are known here: a connection whose peer takes all that it is sent costs nothing.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

import trio

from service.core.counters import Metric
from service.core.standstill import Standstill

from .unfinished import Unfinished

LEAST: Final = 16 * 1024
"""Bytes that a peer must take within `slow_seconds` while more than the limit waits."""
FRAME_COST: Final = 64
"""Bytes that a waiting frame costs besides its own: a backlog of empty messages is bounded too."""
LOOK: Final = 0.25
"""Seconds between two looks at those with a backlog."""


class Waiting(Protocol):
    """A connection with a backlog."""

    @property
    def waiting(self) -> int:
        """Bytes that wait to go out."""

    @property
    def frame_count(self) -> int:
        """How many frames wait."""

    def first_frames(self, count: int) -> Iterable[bytes]:
        """The frames that go out next."""

    def last_frames(self, count: int) -> Iterable[bytes]:
        """The frames that were queued last, in any order."""

    def taken(self) -> int:
        """Bytes that the peer has taken since the connection was made, as far as is known."""

    def close_slow(self) -> None:
        """Close it with 4008. What waits is thrown away."""


class Ledger:
    """How many bytes wait in the process, each object counted once."""

    def __init__(self) -> None:
        self.total = 0
        self._holders: dict[int, int] = {}

    def hold(self, frame: bytes) -> None:
        """One connection more has this frame waiting."""
        key = id(frame)  # it is alive, and its id its own, as long as it waits anywhere
        holders = self._holders.get(key)
        if holders is None:
            self._holders[key] = 1
            self.total += len(frame) + FRAME_COST
        else:
            self._holders[key] = holders + 1

    def release(self, frame: bytes) -> None:
        """One connection less has it waiting."""
        key = id(frame)
        holders = self._holders[key] - 1
        if holders:
            self._holders[key] = holders
        else:
            del self._holders[key]
            self.total -= len(frame) + FRAME_COST


class _Backlog:
    """What is known of one connection's backlog."""

    __slots__ = ("before", "held", "over_since", "over_start", "since", "start")

    def __init__(self, now: float, taken: int) -> None:
        self.held = 0  # frames, from the first, that are in the ledger
        # The present stretch of `slow_seconds`: when it began, what the peer had taken then, and what it took in the
        # stretch before.
        self.since = now
        self.start = taken
        self.before = 0
        # The same for the stretch in which more than the limit has been waiting all the time; None while it isn't.
        self.over_since: float | None = None
        self.over_start = 0


class Pressure:
    """The backlogs of one process. All sizes in bytes, times in seconds on `clock`."""

    def __init__(
        self,
        *,
        limit: int,
        hard_limit: int,
        total_limit: int,
        slow_seconds: float,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.limit: Final = limit
        self._hard_limit = hard_limit
        self._total_limit = total_limit
        self._slow_seconds = slow_seconds
        self._clock = clock
        self._backlogs: dict[Waiting, _Backlog] = {}
        self._ledger = Ledger()
        # What comes in is bounded like what goes out.
        self.unfinished = Unfinished(total_limit)

    def metrics(self) -> list[Metric]:
        """How things are now, for the counters' `others`."""
        return [
            Metric("outbound_bytes", "Bytes that wait for slow peers, each frame once.", self._ledger.total),
            Metric("connections_with_backlog", "Connections for which something waits.", len(self._backlogs)),
            Metric("unfinished_bytes", "Bytes kept of messages that are not whole yet.", self.unfinished.total),
        ]

    async def run(self) -> None:
        """Look at the backlogs now and then, until cancelled. Cancelling is safe."""
        standstill = Standstill(LOOK, trio.current_time())
        while True:
            with trio.move_on_after(LOOK):
                await self.unfinished.exceeded.wait()
            self.unfinished.relieve()
            if standstill.may_judge(trio.current_time()):
                self.look()

    # What connections tell.

    def entered(self, connection: Waiting) -> None:
        """Something waits for the peer of this connection; may be said again."""
        if connection not in self._backlogs:
            self._backlogs[connection] = _Backlog(self._clock(), connection.taken())

    def forget(self, connection: Waiting) -> None:
        """Nothing will wait any more, or all of it is thrown away. To be said while the frames are still there."""
        backlog = self._backlogs.pop(connection, None)
        if backlog is not None and backlog.held:
            for frame in connection.first_frames(backlog.held):
                self._ledger.release(frame)

    def written(self, connection: Waiting, count: int) -> None:
        """The first `count` frames have gone out. To be said while they are still there."""
        backlog = self._backlogs.get(connection)
        if backlog is not None and backlog.held:
            known = min(count, backlog.held)
            backlog.held -= known
            for frame in connection.first_frames(known):
                self._ledger.release(frame)

    def admits(self, connection: Waiting) -> bool:
        """Whether one more frame may be queued, where more than the limit waits. May close this one, and others."""
        self.entered(connection)
        backlog = self._backlogs[connection]
        self._hold(connection, backlog)
        if self._ledger.total > self._total_limit:
            self._relieve(self._clock())
            if connection not in self._backlogs:
                return False
        cost = connection.waiting + FRAME_COST * connection.frame_count
        if cost <= self._hard_limit:
            return True
        return cost <= self._hard_limit + max(connection.taken() - backlog.start, backlog.before)

    # Looking at all of them.

    def look(self) -> None:
        """Close who is too slow, and who takes least while there is too much in all."""
        now = self._clock()
        for connection, backlog in list(self._backlogs.items()):
            self._hold(connection, backlog)
            if now - backlog.since >= self._slow_seconds:
                taken = connection.taken()
                backlog.since, backlog.start, backlog.before = now, taken, taken - backlog.start
            if connection.waiting <= self.limit:
                backlog.over_since = None
            elif backlog.over_since is None:
                backlog.over_since, backlog.over_start = now, connection.taken()
            elif now - backlog.over_since >= self._slow_seconds:
                taken = connection.taken()
                if taken - backlog.over_start < LEAST:
                    self._close(connection)
                else:
                    backlog.over_since, backlog.over_start = now, taken
        if self._ledger.total > self._total_limit:
            self._relieve(now)

    def _hold(self, connection: Waiting, backlog: _Backlog) -> None:
        fresh = connection.frame_count - backlog.held
        if fresh > 0:
            backlog.held += fresh
            for frame in connection.last_frames(fresh):
                self._ledger.hold(frame)

    def _relieve(self, now: float) -> None:
        def rate(connection: Waiting) -> float:
            backlog = self._backlogs[connection]
            took = connection.taken() - backlog.start + backlog.before
            return took / (now - backlog.since + (self._slow_seconds if backlog.before else 0) + LOOK)

        for connection in sorted(self._backlogs, key=rate):
            if self._ledger.total <= self._total_limit:
                return
            self._close(connection)

    def _close(self, connection: Waiting) -> None:
        connection.close_slow()
        self.forget(connection)
