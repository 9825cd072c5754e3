"""Subscription: the one link by which a node hears what is published on Redis.

Knows channels, and which of them are wanted; nothing of what their messages mean. Promises:
- What is wanted is subscribed as soon as Redis is in reach, after every loss of the link again. It holds what is
  wanted, not a log of requests: at most one request of a channel is under way, and its answer decides the next.
- Messages of one channel come in the order in which Redis sent them. After a loss some may be missing: `on_gap`.
- A link that is dead, frozen or deaf is found out: the node publishes canaries to a channel of its own, and must hear
  them. Until it does, `trouble` says so.
- The observer's methods are plain calls from one task. What they raise is logged and ends nothing.

Bounded: the commands under way by the channels wanted, what is read by the largest message; a message beyond that is
passed over and counted. When Redis drops the link because this node is too slow, that is a gap like any other.
"""

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum, auto
from functools import partial
from itertools import islice
from typing import Final, Protocol

import structlog
import trio

from .address import Connector
from .faults import MalformedReply, Refusal, Unreachable, reason
from .link import Link, until_one_fails
from .pubsub import ERROR, MESSAGE, SUBSCRIBED, UNSUBSCRIBED, PubSubReader, Reply
from .resp import encode

LARGEST_PAYLOAD: Final = 8 << 20
"""Bytes of one message on a channel; a larger one is passed over, and counted."""
CANARY_EVERY: Final = 1.0
DEAF_AFTER: Final = 3.0
"""Seconds without a canary, in which this process ran, until that is trouble."""
CLOSED_AFTER: Final = 5.0
"""Seconds without a canary, likewise, until the link is given up."""
TICK: Final = 0.1
"""Seconds between two looks whether a canary has come."""
CHANNELS_A_COMMAND: Final = 1000
# Of a tick that took longer so much counts.
_LONGEST_TICK: Final = 2 * TICK
_READ: Final = 65_536
_PASS_MESSAGES: Final = 512
_PASS_SECONDS: Final = 0.002
_CLOCK_EVERY: Final = 16
_SHOWN: Final = 200
"""Bytes of a channel's name in the log."""


class _Standing(Enum):
    """How a channel stands on this link; one that is missing isn't subscribed, and nothing was asked."""

    ASKED = auto()
    HELD = auto()
    GIVEN_UP = auto()


class _Waiter:
    """Somebody who is told when the last of some channels is subscribed."""

    __slots__ = ("done", "missing")

    def __init__(self, missing: int, done: Callable[[], None]) -> None:
        self.missing = missing
        self.done = done


class SubscriptionObserver(Protocol):
    """Who is told what comes."""

    def on_message(self, channel: bytes, payload: bytes) -> None:
        """A message came; also still on a channel that has just been given up."""

    def on_read(self) -> None:
        """A batch of messages was handled."""

    def on_gap(self) -> None:
        """All that is wanted is subscribed again after a loss: some messages may be missing."""


