"""The app contained, without a server and on a clock that jumps: whatever it does, its request ends, and nothing else
does."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from service.own_app.driven import PATIENCE
from service.own_app.exchange import INBOX, ClientGone
from service.own_app.loading import Loaded, OwnAppError
from service.own_app.own_app import Limits, OwnApp

from .stage import Client, WebSocket, log, staged

Call = Callable[..., Awaitable[None]]


def after_lifespan(serve: Call) -> Call:
    """An app that knows no lifespan."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] != "lifespan"
        await serve(scope, receive, send)

    return app


async def answer(send: Any, body: bytes = b"hello", status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def test_it_answers() -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = await receive()
        await answer(send, body["body"].upper(), 201, [(b"X-One", b" 1 ")])
        assert (await receive())["type"] == "http.disconnect"

    async with staged(app) as stage:
        client = Client("POST", body=b"abc")
        served = await stage.get(client)
        assert (served.status, served.received, served.sent) == (201, 3, 3)
        assert (client.body, client.headers, client.whole) == (b"ABC", {b"x-one": b"1"}, True)


async def raises(_: Any, __: Any, ___: Any) -> None:
    raise ValueError("of the app")


async def exits(_: Any, __: Any, ___: Any) -> None:
    raise SystemExit(3)


async def interrupts(_: Any, __: Any, ___: Any) -> None:
    raise KeyboardInterrupt


async def exits_in_a_task(_: Any, __: Any, ___: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exits, None, None, None)
        nursery.start_soon(trio.sleep_forever)


async def runs_trio(_: Any, __: Any, ___: Any) -> None:
    trio.run(trio.sleep, 0)


async def says_nothing(_: Any, __: Any, ___: Any) -> None:
    pass


async def begins_with_a_body(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.body", "body": b""})


async def has_a_bad_status(_: Any, __: Any, send: Any) -> None:
    await answer(send, status=42)


async def has_a_bad_name(_: Any, __: Any, send: Any) -> None:
    await answer(send, headers=[(b"a b", b"1")])


async def splits_its_answer(_: Any, __: Any, send: Any) -> None:
    await answer(send, headers=[(b"location", b"/\r\nset-cookie: a=b")])


async def has_headers_of_text(_: Any, __: Any, send: Any) -> None:
    await answer(send, headers=[("location", "/")])


async def has_no_pairs(_: Any, __: Any, send: Any) -> None:
    await answer(send, headers=[b"location"])


HOSTILE = [
    raises,
    exits,
    interrupts,
    exits_in_a_task,
    runs_trio,
    says_nothing,
    begins_with_a_body,
    has_a_bad_status,
    has_a_bad_name,
    splits_its_answer,
    has_headers_of_text,
    has_no_pairs,
]


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_what_goes_wrong_is_500_and_logged(hostile: Call) -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (hostile if scope["path"] == "/bad" else _hello)(scope, receive, send)

    async with staged(app) as stage:
        client = Client(path="/bad")
        served = await stage.get(client)
        assert (served.status, client.status, client.whole) == (500, 500, True)
        assert b"of the app" not in client.body
        (line,) = stage.logged
        assert (line["log_level"], line["request"]) == ("error", "GET /bad")
        after = Client()
        await stage.get(after)
        assert after.body == b"hello"
        assert stage.app.under_way == 0


async def _hello(_: Any, __: Any, send: Any) -> None:
    await answer(send)


async def test_what_fails_later_is_cut_off() -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        if scope["path"] == "/text":
            await send({"type": "http.response.body", "body": "text", "more_body": True})
        raise ValueError

    async with staged(app) as stage:
        for path in ("/", "/text"):
            client = Client(path=path)
            await stage.get(client)
            assert (client.status, client.body, client.whole) == (200, b"some", False)
        assert stage.app.errors == 2


async def test_headers_of_the_connection_are_the_servers() -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Transfer-Encoding", b"chunked"), (b"Connection", b"close"), (b"Upgrade", b"h2c")]
        await answer(send, headers=headers)

    async with staged(app) as stage:
        client = Client()
        await stage.get(client)
        assert client.headers == {b"connection": b"close"}
        newer = Client()
        newer.scope["http_version"] = "2"
        await stage.get(newer)
        assert newer.headers == {}


async def test_what_needs_asyncio_is_told_what_would_be_right() -> None:
    import asyncio

    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/sleep":
            await asyncio.sleep(1)
        else:
            await _Future()

    async with staged(app) as stage:
        for path in ("/sleep", "/future"):
            client = Client(path=path)
            await stage.get(client)
            assert client.status == 500
        first, second = stage.logged
        assert "PORTICO_APP=shop:app needs asyncio" in first["remedy"]
        assert "remedy" not in second  # once


class _Future:
    """What asyncio's futures do."""

    def __await__(self) -> Any:
        yield self


# Time


async def test_an_answer_that_doesnt_begin_is_504(autojump_clock: MockClock) -> None:
    ended = trio.Event()

    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with staged(app, timeout=7) as stage:
        client = Client()
        served = await stage.get(client)
        assert (served.status, client.status, trio.current_time()) == (504, 504, 7)
        await ended.wait()
        assert stage.events() == ["the app did not answer in time"]
        assert stage.app.timeouts == 1


async def test_an_answer_that_has_begun_has_all_the_time_that_its_client_has(autojump_clock: MockClock) -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await trio.sleep(1000)
        await send({"type": "http.response.body", "body": b"event"})

    async with staged(app, timeout=7) as stage:
        client = Client()
        await stage.get(client)
        assert (client.body, client.whole) == (b"event", True)


@pytest.mark.parametrize("body", [b"", b"x" * INBOX])
async def test_who_has_gone_is_no_reason_to_go_on_for_ever(autojump_clock: MockClock, body: bytes) -> None:
    """Also where the app never asks, and has read nothing of the body."""
    ended: list[float] = []

    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async with staged(app, timeout=7) as stage, trio.open_nursery() as nursery:
        client = Client("POST", body=body)
        nursery.start_soon(stage.get, client)
        await client.taken.wait()
        await trio.sleep(100)
        client.hang_up()
        await trio.sleep(50)
        assert ended == [107]
        assert stage.logged == []


async def test_an_endless_answer_ends_with_its_client(autojump_clock: MockClock) -> None:
    failures: list[BaseException] = []

    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"more", "more_body": True})
        except Exception as error:
            failures.append(error)
            raise

    async with staged(app, timeout=7) as stage, trio.open_nursery() as nursery:
        client = Client()
        nursery.start_soon(stage.get, client)
        await client.taken.wait()
        client.hang_up()
        while not failures:
            await trio.lowlevel.checkpoint()
        assert isinstance(failures[0], ClientGone)
        await wait_all_tasks_blocked()
        assert (stage.app.under_way, stage.logged) == (0, [])


