"""Sockets without a greenlet each: one object reads them all, notes when their bytes arrived, and hands these over.

Knows sockets, TLS and gevent's loop; never what the bytes mean. All connections are in one selector, whose descriptor
is itself one that gevent's loop watches. When it is ready, callbacks run in slices of at most two milliseconds, so that
timers (the heartbeats and pushes that are due) never stand in line behind a broadcast to thousands.

An arrival is stamped by the kernel (SO_TIMESTAMPNS; Linux gives it for TCP too, with the last segment of what is read):
however late this process gets to reading, its own lag is in no latency. A thread that only reads, and stamps by the
clock, was weighed and not built, so what follows is reasoning and no measurement: it would have to wait for the
interpreter lock after each recv, up to 5 ms a time while greenlets are busy, and that wait would be in each stamp.
Where the kernel gives no stamp, the moment of reading is taken, and `unstamped` counts it. Where several messages lie
unread on one connection the kernel has one stamp for them, the last one's; `blurred` counts those before it, whose
times are too long by as much as they lay there.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import gevent
from gevent.monkey import get_original

SLICE: Final = 0.002
_READ_SIZE: Final = 8192
_SO_TIMESTAMPNS: Final = 35
_BLUR: Final = 0.01
"""Seconds unread from which on it matters which of several messages a stamp is of."""
_STAMPS: Final = sys.platform == "linux" and struct.calcsize("l") == 8
_timespec = struct.Struct("qq").unpack
_IN: Final = selectors.EVENT_READ
_OUT: Final = selectors.EVENT_WRITE


class Receiver(Protocol):
    """The receiver of a stream's bytes. Called in the loop: must neither wait nor raise."""

    def on_data(self, data: bytes, arrived: float) -> None:
        """Bytes, and the Unix time at which they were there."""

    def on_end(self, reason: str) -> None:
        """The stream is over; called once, unless we closed it ourselves."""


class Reactor:
    """The one reader of a process.

    Attributes:
        read_lag: is told by how many seconds each read came after the arrival.
        unstamped: how many reads had no stamp of the kernel's.
        messages, blurred: how many messages there were, and how many of them lay unread before others.
        faults: exceptions in receivers: bugs of the load test itself.
    """

    def __init__(self, read_lag: Callable[[float], None]) -> None:
        # Gevent's own selectors would be greenlets again.
        self._selector: Any = get_original("selectors", "DefaultSelector")()
        self._ready: deque[tuple[Any, int]] = deque()
        self._watcher = gevent.get_hub().loop.io(self._selector.fileno(), 1)
        self._watcher.start(self._turn)
        # The kernel begins to stamp a moment after the first socket wants it, and stops with the last.
        self._stamping = get_original("socket", "socket")(socket.AF_INET, socket.SOCK_DGRAM)
        if _STAMPS:
            self._stamping.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.read_lag = read_lag
        self.unstamped = 0
        self.messages = 0
        self.blurred = 0
        self.lag = 0.0
        self.faults: list[BaseException] = []

    def watch(self, stream: Stream, events: int) -> None:
        """Watch a stream for these events from now on; for none at all if 0."""
        before = stream.watched
        if before == events:
            return
        stream.watched = events
        if not before:
            self._selector.register(stream.socket, events, stream)
        elif events:
            self._selector.modify(stream.socket, events, stream)
        else:
            self._selector.unregister(stream.socket)

    def close(self) -> None:
        """Watch nothing any more."""
        self._watcher.stop()
        self._selector.close()
        self._stamping.close()

    def _turn(self) -> None:
        ready = self._ready
        if not ready:
            ready.extend((key.data, events) for key, events in self._selector.select(0))
        end = time.perf_counter() + SLICE
        while ready:
            stream, events = ready.popleft()
            try:
                if events & _OUT and stream.watched & _OUT:
                    stream.flush()
                # What was closed meanwhile is watched for nothing.
                if events & _IN and stream.watched & _IN:
                    stream.read()
            except Exception as error:
                self.faults.append(error)
                stream.fail("a fault in the load test")
            if time.perf_counter() >= end:
                break


