"""The history of durable events in memory: a list for each stream, bounded in length, age and bytes.

Offsets come from one counter for all streams. So one number, the highest offset of all that was forgotten, is enough to
say of a stream that is gone whether a client may have missed anything of it. Knows events and clocks; not who reads.

What is kept: `length` events a stream, `ttl` seconds each, `limit` bytes over all streams; beyond that the stream that
was written to longest ago goes first. A client that comes back for an event that went for one of these reasons is told
that it is lost. An event with a shorter time to live of its own is over when that has passed: its publisher wanted it
so, and nobody is told.

Bytes are counted as Python takes them (measured; see the constants), so `limit` bounds memory and not only data.
Source: protocol reference, "What is promised".
"""

from collections import OrderedDict, deque
from typing import Final, NamedTuple

from msgspec import Raw

from portico.wire.messages import Event
from service.core.deadlines import DeadlineWheel
from service.core.ports import Monotonic

EVENT_BYTES: Final = 420
"""Bytes that an event takes besides its data, its type and its place among others."""
STREAM_BYTES: Final = 280
"""Bytes that a stream takes besides its events: its name, its place in three tables, an empty list."""
LOOKED_AT: Final = 500
"""Streams that one `expire` looks at; the rest are for the next."""


class _Kept(NamedTuple):
    offset: int
    until: float
    size: int
    event: Event
    own: bool  # its own time to live is shorter than the history's


class _Stream:
    __slots__ = ("dropped", "due", "events")

    def __init__(self, dropped: int) -> None:
        self.events: list[_Kept] = []
        self.dropped = dropped  # the greatest offset that this stream may have lost
        self.due = 0.0  # when the first of its events is over; it is looked at then


class History:
    """The durable events of one process. `append` and `since` take no longer for more streams or events elsewhere."""

    def __init__(self, *, now: Monotonic, length: int, ttl: float, limit: int) -> None:
        self._now = now
        self._length = length
        self._ttl = ttl
        self._limit = limit
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._deadlines: DeadlineWheel[str] = DeadlineWheel(1.0)
        self._due: deque[str] = deque()
        self._forgotten = 0  # the greatest offset of a stream that was forgotten whole
        self._last = 0
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What it takes, roughly."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._streams)

    def append(self, stream: str, event: Event, ttl: float | None) -> Event:
        """Keep an event; gives it back with its stream and offset."""
        now = self._now()
        self._last += 1
        # A copy: as it came, it keeps the whole message alive that it came in.
        data = Raw(bytes(event.data))
        durable = Event(event.type, data, stream, self._last, event.plain)
        own = ttl is not None and ttl < self._ttl
        until = now + (ttl if ttl is not None and own else self._ttl)
        kept = _Kept(self._last, until, len(bytes(data)) + len(event.type) + EVENT_BYTES, durable, own)
        of_stream = self._streams.get(stream)
        if of_stream is None:
            of_stream = self._streams[stream] = _Stream(self._forgotten)
            self._bytes += STREAM_BYTES + len(stream)
        else:
            self._streams.move_to_end(stream)
        if not of_stream.events or until < of_stream.due:
            of_stream.due = until
            self._deadlines.add(stream, until)
        of_stream.events.append(kept)
        self._bytes += kept.size
        if len(of_stream.events) > self._length:
            if of_stream.due <= now:
                self._purge(stream, of_stream, now)
            while len(of_stream.events) > self._length:
                self._drop_first(of_stream)
        if self._bytes > self._limit:
            self._make_room(of_stream)
        return durable

    @property
    def position(self) -> int:
        """An offset after which nothing has been published yet, in any stream."""
        return self._last

    def since(self, stream: str, offset: int) -> list[Event] | None:
        """The events of a stream after an offset, in order; None if any of them is lost, or may be."""
        if offset > self._last or offset < 0:
            return None
        of_stream = self._streams.get(stream)
        if of_stream is None:
            return [] if offset >= self._forgotten else None
        if offset < of_stream.dropped:
            return None
        now = self._now()
        missed: list[Event] = []
        for kept in of_stream.events:
            if kept.offset <= offset:
                continue
            if kept.until > now:
                missed.append(kept.event)
            elif not kept.own:
                return None
        return missed

    def expire(self) -> None:
        """Drop what is over or too old, of LOOKED_AT streams at most. To be called every 100 ms or so."""
        now = self._now()
        self._due.extend(self._deadlines.expire(now))
        for _ in range(min(LOOKED_AT, len(self._due))):
            stream = self._due.popleft()
            of_stream = self._streams.get(stream)
            if of_stream is None:
                continue
            self._purge(stream, of_stream, now)
            if not of_stream.events:
                self._forget(stream)

    def _purge(self, stream: str, of_stream: _Stream, now: float) -> None:
        """Drop what is over or too old in one stream, and look at it again when the next one is."""
        gone = [kept for kept in of_stream.events if kept.until <= now]
        if gone:
            of_stream.events = [kept for kept in of_stream.events if kept.until > now]
            of_stream.dropped = max([of_stream.dropped, *(kept.offset for kept in gone if not kept.own)])
            self._bytes -= sum(kept.size for kept in gone)
        if of_stream.events:
            of_stream.due = min(kept.until for kept in of_stream.events)
            self._deadlines.add(stream, of_stream.due)

    def _make_room(self, written_to: _Stream) -> None:
        self.expire()
        while self._bytes > self._limit and len(self._streams) > 1:
            self._forget(next(iter(self._streams)))
        while self._bytes > self._limit and written_to.events:
            self._drop_first(written_to)

    def _drop_first(self, of_stream: _Stream) -> None:
        kept = of_stream.events.pop(0)
        of_stream.dropped = kept.offset
        self._bytes -= kept.size

    def _forget(self, stream: str) -> None:
        gone = self._streams.pop(stream)
        self._deadlines.discard(stream)
        last = gone.events[-1].offset if gone.events else 0
        self._forgotten = max(self._forgotten, gone.dropped, last)
        self._bytes -= sum(kept.size for kept in gone.events) + STREAM_BYTES + len(stream)
