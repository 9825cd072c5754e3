"""The sending side of one native connection: what waits to go out, and writing it.

Frames are kept as they are given: the bytes of a broadcast are shared by every connection that they go to. `send` only
queues: the reactor calls `flush` once at the end of a pass, so that what came together goes out in one write. What the
kernel doesn't take is kept, and the descriptor is watched for room.
"""

import os
import socket
from collections.abc import Callable
from typing import Final, Protocol

from portico.wire.codes import CloseCode
from portico.wire.frame import Frame
from service.core.ports import BACKLOG, TransportCounts

from .connection_state import ENDING, HEAD, OPEN
from .inbound import PONG, Inbound
from .poller import NOTHING, READABLE, WRITABLE, Poller
from .pressure import Pressure
from .traffic import Traffic
from .traffic import traffic as traffic_of

_GATHER: Final = 65536  # bytes that small frames are joined up to, for one write
_TURN: Final = 1 << 20  # bytes that one connection gets written before others have their turn

_write = os.write
_Socket = socket.SocketType
# As plain numbers: members of an enumeration are looked up for each use.
_FAMILY: Final = int(socket.AF_INET)
_STREAM: Final = int(socket.SOCK_STREAM)


class Writers(Protocol):
    """What the sending side asks of the reactor that it belongs to."""

    counts: TransportCounts
    poller: Poller
    pressure: Pressure
    outbound_limit: int
    parked: bool
    dirty: "list[Outbound]"

    def wake(self) -> None:
        """There is work that no descriptor tells of."""

    def defer(self, call: Callable[[], None]) -> None:
        """Call this soon."""

    def mark_dirty(self, connection: "Outbound") -> None:
        """It has something to write."""


