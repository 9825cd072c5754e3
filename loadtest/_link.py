"""One WebSocket as a client sees it, on a stream of the reactor's.

Knows the handshake (by the Sans-I/O core of `websockets`) and frames; never what the messages mean. Opening one waits,
in the greenlet that wants it; after that everything comes by callbacks, without a greenlet for each connection. It
keeps the last few messages, for the transcript of a fault.
"""

from __future__ import annotations

import functools
import re
import ssl
import time
from collections import deque
from typing import Final, Protocol
from urllib.parse import quote

from gevent.event import Event
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from loadtest import _frames
from loadtest._reactor import Reactor, Stream, connect
from portico.wire.codes import Advice, advice_for

_HEAD_LIMIT: Final = 16 * 1024
_KEPT: Final = 8
_KEPT_SIZE: Final = 200


class LinkError(Exception):
    """The connection could not be made; the text says why.

    Attributes:
        status: what the handshake was answered, None if that is not why.
        nobody: whether nobody listens there.
    """

    def __init__(self, sentence: str, *, status: int | None = None, nobody: bool = False) -> None:
        super().__init__(sentence)
        self.status = status
        self.nobody = nobody


class LinkClosedError(Exception):
    """The connection is over.

    Attributes:
        code: the close code (RFC 6455 7.4) that the peer gave; 1006 where it gave none; ours where we closed.
        reason: what the peer gave as its reason, or why we closed.
        ours: whether we closed, since the peer broke the protocol.
    """

    def __init__(self, code: int, reason: str, *, ours: bool = False) -> None:
        super().__init__(f"we closed with {code}: {reason}" if ours else f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason
        self.ours = ours

    @property
    def is_final(self) -> bool:
        """Whether the gateway's close code says not to come back. One of ours, for a protocol error, never does."""
        return not self.ours and advice_for(self.code) is Advice.NO

    @property
    def cause(self) -> str:
        """What reports count it under: the peer's close code, or that it was us and why, numbers left out."""
        return f"we closed: {re.sub('[0-9]+', 'n', self.reason)}" if self.ours else str(self.code)


def at_path(url: str, path: str) -> str:
    """A WebSocket address with this path instead of its own."""
    return re.sub(r"^(wss?://[^/?#]+).*$", lambda found: found[1] + path, url)


class Owner(Protocol):
    """The receiver of a link's messages. Called in the loop: must neither wait nor raise."""

    def on_message(self, payload: bytes, arrived: float, *, binary: bool) -> None:
        """A whole message, and the Unix time at which its last byte was there."""

    def on_closed(self, error: LinkClosedError) -> None:
        """The connection is over; called once, unless we ended it ourselves."""


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The one TLS context of the process: each takes hundreds of KiB."""
    return ssl.create_default_context()


class Link:
    """An open WebSocket. Made by `Link.open`; `attach` says whose it is, and hands over what came before that.

    Attributes:
        opened: the Unix time at which the answer to the handshake was there.
        closed: how it ended, None as long as it has not.
        kept: the last messages: whether we sent it, when, and its beginning.
    """

    __slots__ = ("_answered", "_early", "_owner", "_reader", "_stream", "closed", "kept", "opened")

    def __init__(self, stream: Stream, opened: float) -> None:
        self._stream = stream
        self._reader = _frames.FrameReader()
        self._owner: Owner | None = None
        self._early: list[tuple[bytes, float, bool]] = []
        self._answered: Event | None = None
        self.opened = opened
        self.closed: LinkClosedError | None = None
        self.kept: deque[tuple[bool, float, bytes]] = deque(maxlen=_KEPT)

    @classmethod
    def open(
        cls,
        reactor: Reactor,
        url: str,
        timeout: float,
        *,
        token: str | None = None,
        source: str | None = None,
        receive_buffer: int | None = None,
    ) -> Link:
        """Connect to `url` (ws or wss) and shake hands, in at most `timeout` seconds.

        Args:
            reactor: what is to read it.
            url: where.
            timeout: seconds, for all of it.
            token: shown as `Authorization: Bearer …`.
            source: the local address to come from.
            receive_buffer: the kernel's, in bytes, where it is not to choose.

        Raises:
            LinkError: it could not be done.
        """
        try:
            uri = parse_uri(quote(url, safe=":/?#[]@!$&'()*+,;=%"))
        except (InvalidURI, ValueError) as error:
            raise LinkError(f"not a WebSocket address: {url!r}") from error
        deadline = time.monotonic() + timeout
        try:
            sock = connect(reactor, (uri.host, uri.port), timeout, source=source, receive_buffer=receive_buffer)
        except OSError as error:
            nobody = isinstance(error, ConnectionRefusedError)
            raise LinkError(f"no connection: {error.strerror or error}", nobody=nobody) from error
        handshake = ClientProtocol(uri)
        shaking = _Handshake(handshake, Headers(Authorization=f"Bearer {token}") if token else Headers())
        stream = shaking.stream = Stream(reactor, sock, shaking)
        try:
            try:
                stream.start(tls_context() if uri.secure else None, uri.host)
            except ssl.SSLError as error:
                raise LinkError(f"the handshake failed: {error.reason or error}") from error
            if not uri.secure:
                shaking.begin()
            if not shaking.over.wait(max(0.0, deadline - time.monotonic())):
                raise LinkError("the handshake failed: timed out")
            if shaking.error is not None:
                raise shaking.error
        except BaseException:
            stream.close()
            raise
        link = cls(stream, shaking.arrived)
        stream.receiver = link
        if shaking.rest:
            link.on_data(shaking.rest, shaking.arrived)
        return link

    def attach(self, owner: Owner) -> None:
        """From now on messages are for `owner`; those that came already are handed over at once."""
        self._owner = owner
        for payload, arrived, binary in self._early:
            owner.on_message(payload, arrived, binary=binary)
        self._early = []
        if self.closed is not None:
            owner.on_closed(self.closed)

    def send(self, payload: bytes, *, kept: bytes | None = None) -> None:
        """Send one text message, without waiting; nothing happens once the connection is over.

        Args:
            payload: the message.
            kept: what transcripts show instead of it, where there is a secret in it.
        """
        self.send_frame(_frames.frame(_frames.TEXT, payload), kept or payload)

    def send_frame(self, frame: bytes, payload: bytes) -> None:
        """Send a frame that was made before; `payload` is what transcripts show of it."""
        self.kept.append((True, time.time(), payload[:_KEPT_SIZE]))
        self._stream.send(frame)

    def backlog(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._stream.backlog()

    def pause(self) -> None:
        """Read nothing until `resume`."""
        self._stream.pause()

    def resume(self) -> None:
        """Read again."""
        self._stream.resume()

    def close(self, timeout: float) -> None:
        """Say good-bye, wait up to `timeout` seconds for the answer, and close. Never raises an Exception."""
        if self.closed is None:
            self._answered = Event()
            self._owner = None
            self._stream.send(_frames.frame(_frames.CLOSE, (1000).to_bytes(2, "big")))
            try:
                self._answered.wait(timeout)
            finally:
                self._stream.close()
        self._stream.close()

    def cut(self) -> None:
        """End it as if the machine were gone: no good-bye, and a reset."""
        self._owner = None
        self._stream.close(rude=True)

    def on_data(self, data: bytes, arrived: float) -> None:
        """Bytes from the stream."""
        try:
            messages = self._reader.feed(data)
        except _frames.FrameError as error:
            # A Close of ours must not be taken for one of the gateway's, in reports as little as on the wire.
            self._stream.send(_frames.frame(_frames.CLOSE, (1002).to_bytes(2, "big") + str(error).encode()))
            self._over(LinkClosedError(1002, str(error), ours=True))
            return
        self._stream.count(len(messages))
        for opcode, payload in messages:
            if opcode <= _frames.BINARY:
                binary = opcode == _frames.BINARY
                self.kept.append((False, arrived, payload[:_KEPT_SIZE]))
                if self._owner is not None:
                    self._owner.on_message(payload, arrived, binary=binary)
                elif self._answered is None:
                    self._early.append((payload, arrived, binary))
            elif opcode == _frames.PING:
                self._stream.send(_frames.frame(_frames.PONG, payload))
            elif opcode == _frames.CLOSE:
                self._stream.send(_frames.frame(_frames.CLOSE, payload[:2]))
                self._over(LinkClosedError(*_frames.close_reason(payload)))
                return

    def on_end(self, reason: str) -> None:
        """The stream is over without a Close frame."""
        self._over(LinkClosedError(1006, reason))

    def _over(self, error: LinkClosedError) -> None:
        if self.closed is not None:
            return
        self.closed = error
        self._stream.close()
        if self._answered is not None:
            self._answered.set()
        if self._owner is not None:
            self._owner.on_closed(error)


class _Handshake:
    """What a stream's bytes are for until the handshake is over."""

    def __init__(self, protocol: ClientProtocol, headers: Headers) -> None:
        self._protocol = protocol
        self._headers = headers
        self._received = b""
        self.stream: Stream | None = None
        self.over = Event()
        self.error: LinkError | None = None
        self.arrived = 0.0
        self.rest = b""

    def begin(self) -> None:
        """Send the request."""
        request = self._protocol.connect()
        request.headers.update(self._headers)
        self._protocol.send_request(request)
        assert self.stream is not None
        self.stream.send(b"".join(self._protocol.data_to_send()))

    def on_data(self, data: bytes, arrived: float) -> None:
        if not data:
            # TLS is up.
            self.begin()
            return
        self._received += data
        self.arrived = arrived
        end = self._received.find(b"\r\n\r\n")
        if self.over.is_set():
            self.rest += data
        elif end >= 0:
            self.rest = self._received[end + 4 :]
            self.error = self._judge(self._received[: end + 4])
            self.over.set()
        elif len(self._received) > _HEAD_LIMIT:
            self.error = LinkError("the handshake's answer is no HTTP response")
            self.over.set()

    def on_end(self, reason: str) -> None:
        if not self.over.is_set():
            sentence = "the connection was closed in the handshake" if reason == "the connection was cut" else None
            self.error = LinkError(sentence or f"the handshake failed: {reason}")
            self.over.set()
        elif self.error is None:
            self.error = LinkError(f"closed right after the handshake: {reason}")

    def _judge(self, head: bytes) -> LinkError | None:
        status = head.split(b"\r\n", 1)[0].decode("ascii", "replace")
        words = status.split(" ", 2)
        # A refusal's body is of no interest, and the protocol would wait for it.
        if len(words) < 2 or words[1] != "101":
            number = int(words[1]) if len(words) > 1 and words[1].isascii() and words[1].isdigit() else None
            return LinkError(f"the handshake was refused: {status[:80]}", status=number)
        self._protocol.receive_data(head)
        if self._protocol.handshake_exc is not None:
            return LinkError(f"the handshake is wrong: {self._protocol.handshake_exc}")
        return None
