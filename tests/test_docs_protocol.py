"""The examples of the protocol reference, against what a real gateway sends.

A conversation goes through everything that the reference shows. Every frame in it that is the gateway's must have been
sent, with the same fields of the same types; every frame that is a peer's is sent as it stands, or is one of the forms
of these.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.gateways import ROOT, Running, gateway

PROTOCOL = ROOT / "docs" / "reference" / "protocol.md"
LIMIT = 60.0

pytestmark = pytest.mark.live


def examples() -> list[str]:
    """Every line of JSON in the reference."""
    found = re.findall(r"^```json\n(.*?)^```", PROTOCOL.read_text(), re.DOTALL | re.MULTILINE)
    return [line for block in found for line in block.splitlines()]


def is_the_gateways(line: str) -> bool:
    """The gateway writes JSON without spaces; the examples of what others send have them."""
    return line.startswith(('{"type":', '{"request_id":', '{"id":', '{"websocket_url":', '{"success":')) and not (
        line.startswith(('{"type": ', '{"request_id": '))
    )


def shape(value: object) -> object:
    """The fields of a message and the types of what is in them."""
    match value:
        case dict():
            return {key: shape(member) for key, member in value.items()}
        case bool() | None:
            return type(value).__name__
        case int() | float():
            return "number"
        case _:
            return type(value).__name__


class Conversation:
    """What the gateway sends, all of it."""

    def __init__(self, running: Running, stack: ExitStack) -> None:
        self.running = running
        self.sent: list[Any] = []
        self._stack = stack
        self.http = stack.enter_context(httpx.Client(base_url=running.base_url, trust_env=False, timeout=LIMIT))

    def open(self, path: str = "", url: str | None = None) -> ClientConnection:
        return self._stack.enter_context(connect((url or self.running.websocket_url) + path, proxy=None))

    def hear(self, socket: ClientConnection) -> Any:
        """The next message."""
        message = json.loads(socket.recv(LIMIT))
        self.sent.append(message)
        return message

    def say(self, socket: ClientConnection, message: object) -> Any:
        """Send a message, and hear the next."""
        socket.send(message if isinstance(message, str) else json.dumps(message))
        return self.hear(socket)

    def call(self, method: str, path: str, body: object = None) -> Any:
        answer = self.http.request(method, path, json=body).json()
        self.sent.append(answer)
        return answer

    @contextmanager
    def asked(self, client_id: str) -> Iterator[list[Any]]:
        """A back end asks a client, which answers in the body; afterwards the list has what the back end got."""
        answers: list[Any] = []
        question = {"action": "colour", "params": {"of": "sky"}}
        route = f"/api/clients/{client_id}/requests"
        asking = threading.Thread(target=lambda: answers.append(self.http.post(route, json=question).json()))
        asking.start()
        yield answers
        asking.join(LIMIT)

    def fall_silent(self, socket: ClientConnection) -> int | None:
        """Hear until the Close, and give its code."""
        with suppress(ConnectionClosed):
            while True:
                self.hear(socket)
        return socket.close_code


def shown(start: str) -> str:
    """The example of what a peer sends that begins so."""
    return next(line for line in examples() if line.startswith(start))


def c_clients(talk: Conversation) -> None:
    client = talk.open()
    talk.say(client, shown('{"type": "c_client_register"'))
    other = talk.open()
    talk.say(other, {"type": "c_client_register", "client_id": "other", "user_id": "u1"})
    login = {"user_id": "u1", "username": "ann", "session_data": {"theme": "dark"}, "website_config": {"lang": "en"}}
    session_id = talk.http.post("/api/logins", json=login).json()["session_id"]
    talk.hear(client)
    client.send(json.dumps({"type": "session_feedback", "success": True, "message": "Logged in"}))
    talk.hear(other)
    talk.hear(other)
    push = {"target": {"user_id": "u1"}, "type": "cart_updated", "data": {"items": 3, "type": "x"}, "id": "n-1"}
    assert talk.call("POST", "/api/notifications", push)["id"] == "n-1"
    talk.hear(client)
    kept = {"target": {"user_id": "u1"}, "type": "cart_updated", "data": {"items": 4}, "durable": True}
    assert talk.call("POST", "/api/notifications", kept)["stream"] == "user:u1"
    talk.hear(client)
    talk.say(client, {"type": "heartbeat"})
    with talk.asked("c-client-1732") as answers:
        request_id = talk.hear(client)["request_id"]
        client.send(shown('{"request_id": "r-3"').replace("r-3", request_id))
    assert answers[0]["result"] == "blue"
    talk.say(client, {"type": "nope"})
    talk.say(client, {"type": "c_client_register", "user_id": 5})
    talk.call("DELETE", f"/api/logins/{session_id}")
    talk.hear(client)
    nobody = talk.open()
    talk.say(nobody, {"hello": 1})
    assert talk.fall_silent(nobody) == 1003


def workers_and_requesters(talk: Conversation) -> None:
    worker = talk.open("/anything", talk.running.worker_url)
    talk.hear(worker)
    talk.say(worker, shown('{"type": "connect"').replace('["echo"]', '["echo", "slow"]'))
    requester = talk.open("/requester")
    requester.send(shown('{"request_id": "9b2c"'))
    request = talk.hear(worker)
    answer = shown('{"type": "response"')
    talk_back = answer.replace("r-1", request["data"]["request"]["id"])
    worker.send(talk_back)
    assert talk.hear(requester)["data"] == "Echo: Hello World"

    requester.send(json.dumps({"request_id": "s1", "command": "slow", "stream": True, "timeout": 0.5}))
    request_id = talk.hear(worker)["data"]["request"]["id"]
    worker.send(json.dumps({"type": "response", "data": {"request_id": request_id, "partial": True, "result": 1}}))
    assert talk.hear(requester)["partial"]
    assert talk.hear(requester)["error"] == "Worker response timeout"
    assert talk.hear(worker)["data"]["event"] == "cancel"
    requester.send(json.dumps({"request_id": "s1", "command": "slow", "stream": True}))
    talk.hear(worker)
    assert talk.say(requester, shown('{"request_id": "s1", "cancel"'))["error"] == "Cancelled"
    assert talk.hear(worker)["data"]["event"] == "cancel"
    assert talk.say(worker, {"type": "response", "data": {"request_id": "x"}})["data"]["code"] == "unknown_request"
    for bad in ("{", "[]", '{"request_id": "x"}', '{"request_id": "t", "command": "echo", "timeout": -1}'):
        talk.say(requester, bad)
    worker.send(shown('{"type": "custom"'))
    talk.say(worker, shown('{"type": "heartbeat"'))  # then the one before it was heard, too
    requester.send(json.dumps({"command": "echo", "timeout": 0.3}))
    assert talk.hear(requester)["error"] == "Worker response timeout"
    # No request has come to it since it said that it takes none.
    assert talk.say(worker, shown('{"type": "heartbeat"'))["type"] == "heartbeat"


def envelope_clients(talk: Conversation) -> None:
    client = talk.open()
    talk.say(client, {"type": "connect", "data": {"client_id": "panel"}})
    assert talk.say(client, shown('{"type": "request"'))["data"]["result"] == 30
    talk.say(client, {"type": "request", "data": {"action": "calculate", "params": {"a": 1, "b": 0, "op": "/"}}})
    data = {"items": 3, "level": "warning"}
    talk.call("POST", "/api/notifications", {"target": {"client_id": "panel"}, "type": "cart_updated", "data": data})
    assert talk.hear(client)["data"]["payload"] == data

    with talk.asked("panel") as answers:
        request_id = talk.hear(client)["data"]["request"]["id"]
        answer = {"type": "response", "data": {"request_id": request_id, "success": True, "result": "blue"}}
        client.send(json.dumps(answer))
    assert answers[0]["result"] == "blue"
    away = talk.open()
    here = talk.say(away, {"type": "connect", "data": {"client_id": "e1", "user_id": "u1"}})["data"]["resume"]
    back = shown('{"type": "connect", "data": {"client_id": "e1"').replace("9c1185a5c5e9fc54", here["epoch"])
    back = back.replace(": 41", f": {here['offsets']['user:u1']}")
    assert talk.say(talk.open(), back)["data"]["resume"]["recovered"]
    old = talk.open()
    talk.say(old, shown('{"type": "handshake"'))
    watcher = talk.open("/ws/u5")
    watcher.send("hi there")
    assert watcher.recv(LIMIT) == "Echo: hi there"
    watcher.send(b"\xff")
    talk.hear(watcher)


@contextmanager
def conversation(folder: Path, **settings: object) -> Iterator[Conversation]:
    with gateway(folder, settings=settings) as running, ExitStack() as stack:
        yield Conversation(running, stack)


def test_every_example_is_what_the_gateway_sends(tmp_path: Path) -> None:
    with conversation(tmp_path) as talk:
        talk.call("GET", "/api/b-client/websocket-info")
        talk.call("GET", "/api/b-client/info")
        c_clients(talk)
        workers_and_requesters(talk)
        envelope_clients(talk)
        sent = list(talk.sent)
    locked = tmp_path / "locked"
    locked.mkdir()
    with conversation(locked, WEBSOCKET_HANDSHAKE_KEY="open-sesame-open") as talk:
        older = talk.open()
        talk.say(older, {"type": "handshake", "msg_id": "h1", "data": {"handshake_key": "wrong"}})
        assert talk.fall_silent(older) == 4001
        sent += talk.sent
    shapes = [shape(message) for message in sent]
    ours = [line for line in examples() if is_the_gateways(line)]
    assert len(ours) > 20
    for line in ours:
        assert shape(json.loads(line)) in shapes, line


@pytest.mark.parametrize("example", ['{"type":"heartbeat","extra":1}', '{"id":1}'])
def test_the_comparison_can_fail(example: str) -> None:
    assert is_the_gateways(example)
    assert shape(json.loads(example)) not in [shape({"type": "heartbeat"}), shape({"id": "n-1"})]
