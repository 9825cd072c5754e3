"""An app of the operator's own that does what no app should, in a real gateway: whoever else is served notices nothing,
and the gateway ends when it is told to."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.gateways import Running, gateway

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {
        "PORTICO_APP": "tests.own_app.hostile:app",
        "PORTICO_APP_MAX_BODY": 100_000,
        "PORTICO_PAGE": "true",
        "PORTICO_TRUSTED_PROXIES": "127.0.0.9",
    }
    with gateway(tmp_path_factory.mktemp("gateway"), mode="integrated", settings=settings) as gate:
        assert "the app has started" in gate.said()
        yield gate
        # A handler that ignores every cancellation is still there, and the gateway ends all the same, with 0.
        with _ask(gate, "GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            give_up = time.monotonic() + 60
            while "portico_app_requests 1.0" not in _metrics(gate):
                assert time.monotonic() < give_up
                time.sleep(0.05)
    assert "the app has ended" in gate.said()
    assert "the app doesn't end, and the process ends without it" in gate.said()
    assert "internal error" not in gate.said()


@pytest.fixture
def caller(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.base_url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def others_notice_nothing(running: Running) -> Iterator[None]:
    """Around every test a client of the gateway is connected, and gets its heartbeats answered."""
    with connect(f"{running.websocket_url}/ws", proxy=None, open_timeout=60) as client:
        client.send(json.dumps({"type": "c_client_register", "client_id": "bystander"}))
        assert json.loads(client.recv(60))["type"] == "registration_success"
        yield
        client.send(json.dumps({"type": "heartbeat"}))
        assert json.loads(client.recv(60))["type"] == "heartbeat"
    assert httpx.get(f"{running.base_url}/hello", trust_env=False, timeout=60).text == "GET /hello"


def _metrics(running: Running) -> str:
    return httpx.get(f"{running.base_url}/metrics", trust_env=False, timeout=60).text


def _ask(running: Running, request: str) -> socket.socket:
    parts = urlsplit(running.base_url)
    sock = socket.create_connection((parts.hostname, parts.port), timeout=60)
    sock.sendall(request.encode())
    return sock


@pytest.mark.parametrize("path", ["/raises", "/exits", "/splits"])
def test_what_fails_is_500(caller: httpx.Client, path: str) -> None:
    answer = caller.get(path)
    assert (answer.status_code, answer.text) == (500, "Internal Server Error\n")
    assert "set-cookie" not in answer.headers
    assert caller.get("/after").text == "GET /after"  # on the same connection


@pytest.mark.parametrize("path", ["/too-much", "/too-little"])
def test_an_answer_of_another_length_than_it_says_ends_the_connection(caller: httpx.Client, path: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        caller.get(path)


def test_an_endless_answer_ends_with_its_client(caller: httpx.Client, running: Running) -> None:
    sock = _ask(running, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert sock.recv(1 << 20).startswith(b"HTTP/1.1 200")
    sock.close()
    _until_idle(caller)


def _until_idle(caller: httpx.Client) -> None:
    give_up = time.monotonic() + 60
    while "portico_app_requests 0.0" not in caller.get("/metrics").text:
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_who_blocks_the_loop_is_named(caller: httpx.Client, running: Running) -> None:
    assert caller.get("/blocks").text == "GET /blocks"
    give_up = time.monotonic() + 60
    while "the app blocked the event loop" not in running.said():  # it is written by a thread
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert "GET /blocks" in running.said()


def test_a_body_that_is_too_large_is_413_and_one_that_nobody_reads_harms_nobody(caller: httpx.Client) -> None:
    refused = caller.post("/body", content=b"x" * 100_001)
    assert (refused.status_code, refused.headers["connection"]) == (413, "close")
    assert caller.post("/body", content=b"x" * 100_000).text == "POST /body"
    chunks = (b"x" * 10_000 for _ in range(100))
    with suppress(httpx.TransportError):  # closed on, with most of the body unsent
        assert caller.post("/body", content=chunks).status_code in (200, 413)
    assert caller.get("/after").text == "GET /after"


def test_an_answer_before_the_bodys_end_says_that_the_connection_ends(running: Running) -> None:
    head = "POST /early HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    with _ask(running, head) as sock:
        sock.sendall(chunk)
        answer = b""
        while not answer.endswith(b"POST /early"):  # it is whole, though the body never will be
            piece = sock.recv(65536)
            assert piece, answer
            answer += piece
        assert b"\r\nconnection: close\r\n" in answer.lower()
        for _ in range(20):  # who sends on isn't reset
            sock.sendall(chunk)
        sock.sendall(b"0\r\n\r\n")
        assert sock.recv(65536) == b""


def test_a_small_body_that_the_app_leaves_alone_ends_no_connection(running: Running) -> None:
    with _ask(running, "POST /alone HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n") as sock:
        for rest in (b"0123456789", b"POST /alone HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"):
            sock.sendall(rest)
            answer = b""
            while not answer.endswith(b"POST /alone"):
                piece = sock.recv(65536)
                assert piece, answer
                answer += piece
            assert b"\r\nconnection:" not in answer.lower()


def test_websockets_at_other_paths_are_the_apps(running: Running) -> None:
    with connect(f"{running.websocket_url}/chat", proxy=None, open_timeout=60) as client:
        client.send("hello")
        assert client.recv(60) == "HELLO"
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{running.websocket_url}/fails", proxy=None, open_timeout=60)
    assert refused.value.response.status_code in (403, 500)
    with connect(f"{running.websocket_url}/chat", proxy=None, open_timeout=60, max_size=None) as client:
        client.send("x" * (2 << 20))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_its_own_page_is_at_slash_and_the_gateways_beside_it(caller: httpx.Client) -> None:
    assert caller.get("/").text == "GET /"
    assert caller.put("/").text == "PUT /"
    assert "<title>Portico</title>" in caller.get("/portico").text
    assert caller.get("/pages/page.css").status_code == 200
    assert caller.get("/api/health").json()["status"] == "ok"
    assert caller.put("/api/health").status_code == 405


def test_only_a_trusted_proxy_says_whose_request_it_is(running: Running, caller: httpx.Client) -> None:
    forwarded = {"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https", "x-forwarded-host": "shop.example.com"}
    host = urlsplit(running.base_url).netloc
    assert caller.get("/whose", headers=forwarded).text == f"127.0.0.1 http {host} "
    transport = httpx.HTTPTransport(local_address="127.0.0.9")
    with httpx.Client(base_url=running.base_url, transport=transport, timeout=60) as proxy:
        assert proxy.get("/whose", headers=forwarded).text == "192.0.2.7 https shop.example.com 192.0.2.7"