class Stream:
    """One connected socket, with or without TLS. Made by `connect`."""

    __slots__ = (
        "_incoming",
        "_out",
        "_outgoing",
        "_reactor",
        "_shaken",
        "_tls",
        "closed",
        "receiver",
        "socket",
        "watched",
    )

    def __init__(self, reactor: Reactor, sock: socket.socket, receiver: Receiver) -> None:
        self._reactor = reactor
        self.socket = sock
        self.receiver = receiver
        self.watched = 0
        self.closed = False
        self._out = b""
        self._shaken = True
        self._tls: ssl.SSLObject | None = None
        self._incoming: ssl.MemoryBIO | None = None
        self._outgoing: ssl.MemoryBIO | None = None

    def start(self, context: ssl.SSLContext | None, host: str) -> None:
        """Begin to read, and TLS before that if there is a context: once it is up, no bytes at all are handed over."""
        if context is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._shaken = False
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
            self._shake()
        self._reactor.watch(self, _IN)

    def send(self, data: bytes) -> None:
        """Send without waiting: what the kernel does not take now is kept. Nothing happens once it is over."""
        if self.closed:
            return
        if self._tls is not None and self._outgoing is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self._raw(data)

    def pause(self) -> None:
        """Stop reading until `resume`."""
        if not self.closed:
            self._reactor.watch(self, self.watched & ~_IN)

    def resume(self) -> None:
        """Read again."""
        if not self.closed:
            self._reactor.watch(self, self.watched | _IN)

    def count(self, messages: int) -> None:
        """So many messages were in what was read last."""
        self._reactor.messages += messages
        if messages > 1 and self._reactor.lag > _BLUR:
            self._reactor.blurred += messages - 1

    def backlog(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return len(self._out)

    def close(self, *, rude: bool = False) -> None:
        """Close the socket; `rude`: as if the machine were gone (RST). The receiver is not told."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(OSError, KeyError, ValueError):
            self._reactor.watch(self, 0)
        if rude:
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def fail(self, reason: str) -> None:
        """Close it and tell the receiver."""
        if not self.closed:
            self.close()
            self.receiver.on_end(reason)

    def read(self) -> None:
        """Take what is there."""
        try:
            data, ancillary, _, _ = self.socket.recvmsg(_READ_SIZE, 32)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.fail(error.strerror or type(error).__name__)
            return
        now = time.time()
        arrived = now
        if ancillary:
            seconds, nanoseconds = _timespec(ancillary[0][2])
            arrived = seconds + nanoseconds / 1e9
        elif data:
            self._reactor.unstamped += 1
        self._reactor.lag = now - arrived
        self._reactor.read_lag(now - arrived)
        if not data:
            self.fail("the connection was cut")
        elif self._tls is None:
            self.receiver.on_data(data, arrived)
        else:
            self._decrypt(data, arrived)

    def flush(self) -> None:
        """Send what was kept."""
        kept, self._out = self._out, b""
        self._raw(kept)

    def _raw(self, data: bytes) -> None:
        if self._out:
            self._out += data
            return
        try:
            sent = self.socket.send(data) if data else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            # Told from the loop, so that a sender is never called back while it sends.
            gevent.get_hub().loop.run_callback(self.fail, error.strerror or type(error).__name__)
            return
        if sent < len(data):
            self._out = data[sent:]
            self._reactor.watch(self, self.watched | _OUT)
        elif self.watched & _OUT:
            self._reactor.watch(self, self.watched & ~_OUT)

    def _decrypt(self, data: bytes, arrived: float) -> None:
        assert self._tls is not None
        assert self._incoming is not None
        self._incoming.write(data)
        try:
            if not self._shaken and not self._shake():
                return
            while chunk := self._tls.read(_READ_SIZE):
                self.receiver.on_data(chunk, arrived)
                if self.closed:
                    return
            self.fail("the connection was cut")
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            self.fail(getattr(error, "verify_message", None) or error.reason or "TLS failed")

    def _shake(self) -> bool:
        """Go on with TLS's handshake; whether it is over."""
        assert self._tls is not None
        assert self._outgoing is not None
        try:
            self._tls.do_handshake()
            self._shaken = True
        except ssl.SSLWantReadError:
            pass
        finally:
            if pending := self._outgoing.read():
                self._raw(pending)
        if self._shaken:
            self.receiver.on_data(b"", time.time())
        return self._shaken


def connect(
    reactor: Reactor,
    address: tuple[str, int],
    timeout: float,
    *,
    source: str | None = None,
    receive_buffer: int | None = None,
) -> socket.socket:
    """A connected socket that never blocks; the greenlet waits for at most `timeout` seconds.

    Args:
        address: a host's name or address, and its port.
        source: the local address to come from; any port of it.
        receive_buffer: the kernel's, in bytes, where it is not to choose.

    Raises:
        OSError: it could not be done; TimeoutError if it took too long.
    """
    plain = get_original("socket", "socket")
    family, kind, protocol, resolved = _resolve(address)
    sock: socket.socket = plain(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if _STAMPS:
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if source is not None:
            # IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, by the whole pair of addresses.
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)
            sock.bind((source, 0))
        with contextlib.suppress(BlockingIOError):
            sock.connect(resolved)
        hub = gevent.get_hub()
        with gevent.Timeout(timeout, TimeoutError("timed out")):
            hub.wait(hub.loop.io(sock.fileno(), 2))
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


_Resolved = tuple[socket.AddressFamily, socket.SocketKind, int, Any]
_resolved: dict[tuple[str, int], tuple[float, _Resolved]] = {}
_RESOLVED_FOR: Final = 30.0


def _resolve(address: tuple[str, int]) -> _Resolved:
    """Where that is. Thousands of clients ask within seconds, and gevent asks in threads."""
    known = _resolved.get(address)
    if known is None or known[0] < time.monotonic():
        family, kind, protocol, _, found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        known = _resolved[address] = time.monotonic() + _RESOLVED_FOR, (family, kind, protocol, found)
    return known[1]
