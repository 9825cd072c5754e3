"""A middle between the suite and a real gateway, which breaks one rule of the contract at a time.

Knows HTTP and WebSocket frames, and hands every answer and every message to the rule that is broken; it knows no
scenario. Unbroken it passes everything on as it is. It speaks plain TCP, one request per connection.
"""

import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio

Json = dict[str, Any]
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


@dataclass
class Request:
    """An HTTP request on its way to the gateway; a rule may change it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass
class Response:
    """An answer on its way back; a rule may change it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(eq=False)
class Link:
    """One WebSocket; `facts` is what a rule remembers of it."""

    path: str
    client: trio.SocketStream
    gateway: trio.SocketStream
    facts: Json = field(default_factory=dict)
    closed: bool = False
    _down: trio.Lock = field(default_factory=trio.Lock)
    _up: trio.Lock = field(default_factory=trio.Lock)

    async def to_client(self, message: str | bytes | object) -> None:
        """Send one message, or JSON of it; nothing once the connection is closed."""
        async with self._down:
            if not self.closed:
                await self.client.send_all(_frame(message))

    async def to_gateway(self, message: str | bytes | object) -> None:
        async with self._up:
            await self.gateway.send_all(_frame(message, masked=True))

    async def close(self, code: int, reason: str = "") -> None:
        """Close the client's side, as if the gateway had."""
        async with self._down:
            if not self.closed:
                self.closed = True
                await self.client.send_all(_raw(CLOSE, struct.pack("!H", code) + reason.encode()))

    async def control(self, opcode: int, payload: bytes, *, up: bool) -> None:
        """Pass a control frame on."""
        async with self._up if up else self._down:
            await (self.gateway if up else self.client).send_all(_raw(opcode, payload, masked=up))


Messages = list[Any]


class Rule:
    """Nothing broken; a mutant overrides what it breaks. `links` are the WebSockets that are open."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.count = 0

    def request(self, request: Request) -> Response | None:
        """Change a request, or answer it in the gateway's place."""
        return None

    async def intercept(self, request: Request) -> Response | None:
        """Answer a request by HTTP in the gateway's place, and do what else is to be done."""
        return None

    def response(self, request: Request, response: Response) -> None:
        """Change an answer."""

    def upgrade(self, request: Request, status: int, headers: dict[str, str]) -> int:
        """Change the answer to a handshake; returns its status."""
        return status

    async def opened(self, link: Link) -> None:
        """A WebSocket is open."""

    async def down(self, link: Link, text: str) -> Messages:
        """What the client gets instead of a message."""
        return [text]

    async def up(self, link: Link, text: str) -> Messages:
        """What the gateway gets instead of a message."""
        return [text]

    async def up_binary(self, link: Link, data: bytes) -> Messages:
        """The same for a binary one."""
        return [data]

    def pinged(self, link: Link) -> bool:
        """Whether the client gets a ping."""
        return True

    def close(self, link: Link, code: int, reason: str) -> tuple[int, str] | None:
        """How the client is closed; None: not at all."""
        return code, reason


def _raw(opcode: int, payload: bytes, masked: bool = False) -> bytes:
    head = bytes([0x80 | opcode])
    bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    return head + (bytes(4) if masked else b"") + payload  # a mask of zeros leaves the payload as it is


def _frame(message: object, masked: bool = False) -> bytes:
    if isinstance(message, bytes):
        return _raw(BINARY, message, masked)
    text = message if isinstance(message, str) else json.dumps(message)
    return _raw(TEXT, text.encode(), masked)


class _Frames:
    """Whole messages out of a stream; control frames as they come."""

    def __init__(self, stream: trio.SocketStream, rest: bytes = b"") -> None:
        self._stream = stream
        self._data = bytearray(rest)

    async def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            part = await self._stream.receive_some(1 << 18)
            if not part:
                raise trio.EndOfChannel
            self._data += part
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    async def next(self) -> tuple[int, bytes]:
        """Opcode and payload; raises trio.EndOfChannel."""
        kind, whole = 0, b""
        while True:
            first, second = await self._take(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self._take(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self._take(8))
            mask = await self._take(4) if second & 0x80 else b""
            payload = await self._take(size)
            if any(mask):
                key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
                payload = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
            opcode = first & 0x0F
            if opcode & 8:
                return opcode, payload
            kind, whole = kind or opcode, whole + payload
            if first & 0x80:
                return kind, whole


async def _head(stream: trio.SocketStream) -> tuple[str, dict[str, str], bytes]:
    data = bytearray()
    while b"\r\n\r\n" not in data:
        part = await stream.receive_some(65536)
        if not part:
            raise trio.EndOfChannel
        data += part
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}, rest


