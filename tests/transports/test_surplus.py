"""What one connection too many gets of an ASGI app: probes, and a refusal of everything else."""

from collections.abc import MutableMapping
from typing import Any

import trio

from service.core.ports import HttpAnswer
from service.transports.surplus import ProbesOnly

FULL = HttpAnswer(503, (("retry-after", "5"),), b"full")
Message = MutableMapping[str, Any]


async def serve(scope: dict[str, Any], answer: HttpAnswer | None = FULL) -> list[Message]:
    """What is sent for one scope; the app behind answers `behind`."""
    sent: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"behind"})

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    await ProbesOnly(app, lambda: answer)(scope, None, send)
    return sent


async def test_probes_are_answered_and_the_connection_ends() -> None:
    start, body = await serve({"type": "http", "path": "/livez"})
    assert (start["status"], body["body"]) == (200, b"behind")
    assert start["headers"] == [(b"a", b"b"), (b"connection", b"close")]


async def test_everything_else_is_refused() -> None:
    start, body = await serve({"type": "http", "path": "/livez/../x"})
    assert (start["type"], start["status"], body["body"]) == ("http.response.start", 503, b"full")
    assert start["headers"] == [
        (b"x-content-type-options", b"nosniff"),
        (b"retry-after", b"5"),
        (b"content-length", b"4"),
        (b"connection", b"close"),
    ]
    start, body = await serve({"type": "websocket", "path": "/livez"})
    assert (start["type"], body["type"]) == ("websocket.http.response.start", "websocket.http.response.body")
    start, _ = await serve({"type": "http", "path": "/x", "http_version": "2"})
    assert start["headers"][-1] == (b"content-length", b"4"), "a stream of HTTP/2 is no connection"


async def test_once_there_is_room_again_all_is_served() -> None:
    start, _ = await serve({"type": "http", "path": "/x"}, None)
    assert start["status"] == 200
    start, _ = await serve({"type": "websocket", "path": "/x"}, None)
    assert start["headers"] == [(b"a", b"b")]
