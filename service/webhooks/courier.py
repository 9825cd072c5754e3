"""Courier: posts the events of an outbox to the webhook, each until it is accepted or given up.

At least once, and in order for each user: the next event of a user goes out when the one before was accepted or was
given up; those of different users don't wait for one another. An answer of 2xx accepts; anything else, and none within
the timeout, is tried again after a back-off of FIRST_PAUSE up to LONGEST_PAUSE seconds with jitter. An event is given
up when it is older than `give_up` seconds and was tried at least once: it goes to the dead letters, with the reason.
An answer's body is not looked at, and of no more than MAX_ANSWER bytes.

One node of a deployment delivers at a time, the one that owns the outbox; another takes over where it stops, and may
post again what was under way. Events are read AT_ONCE at a time, while fewer than WINDOW are in memory, and fewer than
WINDOW_BYTES of them; CONCURRENT are posted at a time.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog
import trio

from service.core.back_end_events import Stored
from service.core.counters import Metric
from service.outgoing.post import NotPosted, Poster

CONCURRENT: Final = 16
WINDOW: Final = 1000
WINDOW_BYTES: Final = 32 << 20
AT_ONCE: Final = 20
"""Events that are read at a time."""
MAX_ANSWER: Final = 64 << 10
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0
SHOWN_EVERY: Final = 60.0
"""Seconds between two lines of the log about a receiver that fails."""


class Outbox(Protocol):
    """Where events wait. Nothing here raises."""

    @property
    def owned(self) -> bool:
        """Whether this node delivers, still."""

    @property
    def waiting(self) -> int:
        """Events that are not delivered yet, as far as is known here."""

    async def own(self) -> None:
        """Wait until this node is the one that delivers."""

    async def keep(self) -> None:
        """Stay that one, if this node is it, until cancelled."""

    async def read(self, after: str, count: int) -> Sequence[Stored]:
        """Up to `count` events behind the key `after` (empty: the first), the oldest first."""

    async def wait(self) -> None:
        """Until there may be more."""

    async def settle(self, keys: Sequence[str]) -> None:
        """Note that these events were delivered."""

    async def bury(self, entry: Stored, reason: str) -> None:
        """Give an event up: keep it among the dead letters, with the reason."""


class Courier:
    """Delivers. `give_up` and `timeout` in seconds."""

    def __init__(
        self,
        outbox: Outbox,
        poster: Poster,
        *,
        timeout: float,
        give_up: float,
        wall: Callable[[], float],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._outbox = outbox
        self._poster = poster
        self._timeout = timeout
        self._give_up = give_up
        self._wall = wall
        self._log = log
        self._room: trio.CapacityLimiter
        self._lines: dict[str, deque[Stored]] = {}
        self._in_window = self._bytes = 0
        self._less = trio.Event()
        self._said_at = float("-inf")
        self.delivered = 0
        self.failed = 0
        self.dead = 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits, as far as is known here."""
        return not self._in_window and not self._outbox.waiting

    @property
    def waiting(self) -> int:
        """Events that are not delivered yet."""
        return self._outbox.waiting

    async def until_idle(self) -> None:
        """Wait until nothing waits any more. Cancelling is safe."""
        while not self.idle:  # noqa: ASYNC110 - for the last moments of a process only
            await trio.sleep(0.05)

    async def run(self) -> None:
        """Deliver until cancelled. Cancelling is safe: what is under way is posted again by the next owner."""
        self._room = trio.CapacityLimiter(CONCURRENT)
        try:
            while True:
                await self._outbox.own()
                self._lines.clear()
                self._in_window = self._bytes = 0
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._outbox.keep)
                    await self._read_on(nursery)
                    nursery.cancel_scope.cancel()
        finally:
            await self._poster.aclose()

    async def _read_on(self, nursery: trio.Nursery) -> None:
        """Read, and have what was read delivered, as long as this node is the one that delivers."""
        after = ""
        while self._outbox.owned:
            if self._in_window >= WINDOW or self._bytes >= WINDOW_BYTES:
                self._less = trio.Event()
                await self._less.wait()
                continue
            entries = await self._outbox.read(after, AT_ONCE)
            if not entries:
                await self._outbox.wait()
                continue
            after = entries[-1].key
            for entry in entries:
                self._in_window += 1
                self._bytes += len(entry.body)
                line = self._lines.get(entry.order)
                if line is None:
                    self._lines[entry.order] = line = deque([entry])
                    nursery.start_soon(self._deliver_line, entry.order, line)
                else:
                    line.append(entry)

    async def _deliver_line(self, order: str, line: deque[Stored]) -> None:
        while line:
            await self._deliver(line[0])
            self._bytes -= len(line.popleft().body)
            self._in_window -= 1
            self._less.set()
        del self._lines[order]

    async def _deliver(self, entry: Stored) -> None:
        pause = FIRST_PAUSE
        while self._outbox.owned:
            reason = await self._post(entry)
            if reason is None:
                self.delivered += 1
                await self._outbox.settle([entry.key])
                return
            self.failed += 1
            if self._wall() - entry.born > self._give_up:
                await self._outbox.bury(entry, reason)
                self.dead += 1
                self._log.warning("an event was given up", id=entry.id, event_name=entry.event, reason=reason)
                return
            self._say(reason)
            await trio.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(LONGEST_PAUSE, pause * 2)
        await trio.sleep_forever()  # another node delivers; `run` ends this one's

    async def _post(self, entry: Stored) -> str | None:
        """Why it was not accepted, or None."""
        headers = (("Portico-Event-Id", entry.id), ("Portico-Event", entry.event))
        try:
            async with self._room:
                posted = await self._poster.post(entry.body, timeout=self._timeout, headers=headers)
        except NotPosted as error:
            return str(error)
        return None if 200 <= posted.status < 300 else f"its status is {posted.status}"

    def _say(self, reason: str) -> None:
        now = trio.current_time()
        if now - self._said_at >= SHOWN_EVERY:
            self._said_at = now
            self._log.warning(
                "the webhook doesn't accept events; they are tried again", reason=reason, waiting=self._outbox.waiting
            )

    def metrics(self) -> list[Metric]:
        """How the deliveries are doing."""
        return [
            Metric("webhook_outbox", "Events that wait to be delivered.", self._outbox.waiting),
            Metric("webhook_delivered", "Events that the webhook has accepted.", self.delivered, True),
            Metric("webhook_failed", "Attempts that the webhook did not accept.", self.failed, True),
            Metric("webhook_dead", "Events that were given up.", self.dead, True),
        ]
