"""The gateway's HTTP side as the load test uses it: discovery, pushing, and its own account of itself.

Knows HTTP and the routes; never who is connected. An `Api` waits, in the greenlet that asks; when an answer was
there is known from the kernel, like every other arrival.
"""

from __future__ import annotations

import ssl
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from gevent.event import Event

from loadtest._http1 import AnswerError, AnswerReader
from loadtest._link import tls_context
from loadtest._reactor import Reactor, Stream, connect


class ApiError(Exception):
    """The request could not be made, or its answer is not what it should be; the text says which.

    Attributes:
        status: the answer's, or None if there was none.
    """

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class ApiAnswer(NamedTuple):
    """What came back: the decoded JSON, the size of the body, and the Unix time at which all of it was there."""

    content: object
    size: int
    arrived: float


class Address(NamedTuple):
    """A base URL, taken apart."""

    secure: bool
    host: str
    port: int
    authority: str
    prefix: str


def parse_base_url(base_url: str) -> Address:
    """Take `http[s]://host[:port][/prefix]` apart. Raises ApiError."""
    parts = urlsplit(base_url)
    try:
        port = parts.port
    except ValueError as error:
        raise ApiError(f"not an address: {base_url!r}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ApiError(f"not an http:// or https:// address: {base_url!r}")
    secure = parts.scheme == "https"
    authority = parts.netloc.rpartition("@")[2]
    return Address(secure, parts.hostname, port or (443 if secure else 80), authority, parts.path.rstrip("/"))


class Api:
    """One kept-alive connection to the gateway's HTTP port, opened when it is first needed. One greenlet uses it."""

    def __init__(
        self, reactor: Reactor, base_url: str, key: str | None, timeout: float, source: str | None = None
    ) -> None:
        """
        Args:
            reactor: what is to read it.
            base_url: the gateway's address, http or https; a path in it is put before every route.
            key: what to show as `Authorization: Bearer …`, if anything.
            timeout: seconds for each request.
            source: the local address to come from.

        Raises:
            ApiError: the address is none.
        """
        self._reactor = reactor
        self._address = parse_base_url(base_url)
        self._key = key
        self._timeout = timeout
        self._source = source
        self._stream: Stream | None = None

    def close(self) -> None:
        """Close the connection; the next request opens one anew."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def websocket_url(self) -> ApiAnswer:
        """Ask where the WebSocket is; `content` is its address. Raises ApiError."""
        answer = self.ask("GET", "/api/b-client/websocket-info", None, 200)
        url = answer.content.get("websocket_url") if isinstance(answer.content, dict) else None
        if not isinstance(url, str) or not url:
            raise ApiError("names no websocket_url", 200)
        return answer._replace(content=url)

    def push(self, notifications: object) -> ApiAnswer:
        """Have the gateway push one, or a list; each should have an `id`, as it may be sent twice. Raises ApiError."""
        return self.ask("POST", "/api/notifications", msgspec.json.encode(notifications), 202)

    def ask(self, method: str, route: str, body: bytes | None, expected: int) -> ApiAnswer:
        """One request, once more if a kept-alive connection turns out to be closed. Raises ApiError."""
        head = f"{method} {self._address.prefix}{route} HTTP/1.1\r\nHost: {self._address.authority}\r\n"
        head += "Accept: application/json\r\n"
        if self._key:
            head += f"Authorization: Bearer {self._key}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        request = head.encode("latin-1", "replace") + b"\r\n" + (body or b"")
        deadline = time.monotonic() + self._timeout
        kept_alive = self._stream is not None and not self._stream.closed
        exchange = self._exchange(request, deadline)
        if exchange.failed and kept_alive and not exchange.reader.status and time.monotonic() < deadline:
            # A server may close an idle connection at any moment; only a fresh one that fails says much.
            exchange = self._exchange(request, deadline)
        reader = exchange.reader
        if exchange.failed:
            raise ApiError(f"no answer: {exchange.failed}", None)
        if reader.status != expected:
            remedy = "; --api-key gives one" if reader.status == 401 and not self._key else ""
            raise ApiError(f"answered {reader.status} instead of {expected}{_why(reader.body)}{remedy}", reader.status)
        try:
            return ApiAnswer(msgspec.json.decode(reader.body), len(reader.body), exchange.arrived)
        except msgspec.DecodeError as error:
            raise ApiError("answered with what is not JSON", reader.status) from error

    def _exchange(self, request: bytes, deadline: float) -> _Exchange:
        exchange = _Exchange()
        left = deadline - time.monotonic()
        try:
            if self._stream is None or self._stream.closed:
                address = self._address
                sock = connect(self._reactor, (address.host, address.port), left, source=self._source)
                self._stream = Stream(self._reactor, sock, exchange)
                self._stream.start(tls_context() if address.secure else None, address.host)
                if address.secure and not exchange.up.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError("timed out")
            stream = self._stream
            stream.receiver = exchange
            stream.send(request)
            if not exchange.over.wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError("timed out")
        except OSError as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            exchange.failed = exchange.failed or reason or str(error) or type(error).__name__
            self.close()
        except BaseException:
            # Killed halfway: what is still to come must not be the next request's answer.
            self.close()
            raise
        if exchange.failed or not exchange.reader.keeps or exchange.reader.rest:
            self.close()
        return exchange


class _Exchange:
    """What a stream's bytes are for while one answer is waited for."""

    def __init__(self) -> None:
        self.reader = AnswerReader()
        self.up = Event()
        self.over = Event()
        self.arrived = 0.0
        self.failed = ""

    def on_data(self, data: bytes, arrived: float) -> None:
        if not data:
            self.up.set()
            return
        try:
            complete = self.reader.feed(data)
        except AnswerError as error:
            self.failed, complete = str(error), True
        if complete and not self.over.is_set():
            self.arrived = arrived
            self.over.set()

    def on_end(self, reason: str) -> None:
        if not self.over.is_set():
            if self.reader.end():
                self.arrived = time.time()
            else:
                self.failed = reason
            self.up.set()
            self.over.set()


def _why(content: bytes) -> str:
    """The error code in an answer: its message may differ each time, and locust groups failures by their text."""
    try:
        error = msgspec.json.decode(content)["error"]
        code = error["code"] if isinstance(error, dict) else error
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
    return f" ({str(code)[:80]!a})"
