"""One accepted socket: from its first byte to the closing of its descriptor. The native Peer.

Knows its descriptor, its reactor, and through the Gate who its messages are for. Every call is
synchronous and waits for nothing. Its life, and nothing else is allowed:

    HEAD     reading the request head       → OPEN, ENDING (an HTTP answer went out), GONE
    OPEN     messages both ways             → CLOSING (we closed first), ENDING (they did, or a fault), GONE
    CLOSING  our Close is on its way; what comes is discarded, up to theirs → ENDING, GONE
    ENDING   all is said: write the rest, half-close, read on to the end, so that the peer sees our
             last words rather than a reset → GONE
    GONE     the descriptor is no longer ours

Each state but OPEN has a deadline, so no peer can make its connection stay.
"""

import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from portico.wire.codes import ABNORMAL, CloseCode
from portico.wire.frame import Frame
from service.core.ports import HttpAnswer

from .allowance import Allowance
from .deflate import negotiate
from .head import OWN_FAULT, BadHead, Upgrade, read_request, render, switching
from .inbound import BIG_READ_SIZE, READ_SIZE, UNLIMITED, Inbound, close_frame, skip_to_close
from .outbound import write_queue
from .poller import NOTHING, READABLE, WRITABLE

if TYPE_CHECKING:
    from .native import Reactor

HEAD: Final = 0
OPEN: Final = 1
CLOSING: Final = 2
ENDING: Final = 3
GONE: Final = 4

PATIENCE: Final = 2.0
"""Seconds that a peer has for its side of a closing."""

_PING: Final = b"\x89\x00"

_read = os.read
_write = os.write


