"""A server that keeps connections, and closes one just when the next question comes, as keep-alive time-outs do."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from functools import partial

import trio


class Close(StrEnum):
    """How a kept connection ends when the second question has come over it."""

    CLEAN = "closed"
    RESET = "reset"
    BEGUN = "closed within the answer"


class ClosingServer:
    """What came: the bodies, and the number of the connection that each came over."""

    def __init__(self) -> None:
        self.came: list[tuple[int, bytes]] = []
        self.connections = 0
        self.url = ""


@asynccontextmanager
async def closing_server(close: Close, answer: bytes, *, first: bool = False) -> AsyncIterator[ClosingServer]:
    """Answers the first question of each connection with `answer`, and ends the connection at its second one; with
    `first`, at its first one."""
    server = ClosingServer()

    async def serve(stream: trio.SocketStream) -> None:
        server.connections += 1
        number = server.connections
        with suppress(trio.BrokenResourceError):
            answered = first
            while body := await _question_of(stream):
                server.came.append((number, body))
                if answered:
                    await _end(stream, close)
                    return
                answered = True
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        server.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        yield server
        nursery.cancel_scope.cancel()


async def _end(stream: trio.SocketStream, close: Close) -> None:
    match close:
        case Close.CLEAN:
            pass
        case Close.RESET:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        case Close.BEGUN:
            await stream.send_all(b"HTTP/1.1 2")
    await stream.aclose()


async def _question_of(stream: trio.SocketStream) -> bytes:
    """The body of one request that has a length; nothing where the connection has ended."""
    came = b""
    while True:
        head, whole, body = came.partition(b"\r\n\r\n")
        if whole:
            (length,) = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if len(body) >= int(length):
                return body
        some = await stream.receive_some()
        if not some:
            return b""
        came += some
