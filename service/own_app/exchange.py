"""Exchange: one request or WebSocket, between the server, which has the connection, and the app, which has its task.

The server's task listens and puts what comes into a bounded inbox; the app's task takes it from there and sends. So
either may end before the other: a client that goes is seen while the app does something else, and an app that doesn't
end holds no connection. What doesn't fit into the inbox waits in the server, and so with the client.

Promises that nothing reaches the server from the app once this is closed, and nothing that would break the connection:
a status, headers or a body that are none raise in the app.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from math import inf
from typing import Any, Final

import trio

from portico.wire.codes import ABNORMAL
from service.asgi_types import Message, Receive, Send

BODY_SECONDS: Final = 30.0
"""Seconds that a client has for its body, and one more for each BODY_RATE bytes of it."""
BODY_RATE: Final = 20_000
INBOX: Final = 64 * 1024
"""Bytes that are read ahead for an app that doesn't take them."""
_SMALL: Final = 64  # what a message without a body counts as
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]")
_HOP_BY_HOP: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})


class ClientGone(OSError):
    """What sending raises once the client has gone, or the request's time is over."""


class State(Enum):
    """How far the app's answer is; for a WebSocket, whether it is accepted, and whether it is closed."""

    ASKED = "asked"
    STARTED = "started"
    FINISHED = "finished"


class Exchange:
    """One HTTP request. `timeout`: seconds until the answer has to begin, and which the app has left once the client
    has gone; 0: no bound. `max_body`: bytes that the request's body may have."""

    last = "http.disconnect"

    def __init__(self, send: Send, whose: str, *, timeout: float, max_body: int, http_2: bool) -> None:
        self.whose = whose
        self.state = State.ASKED
        self.status = 0
        self.received = 0
        self.sent = 0
        self.closed = False
        self.gone = False
        self.too_large = False
        self.too_slow = False
        self.failure: BaseException | None = None
        self.ended = False
        self.listening = trio.CancelScope()
        self.running = trio.CancelScope()
        self._send = send
        self._timeout = timeout or inf
        self._max_body = max_body
        self._http_2 = http_2
        self._inbox: deque[Message] = deque()
        self._size = 0
        self._came = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._body_begun = trio.current_time()
        self._waits_for_client = True
        self.listening.deadline = self._body_begun + BODY_SECONDS

    # The server's side.

    async def listen(self, receive: Receive) -> None:
        """Take what comes until the exchange is over, for whatever reason. Cancelling it is safe."""
        with self.listening:
            while True:
                message = await receive()
                if self._over(message):
                    return
                if self._size >= INBOX:
                    self._heed_app()
                    began = trio.current_time()
                    while self._size >= INBOX:
                        await self._wait_for_room()
                    self._body_begun += trio.current_time() - began
                self.put(message)
                if message.get("more_body"):
                    self._heed_client()
                else:
                    self._heed_app()
        self.too_slow = self.listening.cancelled_caught and self._waits_for_client and self._is_asked()

    def _heed_app(self) -> None:
        """What is waited for is the app's."""
        self._waits_for_client = False
        if self.state is State.ASKED:
            self.listening.deadline = trio.current_time() + self._timeout

    def _heed_client(self) -> None:
        """What is waited for is the client's: the rest of its body."""
        self._waits_for_client = True
        if self.state is State.ASKED:
            self.listening.deadline = self._body_begun + BODY_SECONDS + self.received / BODY_RATE

    def _is_asked(self) -> bool:
        return self.state is State.ASKED and not self.ended and not self.gone

    async def _wait_for_room(self) -> None:
        await self._room.park()

    def _over(self, message: Message) -> bool:
        """Whether nothing comes after this message, or nothing more is wanted."""
        if message["type"] == self.last:
            self.hang_up(message)
            return True
        self.received += len(message.get("body") or b"")
        if self.received > self._max_body:
            self.too_large = True
            self.hang_up(self._farewell())
            return True
        return False

    def _farewell(self) -> Message:
        return {"type": self.last}

    def put(self, message: Message) -> None:
        """Give the app a message."""
        self._inbox.append(message)
        self._size += _weight(message)
        self._came.unpark_all()

    def hang_up(self, message: Message) -> None:
        """The client has gone, or is treated so; `message` tells the app. What it still does has the timeout."""
        if self.gone:
            return
        self.gone = True
        self.put(message)
        if self.state is not State.FINISHED and not self.ended:
            self.running.deadline = min(self.running.deadline, trio.current_time() + self._timeout)

    def close(self) -> None:
        """The server answers by itself, or has ended: the app is not heard any more."""
        self.closed = True
        self.hang_up(self._farewell())

    # The app's side.

    def over(self, failure: BaseException | None) -> None:
        """The app's task has ended."""
        self.ended = True
        self.failure = failure
        self.listening.cancel()

    async def receive(self) -> Message:
        """See ASGI."""
        while not self._inbox:
            if self.state is State.FINISHED or self.gone:
                await trio.lowlevel.checkpoint()
                return self._farewell()
            await self._came.park()
        message = self._inbox.popleft()
        self._size -= _weight(message)
        self._room.unpark_all()
        await trio.lowlevel.checkpoint()
        return message

    async def send(self, message: Message) -> None:
        """See ASGI; raises ClientGone once nobody takes it, ValueError or TypeError for what can't be sent."""
        if self.closed or self.gone:
            await trio.lowlevel.checkpoint()
            raise ClientGone("the client has gone")
        kind = message["type"]
        if kind == "http.response.start" and self.state is State.ASKED:
            self.status = checked_status(message.get("status"))
            message = {**message, "headers": checked_headers(message.get("headers", ()), self._http_2)}
            self.begun()
        elif kind == "http.response.body" and self.state is State.STARTED:
            body = message.get("body", b"")
            if not isinstance(body, bytes | bytearray | memoryview):
                raise TypeError(f"a body is bytes, not {type(body).__name__}")
            self.sent += len(body)
            await self._send(message)
            if not message.get("more_body", False):
                self.finish()
            return
        elif kind in ("http.response.start", "http.response.body") or self.state is State.FINISHED:
            raise RuntimeError(f"{kind} was sent when the answer was {self.state.value}")
        await self._send(message)

    def begun(self) -> None:
        """The app has begun to answer."""
        self.state = State.STARTED
        self.listening.deadline = inf

    def finish(self) -> None:
        """All is answered; what the app still does is its own affair."""
        self.state = State.FINISHED
        self.running.deadline = inf
        self._came.unpark_all()
        self.listening.cancel()


