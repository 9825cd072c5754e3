"""The connect hook against real servers: its answers, failures and bounds; and asked by a real gateway."""

import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from portico.wire.codes import CloseCode
from portico.wire.faults import PeerFault
from service.core.proof import Presented, Proof
from service.core.reply import Reply
from service.tokens import connect_hook
from service.tokens.connect_hook import ConnectHook, HookAnswer
from tests import gateways
from tests.certificates import make_certificate
from tests.outgoing.closing import Close, closing_server
from tests.outgoing.servers import Answer, Asked, BackEnd, back_end

SHOWN = Presented("/ws", "a=b", "192.0.2.1", {"cookie": "s=1"}, b'{"type": "c_client_register"}')
KEY = "a-signing-key-of-this-test-0123456789"


@asynccontextmanager
async def hook_at(url: str, timeout: float = 20.0) -> AsyncIterator[ConnectHook]:
    log = structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(0))
    hook = ConnectHook(url, headers=("Cookie",), timeout=timeout, keys=[KEY.encode()], wall=time.time, log=log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hook.run)
        await trio.testing.wait_all_tasks_blocked()
        yield hook
        nursery.cancel_scope.cancel()


async def told_by(hook: ConnectHook, shown: Presented = SHOWN) -> HookAnswer:
    told: list[HookAnswer] = []
    came = trio.Event()

    def take(answer: HookAnswer) -> None:
        told.append(answer)
        came.set()

    hook.ask(shown, Reply(take))
    await came.wait()
    return told[0]


def claims(status: int = 200, headers: dict[str, str] | None = None, **said: Any) -> Answer:
    return Answer(status, json.dumps(said).encode(), headers or {})


ANSWERS: list[tuple[Answer, object]] = [
    (claims(sub="ann", channel_id=["news", "team-*"]), Proof("ann", fields={"channel_id": ("news", "team-*")})),
    (claims(role="requester", commands="echo"), Proof(role="requester", commands=("echo",))),
    (Answer(204), None),
    (Answer(401), CloseCode.NOT_AUTHENTICATED),
    (Answer(403), CloseCode.NOT_ALLOWED),
    (claims(sub="ann", exp=1.0), CloseCode.NOT_AUTHENTICATED),
    # Not the client's fault: it may come again.
    (Answer(500), CloseCode.TRY_LATER),
    (Answer(302, headers={"Location": "/other"}), CloseCode.TRY_LATER),
    (claims(), CloseCode.TRY_LATER),
    (claims(sub=1), CloseCode.TRY_LATER),
    (claims(sub="ann", role="root"), CloseCode.TRY_LATER),
    (Answer(200, b'{"sub": "ann", "sub": "bob"}'), CloseCode.TRY_LATER),
    (Answer(200, b"<html>log in</html>"), CloseCode.TRY_LATER),
    (Answer(endless=True), CloseCode.TRY_LATER),
    (Answer(raw=b"garbage"), CloseCode.TRY_LATER),
]


@pytest.mark.parametrize(("answer", "outcome"), ANSWERS)
async def test_what_it_answers_and_what_that_means(answer: Answer, outcome: object) -> None:
    with back_end(lambda asked: answer) as server:
        async with hook_at(server.url + "/who") as hook:
            with trio.fail_after(30):
                told = await told_by(hook)
    if isinstance(told, PeerFault):
        assert told.close == outcome
    else:
        assert told == outcome
    (asked,) = server.asked
    assert json.loads(asked.body) == {
        "path": "/ws",
        "query": "a=b",
        "address": "192.0.2.1",
        "headers": {"cookie": "s=1"},
        "message": '{"type": "c_client_register"}',
        "message_size": 29,
    }
    assert asked.headers["portico-signature"].startswith("t=")


async def test_one_that_hangs_is_given_up_and_said_once() -> None:
    with back_end(lambda asked: Answer(hangs=True)) as server, capture_logs() as lines:
        async with hook_at(server.url, timeout=0.3) as hook:
            for _ in range(2):
                told = await told_by(hook)
                assert isinstance(told, PeerFault)
                assert told.close is CloseCode.TRY_LATER
            assert (hook.asked, hook.failed, hook.waiting) == (2, 2, 0)
    assert [line["event"] for line in lines] == ["the connect hook fails; connections are refused"]


