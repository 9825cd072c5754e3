"""One accepted socket: from its first byte to the closing of its descriptor. The native Peer.

Knows its descriptor, the reactor that it belongs to (as a `Host`), and through the Gate who its messages are for.
Every call is synchronous and waits for nothing. Its states, and the moves between them, are in `connection_state`; what
it receives is cut into messages by `inbound`, what it sends is queued and written by `outbound`.
"""

import os
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol

from portico.wire.codes import ABNORMAL, CloseCode
from service.core.deadlines import DeadlineWheel
from service.core.ports import Gate, HttpAnswer, HttpApi
from service.core.proof import Proof

from .allowance import Allowance
from .close_frames import close_frame, skip_to_close
from .connection_state import CLOSING, ENDING, GONE, HEAD, OPEN
from .deflate import negotiate
from .head import OWN_FAULT, Upgrade, switching
from .http1 import Http1, HttpHost
from .http_response import render
from .inbound import BIG_READ_SIZE, READ_SIZE, UNLIMITED
from .outbound import Outbound, Writers
from .poller import READABLE
from .proxies import peer_port
from .tls_session import TlsSession
from .traffic import Traffic, shows_life
from .unfinished import WHY as CROWDED

PATIENCE: Final = 2.0
"""Seconds that a peer has for its side of a closing."""

_PING: Final = b"\x89\x00"
_UNKNOWN: Final = Traffic(0, 0)
"""Where the system can't say: nothing in it ever shows life."""

_read = os.read


class Host(Writers, HttpHost, Protocol):
    """What a connection asks of the reactor that it belongs to."""

    gate: Gate
    pong_timeout: float
    message_timeout: float
    unfinished: dict["Connection", tuple[object, float]]
    compression: bool
    metered: bool
    max_messages_per_second: float
    max_bytes_per_second: float
    clock: Callable[[], float]
    wheel: "DeadlineWheel[Connection]"

    def let_wait(self, connection: "Connection") -> None:
        """It has more frames than its turn allows: on with it in the next pass."""

    def announce(self, connection: "Connection", code: int, reason: str) -> None:
        """It is over: its Receiver is told soon, never from within one of its own calls."""

    def schedule_ping(self, connection: "Connection") -> None:
        """Set the moment of its next ping."""

    def forget(self, connection: "Connection") -> None:
        """It is gone."""

    def contain(self, connection: "Connection", error: Exception) -> None:
        """A bug came up while it was handled: it ends, and nothing else."""

    def give_away(self, connection: "Connection", received: bytes) -> bool:
        """Have another server take its descriptor, with what was read. False if there is none."""


