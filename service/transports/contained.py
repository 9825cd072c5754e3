"""ContainedServer: one connection in Hypercorn's hands, which can end nothing but itself.

What Hypercorn 0.18 leaves open is closed here:

- An exception of one connection would end the server. It is counted, logged as one safe line, and stays in it.
- A client that stops reading would hold its task for ever. It is cut when it takes nothing for the send timeout.
- `Connection: close`, HTTP/1.0 and idle connections would stay open, because Quart-trio cancels the task that is about
  to close them. Sends and changes of state are shielded from that cancellation.
- What comes behind a connection's last request (one of HTTP/1.0, one that is answered with `Connection: close`) would
  cost that request its answer, or the end of it. So a request is read when the one before it was answered.
- A drain would close kept connections in the midst of a client's requests. Answers say that their connection ends
  from its beginning on, over HTTP/2 by a GOAWAY behind them, and one on which nothing has come yet has a moment for its
  request at the end.
- Over HTTP/2 a body that goes on after its request was answered would end the connection with all its other requests.
  It is thrown away.
- A socket that is closed with unread bytes in it is reset, and the client may lose our last answer. So it is
  half-closed first, and what the client still sends is thrown away for a moment.

Where the door has an `adopt`, an upgrade to WebSocket on a plain socket never reaches Hypercorn: its socket
and what was read from it are given away, and this task ends. Where the door adopts HTTP too, so is every plain socket,
before anything is read; what the reactor can't serve comes back with the bytes that were read. Bytes of HTTP/1.1 that
Hypercorn reads have passed a Guard, so that no request is smuggled in between two readings of them. Subclasses a class
that is not Hypercorn's public API: only `front_door` decides whether it is used.
"""

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, Final, Literal

import h11
import trio
from h2.exceptions import ProtocolError
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Response
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

from service.core.ports import HttpAnswer

from .door import Door, describe
from .handshake import BadHead
from .http_framing import Guard
from .http_response import render
from .patient import PatientStream, TakesNothing
from .request_head import asks_for_websocket, is_whole, may_be_get
from .surplus import ProbesOnly
from .tls_stream import TlsStream
from .traffic import CONNECTION, traffic

_READ: Final = 64 * 1024
_SECURE: Final = (trio.SSLStream, TlsStream)
# How long the kernel keeps, after our end, bytes that nobody acknowledges, in ms: for peers whose machine is gone. Not
# before: it would also end one that is slow to make room.
_UNACKNOWLEDGED: Final = 60_000
# At most this much is thrown away from a client that goes on sending after our last byte.
_DISCARD_LIMIT: Final = 4 * 1024 * 1024
_LOOK: Final = 0.01
# Seconds that the first request of a new connection has when the server ends.
_LATE_REQUEST: Final = 0.2
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class _Streams(dict[int, Any]):
    """Hypercorn's HTTP/2 streams by number: what comes for one that is over goes nowhere."""

    def __missing__(self, number: int) -> "_Over":
        return _Over()


class _Over:
    async def handle(self, _: object) -> None:
        """Nothing; its flow control is the connection's, and counted there."""
        await trio.lowlevel.checkpoint()


class _Lasting(WorkerContext):
    """A worker's context, except that it does not say when the server ends."""

    def __init__(self, context: Any) -> None:
        super().__init__(None)
        self._context = context

    async def mark_request(self) -> None:
        """A request came; the worker may want only so many."""
        await self._context.mark_request()


