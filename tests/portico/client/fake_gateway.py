"""A gateway on a real socket that does what a test's script says, and nothing else.

It rests on trio-websocket, another implementation than the SDK's own, so that a fault in one cannot
hide in the other.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from portico.client.backoff import Backoff
from portico.client.events import Event

QUICK = Backoff(first=0.005, longest=0.01)
"""A back-off that no test has to wait for."""


class Peer:
    """The gateway's end of one connection."""

    def __init__(self, number: int, request: WebSocketRequest, stream: trio.SocketStream) -> None:
        self.number = number
        self.path = request.path
        self.headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        self._request = request
        self._stream = stream
        self.socket: WebSocketConnection

    async def accept(self) -> None:
        self.socket = await self._request.accept()

    async def next(self) -> dict[str, Any]:
        """The next message, which must be a JSON object."""
        message = json.loads(await self.socket.get_message())
        assert isinstance(message, dict)
        return message

    async def next_of(self, kind: str) -> dict[str, Any]:
        """The next message of a type; others are passed over."""
        while True:
            message = await self.next()
            if message.get("type") == kind:
                return message

    async def say(self, message: object) -> None:
        await self.socket.send_message(json.dumps(message))

    async def raw(self, message: str | bytes) -> None:
        await self.socket.send_message(message)

    async def bytes_on_the_wire(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def close(self, code: int, reason: str | None = None) -> None:
        await self.socket.aclose(code, reason)

    async def drop(self) -> None:
        """End the TCP connection, with no Close frame."""
        await trio.aclose_forcefully(self._stream)

    async def forever(self) -> None:
        """Read and forget until the other side is gone."""
        while True:
            await self.socket.get_message()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class FakeGateway:
    port: int
    refusals: list[tuple[int, list[tuple[bytes, bytes]], bytes]] = field(default_factory=list)
    """HTTP answers for the next upgrades, in place of accepting them."""
    slam: int = 0
    """How many of the next connections are closed before any answer."""
    connections: int = 0
    paths: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


@asynccontextmanager
async def fake_gateway(script: Script) -> AsyncIterator[FakeGateway]:
    """Serve `script` to every connection on a free port; what fails in a script fails the test."""

    async def handle(stream: trio.SocketStream) -> None:
        if gateway.slam:
            gateway.slam -= 1
            await stream.receive_some()
            await stream.aclose()
            return
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            if gateway.refusals:
                status, headers, body = gateway.refusals.pop(0)
                await request.reject(status, extra_headers=headers, body=body)
                await stream.aclose()
                nursery.cancel_scope.cancel()
                return
            peer = Peer(gateway.connections, request, stream)
            gateway.connections += 1
            gateway.paths.append(peer.path)
            await peer.accept()
            try:
                await script(peer)
            except ConnectionClosed:
                pass
            finally:
                with trio.move_on_after(1, shield=True):
                    await peer.socket.aclose()
                await trio.aclose_forcefully(stream)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        gateway = FakeGateway(listeners[0].socket.getsockname()[1])
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        try:
            yield gateway
        finally:
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def fake_http(answer: Callable[[str], tuple[int, object]]) -> AsyncIterator[str]:
    """An HTTP server whose answer to each path is `answer(path)` (status, JSON); yields its base URL."""

    async def handle(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        status, content = answer(head.split(b" ")[1].decode())
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        await stream.send_all(
            b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body)) + body
        )
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        try:
            yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        finally:
            nursery.cancel_scope.cancel()


@dataclass
class Events:
    """What an SDK program reported, and a way to wait for it."""

    seen: list[Event] = field(default_factory=list)
    _changed: trio.Event = field(default_factory=trio.Event)

    def __call__(self, event: Event) -> None:
        self.seen.append(event)
        self._changed.set()
        self._changed = trio.Event()

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.seen if isinstance(event, kind)]

    async def wait_for(self, kind: type[Event], count: int = 1) -> Event:
        with trio.fail_after(10):
            while len(self.of(kind)) < count:
                await self._changed.wait()
        return self.of(kind)[count - 1]