class SocketExchange(Exchange):
    """One WebSocket. An app that takes nothing of what comes for `timeout` seconds is closed on."""

    last = "websocket.disconnect"
    close_code = 1011

    async def _wait_for_room(self) -> None:
        with trio.move_on_after(self._timeout) as patience:
            await self._room.park()
        if patience.cancelled_caught:
            self.failure = TimeoutError("the app doesn't read its WebSocket")
            self.listening.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()

    def _over(self, message: Message) -> bool:
        if message["type"] != self.last:
            self.received += _weight(message)
            return False
        self.hang_up(message)
        return True

    def _farewell(self) -> Message:
        return {"type": self.last, "code": ABNORMAL, "reason": ""}

    async def send(self, message: Message) -> None:
        """See ASGI; raises ClientGone once nobody takes it."""
        if self.closed or self.gone:
            await trio.lowlevel.checkpoint()
            raise ClientGone("the WebSocket is closed")
        kind = message["type"]
        if kind == "websocket.accept":
            message = {**message, "headers": checked_headers(message.get("headers") or (), self._http_2)}
            self.status = 101
            self.begun()
        elif kind == "websocket.http.response.start":
            self.status = checked_status(message.get("status"))
            message = {**message, "headers": checked_headers(message.get("headers", ()), self._http_2)}
            self.begun()
        elif kind == "websocket.send":
            text, data = message.get("text"), message.get("bytes")
            if not (isinstance(text, str) or isinstance(data, bytes | bytearray | memoryview)):
                raise TypeError("websocket.send wants text (str) or bytes")
            self.sent += _weight(message)
        await self._send(message)
        last = kind == "websocket.http.response.body" and not message.get("more_body", False)
        if last or kind == "websocket.close":
            self.status = self.status or 403
            self.finish()


def _weight(message: Mapping[str, Any]) -> int:
    return len(message.get("body") or message.get("bytes") or message.get("text") or b"") + _SMALL


def checked_status(status: object) -> int:
    """A final status. Raises ValueError."""
    if isinstance(status, int) and 200 <= status <= 999:
        return int(status)
    raise ValueError(f"a status is a number from 200 to 999, not {status!r}")


def checked_headers(headers: Iterable[Any], http_2: bool) -> list[tuple[bytes, bytes]]:
    """Headers as bytes, without those that are the connection's. Raises ValueError or TypeError."""
    checked: list[tuple[bytes, bytes]] = []
    for field in headers:
        name, value = field
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise TypeError("names and values of headers are bytes")
        name = name.lower()
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header")
        if _BAD_VALUE.search(value):
            raise ValueError(f"the header {name.decode('latin-1')} has a line break or a zero byte in it")
        if name in _HOP_BY_HOP and (http_2 or name != b"connection" or value.strip().lower() != b"close"):
            continue
        checked.append((name, value.strip()))
    return checked