class Subscription:
    """One node's subscriptions at Redis, over one link.

    `name` is what CLIENT LIST shows; `probe` publishes a payload to a channel over another connection, and gives how
    many heard it, if it knows; `canary` is a channel that only this node publishes to.

    `sharded` tells the channels that are of one shard of a cluster only, if there are such.

    For metrics: `messages`, `bytes`, `too_large`, `reconnects`, `callback_failures`, `wanted`, `subscribed`, and
    `canary_seconds`, the time that the last canary took.
    """

    def __init__(
        self,
        connector: Connector,
        observer: SubscriptionObserver,
        *,
        name: str = "",
        probe: Callable[[bytes, bytes], Awaitable[object]],
        canary: bytes,
        log: structlog.typing.FilteringBoundLogger,
        sharded: Callable[[bytes], bool] | None = None,
        limit: int = LARGEST_PAYLOAD,
    ) -> None:
        # Its canaries find out that it is not where this node publishes to.
        self._link = Link(connector, name=name, purpose="subscriptions", follow=False, log=log)
        self._probe = probe
        self._canary = canary
        self._observer = observer
        self._log = log
        self._sharded = sharded
        self._limit = limit
        self._wanted: set[bytes] = {canary}
        self._linked = False
        self._standing: dict[bytes, _Standing] = {}
        # Channels whose standing may not be what is wanted; looked at by the writer.
        self._unsettled: dict[bytes, None] = {}
        self._wake = trio.Event()
        self._waiters: defaultdict[bytes, list[_Waiter]] = defaultdict(list)
        # What was wanted when this link came up and isn't subscribed yet.
        self._resuming: set[bytes] = set()
        self._gap = False
        self._sent: dict[bytes, float] = {}
        self._heard_at = 0.0
        self._unreachable: str | None = "This node has not reached Redis yet."
        self._deaf: str | None = None
        self.messages = 0
        self.bytes = 0
        self.too_large = 0
        self.reconnects = 0
        self.callback_failures = 0
        self.subscribed = 0
        self.canary_seconds = 0.0

    @property
    def trouble(self) -> str | None:
        """Why this node may not hear everything (a sentence), or None."""
        return self._unreachable or self._deaf

    @property
    def wanted(self) -> int:
        """How many channels are wanted, the canary's among them."""
        return len(self._wanted)

    def want(self, channels: Iterable[bytes], done: Callable[[], None] | None = None) -> None:
        """Subscribe to these from now on; wanting twice is wanting once. `done` is called exactly once: when each of
        them is subscribed, or not wanted any more; maybe at once, maybe after an outage. Never waits."""
        channels = set(channels)
        self._wanted |= channels
        missing = [channel for channel in channels if self._standing.get(channel) is not _Standing.HELD]
        if missing:
            self._unsettle(missing)
            if done is not None:
                waiter = _Waiter(len(missing), done)
                for channel in missing:
                    self._waiters[channel].append(waiter)
        elif done is not None:
            self._call(done)

    def unwant(self, channels: Iterable[bytes]) -> None:
        """Give these up; messages that are on their way still come."""
        channels = self._wanted.intersection(channels) - {self._canary}
        self._wanted -= channels
        self._unsettle(channels)
        for channel in channels:
            self._settled(channel)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the link up until cancelled. Started at once, whether Redis is there or not. Cancelling is safe."""
        task_status.started()
        await self._link.keep(self._use, self._on_down)

    def _on_down(self, why: str) -> None:
        self._unreachable = f"This node is not subscribed to Redis: {why}."

    async def _use(self, stream: trio.abc.Stream) -> None:
        self._linked = True
        self._resuming = set(self._wanted)
        self._unsettle(self._wanted)
        self._sent.clear()
        self._heard_at = trio.current_time()
        if self._gap:
            self.reconnects += 1
        try:
            await until_one_fails(
                partial(self._read, stream, PubSubReader(self._limit)),
                partial(self._write, stream),
                self._send_canaries,
                self._await_canaries,
            )
        finally:
            # From here on nothing counts as subscribed; whoever wants something now waits for the next link.
            self._linked = False
            self._standing.clear()
            self._unsettled.clear()
            self._resuming.clear()
            self.subscribed = 0
            self._gap = True
            self._deaf = None

    # Reading

    async def _read(self, stream: trio.abc.Stream, reader: PubSubReader) -> None:
        while data := await stream.receive_some(_READ):
            self.bytes += len(data)
            await self._take(reader.feed(bytes(data)))
        raise Unreachable("it closed the connection")

    async def _take(self, replies: Iterable[Reply]) -> None:
        """Hand on what one read brought, giving way to other tasks after so many messages or so much time."""
        count, until = 0, trio.current_time() + _PASS_SECONDS
        on_message, canary = self._observer.on_message, self._canary
        try:
            for kind, channel, payload in replies:
                if kind is not MESSAGE:
                    self._answered(kind, channel)
                elif payload is None:
                    self.too_large += 1
                    if _worth_logging(self.too_large):
                        self._log.warning(
                            "a message on Redis is too large, and was dropped",
                            channel=channel[:_SHOWN].decode("utf-8", "replace"),
                            limit=self._limit,
                            count=self.too_large,
                        )
                elif channel == canary:
                    self._on_canary(payload)
                else:
                    self.messages += 1
                    try:
                        on_message(channel, payload)
                    except Exception as error:
                        self._failed(error)
                count += 1
                if not count % _CLOCK_EVERY and (count >= _PASS_MESSAGES or trio.current_time() >= until):
                    self._call(self._observer.on_read)
                    await trio.lowlevel.checkpoint()
                    count, until = 0, trio.current_time() + _PASS_SECONDS
        finally:
            self._call(self._observer.on_read)

    def _answered(self, kind: bytes, channel: bytes) -> None:
        if kind is ERROR:
            raise Refusal(channel.decode("utf-8", "replace"))
        asked = self._standing.get(channel)
        if kind is SUBSCRIBED and asked is _Standing.ASKED:
            self._standing[channel] = _Standing.HELD
            self.subscribed += 1
            if channel in self._wanted:
                self._settled(channel)
            else:
                self._unsettle([channel])
        elif kind is not SUBSCRIBED and asked is _Standing.GIVEN_UP:
            del self._standing[channel]
            if channel in self._wanted:
                self._unsettle([channel])
        elif kind is UNSUBSCRIBED and asked is _Standing.HELD:
            raise Unreachable("it has given up a channel, whose slot another serves now")
        else:
            raise MalformedReply("an answer that nobody asked for")

    def _settled(self, channel: bytes) -> None:
        """It is subscribed, or not wanted any more: nobody needs to wait for it."""
        for waiter in self._waiters.pop(channel, ()):
            waiter.missing -= 1
            if not waiter.missing:
                self._call(waiter.done)
        if channel in self._resuming:
            self._resuming.remove(channel)
            if not self._resuming:
                self._resumed()

    def _resumed(self) -> None:
        self._unreachable = None
        self._link.is_up()
        if self._gap:
            self._call(self._observer.on_gap)

    # Writing

    def _unsettle(self, channels: Iterable[bytes]) -> None:
        if not self._linked:
            return  # the next link begins with all that is wanted then
        self._unsettled.update(dict.fromkeys(channels))
        if self._unsettled:
            self._wake.set()

    async def _write(self, stream: trio.abc.Stream) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._unsettled:
                batch = list(islice(self._unsettled, CHANNELS_A_COMMAND))
                for channel in batch:
                    del self._unsettled[channel]
                if commands := self._commands(batch):
                    await stream.send_all(commands)

    def _commands(self, channels: Iterable[bytes]) -> bytes:
        """What brings these nearer to what is wanted. One that has an answer to come is left until it has come."""
        ask: list[bytes] = []
        give_up: list[bytes] = []
        for channel in channels:
            standing = self._standing.get(channel)
            if channel in self._wanted:
                if standing is None:
                    self._standing[channel] = _Standing.ASKED
                    ask.append(channel)
            elif standing is _Standing.HELD:
                self._standing[channel] = _Standing.GIVEN_UP
                self.subscribed -= 1
                give_up.append(channel)
        return self._request(b"SUBSCRIBE", ask) + self._request(b"UNSUBSCRIBE", give_up)

    def _request(self, verb: bytes, channels: list[bytes]) -> bytes:
        there: list[bytes] = []
        if self._sharded is not None:
            there = [channel for channel in channels if self._sharded(channel)]
            channels = [channel for channel in channels if not self._sharded(channel)]
        command = encode([verb, *channels]) if channels else b""
        return command + (encode([b"S" + verb, *there]) if there else b"")

    # Canaries

    async def _send_canaries(self) -> None:
        number = 0
        while True:
            number += 1
            payload = b"%d-%d" % (number, random.getrandbits(64))
            self._sent[payload] = trio.current_time()
            hears = self._standing.get(self._canary) is _Standing.HELD
            reached: object = None
            with trio.move_on_after(CLOSED_AFTER):
                try:
                    reached = await self._probe(self._canary, payload)
                except Exception as error:
                    self._log.debug("a canary could not be published", reason=reason(error))
            if hears and reached == 0:
                # It was a master, perhaps: then what it hears comes too late and is counted by nobody.
                raise Unreachable("it is another Redis than the one that this node publishes to")
            await trio.sleep(CANARY_EVERY)

    def _on_canary(self, payload: bytes) -> None:
        sent = self._sent.pop(payload, None)
        if sent is not None:
            self._heard_at = trio.current_time()
            self.canary_seconds = self._heard_at - sent
            self._sent.clear()
            self._deaf = None

    async def _await_canaries(self) -> None:
        """Notice that nothing is heard. Only time in which this process ran counts: while it is stopped, or gets no
        time of a busy machine, it sends no canaries either, and what came meanwhile waits to be read."""
        heard_at, silent = self._heard_at, 0.0
        while True:
            before = trio.current_time()
            await trio.sleep(TICK)
            silent += min(trio.current_time() - before, _LONGEST_TICK)
            if self._heard_at != heard_at:
                heard_at, silent = self._heard_at, 0.0
            elif silent >= CLOSED_AFTER:
                raise Unreachable(f"this node did not hear itself through it for {CLOSED_AFTER:g} s")
            elif silent >= DEAF_AFTER:
                self._deaf = f"This node has not heard itself through Redis for {DEAF_AFTER:g} s."

    # Callbacks

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.callback_failures += 1
        if _worth_logging(self.callback_failures):
            self._log.error("a message from Redis was not handled", count=self.callback_failures, exc_info=error)


def _worth_logging(count: int) -> bool:
    """Ever more rarely: the 1st, 2nd, 4th, 8th … time."""
    return not count & (count - 1)
