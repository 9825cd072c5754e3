"""Requesters: every frame is an answer, in five fields, and nothing else ever comes."""

import json

import pytest

from portico.wire.codes import CloseCode
from portico.wire.messages import EVERYBODY, Event

from ...fakes import stage

BEARER = {"authorization": "Bearer key"}

FIVE = {"request_id", "success", "data", "error", "processed_by"}


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/requester", {}), ("/", {"sec-websocket-protocol": "portico.requester.v1"}), ("/ws", {})],
)
def test_request_and_answer(path: str, headers: dict[str, str]) -> None:
    house = stage()
    worker, worker_peer = house.worker("w1")
    session, peer = house.connect(path, headers=headers)
    assert peer.messages == [], "no greeting"
    house.pass_time(50)
    house.say(session, {"command": "echo", "data": {"message": "Hello World"}})
    (request,) = worker_peer.take()
    house.say(worker, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True, "result": "Echo"}})
    (answer,) = peer.messages
    assert set(answer) == FIVE
    assert answer["request_id"], "the gateway makes one"
    assert (answer["success"], answer["data"], answer["error"], answer["processed_by"]) == (True, "Echo", None, "w1")
    house.pass_time(100)
    assert peer.close_code is None


def test_a_requester_that_has_asked_nothing_is_welcome() -> None:
    house = stage()
    _, peer = house.connect("/requester")
    house.pass_time(1000)
    assert peer.close_code is None


def test_no_push_and_no_notice() -> None:
    house = stage()
    _, peer = house.connect("/requester")
    assert house.gateway.delivery.deliver(EVERYBODY, Event("e")) == (0, 0)
    house.gateway.announce_drain(1000)
    assert peer.messages == []


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"nonsense", "Invalid JSON format"),
        (b'{"command":"x"', "Invalid JSON format"),
        (b'{"command":"x","data":NaN}', "Invalid JSON format"),
        (b'{"command":"x","command":"y"}', "Invalid JSON format"),
        (b'{"command":"x","data":' + b"9" * 400 + b"}", "Invalid JSON format"),
        (b'{"command":"x","data":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "Invalid JSON format"),
        (b"[]", "Request must be a JSON object"),
        (b"{}", "Missing command"),
        (b'{"command":""}', "Missing command"),
        (b'{"command":null}', "Missing command"),
        (b'{"command":5}', "command"),
        (b'{"command":"x","timeout":0}', "timeout"),
        (b'{"command":"x"}', "No available workers"),
    ],
)
def test_bad_input_is_answered_in_the_same_form(message: bytes, error: str) -> None:
    house = stage()
    session, peer = house.connect("/requester")
    (answer,) = house.ask(session, message)
    assert set(answer) == FIVE
    assert answer["success"] is False
    assert error in answer["error"]
    assert peer.close_code is None


def test_an_id_that_can_be_read_is_given_back() -> None:
    house = stage()
    session, _ = house.connect("/requester")
    for message in ({"request_id": "q"}, {"request_id": "q", "command": 5}, {"request_id": "q", "command": "x"}):
        assert house.ask(session, message)[0]["request_id"] == "q"


def test_binary() -> None:
    house = stage()
    session, _ = house.connect("/requester")
    assert house.ask(session, json.dumps({"command": "x"}), text=False)[0]["error"] == "No available workers"
    (answer,) = house.ask(session, b"\x00\xff", text=False)
    assert set(answer) == FIVE
    assert answer["success"] is False


@pytest.mark.parametrize("kicked", [True, False])
def test_one_that_leaves_cancels_what_it_has_in_flight(kicked: bool) -> None:
    house = stage()
    worker, worker_peer = house.worker("w1", capacity=1)
    session, peer = house.connect("/requester")
    house.say(session, {"command": "echo"})
    house.say(session, {"command": "echo"})
    if kicked:
        session.close(CloseCode.KICKED, "kicked")
    else:
        house.close(session, 1006)
    request, cancel = worker_peer.take()
    assert cancel["data"] == {"event": "cancel", "request_id": request["msg_id"]}
    assert (house.gateway.dispatcher.queue_length, house.gateway.dispatcher.outstanding) == (0, 0)
    house.say(worker, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True}})
    assert peer.messages == []
    assert worker_peer.take() == []