async def test_what_goes_on_after_its_answer_may(autojump_clock: MockClock) -> None:
    done: list[float] = []

    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)
        await trio.sleep(60)
        done.append(trio.current_time())

    async with staged(app, timeout=7) as stage:
        await stage.get(Client())
        assert (trio.current_time(), stage.app.under_way) == (0, 1)
        await trio.sleep(70)
        assert (done, stage.app.under_way) == ([60], 0)


async def test_who_swallows_its_cancellation_is_not_resumed_any_more(autojump_clock: MockClock) -> None:
    resumed: list[float] = []

    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            try:
                await trio.sleep(1)
            except trio.Cancelled:
                resumed.append(trio.current_time())
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.5)

    logger, entries = log()
    own = OwnApp(Loaded("asgi", app, "shop:app"), Limits(timeout=7, concurrency=0, max_body=1, threads=1), logger)
    await own.start()
    client = Client()
    await own.serve(client.scope, client.receive, client.send)
    assert (client.status, trio.current_time()) == (504, 7)
    await trio.sleep(60)
    assert 7 < resumed[-1] <= 7 + PATIENCE + 1
    assert own.stuck == 1
    # Nor does the end wait for it; the process would have to end without it, which this one can't.
    assert not await own.stop()
    assert entries[-1]["event"] == "the app doesn't end, and the process ends without it"
    _release(own)


_KEPT: list[object] = []
"""What must not be collected while the tests run: it can't be closed outside of trio."""


def _release(own: OwnApp) -> None:
    """Have trio forget the task that would keep this test's run from ending; in earnest, the process ends."""
    (driven,) = own._running.values()
    _KEPT.append(driven._coroutine)
    assert own._nursery is not None
    for task in own._nursery.child_tasks:
        trio.lowlevel.reschedule(task, outcome.Error(RuntimeError("the test is over")))


# Room


async def test_more_than_may_be_under_way_is_503(autojump_clock: MockClock) -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(5)
        await answer(send)

    async with staged(app, concurrency=2) as stage, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(stage.get, Client())
        await wait_all_tasks_blocked()
        over = Client()
        await stage.get(over)
        assert (over.status, over.headers[b"retry-after"]) == (503, b"1")
        await trio.sleep(6)
        after = Client()
        await stage.get(after)
        assert after.status == 200


