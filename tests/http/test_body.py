"""Bodies on the wire: too large, in pieces, never complete."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from service.core.ports import BODY_DISCARDED, BODY_SECONDS
from service.http.request import MAX_BODY

from .stage import LOCAL, SessionOwner, house, problem


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
            length = MAX_BODY + BODY_DISCARDED + 1
            head = f"POST /api/notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n"
            await stream.send_all(head.encode())
            assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_never_ends_is_given_up(autojump_clock: MockClock) -> None:
    at = house()
    server = _Server(at, "POST", "/api/notifications")
    server.pieces.append((b"{", True))
    started = trio.current_time()
    await server.serve()
    assert trio.current_time() - started == BODY_SECONDS
    assert server.status == 400
    assert b"bad_json" in server.body


async def test_a_body_in_pieces_is_put_together() -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1")
    server = _Server(at, "POST", "/api/notifications")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        for piece, more in ((b'{"target": {"all"', True), (b': true}, "type":', True), (b' "t"}', False)):
            await wait_all_tasks_blocked()
            assert server.status is None
            server.pieces.append((piece, more))
            server.came.unpark()
    assert server.status == 202
    assert peer.take() == [{"type": "t"}]


async def test_a_caller_that_hangs_up_amid_its_body_is_not_answered() -> None:
    at = house()
    server = _Server(at, "POST", "/api/notifications")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        await wait_all_tasks_blocked()
        server.gone = True
        server.came.unpark()
    assert server.status is None


class _Server:
    """An ASGI server with one request, whose body comes in pieces."""

    def __init__(self, at: SessionOwner, method: str, path: str) -> None:
        self._app: Any = at.app
        self._scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1")],
            "client": LOCAL,
            "scheme": "http",
        }
        self.pieces: list[tuple[bytes, bool]] = []
        self.came = trio.lowlevel.ParkingLot()
        self.gone = False
        self.status: int | None = None
        self.body = b""

    async def serve(self) -> None:
        """Until the app returns."""
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        while not self.pieces:
            if self.gone:
                return {"type": "http.disconnect"}
            await self.came.park()
        body, more = self.pieces.pop(0)
        return {"type": "http.request", "body": body, "more_body": more}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message["body"]