def test_answers_come_as_they_are_ready() -> None:
    house = stage()
    worker, worker_peer = house.worker("w1")
    session, peer = house.connect("/requester")
    for name in ("a", "b"):
        house.say(session, {"request_id": name, "command": "echo"})
    for request in reversed(worker_peer.take()):
        house.say(worker, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True}})
    assert [answer["request_id"] for answer in peer.messages] == ["b", "a"]


def test_a_time_out_above_the_largest_is_refused_under_the_request_s_own_id() -> None:
    house = stage(max_request_timeout=60.0)
    house.worker("w1")
    session, _ = house.connect("/requester")
    (answer,) = house.ask(session, {"request_id": "q7", "command": "echo", "timeout": 61})
    assert (answer["request_id"], answer["success"]) == ("q7", False)
    assert "at most 60 seconds" in answer["error"]


def test_a_back_end_with_a_key_does_not_wait_behind_anonymous_requesters() -> None:
    house = stage(api_keys=("key",), worker_capacity=1, queue_limit=4)
    worker, peer = house.worker("w1", capacity=1)
    anonymous, _ = house.connect("/requester")
    for number in range(5):
        house.say(anonymous, {"request_id": f"a{number}", "command": "echo"})
    back_end, answers = house.connect("/requester", headers={"authorization": "Bearer key"})
    house.say(back_end, {"request_id": "b", "command": "echo"})
    assert answers.messages == []
    for _ in range(2):
        request = peer.messages[-1]
        house.say(worker, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True, "result": 1}})
    assert [answer["request_id"] for answer in answers.messages] == ["b"]


@pytest.mark.parametrize(
    ("many", "other", "busy"),
    [("10.0.0.1", "10.0.0.2", 0), ("2001:db8::{}", "2001:db8:0:1::1", 0), ("10.0.0.{}", "10.0.9.9", 4)],
    ids=["one address", "one network", "many addresses"],
)
def test_an_address_with_many_connections_has_one_share_of_the_queue(many: str, other: str, busy: int) -> None:
    house = stage(worker_capacity=1, queue_limit=10)
    house.worker("w1", capacity=1)
    crowd = [house.connect("/requester", address=many.format(number)) for number in range(1, 16)]
    for session, _ in crowd:
        house.say(session, {"command": "echo"})
    newcomer, peer = house.connect("/requester", address=other)
    for _ in range(4):
        house.say(newcomer, {"command": "echo"})
    assert sum(answer["error"] == "Workers busy" for answer in peer.messages) == busy


@pytest.mark.parametrize(
    "request_id", ["7", "-0.5e3", "true", "false", '"a:b"', '"\\u00e9"', '"' + "x" * 256 + '"', "0"]
)
def test_a_request_id_is_any_scalar_and_comes_back_as_it_came(request_id: str) -> None:
    house = stage()
    worker, peer = house.worker("w1")
    session, answers = house.connect("/requester")
    session.receive(b'{"request_id": %b, "command": "echo", "data": {"a": 1}}' % request_id.encode(), True)
    request = peer.messages[-1]
    house.say(worker, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True, "result": 1}})
    (text,) = answers.texts
    assert text.startswith('{"request_id":' + request_id + ',"success":true,')


@pytest.mark.parametrize("request_id", ["{}", "[1]", '"' + "x" * 257 + '"', "1" * 257])
def test_what_is_no_scalar_or_too_long_is_no_request_id(request_id: str) -> None:
    house = stage()
    _, peer = house.worker("w1")
    session, answers = house.connect("/requester")
    session.receive(b'{"request_id": %b, "command": "echo"}' % request_id.encode(), True)
    (answer,) = answers.messages
    assert (answer["request_id"], answer["success"]) == (None, False)
    assert "request_id" in answer["error"]
    assert [message["type"] for message in peer.messages] == ["connect", "connect"]


