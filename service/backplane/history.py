"""The history of durable events in memory: a ring for each stream, bounded in length, age and bytes.

Offsets come from one counter for all streams, so that one number tells of a stream that was forgotten whole whether
anything after an offset went with it. Knows events and clocks; not who reads.

What is kept: `length` events a stream, `ttl` seconds each (or the event's own, if that is less), `limit` bytes over
all streams: past that the stream that was written to longest ago goes first. Source: protocol reference, "What is
promised".
"""

from collections import OrderedDict, deque
from typing import Final, NamedTuple

from portico.wire.messages import Event
from service.core.ports import Monotonic

OVERHEAD: Final = 500
"""Bytes that an event is taken to cost besides its data."""


class _Kept(NamedTuple):
    offset: int
    until: float
    lapses: bool  # at that moment by its publisher's wish: then it is over, and not lost
    size: int
    event: Event


class _Stream:
    __slots__ = ("dropped", "events")

    def __init__(self, dropped: int) -> None:
        self.events: deque[_Kept] = deque()
        self.dropped = dropped  # the greatest offset that this stream may have lost


class History:
    """The durable events of one process. All calls are O(1), but for what they drop or give back."""

    def __init__(self, *, now: Monotonic, length: int, ttl: float, limit: int) -> None:
        self._now = now
        self._length = length
        self._ttl = ttl
        self._limit = limit
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._forgotten = 0  # the greatest offset of a stream that was forgotten whole
        self._last = 0
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What it holds, roughly."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._streams)

    def append(self, stream: str, event: Event, ttl: float | None) -> Event:
        """Keep an event; gives it back with its stream and offset."""
        now = self._now()
        self._last += 1
        durable = Event(event.type, event.data, stream, self._last, event.plain)
        kept = _Kept(
            self._last,
            now + (self._ttl if ttl is None else min(ttl, self._ttl)),
            ttl is not None and ttl < self._ttl,
            len(bytes(event.data)) + OVERHEAD,
            durable,
        )
        of_stream = self._streams.get(stream)
        if of_stream is None:
            of_stream = self._streams[stream] = _Stream(self._forgotten)
        else:
            self._streams.move_to_end(stream)
        of_stream.events.append(kept)
        self._bytes += kept.size
        while len(of_stream.events) > self._length or of_stream.events[0].until <= now:
            self._drop_first(of_stream)
            if not of_stream.events:
                break
        while self._bytes > self._limit and len(self._streams) > 1:
            self._forget(next(iter(self._streams)))
        while self._bytes > self._limit and of_stream.events:
            self._drop_first(of_stream)
        return durable

    def position(self, stream: str) -> int:
        """An offset from which on nothing of the stream has been published yet."""
        return self._last

    def since(self, stream: str, offset: int) -> list[Event] | None:
        """The events of a stream after an offset, in order; None if any of them is lost, or may be. What its publisher
        let lapse is not lost, it is over."""
        if offset > self._last or offset < 0:
            return None
        of_stream = self._streams.get(stream)
        if of_stream is None:
            return [] if offset >= self._forgotten else None
        now = self._now()
        missed = [kept for kept in of_stream.events if kept.offset > offset]
        if offset < of_stream.dropped or any(kept.until <= now and not kept.lapses for kept in missed):
            return None
        return [kept.event for kept in missed if now < kept.until]

    def expire(self) -> None:
        """Drop what is too old in the streams that nobody writes to any more. For a ticker; a few at a time."""
        now = self._now()
        for stream in list(self._oldest(10)):
            events = self._streams[stream].events
            if not events or events[-1].until <= now:
                self._forget(stream)

    def _oldest(self, count: int) -> list[str]:
        return [stream for stream, _ in zip(self._streams, range(count), strict=False)]

    def _drop_first(self, of_stream: _Stream) -> None:
        kept = of_stream.events.popleft()
        if not (kept.lapses and kept.until <= self._now()):
            of_stream.dropped = kept.offset
        self._bytes -= kept.size

    def _forget(self, stream: str) -> None:
        gone = self._streams.pop(stream)
        now = self._now()
        lost = (kept.offset for kept in reversed(gone.events) if not (kept.lapses and kept.until <= now))
        self._forgotten = max(self._forgotten, gone.dropped, next(lost, 0))
        self._bytes -= sum(kept.size for kept in gone.events)
