"""Addresses with the wrong scheme, against real servers with TLS and without."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from portico.client.address import discover
from portico.client.errors import ConnectFailed, DiscoveryFailed
from portico.client.link import LinkOptions, open_link
from portico.client.scheme import PATIENCE, REMEDY, speaks_tls
from tests.certificates import make_certificate

TLS = "TLS is spoken there; give the address with https:// (or wss://)."
NO_TLS = "no TLS is spoken there; give the address with http:// (or ws://)."
SAYS_NO = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def server(folder: Path, *, tls: bool, says: bytes = b"") -> AsyncIterator[str]:
    """The host and port of one that answers what is no TLS with `says`, and closes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made = make_certificate(folder)
    context.load_cert_chain(made.file, made.key)

    async def serve(stream: trio.SocketStream) -> None:
        first = await stream.socket.recv(1, trio.socket.MSG_PEEK)
        with suppress(trio.BrokenResourceError):
            if tls and first == b"\x16":
                await trio.SSLStream(stream, context, server_side=True).do_handshake()
            await stream.send_all(says)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def why(scheme: str, there: str) -> str:
    """What is said of an address that can't be used."""
    with trio.fail_after(60):
        try:
            if scheme in ("http", "https"):
                await discover(f"{scheme}://{there}")
            else:
                async with open_link(f"{scheme}://{there}/worker", LinkOptions(), lambda _: None):
                    pass
        except (DiscoveryFailed, ConnectFailed) as error:
            return str(error)
    raise AssertionError("it could be used")


async def test_a_port_that_speaks_tls_is_recognized(tmp_path: Path) -> None:
    async with server(tmp_path, tls=True) as there:
        assert (await why("http", there)).endswith(f": {TLS}")


@pytest.mark.parametrize(("scheme", "says"), [("http", b""), ("ws", b""), ("http", SAYS_NO)])
async def test_who_connects_again_and_again_tries_the_port_once_or_not_at_all(scheme: str, says: bytes) -> None:
    came = []

    async def close(stream: trio.SocketStream) -> None:
        came.append((await stream.receive_some())[:1])
        await stream.send_all(says)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, close, 0, host="127.0.0.1"))
        there = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        said = {await why(scheme, there) for _ in range(3)}
        nursery.cancel_scope.cancel()
    assert (came.count(b"G"), came.count(b"\x16")) == (3, 1 if scheme == "http" else 0)
    assert all("where TLS is spoken, wss:// is right" in one for one in said) is (scheme == "ws")


async def test_so_is_one_that_answers_in_the_clear_that_it_is_none(tmp_path: Path) -> None:
    async with server(tmp_path, tls=True, says=SAYS_NO) as there:
        assert (await why("http", there)).endswith(f" answered 400: {TLS}")


@pytest.mark.parametrize("scheme", ["https", "wss"])
async def test_a_port_that_speaks_none_is_recognized(scheme: str, tmp_path: Path) -> None:
    async with server(tmp_path, tls=False, says=SAYS_NO) as there:
        assert (await why(scheme, there)).endswith(f": {NO_TLS}")


@pytest.mark.parametrize(("scheme", "says"), [("http", b""), ("ws", b""), ("http", SAYS_NO), ("http", b"garbage")])
async def test_what_fails_otherwise_is_not_blamed_on_the_scheme(scheme: str, says: bytes, tmp_path: Path) -> None:
    async with server(tmp_path, tls=False, says=says) as there:
        assert REMEDY not in await why(scheme, there)


async def test_one_that_says_nothing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        assert not await speaks_tls(f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
    assert autojump_clock.current_time() >= PATIENCE
