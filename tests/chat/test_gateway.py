"""`chat` through the whole path: a requester, a real gateway with a key, and a little API that sees what reaches it."""

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests import gateways
from tests.chat.little_api import LittleApi, little_api

pytestmark = pytest.mark.live
KEY = "sk-live-Zz9876543210abcdef"
LIMIT = 30.0
Place = tuple[gateways.Running, LittleApi]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with little_api() as api:
        settings = {
            "OPEN_API_KEY": KEY,
            "OPEN_API_BASE_URL": api.base_url,
            "PORTICO_CHAT_MODEL": "m-1",
            "PORTICO_LOG_LEVEL": "debug",
            "PORTICO_CHAT_STALL_TIMEOUT": 60,
        }
        with gateways.gateway(tmp_path_factory.mktemp("chat"), settings=settings, mode="integrated") as running:
            _until(lambda: "chat-" in _get(f"{running.base_url}/api/workers"))
            yield running, api


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=LIMIT) as answer:
        return str(answer.read().decode())


def _until(condition: Any) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def requester(running: gateways.Running) -> ClientConnection:
    return connect(f"{running.websocket_url}/requester", proxy=None, open_timeout=LIMIT)


def ask(link: ClientConnection, request_id: str, command: str, data: Any, **more: Any) -> None:
    link.send(json.dumps({"request_id": request_id, "command": command, "data": data, **more}))


def says(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def answers(link: ClientConnection) -> tuple[str, dict[str, Any]]:
    """The text of the parts, and the final answer."""
    text = ""
    while True:
        message = json.loads(link.recv(timeout=LIMIT))
        if not message.get("partial"):
            return text, message
        text += message["data"]["delta"]


def last(api: LittleApi, before: int) -> Any:
    _until(lambda: len(api.asked) > before)
    return api.asked[-1]


def metric(running: gateways.Running, name: str) -> float:
    lines = [line for line in _get(f"{running.base_url}/metrics").splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[-1]) if lines else 0.0


def test_an_answer_streams_and_is_counted(place: Place) -> None:
    running, _ = place
    with requester(running) as link:
        ask(link, "a", "chat", says("hello"), stream=True)
        text, final = answers(link)
        assert (text, final["success"], final["request_id"]) == ("Hello world", True, "a")
        assert final["processed_by"].startswith("chat-")
        assert final["data"]["finish_reason"] == "stop"
        ask(link, "b", "chat", says("hello"))
        assert answers(link)[1]["data"]["content"] == "Hello world"
    # It is counted when the worker has ended, a moment after the answer.
    _until(lambda: metric(running, 'portico_chat_answers_total{ending="answered"}') >= 2)
    _until(lambda: metric(running, 'portico_chat_tokens_total{kind="completion"}') >= 8)
    _until(lambda: metric(running, "portico_chat_first_token_seconds_count") >= 2)


def test_a_fault_is_a_sentence(place: Place) -> None:
    running, _ = place
    with requester(running) as link:
        ask(link, "a", "chat", says("busy 20"), stream=True)
        text, final = answers(link)
        assert (text, final["success"]) == ("", False)
        assert final["error"] == "The model's API is busy: try again in 20 s."
        ask(link, "b", "chat", says("cut"), stream=True)
        text, final = answers(link)
    assert (text, final["success"]) == ("And th", False)
    assert final["error"].startswith("The answer broke off")


@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_whatever_ends_a_request_closes_the_apis_stream(place: Place, how: str) -> None:
    running, api = place
    before = len(api.asked)
    with requester(running) as link:
        ask(link, "a", "chat", says("stalls"), stream=True, timeout=60)
        assert json.loads(link.recv(timeout=LIMIT))["data"] == {"delta": "And then"}
        if how == "cancel":
            link.send(json.dumps({"request_id": "a", "cancel": True}))
            assert answers(link)[1]["error"] == "Cancelled"
            _until(lambda: last(api, before).closed)
    _until(lambda: last(api, before).closed)


def test_a_requester_that_reads_nothing_is_felt_by_the_api(place: Place) -> None:
    """The gateway keeps no more than what its sockets take, and goes on when it is read again."""
    running, api = place
    host, port = running.base_url.removeprefix("http://").split(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # it fills sooner
    sock.connect((host, int(port)))
    with connect(f"{running.websocket_url}/requester", sock=sock, max_queue=1, close_timeout=0.1) as link:
        before = written = api.written
        ask(link, "a", "chat", says("endless"), stream=True, timeout=600)
        _until(lambda: api.written > before)
        while api.written != written:  # until nothing moves any more
            written = api.written
            time.sleep(0.5)
        assert written < 64 * 2**20
        for _ in range(20):
            assert json.loads(link.recv(timeout=LIMIT))["partial"]
    # It may be waiting for room that never comes.
    _until(lambda: api.asked[-1].closed)


def test_echo_for_the_page_and_for_nobody_else(place: Place) -> None:
    running, _ = place
    with requester(running) as link:
        ask(link, "a", "echo", {"message": "hi"})
        assert answers(link)[1]["error"] == "No available workers"
        ask(link, "b", "streaming.echo", {"message": "hi you"}, stream=True)
        text, final = answers(link)
    assert (text, final["data"]) == ("Echo: hi you", "Echo: hi you")
    info = json.loads(_get(f"{running.base_url}/streaming/info"))
    assert (info["chat"], info["echo"], info["model"]) == (True, "streaming.echo", "m-1")
    assert "streaming.echo" not in _get(f"{running.base_url}/api/workers")


@pytest.mark.parametrize("scene", ["bad_key", "bad_request", "no_http", "broken", "error_event"])
def test_no_key_in_answers_logs_or_metrics(place: Place, scene: str) -> None:
    running, _ = place
    with requester(running) as link:
        ask(link, "a", "chat", says(scene), stream=True)
        _, final = answers(link)
    assert final["success"] is False
    _until(lambda: "chat answered" in running.said())
    shown = json.dumps(final) + running.said() + _get(f"{running.base_url}/metrics")
    for piece in (KEY, KEY.upper(), KEY[:-3], KEY[3:15]):
        assert piece not in shown
    assert "see the manual" not in running.said()
