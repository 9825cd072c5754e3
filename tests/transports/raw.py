"""A WebSocket client at byte level, for saying what no proper client would.

Knows RFC 6455 framing and nothing of the code under test. Frames are masked with a fixed key, so that a
failing test shows the same bytes every time.
"""

import base64
import ssl
import struct
from typing import NamedTuple

import trio

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = base64.b64encode(b"0123456789abcdef").decode()
MASK = b"\x37\xfa\x21\x3d"

Address = tuple[str, int]


class Received(NamedTuple):
    """One frame that the server sent."""

    opcode: int
    payload: bytes
    fin: bool
    compressed: bool = False


class Answer(NamedTuple):
    """The head of an HTTP response, header names in lower case."""

    status: int
    headers: dict[str, str]


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    """The payload as a client puts it on the wire."""
    size = len(payload)
    keys = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(size, "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    announce: int | None = None,
) -> bytes:
    """A client frame. `announce` lies about the payload's length; `mask=None` leaves it unmasked."""
    size = len(payload) if announce is None else announce
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    flag = 0 if mask is None else 0x80
    if size < 126:
        head = struct.pack("!BB", first, flag | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    return head + payload if mask is None else head + mask + masked(payload, mask)


def close_frame(code: int | None = None, reason: bytes = b"") -> bytes:
    """A client's Close."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def upgrade(path: str = "/", *, key: str = KEY, version: str = "13", extra: bytes = b"", method: str = "GET") -> bytes:
    """The head of an upgrade; `extra` is whole header lines, each with its CRLF."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {version}\r\n"
    )
    return head.encode() + extra + b"\r\n"


class SecureStream(trio.abc.Stream):
    """TLS, with what tests ask of a plain stream."""

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
        self._plain = stream
        self._secure = trio.SSLStream(stream, context, server_hostname="127.0.0.1", https_compatible=True)
        self.socket = stream.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As trio's."""
        await self._secure.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As trio's."""
        await self._secure.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As trio's."""
        return bytes(await self._secure.receive_some(max_bytes))

    async def aclose(self) -> None:
        """Close without a word."""
        await trio.aclose_forcefully(self._plain)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """As a plain stream's."""
        self._plain.setsockopt(level, option, value)

    async def send_eof(self) -> None:
        """Half of TLS can't be closed, but that of the socket can."""
        await self._plain.send_eof()


TLS: ssl.SSLContext | None = None
"""Where it is set, RawClient speaks TLS."""


class RawClient:
    """One TCP connection. Nothing here waits longer than 10 s: a test that hangs fails."""

    def __init__(self, stream: "trio.SocketStream | SecureStream") -> None:
        self.stream = stream
        self._buffer = bytearray()

    @classmethod
    async def dial(cls, address: Address, *, receive_buffer: int | None = None) -> "RawClient":
        """Connect and say nothing yet. `receive_buffer` makes a reader that is soon full."""
        family = trio.socket.AF_INET6 if ":" in address[0] else trio.socket.AF_INET
        sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
        if receive_buffer is not None:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        with trio.fail_after(60):
            await sock.connect(address)
        stream = trio.SocketStream(sock)
        return cls(stream if TLS is None else SecureStream(stream, TLS))

    @classmethod
    async def open(
        cls, address: Address, path: str = "/", *, extra: bytes = b"", receive_buffer: int | None = None
    ) -> "RawClient":
        """Connect and upgrade; the answer must be 101."""
        client = await cls.dial(address, receive_buffer=receive_buffer)
        await client.send(upgrade(path, extra=extra))
        answer = await client.answer()
        assert answer.status == 101, answer
        return client

    async def send(self, data: bytes) -> None:
        """Bytes as they are."""
        with trio.fail_after(60):
            await self.stream.send_all(data)

    async def say(self, text: str) -> None:
        """One text message."""
        await self.send(frame(TEXT, text.encode()))

    async def _more(self) -> bool:
        with trio.fail_after(60):
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                return False
        self._buffer += data
        return bool(data)

    async def answer(self) -> Answer:
        """The head of an HTTP response; (0, {}) if the connection ended before one."""
        while b"\r\n\r\n" not in self._buffer:
            if not await self._more():
                return Answer(0, {})
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return Answer(int(lines[0].split(" ")[1]), headers)

    async def answered(self) -> Answer:
        """An HTTP response, with its body passed over; the connection goes on."""
        answer = await self.answer()
        size = int(answer.headers.get("content-length", "0"))
        while len(self._buffer) < size:
            assert await self._more(), "the connection ended within a response"
        del self._buffer[:size]
        return answer

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        while await self._more():
            pass
        return bytes(self._buffer)

    async def frame(self) -> Received | None:
        """The next frame, or None at the end of the connection. Asserts that it is not masked."""
        while (parsed := self._parse()) is None:
            if not await self._more():
                return None
        return parsed

    def _parse(self) -> Received | None:
        data = self._buffer
        if len(data) < 2:
            return None
        assert not data[1] & 0x80, "a server's frames are not masked"
        size, start = data[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        if len(data) < start or len(data) < start + size:
            return None
        first, payload = data[0], bytes(data[start : start + size])
        received = Received(first & 0x0F, payload, bool(first & 0x80), bool(first & 0x40))
        del data[: start + size]
        return received

    async def message(self) -> str:
        """The next text message; pings on the way are answered."""
        while True:
            received = await self.frame()
            assert received is not None, "the connection ended where a message was expected"
            if received.opcode == PING:
                await self.send(frame(PONG, received.payload))
                continue
            assert received.opcode == TEXT, received
            return received.payload.decode()

    async def closed(self) -> tuple[int, str]:
        """Read on to the server's Close: its code (1005 if it has none) and reason; (1006, "") without one."""
        while (received := await self.frame()) is not None:
            if received.opcode == CLOSE:
                body = received.payload
                return (int.from_bytes(body[:2], "big"), body[2:].decode()) if body else (1005, "")
        return 1006, ""

    async def ended(self) -> None:
        """Read on to the end of the connection."""
        await self.rest()

    def reset(self) -> None:
        """Vanish with an RST."""
        self.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    async def aclose(self) -> None:
        """Hang up without a Close."""
        await trio.aclose_forcefully(self.stream)

    async def __aenter__(self) -> "RawClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
