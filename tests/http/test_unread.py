"""An answer before the body's end, over an ASGI server: the API's own refusals, Quart's, and an app's."""

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from service.core.ports import BODY_DISCARDED
from service.http.request import MAX_BODY
from service.http.unread import DISCARD_SECONDS, EARLY_SECONDS, Unread, has_body

from .stage import house

Message = dict[str, Any]


class _Server:
    """One request's two ends at the server. `pieces`: of the body, and whether more comes; None: the client hangs up.
    After the last it waits for ever."""

    def __init__(self, *pieces: tuple[bytes, bool] | None) -> None:
        self.pieces = list(pieces)
        self.sent: list[Message] = []
        self.ended_at = 0.0

    async def receive(self) -> Message:
        if not self.pieces:
            await trio.sleep_forever()
        piece = self.pieces.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece[0], "more_body": piece[1]}

    async def send(self, message: Mapping[str, Any]) -> None:
        self.sent.append(dict(message))
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.ended_at = trio.current_time()


START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b"), (b"Connection", b"x")]}
END: Message = {"type": "http.response.body", "body": b"answer"}


async def test_a_body_that_was_read_changes_nothing() -> None:
    server = _Server((b"a", True), (b"b", False))
    unread = Unread(server.receive, server.send)
    assert [(await unread.receive())["body"] for _ in range(2)] == [b"a", b"b"]
    await unread.send(START)
    await unread.send(END)
    assert server.sent == [START, END]


@pytest.mark.parametrize("rest", [[(b"c", True), (b"", False)], [(b"c", True), None]])
async def test_the_answer_is_whole_before_the_rest_of_the_body_is_and_ends_after_it(
    rest: list[tuple[bytes, bool] | None], autojump_clock: MockClock
) -> None:
    server = _Server((b"a", True), *rest)
    unread = Unread(server.receive, server.send)
    await unread.receive()
    began = trio.current_time()
    await unread.send(START)
    await unread.send(END)
    start, body, end = server.sent
    assert start["headers"] == [(b"a", b"b"), (b"connection", b"close")]
    assert (body["body"], body["more_body"]) == (b"answer", True)
    assert (end["body"], end["more_body"]) == (b"", False)
    assert (server.pieces, server.ended_at) == ([], began + EARLY_SECONDS)


async def test_a_body_that_comes_just_after_the_answer_began_ends_no_connection(autojump_clock: MockClock) -> None:
    server = _Server((b"a", True), (b"b", False))
    unread = Unread(server.receive, server.send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(unread.send, START)
        await trio.sleep(EARLY_SECONDS / 2)
        for _ in range(2):
            await unread.receive()
    await unread.send(END)
    assert server.sent == [START, END]


async def test_a_body_without_end_is_thrown_away_for_some_bytes_and_seconds(autojump_clock: MockClock) -> None:
    stalled = _Server((b"a", True))
    began = trio.current_time()
    await Unread(stalled.receive, stalled.send).send(END)
    assert stalled.ended_at == began + DISCARD_SECONDS
    piece = bytes(1 << 20)
    endless = _Server(*[(piece, True)] * 100)
    await Unread(endless.receive, endless.send).send(END)
    assert len(endless.pieces) == 100 - BODY_DISCARDED // len(piece)
    assert endless.sent[-1]["more_body"] is False


@pytest.mark.parametrize(
    ("version", "headers", "found"),
    [
        ("1.1", [], False),
        ("1.1", [(b"content-length", b"0")], False),
        ("1.1", [(b"content-length", b"1")], True),
        ("1.1", [(b"transfer-encoding", b"chunked")], True),
        ("2", [(b"content-length", b"1")], False),
    ],
)
def test_what_has_a_body(version: str, headers: list[tuple[bytes, bytes]], found: bool) -> None:
    assert has_body({"http_version": version, "headers": headers}) is found


@pytest.mark.parametrize("path", ["/api/notifications", "/nowhere"])
async def test_who_is_refused_amid_the_body_reads_so_and_is_not_reset(path: str) -> None:
    async with house().serving() as base:
        host, _, port = base.removeprefix("http://").partition(":")
        length = MAX_BODY + BODY_DISCARDED + 1
        with trio.fail_after(60):
            stream = await trio.open_tcp_stream(host, int(port))
            async with stream:
                await stream.send_all(
                    f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n".encode()
                )
                answer = b""
                while not answer.endswith(b"}}"):
                    piece = await stream.receive_some()
                    assert piece, answer
                    answer += piece
                assert b"\r\nconnection: close\r\n" in answer.lower()
                for _ in range(5):
                    await stream.send_all(bytes(10_000))
                await stream.send_eof()
                assert await stream.receive_some() == b""
