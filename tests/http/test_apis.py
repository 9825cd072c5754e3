"""Plain HTTP on a port for WebSockets: the same answers as everywhere, and 426 for the rest."""

import json

import pytest

from service.core.ports import HttpAnswer
from service.http.apis import port_api
from service.http.app import AsgiHead

from .stage import SessionOwner, house

PATHS = [
    "/api/b-client/websocket-info",
    "/api/b-client/info",
    "/api/health",
    "/api/c-client/status",
    "/livez",
    "/readyz",
    "/metrics",
]


def ask(
    at: SessionOwner,
    path: str,
    method: str = "GET",
    *,
    host: str = "127.0.0.1:8000",
    headers: dict[str, str] | None = None,
) -> tuple[HttpAnswer, dict[str, str]]:
    head = AsgiHead(method, path, "", {"host": host, **(headers or {})}, "127.0.0.1", "127.0.0.1", "http", host)
    call = port_api(at.parts).call(head)
    assert call is not None
    answer = call.answer(b"")
    assert isinstance(answer, HttpAnswer)
    answered = dict(answer.headers)
    assert all(name == name.lower() for name in answered)
    assert not {"content-length", "connection", "date"} & set(answered)
    return answer, answered


@pytest.mark.parametrize("path", PATHS)
async def test_the_answers_are_those_of_the_http_port(path: str) -> None:
    at = house()
    at.stage.client(client_id="c1")
    answer, headers = ask(at, path)
    other = await at.call("GET", path)
    assert (answer.status, answer.body) == (200, other.content)
    assert {name: other.headers[name] for name in headers} == headers


@pytest.mark.parametrize("path", PATHS)
def test_head_is_answered_as_get_for_the_transport_to_cut(path: str) -> None:
    at = house()
    assert ask(at, path, "HEAD") == ask(at, path, "GET")


def test_discovery_on_the_port_itself_says_the_port() -> None:
    body = json.loads(ask(house(), PATHS[0], host="gw.example.com:8766")[0].body)
    assert (body["websocket_url"], body["http_port"]) == ("ws://gw.example.com:8766", 8000)


def test_readiness() -> None:
    at = house()
    at.not_ready.append("starting")
    assert ask(at, "/readyz")[0].status == 503
    assert ask(at, "/livez")[0].status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/ws"),
        ("GET", "/api/workers"),
        ("POST", "/api/health"),
        ("DELETE", "/livez"),
        ("BREW", "/ws"),
    ],
)
def test_anything_else_is_told_to_upgrade(method: str, path: str) -> None:
    answer, headers = ask(house(), path, method)
    assert answer.status == 426
    assert headers["upgrade"] == "websocket"
    assert b"ws://" in answer.body
    assert answer.body.count(b"\n") == 1


def test_cors_is_as_on_the_http_port() -> None:
    at = house(allowed_origins=["https://shop.example.com"])
    headers = ask(at, PATHS[0], headers={"origin": "https://shop.example.com"})[1]
    assert headers["access-control-allow-origin"] == "https://shop.example.com"
    headers = ask(at, PATHS[0], headers={"origin": "https://evil.example.net"})[1]
    assert "access-control-allow-origin" not in headers
    answer, headers = ask(at, PATHS[0], "OPTIONS", headers={"origin": "https://shop.example.com"})
    assert (answer.status, answer.body, headers["access-control-allow-methods"]) == (204, b"", "GET, HEAD, OPTIONS")
