"""What bad input gets, from a whole gateway: its dialect's error, nobody else disturbed, counted, and a safe log."""

import json
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from tests.gateways import MODES, Running, gateway

pytestmark = pytest.mark.live

REGISTER: Final = {"type": "c_client_register", "client_id": "c1", "user_id": "u1"}
DEEP: Final = "[" * 10_000 + "]" * 10_000
HUGE: Final = "9" * 400
OVERRIDE: Final = "\u202e"


@dataclass(frozen=True)
class Bad:
    """One bad message: where it is sent, after what, and what comes back (or the close code)."""

    name: str
    path: str
    message: str | bytes
    answer: dict[str, object] | int
    first: object = None


def c_client(name: str, message: str | bytes, code: str, **more: object) -> Bad:
    return Bad(name, "/", message, {"type": "error", "code": code, **more}, REGISTER)


def rejected(name: str, reason: str, **fields: object) -> Bad:
    message = json.dumps({"type": "c_client_register", **fields})
    return Bad(name, "/", message, {"type": "registration_rejected", "reason": reason})


def unknown(name: str, message: str | bytes) -> Bad:
    return Bad(name, "/", message, {"type": "error", "code": "unknown_dialect"})


def requester(name: str, message: str | bytes, error: str) -> Bad:
    return Bad(name, "/requester", message, {"success": False, "error": error, "data": None, "processed_by": None})


def envelope(name: str, message: str | bytes, code: str) -> Bad:
    return Bad(name, "/worker", message, {"type": "error", "data.code": code})


TABLE: Final = [
    unknown("not JSON", "hello"),
    unknown("no object", "[1, 2]"),
    unknown("no dialect's", '{"type": "hello"}'),
    unknown("10,000 nested arrays", DEEP),
    c_client("not JSON later", "hello", "bad_json"),
    c_client("no object later", "[1, 2]", "not_an_object"),
    c_client("NaN", '{"type": "session_feedback", "success": NaN}', "bad_json"),
    c_client("a number of 400 digits", f'{{"type": "heartbeat", "n": {HUGE}}}', "bad_json"),
    c_client("1e999", '{"type": "heartbeat", "n": 1e999}', "bad_json"),
    c_client("nesting", f'{{"type": "heartbeat", "n": {DEEP}}}', "bad_json"),
    c_client("a key twice", '{"type": "heartbeat", "type": "session_feedback"}', "bad_json"),
    c_client("a key twice, escaped", '{"type": "heartbeat", "t\\u0079pe": "x"}', "bad_json"),
    c_client("no type", '{"a": 1}', "missing_field", field="type"),
    c_client("a type that is null", '{"type": null}', "bad_field", field="type"),
    c_client("a type that is not known", '{"type": "\\u001b[31mred"}', "unknown_type"),
    c_client("a login that isn't there", '{"type": "session_feedback", "success": true}', "not_found"),
    c_client("binary that is no text", b"\xff\xfe\x00", "binary_not_supported"),
    rejected("an empty client_id", "bad_field", client_id=""),
    rejected("a long client_id", "bad_field", client_id="x" * 129),
    rejected("a long user_id", "bad_field", client_id="c", user_id="x" * 257),
    rejected("a number for a name", "bad_field", client_id="c", username=5),
    rejected("a control character", "bad_field", client_id="c\u0000\u001b[2J"),
    rejected("a mark that turns text", "bad_field", client_id="c", username=f"ann{OVERRIDE}nna"),
    requester("requester: not JSON", "hello", "Invalid JSON format"),
    requester("requester: nesting", f'{{"command": "x", "data": {DEEP}}}', "Invalid JSON format"),
    requester("requester: NaN", '{"command": "x", "data": NaN}', "Invalid JSON format"),
    requester("requester: 400 digits", f'{{"command": "x", "data": {HUGE}}}', "Invalid JSON format"),
    requester("requester: no command", '{"data": 1}', "Missing command"),
    requester("requester: null command", '{"command": null}', "Missing command"),
    requester("requester: empty command", '{"command": ""}', "Missing command"),
    envelope("worker: not JSON", "hello", "bad_json"),
    envelope("worker: an unknown type", '{"type": "hello"}', "unknown_type"),
    envelope(
        "worker: a request that was never sent",
        '{"type": "response", "data": {"request_id": "r-99999", "success": true}}',
        "unknown_request",
    ),
    envelope("worker: a response to nothing", '{"type": "response", "data": {"success": true}}', "missing_field"),
    envelope("worker: data that is a list", '{"type": "connect", "data": [1]}', "bad_field"),
    Bad("2 MiB", "/", "x" * (2 << 20), 1009),
]


