"""Fetching from real servers that hang, lie, go on for ever or send elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from service.outgoing.fetch import NotFetched, fetch

OK = b"HTTP/1.1 200 OK\r\n"
FAULTS = [
    (b"", "does not speak HTTP"),
    (b"hello\r\n\r\n", "does not speak HTTP"),
    (OK + b"content-length: 10\r\n\r\nabc", "does not speak HTTP"),
    (OK + b"content-length: 1001\r\n\r\n" + b"x" * 1001, "too long"),
    (OK + b"\r\n" + b"x" * 40_000, "too long"),
    (OK + b"x: " + b"x" * 40_000, "too long"),
]


@asynccontextmanager
async def server(answer: bytes, *, ends: bool = True) -> AsyncIterator[tuple[str, list[bytes]]]:
    asked: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            asked.append(await stream.receive_some())
            with suppress(trio.BrokenResourceError):
                await stream.send_all(answer)
            if not ends:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/keys?x=1", asked
        nursery.cancel_scope.cancel()


async def test_an_answer() -> None:
    async with server(OK + b"content-length: 2\r\n\r\n{}") as (url, asked):
        assert await fetch(url, limit=1000, timeout=20, agent="test") == (200, b"{}")
    (request,) = asked
    assert request.startswith(b"GET /keys?x=1 HTTP/1.1\r\n")
    assert b"Accept-Encoding: identity\r\n" in request


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    async with server(moved) as (url, asked):
        assert (await fetch(url, limit=1000, timeout=20, agent="test")).status == 302
    assert len(asked) == 1


@pytest.mark.parametrize(("answer", "reason"), FAULTS)
async def test_what_goes_wrong_is_one_exception_with_a_reason(answer: bytes, reason: str) -> None:
    async with server(answer) as (url, _):
        with pytest.raises(NotFetched, match=reason):
            await fetch(url, limit=1000, timeout=20, agent="test")


async def test_one_that_hangs_or_is_not_there() -> None:
    async with server(OK, ends=False) as (url, _):
        with pytest.raises(NotFetched, match=r"no whole answer within 0\.2 s"):
            await fetch(url, limit=1000, timeout=0.2, agent="test")
    with pytest.raises(NotFetched, match="cannot be reached"):
        await fetch("http://127.0.0.1:1/", limit=1000, timeout=20, agent="test")


async def test_cancelling_is_safe() -> None:
    async with server(OK, ends=False) as (url, _):
        with trio.move_on_after(0.1) as scope:
            await fetch(url, limit=1000, timeout=30, agent="test")
        assert scope.cancelled_caught
