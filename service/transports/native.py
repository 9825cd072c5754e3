"""The native transport: one trio task that serves every connection, over an epoll of its own.

An epoll's descriptor is itself pollable: the task waits for it as for any socket, then handles whatever
is ready, synchronously, and writes what that led to once at the end. No task, lock or channel per
connection or message. A pass takes about 2 ms, then every other task of the process has its turn.

Knows sockets, HTTP requests and frames; what a message means is its Receiver's, what a request asks for its Api's.
Promises: no exception of one connection's handling reaches another; whatever a connection keeps is bounded, in bytes
and in time; when `run` ends, every descriptor is closed and every Receiver told.

Nothing here is thread-safe: call from the thread that trio runs in.
"""

import os
import random
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from portico.wire.codes import CloseCode
from service.core.deadlines import DeadlineWheel
from service.core.ports import AcceptedConnections, Gate, HttpApi, TransportCounts, Unlimited
from service.core.standstill import Standstill

from .acceptor import Acceptor
from .connection import Connection
from .connection_rules import ConnectionRules
from .connection_state import HEAD, OPEN
from .door import Log, describe
from .head import ResolveSource
from .listener import Kind, open_listeners
from .outbound import Outbound
from .poller import READABLE, WRITABLE, Poller, make_poller
from .pressure import Pressure
from .server_certificates import Certificates
from .tls_connection import TlsConnection
from .tls_session import TlsSession

TakeOver = Callable[[socket.socket, bytes, TlsSession | None], None]
"""(connected socket, what was read from it, the TLS that is spoken on it): serve this connection from now on. Must not
raise."""

PASS_SECONDS: Final = 0.002
"""What a pass may take before other tasks have their turn; a single message's handling is not cut short."""

GATHER_SECONDS: Final = 0.0005
"""How long what is to be written may wait for more, while more is coming in; nothing waits where nothing comes."""

