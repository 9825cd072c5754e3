"""A native connection over TLS: like one without, except that the socket carries encrypted bytes.

The send queue holds plain text: a broadcast's bytes are shared between connections, and the bounds on the queue are the
same as without TLS. At most CHUNK bytes are encrypted at a time. What the kernel doesn't take of the result is kept,
and its plain text stays in the queue until the kernel has taken all of it. So the queue's length counts everything that
the peer may not have yet.

Beside what a plain connection costs, OpenSSL's state takes some 20 KiB, and a message of 128 bytes 2 µs each way.
"""

import os
import ssl
from typing import Final

from portico.wire.codes import ABNORMAL
from service.core.ports import HttpApi

from .connection import Connection, Host
from .connection_state import ENDING, GONE, OPEN
from .inbound import BIG_READ_SIZE, READ_SIZE
from .outbound import write_queue
from .poller import WRITABLE
from .tls_session import TlsSession

CHUNK: Final = 64 * 1024
UNHEARD: Final = 64 * 1024
"""Bytes of TLS's own (answers to key updates) that may wait for a peer that reads nothing; beyond, it is cut."""

_read = os.read
_write = os.write


class TlsConnection(Connection):
    """A Connection over TLS."""

    __slots__ = ("_held", "_sealed", "_session", "certificate")

    scheme = "https"

    def __init__(self, reactor: Host, fd: int, address: str, kind: str, api: HttpApi, context: ssl.SSLContext) -> None:
        self.certificate = None
        super().__init__(reactor, fd, address, kind, api)
        self._session = TlsSession(context)
        self._sealed = b""  # what the kernel has not taken of what was encrypted
        self._held = 0  # bytes of the queue, from its offset, that are in it

    @property
    def tls(self) -> TlsSession | None:
        """See Connection."""
        return self._session

    @property
    def idle(self) -> bool:
        """See Connection."""
        return super().idle and self._session.established

    def readable(self) -> None:
        """There is something to read, or the end of the stream, or an error."""
        if self._deaf:
            self.lost()
            return
        if self.busy:
            return
        try:
            data = _read(self.fd, self._read_size())
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.lost()
            return
        if not data:
            self._ended()
            return
        self.counts.bytes_in += len(data)
        if self.state == ENDING:
            return  # nothing that it says counts any more
        try:
            self._open(data)
        except ssl.SSLError:
            self._broken()

    def _read_size(self) -> int:
        if self.state > OPEN:
            return BIG_READ_SIZE
        if self._http is not None:
            return self._http.read_size
        return self.wanted() if self._need else READ_SIZE

    def _open(self, data: bytes) -> None:
        session = self._session
        session.feed(data)
        if not session.established:
            done = session.shake_hands()
            self._say()
            if not done or self.state == GONE:
                return
            self.certificate = session.certificate
            if session.protocol == "h2":
                if not self.reactor.give_away(self, b""):
                    self.lost()
                return
        said = session.open()
        if session.outgoing:
            self._say()
        if said and self.state != GONE:
            self.received(said)
        if session.closed and self.state not in (GONE, ENDING) and not self._deaf:
            self._ended()

    def _broken(self) -> None:
        """The peer broke TLS, or speaks none: it is told by an alert, where there is one."""
        if self._session.established:
            self.counts.protocol_errors += 1
        else:
            self.counts.handshakes_refused += 1
        self._say()
        if self.state == GONE:
            return
        if self.state == OPEN:
            self._over(ABNORMAL, "")
        self.drop_queue()
        self.finish()

    def _say(self) -> None:
        """Write what TLS itself has to say: handshakes, alerts, answers to key updates."""
        session = self._session
        if self._sealed:
            # It goes out behind what is half out.
            if session.outgoing > UNHEARD:
                self.lost()
            return
        if not session.outgoing:
            return
        data = session.take_outgoing()
        try:
            written = _write(self.fd, data)
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError:
            self.lost()
            return
        self.counts.bytes_out += written
        if written < len(data):
            self._sealed = data[written:]
            self.watch(self._watched | WRITABLE)

    # Sending

    def flush(self) -> None:
        """Write what is queued, as far as the kernel takes it; it is watched for room for the rest."""
        queue = self._queue
        if queue is None:
            self._drain_alone()
            return
        if not self._session.established:
            return  # an error before the handshake was over: there is nobody who could read it
        if isinstance(queue, bytes):
            queue = self._queue = [queue]
        try:
            written = self._write_on(queue)
        except OSError:
            self.lost()
            return
        self._wrote(written)

    def _drain_alone(self) -> None:
        if not self._sealed:
            return
        try:
            self._drain()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.lost()
            return
        self.watch(self._watched & ~WRITABLE)

    def _write_some(self, queue: list[bytes]) -> tuple[int, int, int]:
        return write_queue(self.fd, queue, self._offset, self._encrypt)

    def _encrypt(self, fd: int, data: bytes | memoryview) -> int:
        """Write this encrypted, or the beginning of it. How much of it is out; BlockingIOError if nothing is."""
        if self._sealed:
            self._drain()
        if self._held:
            # It stands at the beginning of the queue still.
            held, self._held = self._held, 0
            return held
        session = self._session
        part = data if len(data) <= CHUNK else memoryview(data)[:CHUNK]
        session.seal(part)
        sealed = session.take_outgoing()
        try:
            written = _write(fd, sealed)
        except (BlockingIOError, InterruptedError):
            written = 0
        if written < len(sealed):
            self._sealed = sealed[written:]
            self._held = len(part)
            raise BlockingIOError
        return len(part)

    def _drain(self) -> None:
        """Write what was encrypted before. BlockingIOError if some of it is left."""
        written = _write(self.fd, self._sealed)
        self._sealed = self._sealed[written:]
        if self._sealed:
            raise BlockingIOError

    def _begun(self) -> list[bytes]:
        frames: list[bytes] = []
        reach = self._offset + self._held
        for frame in self.first_frames(self.frame_count):
            if reach <= 0:
                break
            frames.append(frame)
            reach -= len(frame)
        return frames

    def all_written(self) -> None:
        """Everything is out. Where nothing more will be sent, say so to the peer."""
        if self._http is None and not self._deaf:
            self._session.end()
            self._say()
            if self.state == GONE:
                return
        super().all_written()
