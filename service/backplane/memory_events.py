"""MemoryEvents: the event log of a process that is alone, and its outbox. Everything ends with the process.

Bounded: `kept` events and MAX_BYTES of them wait to be delivered at most; with more the oldest are dropped and counted.
Of dead letters DEAD_KEPT are kept.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

import trio

from service.core.back_end_events import BackEndEvent, Stored, order_of, user_event
from service.core.deadlines import DeadlineWheel
from service.core.ports import Monotonic

DEAD_KEPT: Final = 100
MAX_BYTES: Final = 64 << 20
"""Bytes of the events that wait; one of any size may."""


class MemoryEvents:
    """See the module. `kept` 0: nothing is delivered. `offline_seconds`: how long a user must have been without a
    connection."""

    def __init__(
        self,
        *,
        kept: int,
        offline_seconds: float,
        now: Monotonic,
        wall: Monotonic,
        make_id: Callable[[], str],
        node: str,
    ) -> None:
        self._kept = kept
        self._offline_seconds = offline_seconds
        self._now = now
        self._wall = wall
        self._make_id = make_id
        self._node = node
        self._users: dict[str, set[str]] = {}
        self._connections: dict[str, str | None] = {}
        self._offline: DeadlineWheel[str] = DeadlineWheel(0.1)
        self._entries: OrderedDict[str, Stored] = OrderedDict()
        self._size = 0
        self._number = 0
        self._more = trio.Event()
        self.dead: deque[tuple[Stored, str]] = deque(maxlen=DEAD_KEPT)
        self.dropped = 0

    # The EventLog

    def append(self, event: BackEndEvent) -> None:
        """See EventLog."""
        if event.event == "registered":
            self._put(event)
            self._on_registered(event)
        elif event.event == "left":
            if event.connection in self._connections:
                self._put(event)
                self._on_left(event)
        else:
            self._put(event)

    def _on_registered(self, event: BackEndEvent) -> None:
        connection, user = event.connection, event.user_id
        assert connection is not None
        self._connections[connection] = user
        if user is None:
            return
        here = self._users.setdefault(user, set())
        here.add(connection)
        if len(here) == 1:
            if user in self._offline:
                self._offline.discard(user)
            else:
                self._put(self._of_user("user_online", user))

    def _on_left(self, event: BackEndEvent) -> None:
        connection = event.connection
        assert connection is not None
        user = self._connections.pop(connection)
        if user is None:
            return
        here = self._users[user]
        here.discard(connection)
        if not here:
            del self._users[user]
            self._offline.add(user, self._now() + self._offline_seconds)

    def _of_user(self, name: str, user: str) -> BackEndEvent:
        return user_event(name, user, self._make_id(), self._wall(), self._node)

    def tick(self) -> None:
        """Say who is offline by now. To be called every 100 ms or so."""
        for user in self._offline.expire(self._now()):
            self._put(self._of_user("user_offline", user))

    def _put(self, event: BackEndEvent) -> None:
        if not self._kept:
            return
        self._size += len(event.body)
        while self._entries and (len(self._entries) >= self._kept or self._size > MAX_BYTES):
            _, oldest = self._entries.popitem(last=False)
            self._size -= len(oldest.body)
            self.dropped += 1
        self._number += 1
        key = str(self._number)
        self._entries[key] = Stored(key, order_of(event), event.id, event.event, event.body, self._wall())
        self._more.set()

    # The outbox

    @property
    def owned(self) -> bool:
        """Nobody else delivers."""
        return True

    @property
    def waiting(self) -> int:
        """Events that are not delivered yet."""
        return len(self._entries)

    async def own(self) -> None:
        """Nobody else delivers."""
        await trio.lowlevel.checkpoint()

    async def keep(self) -> None:
        """Nobody else delivers."""
        await trio.sleep_forever()

    async def read(self, after: str, count: int) -> Sequence[Stored]:
        """Up to `count` of those behind `after`, the oldest first."""
        await trio.lowlevel.checkpoint()
        behind = int(after or 0)
        if behind >= self._number:
            return ()
        return list(islice((entry for entry in self._entries.values() if int(entry.key) > behind), count))

    async def wait(self) -> None:
        """Until there may be more."""
        await self._more.wait()
        self._more = trio.Event()

    async def settle(self, keys: Sequence[str]) -> None:
        """These were delivered."""
        await trio.lowlevel.checkpoint()
        for key in keys:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._size -= len(entry.body)

    async def bury(self, entry: Stored, reason: str) -> None:
        """This one can't be."""
        await self.settle([entry.key])
        self.dead.append((entry, reason))