class ContainedServer(TCPServer):
    """Hypercorn's handling of one TCP connection, contained."""

    def __init__(self, door: Door, *args: Any) -> None:
        super().__init__(*args)
        self._door = door
        self._finished = False
        self._head_time = door.rules.handshake_timeout
        self._untouched = True
        self._reading = trio.CancelScope()
        self._handling = trio.CancelScope()
        self._reader: trio.lowlevel.Task | None = None
        self._guard: Guard
        self._answered = trio.Event()
        self._answered.set()
        self._over_http_2 = False
        self._counts = False
        self._counted_for: str | None = None

    async def run(self) -> None:
        """Serve the connection until its end. Raises nothing but cancellation."""
        try:
            _tune(self.stream)
            if not await self._handed_over():
                await self._serve()
        except BaseExceptionGroup as group:
            ours, others = group.split(Exception)
            if ours is not None:
                self._contain(ours)
            if others is not None:
                raise others from None
        except OSError:
            pass  # the peer went before it was handed over
        except Exception as error:
            self._contain(error)

    async def _serve(self) -> None:
        self._be_patient()
        CONNECTION.set(lambda: traffic(_socket_of(self.stream)))
        connections = self._door.accepted_connections
        address = self._counted_for = self._door.address_of(_peer_of(_socket_of(self.stream)))
        connections.accepted(address)
        self._counts = True
        try:
            if not await self._speaks():
                return
            if connections.is_full(address):
                await self._serve_surplus()
            else:
                await super().run()
        finally:
            self._stop_counting()

    def _be_patient(self) -> None:
        stream: Any = self.stream
        if type(stream) is trio.SocketStream:
            self.stream = PatientStream(stream, self._door.send_timeout)  # type: ignore[assignment]  # typed as TLS
        elif isinstance(stream, trio.SSLStream) and type(stream.transport_stream) is trio.SocketStream:
            stream.transport_stream = PatientStream(stream.transport_stream, self._door.send_timeout)

    def _stop_counting(self) -> None:
        if self._counts:
            self._counts = False
            self._door.accepted_connections.ended(self._counted_for)

    async def _serve_surplus(self) -> None:
        """Answer probes on one connection too many, whatever it speaks: a node that is full is not dead."""
        connections, address = self._door.accepted_connections, self._counted_for
        self._stop_counting()  # it takes no other's place, and goes soon

        def full() -> HttpAnswer | None:
            connections.accepted(address)
            answer = connections.full(address)
            connections.ended(address)
            return answer

        self.app = ProbesOnly(self.app, full, self._door.rules.https_headers)  # type: ignore[assignment]  # called like it
        with trio.move_on_after(self._door.rules.handshake_timeout):
            await super().run()

    def _contain(self, error: BaseException) -> None:
        self._door.counts.contained_errors += 1
        self._door.log("contained_error", where="http connection", error=describe(error))

    # ---- before Hypercorn

    async def _handed_over(self) -> bool:
        """Whether the connection is another's now, or over, before Hypercorn has seen it."""
        stream: Any = self.stream
        if self._door.adopt is None or type(stream) is not trio.SocketStream:
            return False
        if self._door.adopts_http:
            self._give(stream, b"", "http")
            return True
        head = b""
        with trio.move_on_after(self._door.rules.handshake_timeout) as patience:
            head = await self._read_head(stream)
        if patience.cancelled_caught:
            self._door.counts.handshakes_timed_out += 1
        if patience.cancelled_caught or not head:
            await trio.aclose_forcefully(stream)
            return True
        if not asks_for_websocket(head):
            self.stream = PatientStream(stream, self._door.send_timeout, head)  # type: ignore[assignment]  # typed as TLS
            return False
        self._give(stream, head, "websocket")
        return True

    def _give(self, stream: Any, head: bytes, kind: Literal["http", "websocket"]) -> None:
        taken = socket.socket(fileno=stream.socket.detach())
        try:
            taken.setblocking(False)
            if self._door.adopt is not None:
                self._door.adopt(taken, head, kind, _peer_of(taken))
        except BaseException:
            taken.close()
            raise

    async def _speaks(self) -> bool:
        """Whether TLS, where it is wanted, came to be in time."""
        if not isinstance(self.stream, trio.SSLStream):
            return True
        with trio.move_on_after(self._door.rules.handshake_timeout) as patience:
            try:
                await self.stream.do_handshake()
            except trio.BrokenResourceError:
                return False
        if patience.cancelled_caught:
            self._door.counts.handshakes_timed_out += 1
        return not patience.cancelled_caught

    async def _read_head(self, stream: trio.SocketStream) -> bytes:
        """What comes up to the end of the head; less, as soon as it can't be an upgrade. Empty at an early end."""
        head = b""
        try:
            while len(head) < self._door.max_head and may_be_get(head) and not is_whole(head):
                data = await stream.receive_some(self._door.max_head - len(head))
                if not data:
                    return b""
                head += data
        except trio.BrokenResourceError:
            return b""
        return head

    # ---- while Hypercorn serves it

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol says, within the send timeout, whether or not the app is cancelled meanwhile."""
        with trio.CancelScope(shield=True) as patience:
            if isinstance(event, RawData):
                await self._send(event.data)
            else:
                patience.deadline = trio.current_time() + self._door.send_timeout
                if isinstance(event, Closed):
                    await self._finish()
                elif not self._finished:  # nor may it become idle after its end
                    if isinstance(event, Updated):
                        self._requests(idle=event.idle)
                    await super().protocol_send(event)
                    if isinstance(event, Updated) and event.idle and self._door.draining():
                        await self._say_goodbye(answered=True)
        if patience.cancelled_caught:
            await self._cut()

    async def _say_goodbye(self, *, answered: bool = False) -> None:
        """Tell a client of HTTP/2 which requests are the last that were heard (RFC 9113 section 6.8), so that it can
        send others again elsewhere. `answered`: only where there were some."""
        protocol: Any = self.protocol.protocol
        if not isinstance(protocol, H2Protocol) or (answered and not protocol.keep_alive_requests):
            return
        with suppress(ProtocolError):  # it may have been said
            protocol.connection.close_connection()
        await self._send(protocol.connection.data_to_send())

    async def _send(self, data: bytes) -> None:
        async with self.send_lock:
            if self._finished:
                return
            try:
                await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                if isinstance(error, TakesNothing) or isinstance(error.__cause__, TakesNothing):
                    await self._cut()
                    return
                self._stop()
                self._handling.cancel()
                await self.protocol.handle(Closed())

    async def _finish(self) -> None:
        self._stop()
        if trio.lowlevel.current_task() is not self._reader:
            # It may be waiting for an app that takes nothing any more.
            self._handling.cancel()
        await self._send_eof()
        await self.protocol.handle(Closed())

    async def _cut(self) -> None:
        """Reset the connection: its peer takes nothing any more, and the kernel need not keep it either."""
        self._stop()
        self._handling.cancel()
        with suppress(OSError):  # closed already
            _socket_of(self.stream).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        with trio.move_on_after(self._door.send_timeout, shield=True):
            await trio.aclose_forcefully(self.stream)
            await self.protocol.handle(Closed())

    def _requests(self, *, idle: bool) -> None:
        """A request has begun, or was answered and nothing is left of it."""
        if idle:
            self._answered.set()
        else:
            self._answered = trio.Event()

    def _stop(self) -> None:
        self._finished = True
        self._reading.cancel()
        self._answered.set()

    def _watch(self) -> None:
        """Refuse HTTP/2 unless both ends have agreed on it: by ALPN, or because the operator wants h2c. A
        proxy that passes `Upgrade` on would else tunnel to us whatever a client says (RFC 9113 section 3.3)."""
        stream: Any = self.stream
        over_tls = isinstance(stream, _SECURE)
        h2c = self._door.rules.h2c and not over_tls
        self._guard = Guard(http_2=h2c or (over_tls and stream.selected_alpn_protocol() == "h2"), h2c=h2c)
        protocol: Any = self.protocol.protocol
        if not h2c and isinstance(protocol, H11Protocol):
            # Where it looks for `Upgrade: h2c`. Without, that is answered by HTTP/1.1, as of clients of Java's.
            vars(protocol)["_check_protocol"] = _changes_nothing
        if isinstance(protocol, H11Protocol):
            vars(protocol)["stream_send"] = partial(self._stream_send, protocol.stream_send)
        # Over HTTP/2 it would reset each request that comes once the server ends; a GOAWAY is said here.
        wrapper: Any = self.protocol
        wrapper.context = _Lasting(self.context)
        if isinstance(protocol, H2Protocol):
            protocol.context = wrapper.context

    async def _stream_send(self, send: Callable[[Any], Awaitable[None]], event: Any) -> None:
        """What a request's stream has for the client."""
        if isinstance(event, Response) and event.status_code >= 200 and self._door.draining():
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await send(event)

    async def _read_data(self) -> None:
        self._reader = trio.lowlevel.current_task()
        self._watch()
        patience = self.config.read_timeout or inf
        while not self._finished:
            data: bytes | bytearray = b""
            try:
                with trio.move_on_after(patience) as self._reading:
                    data = await self.stream.receive_some(_READ)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            if self._reading.cancelled_caught:
                break
            if not await self._take(bytes(data)) or not data:
                break
            await self._look_for_http_2()
        await self.protocol.handle(Closed())
        # Or its task would keep this connection's descriptor until the keep-alive time is over.
        await self.idle_task.stop()

    async def _take(self, data: bytes) -> bool:
        """Give Hypercorn what came, a request at a time. Whether it may read on."""
        while True:
            if data and self._guard.between:
                await self._answered.wait()
                if self._finished:
                    return False
                data = self._guard.without_blank_line(data)
                if not data:
                    return True
            taken = len(data)
            refused: HttpAnswer | None = None
            if not self._over_http_2:
                try:
                    taken = self._guard.check(data)
                except BadHead as bad:
                    # Hypercorn's parser might take it for something else than the reactor's would.
                    taken, refused = self._guard.sound, bad.answer
            if self._guard.upgrades:
                self._stop_counting()  # the Gate counts it
            # Once the connection is broken Hypercorn forgets those who wait for its stream to be done: a
            # pipelined request would wait here for ever.
            with trio.CancelScope() as self._handling:
                if taken or refused is None:
                    await self.protocol.handle(RawData(data[:taken]))
            if refused is not None:
                await self._refuse(refused)
                return False
            data = data[taken:]
            if not data:
                return True

    async def _refuse(self, answer: HttpAnswer) -> None:
        """Say so, after the answers to what came before, unless an answer is half out."""
        protocol: Any = self.protocol.protocol
        self._door.counts.handshakes_refused += 1
        with trio.move_on_after(self._door.send_timeout):
            # Hypercorn has no event for it, and this is no path of honest clients.
            while protocol.stream is not None and protocol.connection.their_state is h11.DONE:  # noqa: ASYNC110
                await trio.sleep(_LOOK)
        if protocol.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            told = self._door.rules.https_headers if isinstance(self.stream, _SECURE) else ()
            answer = answer._replace(headers=(*answer.headers, *told))
            await self.protocol_send(RawData(render(answer, without_body=False, close=True)))
        await self.protocol_send(Closed())

    async def _look_for_http_2(self) -> None:
        """Over HTTP/2 a connection is idle until its first request; Hypercorn takes the preface for one, and a client
        that sends nothing else would stay for ever."""
        if not self._over_http_2 and isinstance(self.protocol.protocol, H2Protocol):
            self._over_http_2 = True
            self.protocol.protocol.streams = _Streams(self.protocol.protocol.streams)
            if not self.protocol.protocol.streams:
                self._untouched = True
                await self.protocol_send(Updated(idle=True))

    async def _idle_timeout(self) -> None:
        # The first head has its own time; later ones have what the connection may be idle.
        patience, self._head_time = self._head_time, self.config.keep_alive_timeout
        untouched, self._untouched = self._untouched, False
        with trio.move_on_after(patience):
            await self.context.terminated.wait()
            if untouched:
                await trio.sleep(_LATE_REQUEST)
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()

    async def _initiate_server_close(self) -> None:
        with trio.move_on_after(self._door.send_timeout):
            await self._say_goodbye()
            await self._finish()

    async def _close(self) -> None:
        try:
            with trio.move_on_after(self._door.linger):
                if isinstance(self.stream, _SECURE):
                    await self.stream.aclose()
                else:
                    await self._send_eof()
                    await self._discard()
        finally:
            _forget_soon(_socket_of(self.stream))
            await trio.aclose_forcefully(self.stream)

    async def _send_eof(self) -> None:
        if isinstance(self.stream, _SECURE):
            return  # TLS says goodbye when it is closed
        with suppress(trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
            await self.stream.send_eof()

    async def _discard(self) -> None:
        # Closing a socket with unread bytes in it sends a reset, which throws away what the client hasn't
        # read yet: the answer, or the Close, that says why.
        left = _DISCARD_LIMIT
        with suppress(trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
            while left > 0 and (data := await self.stream.receive_some(_READ)):
                left -= len(data)


async def _changes_nothing(_: object) -> None:
    """Hypercorn's look at what protocol a request asks for."""


_ = H11Protocol._check_protocol  # or the front door says at start that this Hypercorn has changed


def _socket_of(stream: Any) -> Any:
    return (stream.transport_stream if isinstance(stream, _SECURE) else stream).socket


def _peer_of(sock: socket.socket) -> str:
    """Its address; empty for a Unix socket. Raises OSError for a peer that is gone."""
    address = sock.getpeername()
    return str(address[0]).removeprefix("::ffff:") if isinstance(address, tuple) else ""


def _tune(stream: Any) -> None:
    sock = _socket_of(stream)
    with suppress(OSError):  # a Unix socket, or one that is gone already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _forget_soon(sock: Any) -> None:
    with suppress(OSError):  # closed already, or a Unix socket
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED)
