"""Unfinished: how much a process keeps of messages that are not whole yet, over all its connections.

Each connection is bounded by the largest message that it may send; this bounds their sum. With more than `limit` bytes,
some of those that keep such messages are closed with 1013, until it is less: of the address that holds most together
(of IPv6 a /64), the connection that holds most. For example somebody who leaves 300 messages of 900 KB unfinished loses
some of these connections; a client elsewhere that sends 1 MB over a slow link goes on. Whoever may send without a rate
limit (a worker that has shown its secret) is closed only when nobody else is left.

Knows connections as things that hold (`Holder`), never a socket; one for all transports of a process. A connection is
known here only while it keeps more than COUNTED bytes: who sends whole messages of a usual size costs nothing.
"""

from heapq import heapify, heapreplace
from typing import Final, Protocol

import trio

from service.core.hosts import network

COUNTED: Final = 4096
"""Bytes that a connection may keep and not be counted: what is read at once."""
WHY: Final = "too much is kept of unfinished messages"
"""The reason of the Close."""


class Holder(Protocol):
    """A connection that keeps a message that is not whole yet."""

    @property
    def address(self) -> str:
        """Who it is, proxies taken into account."""

    @property
    def allowance(self) -> object:
        """What it may send in a second; None where that isn't bounded."""

    def close_crowded(self) -> None:
        """Close it with 1013. What there is of its message is thrown away."""


class Unfinished:
    """The unfinished messages of one process. All sizes in bytes."""

    def __init__(self, limit: int) -> None:
        self.total = 0
        self.exceeded = trio.Event()
        """Set when `relieve` is wanted; then it is another event."""
        self._limit = limit
        self._held: dict[Holder, int] = {}

    def keeps(self, connection: Holder, size: int) -> None:
        """So much it keeps now. Closes nobody."""
        if size > COUNTED:
            self.total += size - self._held.get(connection, 0)
            self._held[connection] = size
            if self.total > self._limit:
                self.exceeded.set()
        else:
            self.forget(connection)

    def forget(self, connection: Holder) -> None:
        """It keeps nothing more; may be said again."""
        self.total -= self._held.pop(connection, 0)

    def relieve(self) -> None:
        """Close connections until there is room. Never to be called from within the handling of one of them."""
        if self.exceeded.is_set():
            self.exceeded = trio.Event()
        if self.total <= self._limit:
            return
        shares: dict[tuple[bool, str], list[Holder]] = {}
        for connection in self._held:
            shares.setdefault((connection.allowance is None, network(connection.address)), []).append(connection)
        for holders in shares.values():
            holders.sort(key=self._held.__getitem__)
        # Those with an allowance first, then the biggest share; the number decides between equals.
        heap = [
            (unlimited, -sum(self._held[one] for one in holders), number, holders)
            for number, ((unlimited, _), holders) in enumerate(shares.items())
        ]
        heapify(heap)
        while self.total > self._limit:
            unlimited, share, number, holders = heap[0]
            connection = holders.pop()
            share += self._held[connection]
            self.forget(connection)
            connection.close_crowded()
            # One that is empty comes last of all.
            heapreplace(heap, (unlimited if holders else True, share if holders else 1, number, holders))
