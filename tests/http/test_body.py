"""Bodies on the wire: too large, in pieces, never complete."""

from collections.abc import AsyncIterator

import httpx
import pytest
import trio
from quart import Request
from quart_trio.wrappers.request import TrioBody
from trio.testing import MockClock, wait_all_tasks_blocked

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.http.body import MAX_BODY
from service.http.quart_body import DISCARDED, SECONDS, read_body

from .stage import house, problem


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_a_body_too_large_gets_its_answer_not_a_reset(in_pieces: bool) -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1")
    block = b" " * 65_536
    blocks = MAX_BODY // len(block) + 1

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield block

    async with at.serving() as base, httpx.AsyncClient(base_url=base, timeout=60) as caller:
        body = pieces() if in_pieces else block * blocks
        answer = await caller.post("/api/notifications", content=body)
        assert problem(answer) == (413, "too_large", None)
        assert str(MAX_BODY) in answer.json()["error"]["message"]
        assert (await caller.get("/livez")).status_code == 200
    assert peer.take() == []


async def test_a_body_of_just_the_limit_is_read() -> None:
    event = b'{"target": {"all": true}, "type": "t"}'
    at = house()
    assert (await at.call("POST", "/api/notifications", content=event.ljust(MAX_BODY))).status_code == 202
    assert (await at.call("POST", "/api/notifications", content=event.ljust(MAX_BODY + 1))).status_code == 413


async def test_a_body_that_declares_nonsense_is_refused_before_it_comes() -> None:
    at = house()
    async with at.serving() as base:
        host, _, port = base.removeprefix("http://").partition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            head = f"POST /api/notifications HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY + DISCARDED + 1}\r\n\r\n"
            await stream.send_all(head.encode())
            assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_never_ends_is_given_up(autojump_clock: MockClock) -> None:
    request = _request()
    request.body.append(b"{")
    started = trio.current_time()
    with pytest.raises(PeerFault) as caught:
        await read_body(request, 100)
    assert caught.value.code is ErrorCode.BAD_JSON
    assert trio.current_time() - started == SECONDS


async def test_a_body_in_pieces_is_put_together() -> None:
    request = _request()
    got: list[bytes] = []

    async def read() -> None:
        got.append(await read_body(request, 6))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for piece in (b"ab", b"cd", b"ef"):
            await wait_all_tasks_blocked()
            request.body.append(piece)
        await wait_all_tasks_blocked()
        assert got == []
        request.body.set_complete()
    assert got == [b"abcdef"]


class _Request:
    content_length = None

    def __init__(self) -> None:
        self.body = TrioBody(None, None)


def _request() -> Request:
    return _Request()  # type: ignore[return-value]
