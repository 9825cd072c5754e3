"""WSGI apps: what they are told, how they answer, and what their threads may do to others."""

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import flask
import pytest
import trio

from service.own_app import wsgi
from service.own_app.wsgi import IN_MEMORY, environ_of

from .stage import Client, staged

Start = Callable[..., Any]


def wsgi_app(environ: Any, start: Start) -> Iterable[bytes]:
    start("200 OK", [("X-One", "1")])
    return [b"hello ", environ["wsgi.input"].read()]


@pytest.mark.parametrize("size", [0, 10, IN_MEMORY + 1])
async def test_it_answers(size: int) -> None:
    async with staged(wsgi_app, kind="wsgi") as stage:
        client = Client("POST", body=b"x" * size)
        served = await stage.get(client)
        assert (served.status, client.headers, client.whole) == (200, {b"x-one": b"1"}, True)
        assert client.body == b"hello " + b"x" * size


async def test_flask() -> None:
    app = flask.Flask(__name__)

    @app.post("/shop/<name>")
    def index(name: str) -> Any:
        request = flask.request
        return {"name": name, "form": request.form["a"], "cookie": request.cookies["b"], "url": request.url}

    async with staged(app, kind="wsgi") as stage:
        form = "application/x-www-form-urlencoded"
        client = Client("POST", "/shop/käse", body=b"a=1", content_type=form, content_length="3", cookie="b=2")
        client.scope["headers"] += [(b"host", b"shop.example.com")]
        await stage.get(client)
        assert client.status == 200
        found = flask.json.loads(client.body)
        assert found == {"name": "käse", "form": "1", "cookie": "2", "url": "http://shop.example.com/shop/käse"}


def test_what_an_app_is_told() -> None:
    client = Client("GET", "/gw/a b", host="[::1]:8000", content_type="text/plain", x_one="1")
    headers = [
        (b"x-one", b"2"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"x_forwarded_for", b"9.9.9.9"),  # Flask would take it for the header that was taken out
        (b"proxy", b"http://evil"),
    ]
    client.scope["headers"] += headers
    environ = environ_of({**client.scope, "root_path": "/gw", "query_string": b"q=1"}, io.BytesIO())
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/gw", "/a b", "q=1")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("[::1]", "8000")
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("127.0.0.1", "5")
    assert (environ["HTTP_X_ONE"], environ["HTTP_COOKIE"], environ["CONTENT_TYPE"]) == ("1,2", "a=1; b=2", "text/plain")
    assert not {"HTTP_X_FORWARDED_FOR", "HTTP_PROXY", "HTTP_CONTENT_TYPE"} & environ.keys()
    plain = environ_of({**client.scope, "headers": [(b"host", b"shop")], "scheme": "https"}, io.BytesIO())
    assert (plain["SERVER_NAME"], plain["SERVER_PORT"], plain["wsgi.url_scheme"]) == ("shop", "443", "https")


def no_start(_: Any, __: Start) -> Iterable[bytes]:
    return [b"hello"]


def raises(_: Any, __: Start) -> Iterable[bytes]:
    raise ValueError("of the app")


def exits(_: Any, __: Start) -> Iterable[bytes]:
    raise SystemExit