class Connection(Inbound):
    """A Peer over a socket of our own. Made by the reactor, in its task or in calls from the same thread."""

    __slots__ = (
        "_deaf",
        "_offset",
        "_pinged",
        "_queue",
        "_waiting",
        "_watched",
        "address",
        "busy",
        "fd",
        "kind",
        "reactor",
        "state",
        "tick",
    )

    transport: Final = "native"

    def __init__(self, reactor: "Reactor", fd: int, address: str, kind: str) -> None:
        super().__init__(reactor.counts)
        self.reactor = reactor
        self.fd = fd
        self.address = address
        self.kind = kind
        self.state = HEAD
        self.tick = 0
        self.busy = False
        # One frame is kept as it is: a list for each connection of a broadcast would wake the garbage collector.
        self._queue: bytes | list[bytes] | None = None
        self._waiting = 0  # bytes in the queue
        self._offset = 0  # bytes of the queue's first that were written
        self._watched = READABLE
        self._deaf = False  # the peer said that nothing more will come
        self._pinged = False

    def __repr__(self) -> str:
        return f"<Connection {self.fd} state {self.state}>"

    # The Peer port.

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

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Close after what is queued; `reason` is cut to 123 bytes. Nothing happens on a closing connection."""
        if self.state == OPEN:
            self._close_first(code, reason)

    def allow_message_size(self, size: int) -> None:
        """From the next message on accept messages of up to `size` bytes (0: no limit)."""
        self.limit = size or UNLIMITED

    def lift_rate_limit(self) -> None:
        """From the next message on accept as many a second as come."""
        self.allowance = None

    # Readiness, told by the reactor.

    def readable(self) -> None:
        """There is something to read, or the end of the stream, or an error."""
        if self._deaf:
            # Only a hang-up is reported now: there is nobody left to write to.
            self.lost()
            return
        if self.busy:
            return
        state = self.state
        try:
            if state > OPEN:
                data = _read(self.fd, BIG_READ_SIZE)
            else:
                data = _read(self.fd, self.wanted() if self._need else READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.lost()
            return
        if not data:
            self._ended()
            return
        self.counts.bytes_in += len(data)
        if state == OPEN:
            more = self.take(data) if self._inbox else self.cut(data)
            if more or not self.listening:
                self._taken(more)
        elif state == CLOSING:
            self._seek_close(data)
        elif state == HEAD:
            self._read_head(data)

    def resume(self) -> None:
        """Its turn has come again: go on with what was read already."""
        self.busy = False
        if self.state == OPEN:
            self._taken(self.more())
        elif self.state == HEAD:
            self._read_head(b"")
        elif self.state == CLOSING:
            self._seek_close(b"")

    def _taken(self, more: bool) -> None:
        if self.state == OPEN:
            if more:
                self.reactor.let_wait(self)
        elif self.state == CLOSING:
            self._seek_close(b"")
        else:
            self._inbox = b""

    def begin_with(self, received: bytes) -> None:
        """Bytes of the head that somebody else read; handled when its turn comes."""
        self._inbox = received

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
            self._watch(self._watched | WRITABLE)
            return
        if self._watched & WRITABLE:
            self._watch(self._watched & ~WRITABLE)
        if self.state == ENDING:
            self._half_close()

    def due(self, now: float) -> None:
        """Its deadline is over."""
        state = self.state
        if state == OPEN:
            self._keep_alive(now)
        elif state == HEAD:
            self.counts.handshakes_timed_out += 1
            if self._inbox:
                self.counts.handshakes_refused += 1
            self.gone()
        elif state != GONE:
            self.abandon()

    def _keep_alive(self, now: float) -> None:
        reactor = self.reactor
        if not self._pinged:
            self._pinged = True
            self.respond(_PING)
            if self.state == OPEN:
                reactor.wheel.set(self, now + reactor.pong_timeout)
            return
        self.counts.mute_closed += 1
        self._close_first(CloseCode.SILENT, "no pong came in time")

    def pong(self) -> None:
        """A pong came: whichever ping it answers, the peer is there."""
        if self._pinged:
            self._pinged = False
            self.reactor.schedule_ping(self)

    # The head.

    def _read_head(self, data: bytes) -> None:
        data = bytes(self._inbox) + data
        try:
            request = read_request(data, self.address, self.kind, self.reactor)
        except BadHead as bad:
            self.counts.handshakes_refused += 1
            self._answer(render(bad.answer))
            return
        if request is None:
            self._inbox = data
            return
        self._inbox = b""
        if isinstance(request, bytes):
            self._answer(request)
            return
        self._upgrade(request)
        rest = data[request.size :]
        if self.state == OPEN:
            self._taken(self.take(rest))
        elif self.state == CLOSING:
            self._seek_close(rest)

    def _upgrade(self, request: Upgrade) -> None:
        reactor = self.reactor
        admission = reactor.gate.admit(request.head)
        if isinstance(admission, HttpAnswer):
            self.counts.handshakes_refused += 1
            self._answer(render(admission))
            return
        self.address = request.head.address
        self.limit = admission.max_message_size or UNLIMITED
        if reactor.metered:
            self.allowance = Allowance(reactor.max_messages_per_second, reactor.max_bytes_per_second, reactor.now)
        self._put(switching(request.accept, admission.subprotocol, self._agree(request)))
        self.state = OPEN
        self.listening = True
        reactor.wheel.drop(self)
        reactor.schedule_ping(self)
        self.receiver = reactor.gate.opened(self, admission)

    def _agree(self, request: Upgrade) -> str | None:
        """Settle whether messages may be compressed; what to answer to the offer, if anything."""
        offers = request.head.headers.get("sec-websocket-extensions") if self.reactor.compression else None
        agreement = negotiate(offers) if offers else None
        if agreement is None:
            return None
        self.deflate = agreement.window_bits
        return agreement.header

    def _answer(self, response: bytes) -> None:
        self._put(response)
        self._finish()

    # What Inbound asks for.

    def respond(self, data: bytes) -> None:
        """Queue a control frame; it counts against the outbound limit like any message."""
        if self._waiting > self.reactor.outbound_limit and self._queue is not None and self.state == OPEN:
            self._press(data)
        else:
            self._put(data)

    def allowed(self, size: int) -> bool:
        """Take one message from the allowance; a connection that is over it is closed."""
        if self.allowance is None or self.allowance.take(size, self.reactor.now):
            return True
        self._close_first(CloseCode.RATE_LIMITED, "over the message rate limit")
        return False

    def theirs(self, code: int, reason: str) -> None:
        """The peer closed."""
        self._over(code, reason)
        self._finish()

    def fault(self, code: int, reason: str) -> None:
        """The peer broke the protocol: one Close, and nothing it says counts any more."""
        self.counts.protocol_errors += 1
        self.fail(code, reason)

    def fail(self, code: int, reason: str) -> None:
        """End the connection, for a fault of whichever side."""
        if self.state == OPEN:
            self._put(close_frame(code, reason))
            self._over(code, reason)
            self._finish()
        elif self.state == HEAD:
            self._answer(render(OWN_FAULT))
        elif self.state != GONE:
            self.abandon()

    # The end.

    def _close_first(self, code: CloseCode, reason: str) -> None:
        self._put(close_frame(code, reason))
        self.state = CLOSING
        self.listening = False
        # Of a compressed frame that is half here nothing was kept: the rest of it is passed over.
        self._need = 0 if self._assembly is None else self._assembly.missing
        self._assembly = None
        self._over(code, reason)
        self.reactor.wheel.set(self, self.reactor.clock() + PATIENCE)

    def _seek_close(self, data: bytes) -> None:
        """Discard what comes, up to the peer's Close."""
        rest, self._need, found = skip_to_close(bytes(self._inbox) + data, self._need)
        self._inbox = rest
        if found:
            self._finish()

    def _finish(self) -> None:
        """All is said on both sides, or need not be heard any more."""
        self.state = ENDING
        self.listening = False
        self._inbox = b""
        self._need = 0
        self._assembly = None
        self.reactor.wheel.set(self, self.reactor.clock() + PATIENCE)
        if self._queue is None:
            self._half_close()

    def _half_close(self) -> None:
        if self._deaf:
            self.gone()
            return
        sock = self._borrow()
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.gone()
        finally:
            sock.detach()

    def _borrow(self) -> socket.socket:
        # Only a number is kept of a socket, for its memory; family and type don't matter to what is asked.
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=self.fd)

    def _ended(self) -> None:
        """The stream came to its end. What is still queued goes out, as far as anybody takes it."""
        if self.state == OPEN:
            self._over(ABNORMAL, "")
        if self._queue is None or self.state == HEAD:
            self.gone()
            return
        self._deaf = True
        # The end stays readable for ever: go on watching, and the loop spins.
        self._watch(self._watched & ~READABLE)
        self._finish()

    def lost(self) -> None:
        """The connection is broken."""
        if self.state == OPEN:
            self._over(ABNORMAL, "")
        self.gone()

    def abandon(self) -> None:
        """Wait no longer. What the kernel has taken still goes out; with more in the queue, it is a reset."""
        if self._queue is not None:
            sock = self._borrow()
            try:
                # Without it the kernel keeps megabytes for minutes for a peer that doesn't read.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
            finally:
                sock.detach()
        self.lost()

    def gone(self) -> None:
        """Give the descriptor up."""
        if self.state == GONE:
            return
        self.state = GONE
        self.listening = False
        self._queue = None
        self._waiting = 0
        self._inbox = b""
        self._assembly = None
        self.reactor.forget(self)

    def _over(self, code: int, reason: str) -> None:
        self.reactor.announce(self, code, reason)

    # The outgoing queue.

    def _put(self, data: bytes) -> None:
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
            self._put(wire)
            return
        self.counts.slow_closed += 1
        # The frame that is half out has to be finished, or the Close would be read as part of it.
        queue = self._queue
        self._queue = None
        self._waiting = 0
        if isinstance(queue, list) and self._offset:
            self._queue = queue[:1]
            self._waiting = len(queue[0]) - self._offset
        self._close_first(CloseCode.TOO_SLOW, "reads too slowly")

    def _watch(self, mask: int) -> None:
        if mask != self._watched:
            self._watched = mask
            self.reactor.poller.modify(self.fd, mask or NOTHING)