def _written(first: str, headers: dict[str, str]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Middle:
    """Serves one rule; `url` is where."""

    def __init__(self, base_url: str, rule: Rule, http: httpx.AsyncClient) -> None:
        parts = urlsplit(base_url)
        self._where = (parts.hostname or "", parts.port or 80)
        self._base_url = base_url
        self._http = http
        self.rule = rule

    async def serve(self, client: trio.SocketStream) -> None:
        """One connection of a client's."""
        try:
            first, headers, rest = await _head(client)
            method, path, _ = first.split(" ", 2)
            request = Request(method, path, headers)
            if "upgrade" in headers:
                await self._websocket(client, request, rest)
                return
            wanted = int(headers.get("content-length", 0))
            while len(rest) < wanted:
                rest += await client.receive_some(1 << 18)
            request.body = rest
            await self._answer(client, request)
        except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _answer(self, client: trio.SocketStream, request: Request) -> None:
        response = await self.rule.intercept(request) or self.rule.request(request)
        if response is None:
            headers = {name: value for name, value in request.headers.items() if name not in _OWN}
            got = await self._http.request(
                request.method, self._base_url + request.path, headers=headers, content=request.body, timeout=60
            )
            response = Response(
                got.status_code, {name.lower(): value for name, value in got.headers.items()}, got.content
            )
            self.rule.response(request, response)
        for name in ("content-length", "transfer-encoding", "connection"):
            response.headers.pop(name, None)
        length = {"content-length": str(len(response.body)), "connection": "close"}
        await client.send_all(_written(f"HTTP/1.1 {response.status} x", {**response.headers, **length}) + response.body)

    async def _websocket(self, client: trio.SocketStream, request: Request, rest: bytes) -> None:
        answer = self.rule.request(request)
        if answer is not None:
            await client.send_all(_written(f"HTTP/1.1 {answer.status} x", {"content-length": "0"}))
            return
        request.headers.pop("sec-websocket-extensions", None)
        gateway = await trio.open_tcp_stream(*self._where)
        async with gateway:
            await gateway.send_all(_written(f"{request.method} {request.path} HTTP/1.1", request.headers))
            first, headers, early = await _head(gateway)
            status = self.rule.upgrade(request, int(first.split(" ")[1]), headers)
            if status != 101:
                await client.send_all(_written(f"HTTP/1.1 {status} x", {"content-length": "0"}))
                return
            await client.send_all(_written(f"HTTP/1.1 {status} x", headers))
            link = Link(request.path, client, gateway)
            self.rule.links.append(link)
            await self.rule.opened(link)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, link, True, _Frames(client, rest), nursery.cancel_scope)
                nursery.start_soon(self._pass, link, False, _Frames(gateway, early), nursery.cancel_scope)
            self.rule.links.remove(link)
            link.closed = True

    async def _pass(self, link: Link, up: bool, frames: _Frames, over: trio.CancelScope) -> None:
        try:
            while True:
                opcode, payload = await frames.next()
                await (self._up if up else self._down)(link, opcode, payload)
        except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
            over.cancel()

    async def _up(self, link: Link, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            for message in await self.rule.up(link, payload.decode()):
                await link.to_gateway(message)
        elif opcode == BINARY:
            for message in await self.rule.up_binary(link, payload):
                await link.to_gateway(message)
        else:
            await link.control(opcode, payload, up=True)

    async def _down(self, link: Link, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            for message in await self.rule.down(link, payload.decode()):
                await link.to_client(message)
        elif opcode == CLOSE and not link.closed:
            code = struct.unpack("!H", payload[:2])[0] if payload else 1005
            instead = self.rule.close(link, code, payload[2:].decode())
            if instead is not None:
                await link.close(*instead)
        elif opcode != CLOSE and (opcode != PING or self.rule.pinged(link)):
            await link.control(opcode, payload, up=False)


_OWN = ("connection", "content-length", "accept-encoding", "transfer-encoding")


@asynccontextmanager
async def middle(base_url: str, rule: Rule) -> AsyncIterator[str]:
    """A middle in front of a gateway while the block runs; gives the URL of its own."""
    async with httpx.AsyncClient(trust_env=False, verify=False) as http, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        handler: Callable[[trio.SocketStream], Any] = Middle(base_url, rule, http).serve
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()
