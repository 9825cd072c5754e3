"""The load generator's connections: picows clients that speak JSON frames, or socket.io's framing of them.

Runs in the bench's own environment, on the load's core; knows no server but by address.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

TEXT: Final = WSMsgType.TEXT
_AT_ONCE: Final = 64
"""Handshakes that are under way at a time while a crowd connects."""
_PER_ADDRESS: Final = 5_000
"""Connections from one loopback source address."""
_BIND_ADDRESS_NO_PORT: Final = 24  # Linux's IP_BIND_ADDRESS_NO_PORT, which Python names from 3.12 on


class Link(WSListener):
    """One client. `on_text` gets each whole message once the link is ready."""

    def __init__(self, socketio: bool) -> None:
        self.socketio = socketio
        self.transport: WSTransport
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.registering: bytes | None = None
        self.on_text: Callable[[Link, Any], None] = ignore

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done: say who we are, and be ready with the answer to that."""
        self.transport = transport
        if self.socketio:
            transport.send(TEXT, b"40")
        elif self.registering is not None:
            transport.send(TEXT, self.registering)
        else:
            self.ready.set_result(None)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One message of the server's."""
        if frame.msg_type != TEXT:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            return
        if not self.ready.done():
            self._getting_ready(frame.get_payload_as_bytes())
            return
        self.on_text(self, frame)

    def _getting_ready(self, payload: bytes) -> None:
        if not self.socketio:
            self.ready.set_result(None)
        elif payload.startswith(b"40"):
            if self.registering is None:
                self.ready.set_result(None)
            else:
                self.transport.send(TEXT, self.registering)
        elif payload.startswith(b"42"):
            self.ready.set_result(None)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """A link that is cut before it is ready fails whoever waits for it."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("cut before the registration was answered"))

    def send(self, payload: bytes) -> None:
        """Send one text message."""
        self.transport.send(TEXT, payload)


def ignore(link: Link, frame: Any) -> None:
    """For links that only have to be there."""


def masked(payload: bytes) -> bytes:
    """A client's frame with the masking key 0, which costs the server what any key does and the load nothing."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, 0x80 | size)) + b"\0\0\0\0" + payload
    return bytes((0x81, 0xFE)) + size.to_bytes(2, "big") + b"\0\0\0\0" + payload


def registration(number: int, socketio: bool, channel: str = "bench") -> bytes:
    """What C-Client number `number` says first."""
    body = (
        b'{"type": "c_client_register", "client_id": "c-client-%d", "user_id": "u%d", "username": "user %d", '
        b'"node_id": "n%d", "channel_id": "%s"}' % (number, number, number, number % 10, channel.encode())
    )
    return b'42["register",%s]' % body if socketio else body


async def connect(
    url: str,
    *,
    socketio: bool = False,
    registering: bytes | None = None,
    headers: dict[str, str] | None = None,
    source: str | None = None,
    make: Callable[[], Link] | None = None,
) -> Link:
    """A link that is ready, one that `make` gives if that is said. Raises OSError or picows' WSError where it can't
    be had."""
    _, link = await ws_connect(
        make or (lambda: _with(Link(socketio), registering)),
        url,
        extra_headers=headers,
        socket_factory=None if source is None else lambda _: _from(source),
        read_buffer_init_size=2048,
        websocket_handshake_timeout=60,
    )
    await asyncio.wait_for(link.ready, 60)
    return link


def _from(source: str) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    # The port is chosen when the other end is known: chosen now, it would have to be free towards all the world.
    sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    sock.bind((source, 0))
    return sock


def _with(link: Link, registering: bytes | None) -> Link:
    link.registering = registering
    return link


async def crowd(url: str, count: int, *, socketio: bool = False, first: int = 0, channel: str = "bench") -> list[Link]:
    """`count` registered C-Clients."""
    links: list[Link] = []
    numbers = iter(range(first, first + count))

    async def one_after_another() -> None:
        for number in numbers:
            links.append(  # noqa: PERF401  # those that connected count even if a later one fails
                await connect(
                    url,
                    socketio=socketio,
                    registering=registration(number, socketio, channel),
                    source=f"127.0.0.{2 + number // _PER_ADDRESS % 200}",
                )
            )

    await asyncio.gather(*(one_after_another() for _ in range(_AT_ONCE)))
    return links


class HttpCaller(asyncio.Protocol):
    """One kept-alive HTTP connection; answers are told apart by their Content-Length."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._buffer = b""
        self._answers: list[asyncio.Future[bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            start = head.find(b"content-length:") + 15
            size = int(head[start:].split(b"\r\n", 1)[0])
            if len(self._buffer) < end + 4 + size:
                return
            answer = self._buffer[: end + 4 + size]
            self._buffer = self._buffer[end + 4 + size :]
            waiting = self._answers.pop(0)
            if not waiting.done():  # its caller has stopped
                waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        for answer in self._answers:
            answer.set_exception(ConnectionError("the server closed its HTTP connection"))

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        """The answer. Raises RuntimeError where that is no success."""
        return await self.ask(http_request("POST", path, body, headers))

    async def ask(self, request: bytes) -> bytes:
        """The answer to a whole request. Raises RuntimeError where that is no success."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self.transport.write(request)
        whole = await answer
        if not whole.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(f"{request[:60]!r} was answered: {whole[:300]!r}")
        return whole


def http_request(method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A whole request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if body:
        lines += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode() + body


async def http_caller(port: int) -> HttpCaller:
    """A connection to the server's HTTP port."""
    _, caller = await asyncio.get_running_loop().create_connection(HttpCaller, "127.0.0.1", port)
    return caller


def nice(level: int) -> None:
    """Let the processes that measure go before this one."""
    os.nice(level)
