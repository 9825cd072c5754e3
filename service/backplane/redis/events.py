"""RedisEvents: the event log of a deployment on Redis, its outbox, and the stream that other programs read.

Each node appends its own events in order; between nodes the order is that of arrival at Redis. Redis also keeps who is
connected at each node. When a node dies, the node that cleans up after it appends a `left` for each of its connections.
Events and connections change in one script, so each connection has one `left`, even if two nodes append it. A user's
connections over all nodes are a set; the first in it makes the user online, and after the last the user is offline once
`offline_seconds` have passed.

What a node can't append now waits, with Redis away: MAX_UNWRITTEN events and MAX_UNWRITTEN_BYTES at most; with more the
oldest are dropped and counted. An append whose answer was lost is made again, and counts once. If Redis has lost
everything, or has thrown away any key of these for want of memory, each node notices within OFFLINE_EVERY seconds, and
says who is here before it goes on. What waited in an outbox that was thrown away is counted as dropped.

One node at a time delivers the outbox: the one that holds its lease in Redis.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

import msgspec
import trio

from service.core.back_end_events import LARGEST, BackEndEvent, Stored, order_of
from service.redis.faults import Refusal, Unreachable
from service.redis.resp import Word
from service.redis.scripts import Ask

from .scripts import EVENTS_APPEND, EVENTS_OFFLINE, EVENTS_OWN

BATCH: Final = 100
BATCH_BYTES: Final = 1 << 20
MAX_UNWRITTEN: Final = 20_000
MAX_UNWRITTEN_BYTES: Final = 64 << 20
AGAIN: Final = 0.25
"""Seconds between two tries while Redis is away."""
OFFLINE_EVERY: Final = 0.25
OWN_SECONDS: Final = 10.0
"""How long an owner of the outbox that says nothing keeps it."""
POLL: Final = 0.25
"""Seconds between two looks at the outbox, for what other nodes have put there."""
DEAD_KEPT: Final = 1000
LOST: Final = -1
BURIED: Final = -2
OUTBOX_LOST: Final = -2
BURIED_SECONDS: Final = 60
"""How long a node that was told as left may find out by itself that it was, before it says again who is here."""
_FAULTS: Final = (Refusal, Unreachable)
_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, object]).decode


class RedisEvents:
    """One node's part. `ask` reaches Redis; `node` is the node's name now; `present` gives a `registered` of everybody
    who is here. `stream` and `outbox`: how many events they hold (0: there is none)."""

    def __init__(
        self,
        ask: Ask,
        prefix: str,
        *,
        stream: int,
        outbox: int,
        offline_seconds: float,
        node: Callable[[], str],
        present: Callable[[], Iterable[BackEndEvent]],
    ) -> None:
        self._ask = ask
        self._prefix = prefix
        self._stream = stream
        self._outbox = outbox
        self._offline_ms = int(offline_seconds * 1000)
        self._node = node
        self._present = present
        self._instance = ""
        self._unwritten: deque[BackEndEvent] = deque()
        self._size = 0  # bytes of these
        self._written = 0  # under this instance
        self._marked = False  # whether Redis was told by it how many are here, and so must know it
        self._stirred = trio.Event()
        self._writing = trio.Lock()
        self._me = os.urandom(8).hex()
        self._owned_until = float("-inf")
        self._more = trio.Event()
        self.waiting = 0
        self.dropped = 0

    # The EventLog

    def append(self, event: BackEndEvent) -> None:
        """See EventLog."""
        self._unwritten.append(event)
        self._size += len(event.body)
        # Not the first ones: they may be on their way, and have their numbers.
        while len(self._unwritten) > BATCH and (
            len(self._unwritten) > MAX_UNWRITTEN or self._size > MAX_UNWRITTEN_BYTES + BATCH * LARGEST
        ):
            self._size -= len(self._unwritten[BATCH].body)
            del self._unwritten[BATCH]
            self.dropped += 1
        self._stirred.set()

    @property
    def unwritten(self) -> int:
        """Events that have not reached Redis yet."""
        return len(self._unwritten)

    # What the node's membership tells

    def begin(self, instance: str) -> None:
        """This node is known by this from now on. Another than before: the one before was buried, and all its
        connections were told as left."""
        if instance == self._instance:
            return
        again = bool(self._instance)
        self._instance = instance
        self._written, self._marked = 0, False
        if again:
            waiting = {event.connection for event in self._unwritten if event.event == "registered"}
            back = [event for event in self._present() if event.connection not in waiting]
            self._unwritten.extendleft(reversed(back))
            self._size += sum(len(event.body) for event in back)
        self._stirred.set()

    async def tell_left(self, instance: str, node: str, *, reason: str = "node_lost", code: int = 1006) -> int:
        """Tell everybody who was connected at a node as left. Returns how many. Raises Refusal or Unreachable; then a
        node, this one or another, does it again."""
        here = self._here(instance)
        number = 0
        # It may wake up meanwhile; what it would say of its connections was said.
        await self._ask("SET", self._at(instance), "buried", "EX", BURIED_SECONDS)
        while True:
            answer = await self._ask("HRANDFIELD", here, BATCH, "WITHVALUES")
            pairs = answer if isinstance(answer, list) else []
            if not pairs:
                break
            lefts = [
                _left(connection.decode(), value, node, reason, code)
                for connection, value in zip(pairs[::2], pairs[1::2], strict=True)
            ]
            # Under a writer's name of its own: what was said twice counts once anyway.
            await self._append(instance, lefts, 1, f"bury:{os.urandom(8).hex()}", ttl=True)
            number += len(lefts)
        return number

    async def finish(self) -> None:
        """Write what there is, and tell who is still here as left: this node goes. Raises Refusal or Unreachable."""
        while self._unwritten and await self._write_some():
            pass
        if self._instance:
            await self.tell_left(self._instance, self._node(), reason="the node ended", code=1001)

    # What lasts

    async def run(self) -> None:
        """Write until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._look_for_offline)

    async def _write(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred = trio.Event()
            while self._unwritten and self._instance:
                try:
                    if await self._write_some():
                        continue
                except _FAULTS:
                    pass
                await trio.sleep(AGAIN)

    async def _write_some(self) -> bool:
        """Write a batch; False where this node was buried, and is to begin anew."""
        async with self._writing:
            return await self._write_next()

    async def _write_next(self) -> bool:
        size = 0
        batch: list[BackEndEvent] = []
        for event in islice(self._unwritten, BATCH):
            size += len(event.body)
            if batch and size > BATCH_BYTES:
                break
            batch.append(event)
        instance, first = self._instance, self._written + 1
        dropped = await self._append(instance, batch, first, instance)
        if instance != self._instance:
            return True
        if dropped == BURIED:
            return False
        if dropped == LOST:
            await self._say_who_is_here()
            return True
        self.dropped += dropped
        self._written += len(batch)
        self._marked = True
        for _ in batch:
            self._size -= len(self._unwritten.popleft().body)
        self._more.set()
        return True

    async def _say_who_is_here(self) -> None:
        """Redis has lost what was written, or a part of it. Nobody is told of those who are here already."""
        instance = self._instance
        first: dict[str | None, BackEndEvent] = {}
        for event in self._unwritten:
            if event.event in ("registered", "left"):
                first.setdefault(event.connection, event)
        # Who left since was here, too; who came since is told by what is yet to be written.
        known = [event for event in first.values() if event.event == "left"]
        known += [event for event in self._present() if event.connection not in first]
        self._written, self._marked = 0, False
        await self._ask("DEL", self._at(instance))
        for at in range(0, len(known), BATCH):
            batch = [event._replace(event="present") for event in known[at : at + BATCH]]
            await self._append(instance, batch, 1, f"present:{os.urandom(8).hex()}", ttl=True)
        await self._append(instance, (), 1, instance)
        self._marked = True

    async def _append(
        self, instance: str, events: Sequence[BackEndEvent], first: int, writer: str, *, ttl: bool = False
    ) -> int:
        words: list[Word] = []
        for event in events:
            words += (event.event, event.connection or "", event.user_id or "", order_of(event), event.id, event.body)
        at = self._at(writer)
        keys = (*self._logs, self._here(instance), self._offline, at, self._users)
        marked = int(self._marked and writer == self._instance)
        new = os.urandom(8).hex()
        settings = (self._stream, self._outbox, first, marked, new, self._node(), self._offline_ms)
        answer = await EVENTS_APPEND.ask(self._ask, keys, (*settings, *words))
        if ttl:
            with suppress(*_FAULTS):
                await self._ask("DEL", at)
        assert isinstance(answer, int)
        return answer

    async def _look_for_offline(self) -> None:
        while True:
            await trio.sleep(OFFLINE_EVERY)
            with suppress(*_FAULTS):
                await self._look()

    async def _look(self) -> None:
        instance = self._instance
        keys = (*self._logs, self._offline, self._users, self._here(instance), self._at(instance))
        words = (self._stream, self._outbox, self._node(), f"{os.urandom(8).hex()}-", BATCH, os.urandom(8).hex())
        found = await EVENTS_OFFLINE.ask(self._ask, keys, (*words, self._offline_ms, int(self._marked)))
        if found == LOST:
            async with self._writing:
                if instance == self._instance:
                    await self._say_who_is_here()
        if found:
            self._more.set()

    @property
    def _logs(self) -> tuple[str, str]:
        return f"{self._prefix}events", f"{self._prefix}events:outbox"

    @property
    def _offline(self) -> str:
        return f"{self._prefix}events:offline"

    @property
    def _users(self) -> str:
        return f"{self._prefix}events:users"

    def _at(self, writer: str) -> str:
        return f"{self._prefix}events:at:{writer}"

    def _here(self, instance: str) -> str:
        return f"{self._prefix}events:here:{instance}"

    # The outbox

    @property
    def owned(self) -> bool:
        """Whether this node delivers, still: it has said so lately."""
        return trio.current_time() < self._owned_until

    async def own(self) -> None:
        """Wait until this node is the one that delivers."""
        while not await self._own():  # noqa: ASYNC110 - Redis has no event for a key that has run out
            await trio.sleep(OWN_SECONDS / 5)

    async def _own(self) -> bool:
        asked = trio.current_time()
        try:
            words = (self._me, int(OWN_SECONDS * 1000))
            keys = (f"{self._prefix}events:owner", self._logs[1], self._users)
            answer = await EVENTS_OWN.ask(self._ask, keys, words)
        except _FAULTS:
            return False
        if answer == OUTBOX_LOST:
            self.dropped, answer = self.dropped + self.waiting, 0
        if not isinstance(answer, int) or answer < 0:
            self._owned_until = float("-inf")
            return False
        # From before it was asked: Redis counts from later on.
        self._owned_until = asked + OWN_SECONDS * 0.9
        self.waiting = answer
        return True

    async def keep(self) -> None:
        """Stay the owner until cancelled, as long as it is that."""
        while True:
            await trio.sleep(OWN_SECONDS / 4)
            if self.owned:
                await self._own()

    async def read(self, after: str, count: int) -> Sequence[Stored]:
        """Up to `count` events behind the key `after`, the oldest first; none while Redis is away."""
        try:
            answer = await self._ask("XRANGE", self._logs[1], f"({after}" if after else "-", "+", "COUNT", count)
        except _FAULTS:
            await trio.sleep(AGAIN)
            return ()
        return [_stored(key, fields) for key, fields in answer] if isinstance(answer, list) else ()

    async def wait(self) -> None:
        """Until there may be more."""
        with trio.move_on_after(POLL):
            await self._more.wait()
        self._more = trio.Event()

    async def settle(self, keys: Sequence[str]) -> None:
        """These were delivered. While Redis is away it waits; who takes over then posts them again."""
        while self.owned:
            try:
                await self._ask("XDEL", self._logs[1], *keys)
            except _FAULTS:
                await trio.sleep(AGAIN)
            else:
                self.waiting = max(0, self.waiting - len(keys))
                return

    async def bury(self, entry: Stored, reason: str) -> None:
        """This one is given up: it goes to the dead letters."""
        with suppress(*_FAULTS):
            words = ("id", entry.id, "event", entry.event, "reason", reason, "json", entry.body)
            await self._ask("XADD", f"{self._prefix}events:dead", "MAXLEN", DEAD_KEPT, "*", *words)
        await self.settle([entry.key])


def _stored(key: bytes, fields: list[bytes]) -> Stored:
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    return Stored(
        key.decode(),
        found[b"order"].decode(),
        found[b"id"].decode(),
        found[b"event"].decode(),
        found[b"json"],
        float(found[b"born"]) / 1000,
    )


def _left(connection: str, registered: bytes, node: str, reason: str, code: int) -> BackEndEvent:
    """The `left` of a connection whose node can't tell it."""
    fields = _fields(registered)
    user, client = fields.get("user_id"), fields.get("client_id")
    event_id = f"{connection}-left"
    fields |= {"id": event_id, "event": "left", "node": node, "code": code, "reason": reason, "seconds": None}
    fields["timestamp"] = time.time()
    return BackEndEvent(
        event_id,
        "left",
        connection,
        user if isinstance(user, str) else None,
        client if isinstance(client, str) else None,
        _encode(fields),
    )
