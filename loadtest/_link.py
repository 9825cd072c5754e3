"""One WebSocket as a client sees it, on a plain blocking socket.

Knows the WebSocket protocol (RFC 6455, by the Sans-I/O core of `websockets`) and sockets; never what the
messages mean. Under locust the socket is gevent's, so blocking here suspends one greenlet. One greenlet owns
a link: nothing in it is locked. Small on purpose: the handshake's state is dropped once it is over.
"""

from __future__ import annotations

import functools
import socket
import ssl
import time

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol
from websockets.uri import parse_uri

_HEAD_LIMIT = 16 * 1024
_READ_SIZE = 16 * 1024
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class LinkError(Exception):
    """The connection could not be made; the text says why."""


class LinkClosedError(Exception):
    """The connection is over.

    Attributes:
        code: the close code (RFC 6455 7.4), 1006 where there was none.
        reason: what the peer gave as its reason.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The one TLS context of the process: each takes hundreds of KiB."""
    return ssl.create_default_context()


class Link:
    """An open WebSocket. Made by `Link.open`."""

    __slots__ = ("_broken", "_fragments", "_protocol", "_socket")

    def __init__(self, sock: socket.socket, protocol: Protocol) -> None:
        self._socket = sock
        self._protocol = protocol
        self._broken = False
        self._fragments = b""

    @classmethod
    def open(cls, url: str, timeout: float) -> Link:
        """Connect to `url` (ws or wss) and shake hands, in at most `timeout` seconds for each wait.

        Raises:
            LinkError: it could not be done.
        """
        try:
            uri = parse_uri(url)
        except (InvalidURI, ValueError) as error:
            raise LinkError(f"not a WebSocket address: {url!r}") from error
        try:
            sock = socket.create_connection((uri.host, uri.port), timeout=timeout)
        except OSError as error:
            raise LinkError(f"no connection: {error.strerror or error}") from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if uri.secure:
                sock = tls_context().wrap_socket(sock, server_hostname=uri.host)
            handshake = ClientProtocol(uri)
            handshake.send_request(handshake.connect())
            sock.sendall(b"".join(handshake.data_to_send()))
            head, rest = _read_head(sock)
            _accept(handshake, head)
            protocol = Protocol(CLIENT, state=OPEN)
            protocol.extensions = handshake.extensions
            if rest:
                protocol.receive_data(rest)
            return cls(sock, protocol)
        except OSError as error:
            sock.close()
            raise LinkError(f"the handshake failed: {error.strerror or error or 'timed out'}") from error
        except BaseException:
            sock.close()
            raise

    def send(self, payload: bytes) -> None:
        """Send one text message. Raises LinkClosedError. A greenlet killed in here has ended the connection."""
        if self._protocol.state is not OPEN:
            raise self._closed()
        self._protocol.send_text(payload)
        self._flush()

    def receive(self, deadline: float) -> list[bytes]:
        """Wait for messages: those that are there, none if `deadline` (of time.monotonic) passes first.

        Raises:
            LinkClosedError: the connection is over, and all that came before was returned already.
        """
        messages = self._messages()
        while not messages:
            if self._protocol.close_rcvd is not None or self._protocol.state is not OPEN:
                self._flush()
                raise self._closed()
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                self._socket.settimeout(left)
                data = self._socket.recv(_READ_SIZE)
            except TimeoutError:
                break
            except OSError as error:
                self._broken = True
                raise LinkClosedError(1006, error.strerror or type(error).__name__) from error
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            # Pings are answered here.
            self._flush()
            messages = self._messages()
        return messages

    def close(self, timeout: float) -> None:
        """Say good-bye, wait up to `timeout` seconds for the answer, and close the socket. Never raises."""
        try:
            if not self._broken and self._protocol.state is OPEN:
                self._protocol.send_close(1000)
                self._flush()
                deadline = time.monotonic() + timeout
                while (left := deadline - time.monotonic()) > 0:
                    self._socket.settimeout(left)
                    data = self._socket.recv(_READ_SIZE)
                    if not data:
                        break
                    self._protocol.receive_data(data)
                    if self._protocol.close_rcvd is not None:
                        break
        except (OSError, LinkClosedError):
            # Whatever it was, the socket is about to be closed.
            pass
        finally:
            self._socket.close()

    def _flush(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if not data:
            return
        # Set while sending: a greenlet killed halfway leaves half a frame, after which nothing may follow.
        self._broken = True
        try:
            self._socket.settimeout(10)
            self._socket.sendall(data)
        except OSError as error:
            if self._protocol.close_rcvd is None:
                raise LinkClosedError(1006, error.strerror or "timed out while sending") from error
        self._broken = False

    def _messages(self) -> list[bytes]:
        messages: list[bytes] = []
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in _DATA:
                continue
            self._fragments += event.data
            if event.fin:
                messages.append(self._fragments)
                self._fragments = b""
        return messages

    def _closed(self) -> LinkClosedError:
        close = self._protocol.close_rcvd
        if close is not None:
            return LinkClosedError(close.code, close.reason)
        error = self._protocol.parser_exc
        if error is None or isinstance(error, EOFError):
            return LinkClosedError(1006, "the connection was cut")
        return LinkClosedError(1002, str(error))


def _read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """The response's head with its blank line, and what came after it."""
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        if len(received) > _HEAD_LIMIT:
            raise LinkError("the handshake's answer is no HTTP response")
        data = sock.recv(4096)
        if not data:
            raise LinkError("the connection was closed in the handshake")
        received += data
    return bytes(received[: end + 4]), bytes(received[end + 4 :])


def _accept(handshake: ClientProtocol, head: bytes) -> None:
    status = head.split(b"\r\n", 1)[0].decode("ascii", "replace")
    words = status.split(" ", 2)
    # A refusal's body is of no interest, and the protocol would wait for it.
    if len(words) < 2 or words[1] != "101":
        raise LinkError(f"the handshake was refused: {status[:80]}")
    handshake.receive_data(head)
    if handshake.handshake_exc is not None:
        raise LinkError(f"the handshake is wrong: {handshake.handshake_exc}")