@pytest.mark.parametrize("close", [Close.CLEAN, Close.RESET])
async def test_a_kept_connection_that_the_hook_closes_costs_no_client_anything(close: Close) -> None:
    ann = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"sub":"ann"}'
    async with closing_server(close, ann) as server, hook_at(server.url) as hook:
        with capture_logs() as lines, trio.fail_after(30):
            for _ in range(3):
                assert await told_by(hook) == Proof("ann")
        assert (hook.asked, hook.failed) == (3, 0)
        assert [connection for connection, _ in server.came] == [1, 1, 2, 3]
    assert not lines


async def test_an_answer_is_kept_as_long_as_it_says() -> None:
    with back_end(lambda asked: claims(headers={"Cache-Control": "private, max-age=60"}, sub="ann")) as server:
        async with hook_at(server.url) as hook:
            for _ in range(3):
                assert await told_by(hook) == Proof("ann")
            assert (len(server.asked), hook.repeated) == (1, 2)
            await told_by(hook, SHOWN._replace(headers={"cookie": "s=2"}))
            assert len(server.asked) == 2, "another question is asked"


TWICE = (
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\nCache-Control: max-age=60\r\n"
    b"Content-Length: 13\r\n\r\n"
)


@pytest.mark.parametrize(
    "answer",
    [
        claims(sub="ann"),
        claims(headers={"Cache-Control": "no-store"}, sub="ann"),
        claims(headers={"Cache-Control": "max-age=60, no-cache, private"}, sub="ann"),
        Answer(raw=TWICE + b'{"sub":"ann"}'),
        Answer(401),
    ],
)
async def test_other_answers_are_not_kept(answer: Answer) -> None:
    with back_end(lambda asked: answer) as server:
        async with hook_at(server.url) as hook:
            await told_by(hook)
            await told_by(hook)
        assert len(server.asked) == 2


async def test_how_many_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect_hook, "MAX_WAITING", 1)
    with back_end(lambda asked: Answer(hangs=True)) as server:
        async with hook_at(server.url) as hook:
            reply: Reply[HookAnswer] = Reply(lambda _: pytest.fail("nobody waits for it"))
            cancel = hook.ask(SHOWN, reply)
            told = await told_by(hook)
            assert isinstance(told, PeerFault)
            assert told.close is CloseCode.TRY_LATER
            reply.withdraw()
            cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert hook.waiting == 0, "the client has gone, and its question with it"


# With a real gateway


def by_cookie(asked: Asked) -> Answer:
    """A web app that knows its sessions."""
    cookie = json.loads(asked.body)["headers"].get("cookie", "")
    if cookie == "session=ann":
        return claims(sub="ann")
    return Answer(500) if cookie == "session=trouble" else Answer(401)


def comes_in(url: str, cookie: str, tls: ssl.SSLContext | None) -> object:
    """The user that a client with this cookie is, or the code that it is closed with."""
    with connect(url, ssl=tls, additional_headers={"cookie": cookie}, open_timeout=30) as socket:
        socket.send(json.dumps({"type": "c_client_register", "client_id": "c1"}))
        first = json.loads(socket.recv(30))
        if first["type"] == "registration_success":
            return first["user_id"]
        assert first["type"] == "registration_rejected"
        with pytest.raises(ConnectionClosed):
            socket.recv(30)
        return socket.close_code


@pytest.mark.live
@pytest.mark.parametrize("tls", [False, True], ids=["native and front door", "ASGI"])
def test_a_web_session_is_enough(tmp_path: Path, tls: bool) -> None:
    certificate = make_certificate(tmp_path) if tls else None
    trusted = certificate.trusted() if certificate is not None else None
    with back_end(by_cookie) as server:
        settings = {
            "PORTICO_AUTH": "required",
            "PORTICO_CONNECT_URL": f"{server.url}/who",
            "PORTICO_WEBHOOK_KEYS": KEY,
        }
        with gateways.gateway(tmp_path, settings=settings, certificate=certificate) as running:
            urls = {f"{running.websocket_url}/ws", running.base_url.replace("http", "ws", 1) + "/ws"}
            for url in urls:
                assert comes_in(url, "session=ann", trusted) == "ann"
                assert comes_in(url, "session=stranger", trusted) == 4001
                assert comes_in(url, "session=trouble", trusted) == 1013
            _check(server, 3 * len(urls))
            assert "session=ann" not in running.said()


def _check(server: BackEnd, count: int) -> None:
    asked = server.wait_for(count)
    assert len(asked) == count
    assert all("portico-signature" in one.headers for one in asked)
    assert all(json.loads(one.body)["address"] == "127.0.0.1" for one in asked)
