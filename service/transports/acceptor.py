"""Accepting on the listening sockets of a reactor: in bursts, and with pauses when descriptors run out.

Knows listeners and the poller that they are watched by; what becomes of a new connection is decided by `admit`. When
descriptors or memory run out, accepting pauses for PAUSE seconds and clients wait in the kernel's queue: each further
attempt would fail too, and the listener would be readable all the time.
"""

import socket
from collections.abc import Callable
from typing import Final

from service.core.ports import TransportCounts

from .door import Log
from .listener import BACKLOG, Kind, Listener
from .poller import READABLE, Poller

AT_ONCE: Final = 64
"""Connections accepted before others have their turn."""
PAUSE: Final = 0.25

Admit = Callable[[int, str, Kind], object]
"""(descriptor, address of the peer, kind of port): take a new connection. OSError where there is no room for it."""


class Acceptor:
    """The listeners of one reactor, as long as it runs."""

    def __init__(
        self, poller: Poller, counts: TransportCounts, log: Log, clock: Callable[[], float], admit: Admit
    ) -> None:
        self._poller = poller
        self._counts = counts
        self._log = log
        self._clock = clock
        self._admit = admit
        self._listeners: dict[int, Listener] = {}

    def open(self, sockets: list[socket.socket], kind: Kind) -> list[Listener]:
        """Begin to accept on sockets that listen already."""
        listeners = [Listener(sock, kind) for sock in sockets]
        for listener in listeners:
            self._listeners[listener.fd] = listener
            self._poller.register(listener.fd, READABLE)
        return listeners

    def ready(self, fd: int) -> bool:
        """Accept, if this descriptor is a listener's. Whether it is."""
        listener = self._listeners.get(fd)
        if listener is None:
            return False
        self._accept(listener, AT_ONCE)
        return True

    def resume(self, now: float) -> None:
        """Accept again where a pause is over."""
        for listener in self._listeners.values():
            if listener.paused_until and now >= listener.paused_until:
                listener.paused_until = 0
                self._poller.register(listener.fd, READABLE)
                self._log("accept_resumed", port=listener.address[1])

    def stop_all(self, *, leave: bool, but: Kind | None = None) -> None:
        """Close all listeners except those of kind `but`; unless `leave`, whoever is in their queues is accepted
        first."""
        for listener in [listener for listener in self._listeners.values() if listener.kind != but]:
            if not leave:
                self._accept(listener, BACKLOG)
            self.stop(listener)

    def stop(self, listener: Listener) -> None:
        """Close one listener; one that is closed already is left alone."""
        if self._listeners.pop(listener.fd, None) is None:
            return
        if not listener.paused_until:
            self._poller.unregister(listener.fd)
        listener.sock.close()
        listener.stopped.set()

    def _accept(self, listener: Listener, limit: int) -> None:
        if listener.paused_until:
            return
        try:
            for fd, address in listener.accept(limit):
                self._admit(fd, address, listener.kind)
        except OSError as error:
            listener.paused_until = self._clock() + PAUSE
            self._poller.unregister(listener.fd)
            self._counts.accept_pauses += 1
            self._log("accept_paused", port=listener.address[1], error=error.strerror)
