"""What a measuring push carries, and what a connection has seen of a publisher's: who got what, once, and in order.

Knows numbers; never sockets.
"""

from __future__ import annotations

import heapq
from typing import Final

import msgspec

PUSH_TYPE: Final = "load_test_push"
"""The event type of the pushes that measure."""

_REMEMBERED: Final = 256


class LoadMark(msgspec.Struct, frozen=True, array_like=True):
    """In JSON a list, as it is decoded for every delivery.

    Attributes:
        run: the test it belongs to.
        pusher: the process that sent it.
        number: counts that pusher's pushes of this kind upwards.
        after: the number up to which all of them had been accepted when this one was sent: it must come after those.
        stage: in which it was meant to be sent.
        intended: when that was, by the master's clock.
        sent: when it was sent.
        size: characters of padding beside it.
        user: whom it is for; None for all.
        sequence: where it is kept: counts this user's upwards, without a gap.
    """

    run: str
    pusher: str
    number: int
    after: int
    stage: int
    intended: float
    sent: float
    size: int
    user: str | None = None
    sequence: int | None = None


class Numbers:
    """One publisher's numbers of one kind, and up to which all are answered for."""

    def __init__(self) -> None:
        self._last = 0
        self._early: list[int] = []
        self.floor = 0

    def take(self) -> int:
        """The next number."""
        self._last += 1
        return self._last

    def answered(self, number: int) -> None:
        """The gateway accepted it, or never will."""
        heapq.heappush(self._early, number)
        while self._early and self._early[0] == self.floor + 1:
            self.floor = heapq.heappop(self._early)


class Seen:
    """The numbers of one publisher that one connection has received: the last 256 of them one by one."""

    __slots__ = ("_bits", "_floor", "_high")

    def __init__(self) -> None:
        self._high = 0
        self._bits = 0
        self._floor = 0

    def receive(self, number: int, after: int) -> str:
        """What a push is that came now: `new`, `doubled`, or `reordered` (new, but behind one that it goes before)."""
        if number > self._high:
            self._bits = ((self._bits << (number - self._high)) | 1) & ((1 << _REMEMBERED) - 1)
            self._high = number
        else:
            bit = 1 << (self._high - number)
            # What is that old is taken for a repetition: no order allows for it.
            if self._bits & bit or self._high - number >= _REMEMBERED:
                return "doubled"
            self._bits |= bit
        found = "reordered" if number <= self._floor else "new"
        self._floor = max(self._floor, after)
        return found