class Connection(Outbound):
    """A Peer over a socket of our own. Made by the reactor, in its task or in calls from the same thread."""

    __slots__ = (
        "_deaf",
        "_http",
        "_pinged",
        "address",
        "busy",
        "kind",
    )

    transport: Final = "native"
    scheme: str = "http"
    """How the socket itself is spoken to, whatever proxies say."""
    certificate: Proof | None = None
    """What a client's certificate says of it, over TLS."""

    reactor: Host

    def __init__(self, reactor: Host, fd: int, address: str, kind: str, api: HttpApi) -> None:
        super().__init__(reactor.counts, fd)
        self.reactor = reactor
        self.address = address
        self.kind = kind
        self.busy = False
        self._deaf = False  # the peer said that nothing more will come
        # What was seen of its traffic when the pong began to be waited for; None while none is.
        self._pinged: Traffic | None = None
        self._http: Http1 | None = Http1(self, reactor, api, reactor.now)

    @property
    def port(self) -> int | None:
        """The port of the peer; None where it is not known, as behind a proxy. Asked of the kernel, not kept."""
        if self.state == GONE:
            return None
        try:
            peer = socket.socket(fileno=os.dup(self.fd))
        except OSError:
            return None
        with peer:
            try:
                name = peer.getpeername()
            except OSError:  # it is gone already
                return None
        return peer_port(name, self.address)

    def __repr__(self) -> str:
        return f"<Connection {self.fd} state {self.state}>"

    # The Peer port.

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Close after what is queued; `reason` is cut to 123 bytes. Nothing happens on a closing connection."""
        if self.state == OPEN:
            self.close_first(code, reason)

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
            elif self._http is not None:
                data = _read(self.fd, self._http.read_size)
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
        self.received(data)

    def received(self, data: bytes) -> None:
        """What the peer said."""
        state = self.state
        if state == OPEN:
            more = self.take(data) if self._inbox else self.cut(data)
            if more or not self.listening:
                self._taken(more)
        elif state == CLOSING:
            self._seek_close(data)
        elif self._http is not None:
            self._http.receive(data)

    def resume(self) -> None:
        """Its turn has come again: go on with what was read already."""
        self.busy = False
        if self.state == OPEN:
            self._taken(self.more())
        elif self._http is not None:
            self._http.receive(b"")
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
        if self._http is not None:
            self._http.begin_with(received)

    def due(self, now: float) -> None:
        """Its deadline is over."""
        state = self.state
        if state == OPEN:
            self._keep_alive(now)
        elif self._http is not None:
            self._http_due(self._http, now)
        elif state != GONE:
            self.abandon()

    @property
    def idle(self) -> bool:
        """Whether it waits for a request of HTTP, of which nothing has come."""
        return self._http is not None and self._http.idle

    @property
    def tls(self) -> TlsSession | None:
        """The TLS that is spoken on it, for whoever takes it over."""
        return None

    def _http_due(self, http: Http1, now: float) -> None:
        if not http.due(now):
            return
        if http.untouched:
            self.counts.handshakes_timed_out += 1
            if http.begun:
                self.counts.handshakes_refused += 1
        self.abandon()

    def _keep_alive(self, now: float) -> None:
        reactor = self.reactor
        if self._holds_too_long(now):
            self.counts.mute_closed += 1
            self.close_first(CloseCode.SILENT, "a message was not finished in time")
            return
        before, self._pinged = self._pinged, self.traffic() or _UNKNOWN
        if before is None:
            self.put(_PING)
        if before is None or shows_life(before, self._pinged):
            # No pong fits into a message that the peer is in the middle of sending, and none is sent before what waits
            # for the peer was read: bytes that flow are life.
            reactor.wheel.add(self, now + reactor.pong_timeout)
            return
        self.counts.mute_closed += 1
        self.close_first(CloseCode.SILENT, "no pong came in time")

    def _holds_too_long(self, now: float) -> bool:
        """Whether a message that began long ago is not whole yet. Bytes that flow are life, but not for ever."""
        seen = self.reactor.unfinished
        holds = self.unfinished
        if holds is None:
            seen.pop(self, None)
            return False
        before = seen.get(self)
        if before is None or before[0] is not holds:
            seen[self] = (holds, now)
            return False
        return now - before[1] > self.reactor.message_timeout

    def pong(self) -> None:
        """A pong came: whichever ping it answers, the peer is there."""
        if self._pinged is not None:
            self._pinged = None
            self.reactor.schedule_ping(self)

    # What the HTTP side asks for.

    @property
    def unsent(self) -> int:
        """Bytes that wait to be taken by the client."""
        return self.waiting

    def upgrade(self, request: Upgrade, rest: bytes) -> None:
        """The client asks for a WebSocket, by the rules; `rest` is what it sent behind the handshake."""
        self._upgrade(request)
        if self.state == OPEN:
            self._taken(self.take(rest))
        elif self.state == CLOSING:
            self._seek_close(rest)

    def give_away(self, received: bytes) -> bool:
        """Have another server take the connection, with what was read and not answered. False if there is none."""
        return self.reactor.give_away(self, received)

    def pause_reading(self, paused: bool) -> None:
        """Watch for more to read, or not."""
        if not self._deaf:
            self.watch(self._watched & ~READABLE if paused else self._watched | READABLE)

    def let_others(self) -> None:
        """Go on in the next pass."""
        if not self.busy:
            self.reactor.let_wait(self)

    def on_error(self, error: Exception) -> None:
        """A bug came up: it ends this connection and no other."""
        self.reactor.contain(self, error)

    def set_deadline(self, deadline: float) -> None:
        """Be told `due` at that moment; the one that was set before is void."""
        self.reactor.wheel.add(self, deadline)

    def _upgrade(self, request: Upgrade) -> None:
        reactor = self.reactor
        admission = reactor.gate.admit(request.head)
        if isinstance(admission, HttpAnswer):
            self.counts.handshakes_refused += 1
            self._answer(admission)
            return
        self._http = None
        self.address = request.head.address
        self.limit = admission.max_message_size or UNLIMITED
        if reactor.metered:
            self.allowance = Allowance(reactor.max_messages_per_second, reactor.max_bytes_per_second, reactor.now)
        self.put(switching(request.accept, admission.subprotocol, self._agree(request)))
        self.state = OPEN
        self.listening = True
        reactor.wheel.discard(self)
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

    def _answer(self, answer: HttpAnswer) -> None:
        """The last answer, whatever HTTP was at."""
        self.put(render(answer, without_body=False, close=True))
        self.finish()

    # What Inbound asks for.

    def allowed(self, size: int) -> bool:
        """Take one message from the allowance; a connection that is over it is closed."""
        if self.allowance is None or self.allowance.take(size, self.reactor.now):
            return True
        self.close_first(CloseCode.RATE_LIMITED, "over the message rate limit")
        return False

    def allowed_bytes(self, size: int) -> bool:
        """Take bytes of a message that is not whole yet from the allowance; a connection that is over it is closed."""
        if self.allowance is None or self.allowance.take_bytes(size, self.reactor.now):
            return True
        self.close_first(CloseCode.RATE_LIMITED, "over the message rate limit")
        return False

    def kept(self, size: int) -> None:
        """So many bytes are kept of a message that is not whole yet."""
        self.reactor.pressure.unfinished.keeps(self, size)

    def theirs(self, code: int, reason: str) -> None:
        """The peer closed."""
        self._over(code, reason)
        self.finish()

    def fault(self, code: int, reason: str) -> None:
        """The peer broke the protocol: one Close, and nothing it says counts any more."""
        self.counts.protocol_errors += 1
        self.fail(code, reason)

    def fail(self, code: int, reason: str) -> None:
        """End the connection, for a fault of whichever side."""
        if self.state == OPEN and code == CloseCode.TOO_LARGE:
            # The peer is in the middle of sending. A proxy that sees our end now resets it, and our Close is lost.
            self.close_first(CloseCode.TOO_LARGE, reason)
        elif self.state == OPEN:
            self.put(close_frame(code, reason))
            self._over(code, reason)
            self.finish()
        elif self.state == HEAD:
            headers = self.reactor.https_headers if self.scheme == "https" else ()
            self._answer(OWN_FAULT._replace(headers=(*OWN_FAULT.headers, *headers)))
        elif self.state != GONE:
            self.abandon()

    # The end.

    def close_first(self, code: CloseCode, reason: str) -> None:
        """Queue our Close, before the peer's."""
        self.put(close_frame(code, reason))
        self.state = CLOSING
        self.listening = False
        self.reactor.pressure.unfinished.forget(self)
        # Of a compressed frame that is half here nothing was kept: the rest of it is passed over.
        self._need = 0 if self._assembly is None else self._assembly.missing
        self._assembly = None
        self._over(code, reason)
        self.reactor.wheel.add(self, self.reactor.now + PATIENCE)

    def close_crowded(self) -> None:
        """Close with 1013: unfinished messages hold too much. What there is of this one's is thrown away."""
        if self.state == OPEN:
            self.close_first(CloseCode.TRY_LATER, CROWDED)
            self._seek_close(b"")

    def _seek_close(self, data: bytes) -> None:
        """Discard what comes, up to the peer's Close."""
        rest, self._need, found = skip_to_close(bytes(self._inbox) + data, self._need)
        self._inbox = rest
        if found:
            self.finish()

    def finish(self) -> None:
        """All is said on both sides, or need not be heard any more: write the rest, half-close, read on to the end."""
        self._end_http()
        self.state = ENDING
        self.listening = False
        self.reactor.pressure.unfinished.forget(self)
        self._inbox = b""
        self._need = 0
        self._assembly = None
        self.reactor.wheel.add(self, self.reactor.now + PATIENCE)
        if self._queue is None:
            self.all_written()

    def all_written(self) -> None:
        """Everything is out. Where nothing more will be sent, say so to the peer."""
        if self._http is not None:
            self._http.written()
            return
        if self._deaf:
            self.gone()
            return
        sock = self.borrow()
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.gone()
        finally:
            sock.detach()

    def _ended(self) -> None:
        """The stream came to its end. What is still queued goes out, as far as anybody takes it."""
        if self.state == OPEN:
            self._over(ABNORMAL, "")
        if self._http is not None:
            self._http.cancel()
        if self._queue is None:
            self.gone()
            return
        self._deaf = True
        # The end stays readable for ever: go on watching, and the loop spins.
        self.watch(self._watched & ~READABLE)
        self.finish()

    def lost(self) -> None:
        """The connection is broken."""
        if self.state == OPEN:
            self._over(ABNORMAL, "")
        self.gone()

    def abandon(self) -> None:
        """Wait no longer. What the kernel has taken still goes out; with more in the queue, it is a reset."""
        if self._queue is not None:
            sock = self.borrow()
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
        self.reactor.pressure.unfinished.forget(self)
        self.drop_queue()
        self._inbox = b""
        self._assembly = None
        self._end_http()
        self.reactor.forget(self)

    def released(self) -> None:
        """Another server has the descriptor now."""
        self.state = GONE
        self._end_http()

    def _end_http(self) -> None:
        if self._http is not None:
            self._http.cancel()
            self._http = None

    def _over(self, code: int, reason: str) -> None:
        self.reactor.announce(self, code, reason)
