"""A plain stream that is given up when its peer takes nothing, and not before."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from service.transports.patient import PatientStream, TakesNothing

SIZE = 8_000_000


@asynccontextmanager
async def pair(patience: float, head: bytes = b"") -> AsyncIterator[tuple[PatientStream, trio.SocketStream]]:
    """A patient stream, and its peer, which holds little."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = trio.socket.socket()
        peer.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 65536)
        await peer.connect(server.getsockname())
        ours = trio.socket.from_stdlib_socket(server.accept()[0])
    async with PatientStream(trio.SocketStream(ours), patience, head) as stream, trio.SocketStream(peer) as other:
        yield stream, other


async def test_a_peer_that_takes_nothing() -> None:
    async with pair(0.2) as (stream, _):
        with trio.fail_after(60), pytest.raises(TakesNothing):
            await stream.send_all(bytes(SIZE))


async def test_a_peer_that_takes_little_all_the_time() -> None:
    async with pair(0.3) as (stream, other), trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, bytes(SIZE))
        got = 0
        while got < SIZE:
            got += len(await other.receive_some(100_000))
            await trio.sleep(0.02)


async def test_a_peer_that_is_gone() -> None:
    async with pair(5) as (stream, other):
        await other.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(bytes(SIZE))


async def test_what_was_read_before_comes_first_and_once() -> None:
    async with pair(5, b"head") as (stream, other):
        await other.send_all(b"rest")
        assert await stream.receive_some(3) == b"hea"
        assert await stream.receive_some() == b"d"
        assert await stream.receive_some() == b"rest"
