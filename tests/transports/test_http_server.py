"""Serving an app's HTTP in our own nursery: the port, the end, and what is left to the app."""

import socket

import pytest
import trio
import trio.testing

from service.transports.http_server import serve_http

from .asgi_harness import make_app, serving
from .door_stage import Stage
from .raw import RawClient
from .vectors import GET, whole


async def test_a_taken_port_is_said_cleanly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        stage = Stage()
        app = make_app(stage.gate, stage.counts, stage.lines)
        with pytest.raises(OSError, match="in use"):
            await serve_http(app, door=stage.door, shutdown=trio.Event(), host="127.0.0.1", port=taken.getsockname()[1])


async def test_the_end_runs_the_apps_shutdown_and_frees_the_port() -> None:
    stage = Stage()
    app = make_app(stage.gate, stage.counts, stage.lines)
    ran: list[str] = []

    @app.after_serving
    async def after() -> None:
        ran.append("shutdown")

    async with serving(app, stage.door) as address, await RawClient.dial(address) as idle:
        await idle.send(GET)
        await whole(idle)
    assert ran == ["shutdown"]
    with socket.create_server(address):
        pass


async def test_http_is_left_to_judge_by_itself_who_asks() -> None:
    stage = Stage()
    app = make_app(stage.gate, stage.counts, stage.lines, trusted=("127.0.0.1",))
    async with serving(app, stage.door) as address, await RawClient.dial(address) as client:
        await client.send(
            b"GET /hello HTTP/1.1\r\nHost: inside\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.5\r\n"
            b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: gw.example.com\r\n\r\n"
        )
        assert await whole(client) == b"hello 127.0.0.1 http inside\n"