@pytest.fixture(scope="module", params=MODES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {"PORTICO_HANDSHAKE_TIMEOUT": "3", "PORTICO_REGISTRATION_TIMEOUT": "3", "PORTICO_LOG_FORMAT": "json"}
    folder: Path = tmp_path_factory.mktemp("gateway")
    with gateway(folder, mode=request.param, settings=settings) as up:
        yield up


def heard(connection: ClientConnection) -> Any:
    return json.loads(connection.recv(timeout=60))


def faults(running: Running) -> float:
    text = httpx.get(f"{running.base_url}/metrics").text
    counted = re.findall(r"^portico_(?:faults|protocol_errors|handshakes_refused)_total(?:\{.*\})? (\S+)$", text, re.M)
    assert counted, text
    return sum(map(float, counted))


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
def test_a_bad_message(running: Running, bad: Bad) -> None:
    before = faults(running)
    with (
        connect(running.websocket_url) as bystander,
        connect(running.websocket_url + bad.path, max_size=None) as connection,
    ):
        bystander.send(json.dumps({**REGISTER, "client_id": "bystander"}))
        assert heard(bystander)["type"] == "registration_success"
        if bad.path == "/worker":
            assert heard(connection)["type"] == "connect"
        if bad.first is not None:
            connection.send(json.dumps(bad.first))
            heard(connection)
        with suppress(ConnectionClosed):  # it may be closed before all of it was sent
            connection.send(bad.message)
        if isinstance(bad.answer, int):
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=60)
            assert connection.close_code == bad.answer
        else:
            got = heard(connection)
            for key, value in bad.answer.items():
                outer, _, inner = key.partition(".")
                assert (got[outer][inner] if inner else got[outer]) == value, got
            if bad.answer.get("code") == "unknown_dialect":
                with pytest.raises(ConnectionClosed):
                    connection.recv(timeout=60)
                assert connection.close_code == 1003
            elif bad.path == "/" and bad.first is not None:
                connection.send('{"type": "heartbeat"}')
                assert heard(connection)["type"] == "heartbeat"
        bystander.send('{"type": "heartbeat"}')
        assert heard(bystander) == {"type": "heartbeat"}
    assert faults(running) > before


def test_an_answer_from_the_wrong_worker_counts_for_nothing(running: Running) -> None:
    with (
        connect(running.websocket_url + "/worker") as right,
        connect(running.websocket_url + "/worker") as wrong,
        connect(running.websocket_url + "/requester") as asking,
    ):
        for worker, commands in ((right, ["mine"]), (wrong, ["other"])):
            heard(worker)
            worker.send(json.dumps({"type": "connect", "data": {"role": "worker", "commands": commands}}))
            heard(worker)
        asking.send('{"request_id": "q", "command": "mine"}')
        request_id = heard(right)["data"]["request"]["id"]
        answer = {"type": "response", "data": {"request_id": request_id, "success": True, "result": "forged"}}
        wrong.send(json.dumps(answer))
        assert heard(wrong)["data"]["code"] == "unknown_request"
        answer["data"]["result"] = "true"  # type: ignore[index]
        right.send(json.dumps(answer))
        assert heard(asking)["data"] == "true"


def dial(running: Running) -> socket.socket:
    host, port = running.websocket_url.removeprefix("ws://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=60)


UPGRADE: Final = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: %s\r\n\r\n"
)
KEY: Final = b"dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (UPGRADE % (b"/ws", KEY, b"12"), b"426"),
        (UPGRADE % (b"/ws", b"short", b"13"), b"400"),
        (UPGRADE % (b"/nowhere", KEY, b"13"), b"404"),
        (UPGRADE % (b"/ws/%00", KEY, b"13"), b"400"),
        (b"\x00\x01\x02\x03\r\n\r\n", b"400"),
    ],
)
def test_a_bad_handshake(running: Running, head: bytes, status: bytes) -> None:
    with dial(running) as sock:
        sock.sendall(head)
        answer = b""
        while chunk := sock.recv(4096):
            answer += chunk
    assert answer.split(b" ")[1] == status, answer


def test_plain_http_on_the_port_for_websockets(running: Running) -> None:
    url = running.websocket_url.replace("ws://", "http://")
    assert httpx.get(f"{url}/api/b-client/websocket-info").status_code == 200
    answer = httpx.get(f"{url}/nowhere")
    assert answer.status_code == (404 if url == running.base_url else 426)


def test_silence_amid_a_handshake_and_after_one(running: Running) -> None:
    with dial(running) as sock, connect(running.websocket_url) as connection:
        sock.sendall(b"GET /ws HTTP/1.1\r\nHost:")
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=60)
        assert connection.close_code == 4000
        while sock.recv(4096):
            pass  # an answer or none; but it ends, and soon: the socket's own time-out would raise


def masked(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def test_fragments_between_pings_are_one_message(running: Running) -> None:
    with dial(running) as sock:
        sock.sendall(UPGRADE % (b"/ws", KEY, b"13"))
        text = json.dumps(REGISTER).encode()
        sock.sendall(masked(Opcode.TEXT, text[:10], fin=False) + masked(Opcode.PING, b"p"))
        sock.sendall(masked(Opcode.CONT, text[10:20], fin=False) + masked(Opcode.PING, b"q"))
        sock.sendall(masked(Opcode.CONT, text[20:]))
        got = b""
        while b"registration_success" not in got:
            chunk = sock.recv(4096)
            assert chunk, got
            got += chunk
    assert b"\x8a\x01p" in got
    assert b"\x8a\x01q" in got


def test_text_that_is_not_utf8(running: Running) -> None:
    with dial(running) as sock:
        sock.sendall(UPGRADE % (b"/ws", KEY, b"13") + masked(Opcode.TEXT, b'{"type": "\xff"}'))
        got = b""
        while chunk := sock.recv(4096):
            got += chunk
    assert b"\x88" in got
    assert struct.pack("!H", 1007) in got


def test_text_sent_as_binary_is_taken(running: Running) -> None:
    with connect(running.websocket_url) as connection:
        connection.send(json.dumps(REGISTER).encode())
        assert heard(connection)["type"] == "registration_success"


def test_the_log_is_safe(running: Running) -> None:
    """Last in this file: whatever the tests before it sent, a line is JSON with nothing in it that doesn't print."""
    with connect(running.websocket_url) as connection:
        connection.send(json.dumps({**REGISTER, "client_id": "c\u0007", "user_id": OVERRIDE}))
        heard(connection)
    lines = [
        line for line in running.said().splitlines() if line and not line.startswith(("Portico", " ", "Try", "Ctrl"))
    ]
    assert lines
    for line in lines:
        assert line.isprintable(), line
        assert isinstance(json.loads(line), dict)