_EVENTS: Final = 64  # handled before what they led to is written
_FLUSHES: Final = 128  # connections written to between two looks at the clock
TICK: Final = 0.1
"""Seconds between two looks at the deadlines, and how exact these are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortApis:
    """What answers plain HTTP, by the kind of port it came on; without the last two, `websocket` does there too."""

    websocket: HttpApi
    http: HttpApi | None = None
    redirect: HttpApi | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactorParts:
    """What a reactor serves connections with.

    `gate` decides on handshakes and gives the Receivers; `apis` answer what is no upgrade. `take_over` gets, with the
    connection, what the API of a port of kind `http` has no route for, HTTP/2 in cleartext, and the WebSockets whose
    path `others_websocket` takes. `resolve_source` says who asks, trusted proxies taken into account.
    `pressure` says how much may wait for a peer; whoever made it runs it. `accepted_connections` counts those that are
    no WebSockets, each for what `address_of` makes of its peer. With `certificates` every port speaks TLS, but for
    those of kind `redirect`.
    """

    gate: Gate
    apis: PortApis
    counts: TransportCounts
    resolve_source: ResolveSource
    pressure: Pressure
    log: Log
    accepted_connections: AcceptedConnections = field(default_factory=Unlimited)
    address_of: Callable[[str], str | None] = str
    take_over: TakeOver | None = None
    others_websocket: Callable[[str], bool] | None = None
    certificates: Certificates | None = None


class Reactor:
    """All native connections of one process.

    Pings go out at random moments of 0.8 to 1.0 times the interval after the last pong.
    """

    def __init__(
        self, parts: ReactorParts, rules: ConnectionRules, *, make_poller: Callable[[], Poller] = make_poller
    ) -> None:
        pressure = parts.pressure
        self.gate = parts.gate
        self.http_api = parts.apis.http
        self._apis = parts.apis
        self.take_over = parts.take_over
        self.others_websocket = parts.others_websocket
        self.certificates = parts.certificates
        self.accepted_connections = parts.accepted_connections
        self.address_of = parts.address_of
        self.draining = False
        self.nursery: trio.Nursery
        self.counts = parts.counts
        self.resolve_source = parts.resolve_source
        self._log = parts.log
        self.pressure = pressure
        self.outbound_limit = pressure.limit
        self.handshake_timeout = rules.handshake_timeout
        self.ping_interval = rules.ping_interval
        self.pong_timeout = rules.pong_timeout
        self.message_timeout = rules.message_timeout
        self.max_messages_per_second = rules.max_messages_per_second
        self.max_bytes_per_second = rules.max_bytes_per_second
        self.compression = rules.compression
        self.h2c = rules.h2c
        self.https_headers = rules.https_headers
        self.metered = bool(rules.max_messages_per_second or rules.max_bytes_per_second)
        self.clock: Callable[[], float] = trio.current_time
        # The app is made where no trio runs yet: nothing is opened, and no clock read, before `run`.
        self.now = 0.0
        self.wheel: DeadlineWheel[Connection] = DeadlineWheel(TICK)
        self.unfinished: dict[Connection, tuple[object, float]] = {}
        self.poller: Poller
        self._make_poller = make_poller
        # The task waits, or is about to: whoever gives it work has to wake it.
        self.parked = False
        self.dirty: list[Outbound] = []
        self._backlog: deque[Outbound] = deque()
        self._connections: dict[int, Connection] = {}
        self._acceptor: Acceptor
        self._waiting_turn: deque[Connection] = deque()
        self._deferred: deque[Callable[[], None]] = deque()
        self._endings: list[tuple[Connection, int, str]] = []
        self._corpses: list[int] = []
        self._closed = True
        self._bell: socket.socket
        self._ringer: socket.socket

    # What the app calls.

    @property
    def connection_count(self) -> int:
        """Descriptors held for peers, those that are closing or still at their handshake included."""
        return len(self._connections)

    @property
    def websocket_count(self) -> int:
        """Those of them that are WebSockets, or whatever else is closing."""
        return sum(1 for connection in self._connections.values() if connection.state != HEAD)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `close` is called or this is cancelled; both end every connection with 1001.

        What else is asked of a reactor makes sense only while this runs. It may be run again.
        """
        self._open()
        try:
            async with trio.open_nursery() as self.nursery:
                nursery = self.nursery
                nursery.start_soon(self._sweep)
                task_status.started()
                try:
                    await self._serve()
                finally:
                    self._answer_last()
                nursery.cancel_scope.cancel()
        finally:
            self._shut()

    async def listen(
        self,
        host: str | None,
        port: int,
        kind: Kind,
        *,
        reuse_port: bool = False,
        task_status: trio.TaskStatus[list[tuple[str, int]]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept on the addresses that `host` stands for until `stop_accepting`, or cancelled.

        Port 0 takes any; the real addresses are reported by `task_status`. Raises OSError, with a
        sentence, where an address can't be had.
        """
        await self.accept_from(await open_listeners(host, port, reuse_port), kind, task_status=task_status)

    async def accept_from(
        self,
        sockets: list[socket.socket],
        kind: Kind,
        *,
        task_status: trio.TaskStatus[list[tuple[str, int]]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Like `listen`, on sockets that listen already. They are closed at the end."""
        listeners = self._acceptor.open(sockets, kind)
        try:
            task_status.started([listener.address for listener in listeners])
            for listener in listeners:
                await listener.stopped.wait()
        finally:
            for listener in listeners:
                self._acceptor.stop(listener)

    def adopt(self, sock: socket.socket, received: bytes, kind: Kind, peer: str) -> None:
        """Take over a connected socket that somebody else accepted, and the bytes read from it so far.

        `sock` is detached; `peer` is the address at its other end. The handshake's time starts anew.
        """
        if self._closed:
            sock.close()
            return
        sock.setblocking(False)
        connection = self._admit(sock.detach(), peer, kind)
        if received:
            connection.begin_with(received)
            self.let_wait(connection)

    def defer(self, call: Callable[[], None]) -> None:
        """Run `call` soon: in the order of deferring, one a pass, so that others are served in between."""
        self._deferred.append(call)
        self.wake()

    def stop_accepting(self, *, leave: bool = False, http: bool = False) -> None:
        """Close the listeners, having accepted whoever is in their queues, except those for HTTP: it is answered to
        the end, one request a connection. `leave` them, and those for HTTP, to another process that has the same
        sockets. `http`: those for HTTP too, since this is the end."""
        self.draining = True
        self._acceptor.stop_all(leave=leave, but=None if leave or http else "http")

    def close(self) -> None:
        """Make `run` return, at once."""
        self._closed = True
        self.wake()

    # What connections call.

    def log(self, event: str, /, **fields: object) -> None:
        """Say what an operator should know. A log that can't be written ends nothing."""
        with suppress(Exception):
            self._log(event, **fields)

    def wake(self) -> None:
        """There is work that no descriptor tells of."""
        if self.parked:
            self.parked = False
            self._ringer.send(b"\0")

    def mark_dirty(self, connection: Outbound) -> None:
        """It has something to write."""
        self.dirty.append(connection)
        if self.parked:
            self.wake()

    def let_wait(self, connection: Connection) -> None:
        """It has more frames than its turn allows: on with it in the next pass."""
        connection.busy = True
        self._waiting_turn.append(connection)
        self.wake()

    def announce(self, connection: Connection, code: int, reason: str) -> None:
        """It is over: its Receiver is told soon, never from within one of its own calls."""
        self._endings.append((connection, code, reason))
        self.wake()

    def schedule_ping(self, connection: Connection) -> None:
        """Its next ping; jittered, or connections that came together would be pinged together for ever."""
        if self.ping_interval:
            self.wheel.add(connection, self.now + self.ping_interval * random.uniform(0.8, 1.0))

    def forget(self, connection: Connection) -> None:
        """It is gone. Its descriptor is closed only after the batch, in which its number may still occur."""
        fd = connection.fd
        del self._connections[fd]
        self.unfinished.pop(connection, None)
        self.wheel.discard(connection)
        try:
            self.poller.unregister(fd)
        except OSError as error:
            self.log("descriptor_lost", error=error.strerror)
        self._corpses.append(fd)
        self.wake()

    def give_away(self, connection: Connection, received: bytes) -> bool:
        """Have another server take its descriptor, with what was read. False if there is none."""
        if self.take_over is None:
            return False
        fd = connection.fd
        del self._connections[fd]
        self.wheel.discard(connection)
        self.poller.unregister(fd)
        connection.released()
        self.take_over(socket.socket(fileno=fd), received, connection.tls)
        return True

    # The loop.

    async def _serve(self) -> None:
        fileno = self.poller.fileno()
        while not self._closed:
            if self.dirty or self._backlog or self._waiting_turn or self._deferred or self._endings or self._corpses:
                await trio.lowlevel.checkpoint()
            else:
                self.parked = True
                try:
                    await trio.lowlevel.wait_readable(fileno)
                finally:
                    self.parked = False
            if len(self.dirty) > _FLUSHES and not self._backlog:
                await self._survey()
            self._pass()

    def _answer_last(self) -> None:
        """The end: requests that have come since the last pass are answered, and say that their connection ends; those
        that are idle are closed as is proper. (Closed with a request unread, its client would see a reset.)"""
        for connection in list(self._connections.values()):
            try:
                if connection.state == HEAD:
                    connection.readable()
                    connection.flush()
                if connection.state == HEAD and connection.idle:
                    connection.finish()
                    connection.flush()
            except Exception as error:
                self.contain(connection, error)

    async def _survey(self) -> None:
        """Before a big fan-out is written, let those tasks go on that may be about to push as well: what then goes
        to the same connection goes out in one write, which is most of what a delivery costs."""
        give_up = time.perf_counter() + PASS_SECONDS
        quiet = 0
        while quiet < 2 and time.perf_counter() < give_up:
            await trio.lowlevel.checkpoint()
            quiet = 0 if trio.lowlevel.current_statistics().tasks_runnable else quiet + 1

    def _pass(self) -> None:
        self.now = self.clock()
        start = time.perf_counter()
        give_up = start + PASS_SECONDS
        write_at = start + GATHER_SECONDS
        poll = self.poller.poll
        connections = self._connections
        counts = self.counts
        # Nobody's big broadcast holds up those whose messages are coming in: what other tasks and deferred calls
        # gave us to write stands in a line of its own.
        self._backlog.extend(self.dirty)
        self.dirty.clear()
        while True:
            sent = counts.messages_out
            events = poll(0, _EVENTS)
            for fd, mask in events:
                connection = connections.get(fd)
                if connection is None:
                    self._ready(fd)
                    continue
                try:
                    if mask & WRITABLE:
                        connection.flush()
                    if mask & ~WRITABLE and connection.fd in connections:
                        connection.readable()
                except Exception as error:
                    self.contain(connection, error)
            if self._waiting_turn:
                self._give_turns()
            if self.dirty or self._backlog:
                now = time.perf_counter()
                if counts.messages_out != sent and now < write_at:
                    # What comes in meanwhile may lead to more for the same connections: one write instead of two.
                    continue
                write_at = now + GATHER_SECONDS
                self._flush(give_up)
            # To the last: those that a receiver ends are told before the descriptors are closed, of which they may ask.
            while self._endings:
                self._tell()
            if self._corpses:
                self._bury()
            if not events or time.perf_counter() >= give_up:
                break
        if self._deferred:
            try:
                self._deferred.popleft()()
            except Exception as error:
                self.counts.contained_errors += 1
                self.log("contained_error", where="deferred", error=describe(error))

    def _ready(self, fd: int) -> None:
        """A descriptor that is no connection's: a listener's, the bell's, or one that just went."""
        if not self._acceptor.ready(fd) and fd == self._bell.fileno():
            self._bell.recv(64)

    def _give_turns(self) -> None:
        for _ in range(len(self._waiting_turn)):
            connection = self._waiting_turn.popleft()
            try:
                connection.resume()
            except Exception as error:
                self.contain(connection, error)

    def _flush(self, give_up: float) -> None:
        """Write to those who were just heard, then to the backlog, as long as the pass has time."""
        dirty, self.dirty = self.dirty, []
        backlog = self._backlog
        if len(dirty) > _FLUSHES:
            backlog.extend(dirty[_FLUSHES:])
            del dirty[_FLUSHES:]
        for connection in dirty:
            self._write(connection)
        while backlog:
            for _ in range(min(_FLUSHES, len(backlog))):
                self._write(backlog.popleft())
            if time.perf_counter() >= give_up:
                return

    def _write(self, connection: Outbound) -> None:
        try:
            connection.flush()
        except Exception as error:
            self.contain(connection, error)

    def _tell(self) -> None:
        endings, self._endings = self._endings, []
        for connection, code, reason in endings:
            receiver = connection.receiver
            connection.receiver = None
            if receiver is None:
                continue
            try:
                receiver.closed(code, reason)
            except Exception as error:
                self.counts.contained_errors += 1
                self.log("contained_error", where="closed", error=describe(error))

    def _bury(self) -> None:
        corpses, self._corpses = self._corpses, []
        for fd in corpses:
            # A close that reports an error has closed all the same.
            with suppress(OSError):
                os.close(fd)

    def contain(self, connection: Outbound, error: Exception) -> None:
        """A bug came up while a connection was handled: it ends, and nothing else."""
        self.counts.contained_errors += 1
        self.log("contained_error", where="connection", error=describe(error))
        try:
            connection.fail(CloseCode.INTERNAL, "internal error")
        except Exception as second:
            self.log("contained_error", where="containment", error=describe(second))
            connection.gone()

    async def _sweep(self) -> None:
        """The one timer of all connections."""
        standstill = Standstill(TICK, self.clock())
        while True:
            await trio.sleep(TICK)
            now = self.now = self.clock()
            for connection in self.wheel.expire(now) if standstill.may_judge(now) else ():
                try:
                    connection.due(now)
                except Exception as error:
                    self.contain(connection, error)
            self._acceptor.resume(now)

    def _admit(self, fd: int, address: str, kind: Kind) -> Connection:
        try:
            self.poller.register(fd, READABLE)
        except OSError:  # the system's bound on watched descriptors
            os.close(fd)
            raise
        api = self._apis.websocket
        context = None if self.certificates is None else self.certificates.context(kind)
        if kind == "http" and self._apis.http is not None:
            kind, api = "websocket", self._apis.http
        elif kind == "redirect" and self._apis.redirect is not None:
            context, api = None, self._apis.redirect
        if context is None:
            connection = Connection(self, fd, address, kind, api)
        else:
            connection = TlsConnection(self, fd, address, kind, api, context)
        self._connections[fd] = connection
        self.wheel.add(connection, self.now + self.handshake_timeout)
        return connection

    def _open(self) -> None:
        self.now = self.clock()
        self.wheel = DeadlineWheel(TICK)
        self.poller = self._make_poller()
        self._acceptor = Acceptor(self.poller, self.counts, self.log, self.clock, self._admit)
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        self.poller.register(self._bell.fileno(), READABLE)
        self._closed = False

    def _shut(self) -> None:
        """Everything ends, whatever state it is in."""
        self._closed = True
        self._acceptor.stop_all(leave=True)
        for connection in list(self._connections.values()):
            try:
                if connection.state == OPEN:
                    connection.close(CloseCode.GOING_AWAY)
                connection.flush()
            except Exception as error:
                self.contain(connection, error)
            connection.gone()
        self.dirty.clear()
        self._backlog.clear()
        while self._endings:
            self._tell()
        self._bury()
        trio.lowlevel.notify_closing(self.poller.fileno())
        self.poller.close()
        self._bell.close()
        self._ringer.close()