def test_a_fault_is_answered_under_the_number_that_was_given() -> None:
    house = stage()
    session, answers = house.connect("/requester")
    session.receive(b'{"request_id": 12, "command": ""}', True)
    (answer,) = answers.messages
    assert (answer["request_id"], answer["error"]) == (12, "Missing command")


@pytest.mark.parametrize("data", ["", ', "data": null'])
def test_a_worker_gets_an_empty_object_where_there_are_no_parameters(data: str) -> None:
    house = stage()
    _, peer = house.worker("w1")
    session, _ = house.connect("/requester")
    session.receive(b'{"command": "echo"%b}' % data.encode(), True)
    assert peer.messages[-1]["data"]["params"] == {}


@pytest.mark.parametrize(("production", "headers", "size"), [(False, {}, 99), (True, {}, None), (True, BEARER, 99)])
def test_requesters_that_have_shown_a_key_may_send_more(
    production: bool, headers: dict[str, str], size: int | None
) -> None:
    house = stage(production=production, api_keys=("key",), max_message_size=10, max_requester_message_size=99)
    _, peer = house.connect("/requester", headers=headers)
    assert peer.message_size == size


def test_one_request_is_taken_back_on_a_connection_that_is_kept() -> None:
    house = stage()
    worker, peer = house.worker("w1")
    session, answers = house.connect("/requester")
    for number in (1, 2):
        house.say(session, {"request_id": number, "command": "echo", "stream": True})
    first, second = peer.messages[-2:]
    house.say(session, {"request_id": 1, "cancel": True})
    cancel = peer.messages[-1]
    assert (cancel["type"], cancel["data"]) == ("custom", {"event": "cancel", "request_id": first["msg_id"]})
    for request in (first, second):
        house.say(worker, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True, "result": 1}})
    cancelled, answered = answers.messages
    assert cancelled == {"request_id": 1, "success": False, "data": None, "error": "Cancelled", "processed_by": "w1"}
    assert (answered["request_id"], answered["success"]) == (2, True)
    house.say(session, {"request_id": 1, "cancel": True})
    house.say(session, {"request_id": 2, "cancel": True})
    house.say(session, {"request_id": "nobody's", "cancel": True})
    assert len(answers.messages) == 2, "what is over was answered"
    assert answers.close_code is None


def test_what_waits_and_what_has_the_same_id_is_taken_back_too_and_nobody_elses() -> None:
    house = stage()
    worker, peer = house.worker("w1")
    house.say(worker, {"type": "custom", "data": {"event": "capacity", "capacity": 1}})
    session, answers = house.connect("/requester")
    other, others = house.connect("/requester")
    for asking in (session, session, other):
        house.say(asking, {"request_id": "r", "command": "echo"})
    house.say(session, {"request_id": "r", "cancel": True})
    assert [(answer["error"], answer["processed_by"]) for answer in answers.messages] == [
        ("Cancelled", None),
        ("Cancelled", "w1"),
    ]
    request = peer.messages[-1]
    house.say(worker, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True, "result": 1}})
    assert others.messages[-1]["success"] is True
    assert house.gateway.dispatcher.outstanding == house.gateway.dispatcher.queue_length == 0


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b'{"request_id":7,"cancel":false}', "Missing command"),
        (b'{"request_id":7,"cancel":1}', "Missing command"),
        (b'{"cancel":true}', "Missing request_id"),
        (b'{"request_id":null,"cancel":true}', "Missing request_id"),
        (b'{"request_id":7,"request_id":8,"cancel":true}', "Invalid JSON format"),
        # One that has a command is a request, as it was before there was anything to take back.
        (b'{"request_id":7,"command":"none","cancel":true}', "No available workers"),
        (b'{"request_id":7,"command":"none","cancel":"x"}', "No available workers"),
    ],
)
def test_what_does_not_take_a_request_back(message: bytes, error: str) -> None:
    house = stage()
    session, _ = house.connect("/requester")
    (answer,) = house.ask(session, message)
    assert answer["error"] == error
