"""The first message decides; until then nothing is said."""

import pytest

from portico.wire.messages import EVERYBODY, Event

from ...fakes import stage

FIRST = [
    ({"type": "c_client_register"}, "c_client"),
    ({"command": "x"}, "requester"),
    ({"command": "x", "data": "c_client_register"}, "requester"),
    ({"command": "x", "user_id": "c_client_register"}, "requester"),
    ({"type": "connect", "data": {"user_id": "c_client_register"}}, "envelope"),
    ({"type": "heartbeat"}, "envelope"),
    ({"type": "connect"}, "envelope"),
    ({"type": "handshake"}, "envelope"),
]


@pytest.mark.parametrize("path", ["/", "/ws", "/api/websocket"])
@pytest.mark.parametrize(("message", "dialect"), FIRST)
@pytest.mark.parametrize("text", [True, False])
def test_it_decides(path: str, message: object, dialect: str, text: bool) -> None:
    house = stage()
    session, peer = house.connect(path)
    assert (session.handler.name, peer.frames) == ("undecided", [])
    house.say(session, message, text=text)
    assert session.handler.name == dialect
    assert peer.frames, "and it is answered"


@pytest.mark.parametrize(
    "message",
    [b"hello", b"{}", b"[]", b'{"type":"x"}', b'{"type":"x","request_id":1}', b"", b"[" * 10_000 + b"]" * 10_000],
)
def test_anything_else_is_an_error_and_1003(message: bytes) -> None:
    house = stage()
    session, peer = house.connect("/")
    (answer,) = house.ask(session, message)
    assert (answer["type"], answer["code"]) == ("error", "unknown_dialect")
    assert answer["message"]
    assert peer.close_code == 1003
    assert house.ask(session, {"type": "c_client_register"}) == []


@pytest.mark.parametrize(
    ("message", "request_id", "error"),
    [
        (b'{"request_id": "q", "data": {}}', "q", "Missing command"),
        (b'{"request_id": 7}', 7, "Missing command"),
        (b'{"request_id": "q", "command": null}', "q", "Missing command"),
        (b'{"request_id": "q", "command": "echo", "data": NaN}', None, "Invalid JSON format"),
        (b'{"request_id": "q", "command": "echo"', None, "Invalid JSON format"),
        (b'[{"request_id": "q", "command": "echo"}]', None, "Request must be a JSON object"),
    ],
)
def test_what_looks_like_a_requesters_is_answered_as_one(message: bytes, request_id: object, error: str) -> None:
    house = stage()
    session, peer = house.connect("/ws")
    (answer,) = house.ask(session, message)
    assert (answer["request_id"], answer["success"], answer["error"]) == (request_id, False, error)
    assert answer.keys() == {"request_id", "success", "data", "error", "processed_by"}
    # It may do better the next time.
    (answer,) = house.ask(session, {"request_id": "r", "command": "echo"})
    assert (answer["request_id"], answer["error"]) == ("r", "No available workers")
    assert peer.close_code is None


def test_where_requesters_must_prove_who_they_are_one_that_only_looks_so_must_too() -> None:
    house = stage(open_requesters=False, production=True)
    session, peer = house.connect("/ws")
    (answer,) = house.ask(session, b'{"request_id": "q", "data": {}}')
    assert answer["success"] is False
    assert peer.close_code == 4003


def test_it_hears_nothing_before() -> None:
    house = stage()
    _, peer = house.connect("/")
    assert house.gateway.delivery.deliver(EVERYBODY, Event("e")) == (0, 0)
    house.gateway.announce_drain(1000)
    assert peer.frames == []


@pytest.mark.parametrize(("message", "dialect"), [first for first in FIRST if first[1] != "c_client"])
def test_the_deadline_is_void_once_it_is_decided(message: object, dialect: str) -> None:
    house = stage()
    session, peer = house.connect("/")
    house.say(session, message)
    house.pass_time(100)
    assert peer.close_code is None
    assert session.handler.name == dialect