async def test_a_body_that_nobody_reads_waits_at_the_client(autojump_clock: MockClock) -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(5)
        await answer(send)

    async with staged(app) as stage, trio.open_nursery() as nursery:
        client = Client("POST", body=None)
        taken = 0

        async def upload() -> None:
            nonlocal taken
            while True:
                await client.to_app.send({"type": "http.request", "body": b"x" * 16384, "more_body": True})
                taken += 16384

        nursery.start_soon(upload)
        await stage.get(client)
        assert client.status == 200
        assert taken <= INBOX + 12 * 16384
        nursery.cancel_scope.cancel()


async def test_the_time_that_a_body_takes_is_its_clients(autojump_clock: MockClock) -> None:
    """As long as it comes: 20 kB a second are enough."""

    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:  # noqa: ASYNC110 - a slow reader
            await trio.sleep(0.1)
        await trio.sleep(6)
        await answer(send)

    async def upload(client: Client, pause: float) -> None:
        for _ in range(20):
            await trio.sleep(pause)
            await client.to_app.send({"type": "http.request", "body": b"x" * 40_000, "more_body": True})
        await client.to_app.send({"type": "http.request", "body": b"", "more_body": False})

    async with staged(app, timeout=7) as stage, trio.open_nursery() as nursery:
        steady, slow, mute = (Client("POST", body=None) for _ in range(3))
        nursery.start_soon(upload, steady, 2.0)
        await stage.get(steady)
        assert (steady.status, round(trio.current_time())) == (200, 46)
        nursery.start_soon(upload, slow, 10.0)
        await stage.get(slow)
        assert slow.status == 408
        await stage.get(mute)
        assert (mute.status, mute.body) == (408, b"The body did not come in time.\n")
        assert stage.logged == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_413(declared: bool) -> None:
    cancelled = trio.Event()

    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with staged(app, max_body=1000) as stage:
        size = {"content_length": "1001"} if declared else {"transfer_encoding": "chunked"}
        client = Client("POST", body=b"x" * 1001, **size)
        served = await stage.get(client)
        assert (served.status, client.status) == (413, 413)
        if not declared:
            await cancelled.wait()


# The loop


async def test_who_blocks_the_loop_is_named_while_it_lasts() -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        give_up = time.monotonic() + 60
        while not any(line["request"] == "GET /slow" for line in stage.blocked) and time.monotonic() < give_up:
            time.sleep(0.05)  # noqa: ASYNC251 - that is the fault
        await answer(send)

    async with staged(app) as stage:
        client = Client(path="/slow")
        await stage.get(client)
        assert client.status == 200
        during, after = (line for line in stage.blocked if line["request"] == "GET /slow")
        assert (during["event"], during["request"]) == ("the app blocks the event loop", "GET /slow")
        assert "test_own_app.py" in during["where"]
        assert (after["event"], after["request"]) == ("the app blocked the event loop", "GET /slow")
        assert stage.app._watch.blocked >= 1


# WebSockets


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"].upper()})


async def test_a_websocket() -> None:
    async with staged(after_lifespan(echo)) as stage, trio.open_nursery() as nursery:
        client = WebSocket()
        nursery.start_soon(stage.app.serve_websocket, client.scope, client.receive, client.send)
        client.to_app.send_nowait({"type": "websocket.receive", "text": "a", "bytes": None})
        while len(client.sent) < 2:
            await trio.lowlevel.checkpoint()
        assert client.sent[1]["text"] == "A"
        client.hang_up()
        await wait_all_tasks_blocked()
        assert stage.logged == []


async def test_a_websocket_whose_app_fails_is_closed() -> None:
    async with staged(after_lifespan(raises)) as stage:
        client = WebSocket()
        await stage.app.serve_websocket(client.scope, client.receive, client.send)
        assert client.sent == [{"type": "websocket.close", "code": 1011, "reason": ""}]
        assert stage.events() == ["the app failed"]


async def test_a_websocket_that_is_not_accepted_in_time_is_refused(autojump_clock: MockClock) -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep_forever()

    async with staged(app, timeout=7) as stage:
        client = WebSocket()
        await stage.app.serve_websocket(client.scope, client.receive, client.send)
        assert (client.sent[-1]["type"], trio.current_time()) == ("websocket.close", 7)
        await wait_all_tasks_blocked()
        await trio.sleep(8)
        assert not stage.app._running