def starts_twice(_: Any, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    start("200 OK", [])
    return []


def bad_status(_: Any, start: Start) -> Iterable[bytes]:
    start("OK", [])
    return [b""]


def splits(_: Any, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Location", "/\r\nSet-Cookie: a=b")])
    return [b"hello"]


def gives_text(_: Any, start: Start) -> Iterable[Any]:
    start("200 OK", [("Content-Length", "5")])
    return ["hello"]


def runs_asyncio(_: Any, start: Start) -> Iterable[bytes]:
    import asyncio

    asyncio.run(asyncio.sleep(0))  # it has a thread of its own, and may
    start("200 OK", [])
    return [b"hello"]


@pytest.mark.parametrize("hostile", [no_start, raises, exits, starts_twice, bad_status, splits])
async def test_what_goes_wrong_is_500_and_logged(hostile: Any) -> None:
    async with staged(hostile, kind="wsgi") as stage:
        client = Client()
        served = await stage.get(client)
        assert (served.status, client.status, client.whole) == (500, 500, True)
        assert stage.events() == ["the app failed"]
        assert stage.app._wsgi is not None
        assert stage.app._wsgi.busy == 0


async def test_what_is_no_bytes_is_cut_off() -> None:
    async with staged(gives_text, kind="wsgi") as stage:
        client = Client()
        await stage.get(client)
        assert (client.status, client.whole, stage.events()) == (200, False, ["the app failed"])


async def test_a_thread_may_run_a_loop_of_its_own() -> None:
    async with staged(runs_asyncio, kind="wsgi") as stage:
        client = Client()
        await stage.get(client)
        assert (client.status, client.body) == (200, b"hello")


async def test_an_error_before_the_answer_may_replace_it() -> None:
    def app(_: Any, start: Start) -> Iterable[bytes]:
        write = start("200 OK", [])
        error = ValueError()
        again = start("400 Bad", [], (type(error), error, error.__traceback__))
        assert again == write
        write(b"written, ")
        return [b"returned"]

    async with staged(app, kind="wsgi") as stage:
        client = Client()
        await stage.get(client)
        assert (client.status, client.body) == (400, b"written, returned")


async def test_an_answer_streams_and_ends_with_its_client() -> None:
    closed = threading.Event()
    go_on = threading.Event()

    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            yield b"first"
            go_on.wait(60)
            while True:
                yield b"more"

        def close(self) -> None:
            closed.set()

    def app(_: Any, start: Start) -> Iterable[bytes]:
        start("200 OK", [])
        return Endless()

    async with staged(app, kind="wsgi") as stage, trio.open_nursery() as nursery:
        client = Client()
        nursery.start_soon(stage.get, client)
        with trio.fail_after(60):
            while client.body != b"first":  # noqa: ASYNC110 - threads have no event of trio's
                await trio.sleep(0.01)
            client.hang_up()
            go_on.set()
            assert await trio.to_thread.run_sync(closed.wait, 60)
            while stage.app.under_way:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert stage.logged == []


def waits_for(go_on: threading.Event) -> Any:
    """An app whose requests have to wait."""

    def app(_: Any, start: Start) -> Iterable[bytes]:
        go_on.wait(60)
        start("200 OK", [])
        return [b"hello"]

    return app


async def test_threads_that_are_all_taken_are_503_and_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi, "WAIT", 0.1)
    go_on = threading.Event()
    async with staged(waits_for(go_on), kind="wsgi", threads=1, timeout=300) as stage, trio.open_nursery() as nursery:
        first, second = Client(), Client()
        nursery.start_soon(stage.get, first)
        assert stage.app._wsgi is not None
        while not stage.app._wsgi.jobs:  # noqa: ASYNC110 - threads have no event of trio's
            await trio.sleep(0.01)
        await stage.get(second)
        assert (second.status, second.headers[b"retry-after"]) == (503, b"1")
        go_on.set()
    assert first.status == 200


async def test_a_thread_that_doesnt_return_is_named_and_keeps_its_place() -> None:
    go_on = threading.Event()
    async with staged(waits_for(go_on), kind="wsgi", threads=2, timeout=0.3) as stage:
        client = Client(path="/stuck")
        await stage.get(client)
        assert client.status == 504
        (line,) = stage.logged
        assert (line["event"], line["request"]) == ("the app did not answer in time", "GET /stuck")
        assert stage.app._wsgi is not None
        assert stage.app._wsgi.busy == 1
        assert "test_wsgi.py" in line["where"]
        go_on.set()
        with trio.fail_after(60):
            while stage.app._wsgi.busy:  # noqa: ASYNC110 - threads have no event of trio's
                await trio.sleep(0.01)


async def test_few_requests_wait_for_a_thread() -> None:
    go_on = threading.Event()
    async with staged(waits_for(go_on), kind="wsgi", threads=1, timeout=300) as stage, trio.open_nursery() as nursery:
        clients = [Client() for _ in range(5)]
        for client in clients:
            nursery.start_soon(stage.get, client)
        with trio.fail_after(60):
            while sum(client.status == 503 for client in clients) < 3:  # noqa: ASYNC110
                await trio.sleep(0.01)
        go_on.set()
    assert sorted(client.status or 0 for client in clients) == [200, 200, 503, 503, 503]


async def test_it_has_no_websockets() -> None:
    async with staged(wsgi_app, kind="wsgi") as stage:
        assert not stage.app.takes_websockets
        with suppress(RuntimeError):
            client = Client()
            client.scope["type"] = "websocket"
            await stage.app.serve_websocket(client.scope, client.receive, client.send)
        assert client.sent == [{"type": "websocket.close", "code": 1011}]
