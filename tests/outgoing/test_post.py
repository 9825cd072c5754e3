"""Posting to real servers that hang, lie, go on for ever or send elsewhere."""

import hashlib
import hmac
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
import trio

from service.outgoing.network import Judge, anywhere, public_and
from service.outgoing.post import NotPosted, Poster

from .closing import Close, closing_server
from .servers import Answer, Asked, back_end

KEYS = (b"the-old-key", b"the-new-key")


def poster(url: str, judge: Judge = anywhere, keys: tuple[bytes, ...] = ()) -> Poster:
    return Poster(url, judge, limit=1000, connections=2, keys=keys, agent="test")


async def test_a_post_is_signed_with_every_key_and_answered() -> None:
    with back_end(lambda asked: Answer(201, b'{"a":1}', {"X-Y": "z"})) as server:
        posting = poster(f"{server.url}/hook?x=1", keys=KEYS)
        try:
            posted = await posting.post(b'{"id":1}', timeout=10)
        finally:
            await posting.aclose()
        assert (posted.status, posted.body, posted.headers["x-y"]) == (201, b'{"a":1}', "z")
        (asked,) = server.asked
    assert (asked.path, asked.body, asked.headers["content-type"]) == ("/hook?x=1", b'{"id":1}', "application/json")
    t, *given = asked.headers["portico-signature"].split(",")
    assert abs(time.time() - int(t.removeprefix("t="))) < 60
    signed = t.removeprefix("t=").encode() + b"." + asked.body
    assert given == ["v1=" + hmac.new(key, signed, hashlib.sha256).hexdigest() for key in KEYS]


FAULTS = [
    (Answer(hangs=True), "no whole answer within 0.5 s"),
    (Answer(endless=True), "the answer is too long"),
    (Answer(200, b"x" * 40_000), "the answer is too long"),
    (Answer(raw=b"garbage\r\n\r\n"), "it does not speak HTTP"),
    (Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), "it does not speak HTTP"),
    (Answer(raw=b""), "it does not speak HTTP"),
]


@pytest.mark.parametrize(("answer", "reason"), FAULTS)
async def test_what_goes_wrong_is_one_exception_with_a_reason(answer: Answer, reason: str) -> None:
    with back_end(lambda asked: answer) as server:
        posting = poster(server.url)
        with pytest.raises(NotPosted, match=reason):
            await posting.post(b"{}", timeout=0.5 if answer.hangs else 20)
        await posting.aclose()


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    with back_end(lambda asked: Answer(302, b"", {"Location": "/elsewhere"})) as server:
        posting = poster(server.url)
        assert (await posting.post(b"{}", timeout=10)).status == 302
        await posting.aclose()
        assert len(server.asked) == 1


def plain(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def coded(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("form", [plain, coded], ids=["with a length", "chunked"])
async def test_a_second_answer_for_one_question_is_nobodys(form: Callable[[bytes], bytes]) -> None:
    """httpcore by itself takes it for the answer to the next question."""
    connections = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        with suppress(trio.BrokenResourceError):
            while question := await _question_of(stream):
                surplus = plain(b"you are ann") if question == b"1" else b""
                await stream.send_all(form(b"to " + question) + surplus)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        posting = poster(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        for question in (b"1", b"2", b"3"):
            assert (await posting.post(question, timeout=20)).body == b"to " + question
        assert connections == 2, "one with whom all is well is used again"
        await posting.aclose()
        nursery.cancel_scope.cancel()


NO_ENTRY = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.mark.parametrize("close", [Close.CLEAN, Close.RESET])
async def test_what_a_kept_connection_is_closed_on_is_posted_once_more_on_a_fresh_one(close: Close) -> None:
    async with closing_server(close, NO_ENTRY) as server:
        posting = poster(server.url)
        for question in (b"1", b"2", b"3"):
            assert (await posting.post(question, timeout=20)).status == 204
        await posting.aclose()
    # The third finds no kept connection: the fresh one was closed after its answer.
    assert server.came == [(1, b"1"), (1, b"2"), (2, b"2"), (3, b"3")]


async def test_a_fresh_connection_is_used_though_others_are_kept() -> None:
    """A server that goes down closes them all: the next one is no better."""
    async with closing_server(Close.CLEAN, NO_ENTRY) as server:
        posting = poster(server.url)
        async with trio.open_nursery() as nursery:
            for question in (b"1", b"2"):
                nursery.start_soon(partial(posting.post, question, timeout=20))
        assert server.connections == 2
        assert (await posting.post(b"3", timeout=20)).status == 204
        await posting.aclose()
    assert [connection for connection, body in server.came if body == b"3"][1:] == [3]


@pytest.mark.parametrize(
    ("close", "first"), [(Close.BEGUN, False), (Close.BEGUN, True), (Close.CLEAN, True), (Close.RESET, True)]
)
async def test_what_else_ends_without_an_answer_is_not_posted_again(close: Close, first: bool) -> None:
    """A fresh connection that is closed says something about the server; one within an answer, that it was asked."""
    async with closing_server(close, NO_ENTRY, first=first) as server:
        posting = poster(server.url)
        if not first:
            await posting.post(b"1", timeout=20)
        with pytest.raises(NotPosted):
            await posting.post(b"2", timeout=20)
        await posting.aclose()
    assert len([body for _, body in server.came if body == b"2"]) == 1


async def _question_of(stream: trio.SocketStream) -> bytes:
    came = b""
    while not came.partition(b"\r\n\r\n")[2]:
        some = await stream.receive_some()
        if not some:
            return b""
        came += some
    return came.partition(b"\r\n\r\n")[2]


async def test_a_private_address_gets_nothing() -> None:
    def none(_: Asked) -> Answer:
        raise AssertionError("it was asked")

    with back_end(none) as server:
        with pytest.raises(NotPosted, match="private address"):
            await poster(server.url, public_and(())).post(b"{}", timeout=10)
        assert not server.asked


async def test_cancelling_is_safe() -> None:
    with back_end(lambda asked: Answer(hangs=True)) as server:
        posting = poster(server.url)
        with trio.move_on_after(0.2) as scope:
            await posting.post(b"{}", timeout=30)
        assert scope.cancelled_caught
        await posting.aclose()