class Outbound(Inbound):
    """An Inbound that also sends. A subclass says what happens when all is written, and when nothing can be."""

    __slots__ = ("_offset", "_queue", "_room_calls", "_watched", "_written", "fd", "reactor", "state", "waiting")

    reactor: Writers

    def __init__(self, counts: TransportCounts, fd: int) -> None:
        super().__init__(counts)
        self.fd = fd
        self.state = HEAD
        # One frame is kept as it is: a list for each connection of a broadcast would wake the garbage collector.
        self._queue: bytes | list[bytes] | None = None
        self.waiting = 0  # bytes in the queue that are not out yet
        self._room_calls: list[Callable[[], None]] | None = None
        self._written = 0  # bytes that went out while there was a backlog
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

    def abandon(self) -> None:
        """Cut it: what waits is not waited for."""
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
            self.waiting = len(wire)
            reactor = self.reactor
            reactor.dirty.append(self)
            if reactor.parked:
                reactor.wake()
        elif self.waiting <= self.reactor.outbound_limit:
            if isinstance(queue, bytes):
                self._queue = [queue, wire]
            else:
                queue.append(wire)
            self.waiting += len(wire)
        else:
            self._press(wire)

    @property
    def has_backlog(self) -> bool:
        """Whether more than BACKLOG bytes wait to go out."""
        return self.waiting > BACKLOG

    def when_room(self, call: Callable[[], None]) -> None:
        """Call this once, soon, when there is no backlog; see `Peer`."""
        if self.state != OPEN:
            return
        if self.waiting <= BACKLOG:
            self.reactor.defer(call)
            return
        if self._room_calls is None:
            self._room_calls = []
            if isinstance(self._queue, bytes):
                self._queue = [self._queue]  # the short way through `flush` doesn't look for calls
        self._room_calls.append(call)

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
                    self.waiting = 0
                    if self.state == OPEN and self._watched == READABLE:
                        self.counts.bytes_out += written
                        return
                else:
                    self._queue = [queue]
                    self._offset = written
                    self.waiting -= written
            else:
                written = self._write_on(queue)
        except (BlockingIOError, InterruptedError):
            self._queue = [queue] if isinstance(queue, bytes) else queue
        except OSError:
            self.lost()
            return
        self._wrote(written)

    def _wrote(self, written: int) -> None:
        """What follows from a write that took so many bytes, and was not the short way through `flush`."""
        self.counts.bytes_out += written
        if self._room_calls is not None and self.waiting <= BACKLOG:
            self._tell_of_room()
        if self._queue is not None:
            if not self._watched & WRITABLE:
                self.reactor.pressure.entered(self)
                self.watch(self._watched | WRITABLE)
            return
        if self._watched & WRITABLE:
            self.watch(self._watched & ~WRITABLE)
        if self.state == ENDING or self.state == HEAD:
            self.all_written()

    def _write_on(self, queue: list[bytes]) -> int:
        done, self._offset, written = self._write_some(queue)
        self.waiting -= written
        self._written += written
        if done == len(queue):
            if self._watched & WRITABLE:
                self.reactor.pressure.forget(self)
            self._queue = None
        elif done:
            if self._watched & WRITABLE:
                self.reactor.pressure.written(self, done)
            del queue[:done]
        return written

    def _write_some(self, queue: list[bytes]) -> tuple[int, int, int]:
        return write_queue(self.fd, queue, self._offset)

    def _tell_of_room(self) -> None:
        calls, self._room_calls = self._room_calls, None
        for call in calls or ():
            self.reactor.defer(call)

    def respond(self, data: bytes) -> None:
        """Queue the answer to a control frame. A pong is left out where more than the limit waits: what a peer that
        reads nothing asks for would pile up (RFC 6455 section 5.5.3 lets pongs be left out)."""
        if self.waiting <= self.reactor.outbound_limit or data[0] != PONG:
            self.put(data)

    # What `Pressure` asks.

    @property
    def frame_count(self) -> int:
        """How many frames wait."""
        queue = self._queue
        return 0 if queue is None else 1 if isinstance(queue, bytes) else len(queue)

    def first_frames(self, count: int) -> list[bytes]:
        """The frames that go out next."""
        queue = self._queue
        return [] if queue is None else [queue] if isinstance(queue, bytes) else queue[:count]

    def last_frames(self, count: int) -> list[bytes]:
        """The frames that were queued last."""
        queue = self._queue
        return [] if queue is None else [queue] if isinstance(queue, bytes) else queue[-count:]

    def taken(self) -> int:
        """Bytes that the peer has taken, as far as is known."""
        seen = self.traffic()
        # Where nobody knows, what the kernel had room for counts as taken.
        return self._written if seen is None else seen.taken

    def traffic(self) -> Traffic | None:
        """What the kernel knows of it; None where it can't say."""
        sock = self.borrow()
        try:
            return traffic_of(sock)
        finally:
            sock.detach()

    def borrow(self) -> socket.SocketType:
        """Its socket, to be asked something and detached."""
        # Only a number is kept of a socket, for its memory; family and type don't matter to what is asked. What
        # `socket.socket` adds to the C type takes longer than the asking.
        return _Socket(_FAMILY, _STREAM, 0, self.fd)

    def close_slow(self) -> None:
        """Close with 4008; what is no WebSocket (any more) is cut. What waits is thrown away, but for the frame that is
        half out: without its end our Close would be read as part of it."""
        self.counts.slow_closed += 1
        if self.state != OPEN:
            self.abandon()
            return
        half = self._begun()
        self.drop_queue()
        if half:
            self._queue = half
            self.waiting = sum(map(len, half)) - self._offset
        else:
            self._offset = 0
        self.close_first(CloseCode.TOO_SLOW, "reads too slowly")

    def _begun(self) -> list[bytes]:
        """The frames of which the peer has, or will have, a part."""
        return self.first_frames(1) if self._offset else []

    def drop_queue(self) -> None:
        """Throw away what waits."""
        if self._watched & WRITABLE:
            self.reactor.pressure.forget(self)
        self._queue = None
        self.waiting = 0
        self._room_calls = None

    def put(self, data: bytes) -> None:
        """Queue bytes, whatever the state and the limit."""
        if self._queue is None:
            self._queue = data
            self.waiting = len(data)
            self.reactor.mark_dirty(self)
        else:
            if isinstance(self._queue, bytes):
                self._queue = [self._queue, data]
            else:
                self._queue.append(data)
            self.waiting += len(data)

    def _press(self, wire: bytes) -> None:
        """More than the limit is waiting and more comes: write first if that was not tried, then ask."""
        if not self._watched & WRITABLE:
            self.flush()
        if self.state != OPEN:
            return
        if self.waiting <= self.reactor.outbound_limit or self.reactor.pressure.admits(self):
            self.put(wire)
        elif self.state == OPEN:
            self.close_slow()

    def watch(self, mask: int) -> None:
        """Watch the descriptor for what `mask` says, one of the poller's or several."""
        if mask != self._watched:
            self._watched = mask
            self.reactor.poller.modify(self.fd, mask or NOTHING)


def write_queue(
    fd: int, queue: list[bytes], offset: int, write: Callable[[int, bytes | memoryview], int] = _write
) -> tuple[int, int, int]:
    """Write what the kernel takes of `queue`, of whose first frame `offset` bytes are out already.

    `write`: as `os.write`; one that takes less than it is given is called again with the rest later.

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
            written = write(fd, data)
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
