"""The sending side of one native connection: what waits to go out, and writing it.

Frames are kept as they are given: the bytes of a broadcast are shared by every connection that they go to. `send` only
queues: the reactor calls `flush` once at the end of a pass, so that what came together goes out in one write. What the
kernel doesn't take is kept, and the descriptor is watched for room.
"""

import os
from typing import Final, Protocol

from portico.wire.codes import CloseCode
from portico.wire.frame import Frame
from service.core.ports import TransportCounts

from .connection_state import ENDING, HEAD, OPEN
from .inbound import Inbound
from .poller import NOTHING, READABLE, WRITABLE, Poller

_GATHER: Final = 65536  # bytes that small frames are joined up to, for one write
_TURN: Final = 1 << 20  # bytes that one connection gets written before others have their turn

_write = os.write


class Writers(Protocol):
    """What the sending side asks of the reactor that it belongs to."""

    counts: TransportCounts
    poller: Poller
    outbound_limit: int
    parked: bool
    dirty: "list[Outbound]"

    def wake(self) -> None:
        """There is work that no descriptor tells of."""

    def mark_dirty(self, connection: "Outbound") -> None:
        """It has something to write."""


class Outbound(Inbound):
    """An Inbound that also sends. A subclass says what happens when all is written, and when nothing can be."""

    __slots__ = ("_offset", "_queue", "_waiting", "_watched", "fd", "reactor", "state")

    reactor: Writers

    def __init__(self, counts: TransportCounts, fd: int) -> None:
        super().__init__(counts)
        self.fd = fd
        self.state = HEAD
        # One frame is kept as it is: a list for each connection of a broadcast would wake the garbage collector.
        self._queue: bytes | list[bytes] | None = None
        self._waiting = 0  # bytes in the queue
        self._offset = 0  # bytes of the queue's first that were written
        self._watched = READABLE

    # What a subclass does.

    def all_written(self) -> None:
        """Everything is out, while it is HTTP, or when nothing more will be sent."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection is broken."""
        raise NotImplementedError

    def close_first(self, code: CloseCode, reason: str) -> None:
        """Queue our Close, before the peer's."""
        raise NotImplementedError

    def fail(self, code: CloseCode, reason: str) -> None:
        """End the connection, for a fault of whichever side."""
        raise NotImplementedError

    def gone(self) -> None:
        """Give the descriptor up."""
        raise NotImplementedError

    # What it is given.

    def send(self, frame: Frame) -> None:
        """Queue one text message. Nothing happens on a connection that isn't open."""
        if self.state != OPEN:
            return
        self.counts.messages_out += 1
        wire = frame.deflated(self.deflate) if self.deflate else frame.wire
        queue = self._queue
        if queue is None:
            self._queue = wire
            self._waiting = len(wire)
            reactor = self.reactor
            reactor.dirty.append(self)
            if reactor.parked:
                reactor.wake()
        elif self._waiting <= self.reactor.outbound_limit:
            if isinstance(queue, bytes):
                self._queue = [queue, wire]
            else:
                queue.append(wire)
            self._waiting += len(wire)
        else:
            self._press(wire)

    def flush(self) -> None:
        """Write what is queued, as far as the kernel takes it; it is watched for room for the rest."""
        queue = self._queue
        if queue is None:
            return
        written = 0
        try:
            if isinstance(queue, bytes):
                written = _write(self.fd, queue)
                if written == len(queue):
                    self._queue = None
                    self._waiting = 0
                    if self.state == OPEN and self._watched == READABLE:
                        self.counts.bytes_out += written
                        return
                else:
                    self._queue = [queue]
                    self._offset = written
                    self._waiting -= written
            else:
                done, self._offset, written = write_queue(self.fd, queue, self._offset)
                self._waiting -= written
                if done == len(queue):
                    self._queue = None
                else:
                    del queue[:done]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.lost()
            return
        self.counts.bytes_out += written
        if self._queue is not None:
            self.watch(self._watched | WRITABLE)
            return
        if self._watched & WRITABLE:
            self.watch(self._watched & ~WRITABLE)
        if self.state == ENDING or self.state == HEAD:
            self.all_written()

    def respond(self, data: bytes) -> None:
        """Queue a control frame; it counts against the outbound limit like any message."""
        if self._waiting > self.reactor.outbound_limit and self._queue is not None and self.state == OPEN:
            self._press(data)
        else:
            self.put(data)

    def put(self, data: bytes) -> None:
        """Queue bytes, whatever the state and the limit."""
        if self._queue is None:
            self._queue = data
            self._waiting = len(data)
            self.reactor.mark_dirty(self)
        else:
            if isinstance(self._queue, bytes):
                self._queue = [self._queue, data]
            else:
                self._queue.append(data)
            self._waiting += len(data)

    def _press(self, wire: bytes) -> None:
        """More than the limit is waiting and more comes: write first if that was not tried, else close."""
        if not self._watched & WRITABLE:
            self.flush()
        if self.state != OPEN:
            return
        if self._waiting <= self.reactor.outbound_limit:
            self.put(wire)
            return
        self.counts.slow_closed += 1
        # The frame that is half out has to be finished, or the Close would be read as part of it.
        queue = self._queue
        self._queue = None
        self._waiting = 0
        if isinstance(queue, list) and self._offset:
            self._queue = queue[:1]
            self._waiting = len(queue[0]) - self._offset
        self.close_first(CloseCode.TOO_SLOW, "reads too slowly")

    def watch(self, mask: int) -> None:
        """Watch the descriptor for what `mask` says, one of the poller's or several."""
        if mask != self._watched:
            self._watched = mask
            self.reactor.poller.modify(self.fd, mask or NOTHING)


def write_queue(fd: int, queue: list[bytes], offset: int) -> tuple[int, int, int]:
    """Write what the kernel takes of `queue`, of whose first frame `offset` bytes are out already.

    Returns how many frames are out whole, how many bytes of the next, and how many bytes were written.
    Raises OSError if the connection is broken; a kernel that takes nothing is no error.
    """
    total = 0
    done = 0
    count = len(queue)
    while done < count and total < _TURN:
        first = queue[done]
        size = len(first) - offset
        last = done + 1
        while last < count and size < _GATHER:
            size += len(queue[last])
            last += 1
        data: bytes | memoryview = first if last == done + 1 else b"".join(queue[done:last])
        if offset:
            data = memoryview(data)[offset:]
        try:
            written = _write(fd, data)
        except (BlockingIOError, InterruptedError):
            break
        total += written
        if written == len(data):
            done, offset = last, 0
            continue
        offset += written
        while offset >= len(queue[done]):
            offset -= len(queue[done])
            done += 1
        break
    return done, offset, total
