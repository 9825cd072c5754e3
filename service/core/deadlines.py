"""Many deadlines, kept cheaply: a timing wheel, for sessions, requests and the connections of the reactor.

Knows keys and moments, never what they mean, and reads no clock. Promises: no key comes out before its
deadline, and each that is not discarded comes out once, at the first `expire` that is at least one resolution
past its deadline. Adding and discarding cost the same whether ten keys wait or a million.

The wheel has a slot for each moment that some key waits for, not a fixed number of slots in a ring. So a deadline
in a year costs no more than one in a second.
"""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from math import ceil, floor
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

SPARE_SLOTS: Final = 1024
"""Empty slots that are left lying; above twice the number of keys and these, they are swept up."""


class DeadlineWheel(Generic[K]):
    """Deadlines by key; all times in seconds on one clock. `resolution`: how late a key may come out, > 0."""

    __slots__ = ("_due", "_per_second", "_slot_of", "_slots")

    def __init__(self, resolution: float = 0.1) -> None:
        if not resolution > 0:
            raise ValueError(f"the resolution must be above 0 seconds, not {resolution}")
        self._per_second = 1.0 / resolution
        self._slots: dict[int, dict[K, None]] = {}
        self._due: list[int] = []  # a heap of the slots' numbers, each once
        self._slot_of: dict[K, dict[K, None]] = {}

    def __len__(self) -> int:
        return len(self._slot_of)

    def __contains__(self, key: K) -> bool:
        return key in self._slot_of

    def add(self, key: K, deadline: float) -> None:
        """Wait for `deadline` (finite); a key that waits already gets the new deadline instead."""
        number = ceil(deadline * self._per_second)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._open(number)
        slot_of = self._slot_of
        if key in slot_of:
            del slot_of[key][key]
        slot[key] = None
        slot_of[key] = slot

    def discard(self, key: K) -> None:
        """Wait for this key no longer; one that doesn't wait is left alone."""
        slot = self._slot_of.pop(key, None)
        if slot is not None:
            del slot[key]

    def expire(self, now: float) -> list[K]:
        """Take out the keys whose time has come: earlier slots first, within a slot in the order of adding."""
        last = floor(now * self._per_second)
        expired: list[K] = []
        while self._due and self._due[0] <= last:
            slot = self._slots.pop(heappop(self._due))
            for key in slot:
                del self._slot_of[key]
            expired.extend(slot)
        return expired

    def _open(self, number: int) -> dict[K, None]:
        if len(self._slots) >= 2 * len(self._slot_of) + SPARE_SLOTS:
            self._slots = {due: keys for due, keys in self._slots.items() if keys}
            self._due = list(self._slots)
            heapify(self._due)
        slot: dict[K, None] = {}
        self._slots[number] = slot
        heappush(self._due, number)
        return slot