async def test_a_websocket_that_is_never_read_is_closed(autojump_clock: MockClock) -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await trio.sleep_forever()

    async with staged(app, timeout=7) as stage, trio.open_nursery() as nursery:
        client = WebSocket()

        async def talk() -> None:
            while True:
                await client.to_app.send({"type": "websocket.receive", "text": "x" * 9999, "bytes": None})

        nursery.start_soon(talk)
        await stage.app.serve_websocket(client.scope, client.receive, client.send)
        assert client.sent[-1] == {"type": "websocket.close", "code": 1011, "reason": ""}
        nursery.cancel_scope.cancel()
        await trio.sleep(8)
        assert not stage.app._running


async def test_a_drain_closes_websockets_and_waits_for_requests(autojump_clock: MockClock) -> None:
    @after_lifespan
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await echo(scope, receive, send)
        else:
            await trio.sleep(float(scope["path"][1:]))
            await answer(send)

    async with staged(app) as stage, trio.open_nursery() as nursery:
        sockets = [WebSocket() for _ in range(3)]
        for socket in sockets:
            nursery.start_soon(stage.app.serve_websocket, socket.scope, socket.receive, socket.send)
        quick, slow = Client(path="/4"), Client(path="/1000")
        nursery.start_soon(stage.get, quick)
        nursery.start_soon(stage.get, slow)
        await wait_all_tasks_blocked()
        await stage.app.drain(10)
        assert 10 <= trio.current_time() < 11
        assert quick.status == 200
        assert [socket.sent[-1].get("code") for socket in sockets] == [1012] * 3
        nursery.cancel_scope.cancel()


# Lifespan


async def test_its_lifespan_is_around_all() -> None:
    happened: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            scope["state"]["mine"] = 1  # a copy of its own
            await answer(send, scope["state"]["kept"])
            return
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["kept"] = b"of the start"
        happened.append("start")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        assert "mine" not in scope["state"]
        happened.append("end")
        await send({"type": "lifespan.shutdown.complete"})

    async with staged(app) as stage:
        assert happened == ["start"]
        client = Client()
        await stage.get(client)
        assert client.body == b"of the start"
        assert happened == ["start"]
    assert happened == ["start", "end"]


async def test_a_lifespan_that_fails_later_is_told(autojump_clock: MockClock) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await answer(send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep(1)
        raise ValueError

    async with staged(app) as stage:
        await trio.sleep(2)
        assert stage.events() == ["the app failed in its lifespan, and is served without"]
        client = Client()
        await stage.get(client)
        assert client.status == 200


async def refuses(_: Any, receive: Any, send: Any) -> None:
    await receive()
    message = 'Traceback (most recent call last):\n  File "x"\nOSError: there is no database.\n'
    await send({"type": "lifespan.startup.failed", "message": message})


async def breaks(_: Any, receive: Any, __: Any) -> None:
    await receive()
    raise OSError("there is no database")


async def wants_asyncio(_: Any, receive: Any, __: Any) -> None:
    import asyncio

    await receive()
    asyncio.get_running_loop()


async def says_it_wants_asyncio(_: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "…\nRuntimeError: no running event loop"})


async def never_starts(_: Any, receive: Any, __: Any) -> None:
    await receive()
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("app", "sentence"),
    [
        (refuses, r"^PORTICO_APP=shop:app could not start: OSError: there is no database\.$"),
        (breaks, r"^PORTICO_APP=shop:app could not start: OSError: there is no database \(line \d+ of .*\)\.$"),
        (wants_asyncio, "^PORTICO_APP=shop:app needs asyncio, and Portico runs on trio"),
        (says_it_wants_asyncio, "^PORTICO_APP=shop:app needs asyncio, and Portico runs on trio"),
        (never_starts, "did not finish its start .* in 60 seconds"),
    ],
)
async def test_a_start_that_fails_is_a_sentence(autojump_clock: MockClock, app: Call, sentence: str) -> None:
    own = OwnApp(Loaded("asgi", app, "shop:app"), Limits(timeout=1, concurrency=0, max_body=1, threads=1), log()[0])
    with pytest.raises(OwnAppError, match=sentence):
        await own.start()
    assert await own.give_up()


async def test_an_end_that_doesnt_come_is_not_waited_for(autojump_clock: MockClock) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await trio.sleep_forever()

    async with staged(app) as stage:
        pass
    assert stage.events() == ["the app did not end in time"]
    assert trio.current_time() == 10
