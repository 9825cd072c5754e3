"""The envelope dialect at the level of sessions: requests, answers, capacity; clients and their pushes."""

import json
from typing import Any

import pytest
from msgspec import Raw

from portico.wire.messages import EVERYBODY, Event
from service.core.connections.session import Session
from service.core.dispatch.model import Outcome, Request, WorkerLink

from ...fakes import START, MemoryPeer, Stage, stage, stages, start_login
from .sentences import WORDS, types_named_in


def submit(house: Stage, command: str = "echo", **more: Any) -> tuple[Session, MemoryPeer]:
    session, peer = house.connect("/requester")
    house.say(session, {"request_id": "q", "command": command, **more})
    return session, peer


def requests(peer: MemoryPeer) -> list[dict[str, Any]]:
    return [message for message in peer.messages if message["type"] == "request"]


def errors(peer: MemoryPeer) -> list[dict[str, Any]]:
    return [message["data"] for message in peer.messages if message["type"] == "error"]


def test_a_client_gets_automatic_logins_too() -> None:
    house = stage()
    start_login(house, "u1")
    session, _ = house.connect("/ws")
    _, login = house.ask(session, {"type": "connect", "data": {"user_id": "u1"}})
    assert (login["type"], login["data"]["event"]) == ("notification", "auto_login")


# Requests and answers


@pytest.mark.parametrize("named", ["msg_id", "data", "both"])
def test_a_response_names_its_request_in_either_way(named: str) -> None:
    house = stage()
    session, peer = house.worker("w1")
    _, asker = submit(house, data={"message": "Hello World"})
    (request,) = requests(peer)
    assert request["data"]["params"] == {"message": "Hello World"}
    assert request["data"]["request"] == {"id": request["msg_id"], "attempt": 1, "deadline_ms": 30_000, "stream": False}
    data = {"success": True, "result": "Echo: Hello World", "error": None}
    if named != "msg_id":
        data["request_id"] = request["msg_id"]
    house.say(session, {"type": "response", "msg_id": request["msg_id"] if named != "data" else "fresh", "data": data})
    assert asker.messages == [
        {"request_id": "q", "success": True, "data": "Echo: Hello World", "error": None, "processed_by": "w1"}
    ]
    assert errors(peer) == []


@pytest.mark.parametrize("data", [{"success": False, "error": "broken"}, {"success": False, "result": "broken"}])
def test_a_worker_s_error(data: dict[str, Any]) -> None:
    house = stage()
    session, peer = house.worker("w1")
    _, asker = submit(house)
    house.say(session, {"type": "response", "msg_id": requests(peer)[0]["msg_id"], "data": data})
    (answer,) = asker.messages
    assert (answer["success"], answer["error"], answer["data"], answer["processed_by"]) == (False, "broken", None, "w1")


def test_a_response_to_nothing_or_to_another_s_request() -> None:
    house = stage()
    _, peer = house.worker("w1", commands=["echo"])
    thief, thief_peer = house.worker("w2", commands=["sum"])
    client, client_peer = house.connect("/ws")
    house.say(client, {"type": "connect", "data": {}})
    _, asker = submit(house)
    request_id = requests(peer)[0]["msg_id"]
    for session, its in ((thief, thief_peer), (client, client_peer)):
        for wrong in (request_id, "r-99", "", "x" * 300):
            house.say(session, {"type": "response", "msg_id": "m", "data": {"request_id": wrong, "success": True}})
            assert errors(its)[-1]["code"] == "unknown_request"
            assert errors(its)[-1]["msg_id"] == "m"
        assert its.close_code is None
    house.say(thief, {"type": "response", "data": {"success": True}})
    assert (errors(thief_peer)[-1]["code"], errors(thief_peer)[-1]["field"]) == ("missing_field", "request_id")
    assert asker.messages == []


def test_a_late_answer_is_dropped_and_the_worker_was_told() -> None:
    house = stage()
    session, peer = house.worker("w1")
    _, asker = submit(house, timeout=1)
    house.pass_time(1.3)
    assert asker.messages[0]["error"] == "Worker response timeout"
    request_id = requests(peer)[0]["msg_id"]
    cancel = peer.messages[-1]
    assert (cancel["type"], cancel["data"]) == ("custom", {"event": "cancel", "request_id": request_id})
    house.say(session, {"type": "response", "data": {"request_id": request_id, "success": True, "result": 1}})
    assert len(asker.messages) == 1
    assert errors(peer) == []
    assert house.gateway.counters.late_answers == 1


def test_streaming() -> None:
    house = stage()
    session, peer = house.worker("w1")
    _, asker = submit(house, stream=True)
    request_id = requests(peer)[0]["msg_id"]
    for result, partial in ((1, True), (2, True), (3, False)):
        data = {"request_id": request_id, "success": True, "result": result, "partial": partial}
        house.say(session, {"type": "response", "data": data})
    assert [(found["data"], found.get("partial")) for found in asker.messages] == [(1, True), (2, True), (3, None)]


def test_a_part_that_failed_is_passed_on_as_one_that_failed() -> None:
    house = stage()
    session, peer = house.worker("w1")
    _, asker = submit(house, stream=True)
    request_id = requests(peer)[0]["msg_id"]
    for answer in ({"success": False, "error": "disk full", "partial": True}, {"success": False, "result": {"at": 3}}):
        house.say(session, {"type": "response", "data": {"request_id": request_id} | answer})
    asked = {"request_id": asker.messages[0]["request_id"], "processed_by": "w1", "success": False, "data": None}
    assert asker.messages == [asked | {"error": "disk full", "partial": True}, asked | {"error": '{"at": 3}'}]


def test_capacity_changes_what_a_worker_takes() -> None:
    house = stage()
    session, peer = house.worker("w1", capacity=1)
    submit(house)
    submit(house)
    assert len(requests(peer)) == 1
    house.say(session, {"type": "custom", "data": {"event": "capacity", "capacity": 2}})
    assert len(requests(peer)) == 2
    house.say(session, {"type": "custom", "data": {"event": "capacity", "capacity": 0}})
    submit(house)
    assert len(requests(peer)) == 2
    assert errors(peer) == []
    for data, code in (
        ({"event": "capacity"}, "missing_field"),
        ({"event": "capacity", "capacity": -1}, "bad_field"),
        ({"event": "dance"}, "unknown_type"),
        ({}, "missing_field"),
    ):
        house.say(session, {"type": "custom", "data": data})
        assert errors(peer)[-1]["code"] == code


def test_only_a_worker_has_a_capacity() -> None:
    house = stage()
    session, peer = house.connect("/ws")
    house.say(session, {"type": "custom", "data": {"event": "capacity", "capacity": 1}})
    assert errors(peer)[0]["code"] == "forbidden"


def test_disconnect_is_a_normal_close_and_ends_the_work_at_once() -> None:
    house = stage()
    session, peer = house.worker("w1")
    _, asker = submit(house)
    _, second = house.worker("w2")
    house.say(session, {"type": "disconnect"})
    assert peer.close_code == 1000
    assert len(requests(second)) == 1, "not only when its peer has answered the Close"
    submit(house)
    assert (len(requests(peer)), len(requests(second))) == (1, 2)
    assert asker.messages == []
    house.close(session)


def test_a_worker_that_asks_itself_leaves_without_being_sent_more() -> None:
    house = stage(max_attempts=1)
    session, peer = house.worker("w1", capacity=1)
    house.say(session, {"type": "request", "msg_id": "own", "data": {"action": "echo"}})
    _, asker = submit(house)
    assert len(requests(peer)) == 1
    _, second = house.worker("w2", commands=["sum"])
    third, third_peer = house.worker("w3", capacity=0)
    house.close(session, 1006)
    assert asker.messages == []
    house.say(third, {"type": "custom", "data": {"event": "capacity", "capacity": 1}})
    (request,) = requests(third_peer)
    assert request["data"]["request"]["attempt"] == 1
    assert requests(second) == []


# A client's requests


def test_the_gateway_answers_its_own_actions_under_the_same_msg_id() -> None:
    house = stage()
    session, _ = house.connect("/ws")
    params = {"a": 10, "b": 20, "op": "+"}
    (answer,) = house.ask(
        session, {"type": "request", "msg_id": "m1", "data": {"action": "calculate", "params": params}}
    )
    assert (answer["type"], answer["msg_id"], answer["timestamp"]) == ("response", "m1", START)
    assert answer["data"] == {"request_id": "m1", "success": True, "result": 30, "error": None}
    (answer,) = house.ask(session, {"type": "request", "data": {"action": "calculate", "params": []}})
    assert answer["msg_id"] == answer["data"]["request_id"]
    assert answer["data"]["success"] is False
    assert answer["data"]["error"]
    # Where older programs look.
    assert answer["data"]["result"] == answer["data"]["error"]


def test_any_other_action_goes_to_a_worker() -> None:
    house = stage()
    client, _ = house.connect("/ws")
    (answer,) = house.ask(client, {"type": "request", "msg_id": "m1", "data": {"action": "echo", "params": [1]}})
    assert answer["data"] == {
        "request_id": "m1",
        "success": False,
        "result": "No available workers",
        "error": "No available workers",
    }
    worker, peer = house.worker("w1")
    assert house.ask(client, {"type": "request", "msg_id": "m2", "data": {"action": "echo", "params": [1]}}) == []
    (request,) = requests(peer)
    assert request["data"]["params"] == [1]
    assert request["msg_id"] != "m2", "ids of callers are theirs, and may be the same"
    house.say(worker, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True, "result": [2]}})
    answer = house.peers[client].take()[0]
    assert answer["msg_id"] == answer["data"]["request_id"] == "m2"
    assert answer["data"]["result"] == [2]


class Asker:
    trusted = False
    party = "somebody"

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def on_answer(self, request: Request, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def test_a_client_can_be_asked() -> None:
    house = stage()
    session, peer = house.connect("/ws")
    house.say(session, {"type": "connect", "data": {"client_id": "c1"}})
    asker = Asker()
    link = house.gateway.envelopes.link(session)
    house.gateway.dispatcher.ask_client(link, asker, None, "status", Raw(b"null"), client_id="c1")
    (request,) = requests(peer)
    house.say(session, {"type": "response", "data": {"request_id": request["msg_id"], "success": True, "result": "up"}})
    (outcome,) = asker.outcomes
    assert (outcome.success, outcome.processed_by) == (True, "c1")
    house.gateway.dispatcher.ask_client(link, asker, None, "status", Raw(b"null"))
    house.close(session)
    assert asker.outcomes[-1].error == "Worker lost"


@pytest.mark.parametrize("dialect", ["envelope", "c_client"])
def test_a_client_that_answers_too_much_is_asked_nothing_more_and_its_caller_knows_why(dialect: str) -> None:
    house = stage()
    session, peer = house.connect("/ws")
    gateway, asker = house.gateway, Asker()
    if dialect == "envelope":
        house.say(session, {"type": "connect", "data": {"client_id": "c1"}})
        link: WorkerLink = gateway.envelopes.link(session)
        head = '{"type":"response","data":{"request_id":"%s","result":"x'
    else:
        house.say(session, {"type": "c_client_register", "client_id": "c1"})
        link = gateway.c_clients.link(session)
        head = '{"type":"status","result":{"request_id":"r-9"},"request_id":"%s","data":"x'
    asked = [gateway.dispatcher.ask_client(link, asker, None, "status", Raw(b"null")) for _ in range(3)]
    assert len(peer.messages) >= 3
    over_the_limit(session, head % asked[1].id)
    assert [outcome.success for outcome in asker.outcomes] == [False] * 3
    assert "too large" in (asker.outcomes[0].error or "")
    assert [outcome.error for outcome in asker.outcomes[1:]] == ["Worker lost"] * 2


# Faults, heartbeats, pushes


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"nonsense", "bad_json"),
        (b"[]", "not_an_object"),
        (b'{"msg_id":"m"}', "missing_field"),
        (b'{"type":"dance","msg_id":"m"}', "unknown_type"),
        (b'{"type":"request","msg_id":"m"}', "missing_field"),
        (b'{"type":"request","msg_id":"m","data":[]}', "bad_field"),
        (b'{"type":"connect","msg_id":"m","data":{"client_id":"a\\u202e"}}', "bad_field"),
        (b'{"type":"heartbeat","msg_id":"m","data":{},"data":{}}', "bad_json"),
        (b'{"type":"heartbeat","msg_id":"m","data":1e999}', "bad_json"),
    ],
)
def test_error_frames_carry_the_msg_id_and_stay_with_the_sender(message: bytes, code: str) -> None:
    house = stage()
    session, peer = house.worker("w1")
    _, bystander = house.worker("w2")
    (error,) = house.ask(session, message)
    assert error["type"] == "error"
    assert error["msg_id"]
    assert error["timestamp"] == START
    assert (error["data"]["code"], error["data"]["msg_id"]) == (code, "m" if b"msg_id" in message else None)
    assert error["data"]["error"]
    assert peer.close_code is None
    assert bystander.take() == []


def test_heartbeat_and_what_asks_for_nothing() -> None:
    house = stage()
    session, _ = house.worker("w1")
    (beat,) = house.ask(session, {"type": "heartbeat", "msg_id": "m", "data": {}})
    assert (beat["type"], beat["timestamp"], beat["data"]) == ("heartbeat", START, {})
    assert beat["msg_id"]
    assert house.ask(session, {"type": "notification", "data": {}}) == []
    assert house.ask(session, {"type": "error", "data": {"error": "x"}}) == []


def test_pushes_and_the_drain_s_notice_are_notifications() -> None:
    house = stage()
    _, peer = house.worker("w1")
    house.gateway.delivery.deliver(EVERYBODY, Event("e", Raw(b'{"title":"T"}')))
    house.gateway.announce_drain(1000)
    push, notice = peer.take()
    assert (push["type"], push["data"]["title"], push["data"]["content"]) == ("notification", "T", '{"title":"T"}')
    assert (notice["data"]["event"], notice["data"]["payload"]) == ("server_draining", {"retry_within_ms": 1000})


def test_a_custom_event_of_one_s_own() -> None:
    house = stage()
    got: list[object] = []
    house.gateway.envelopes.add("wave", lambda session, data: got.append(json.loads(bytes(data))))
    with pytest.raises(ValueError, match="capacity"):
        house.gateway.envelopes.add("capacity", lambda session, data: None)
    session, _ = house.worker("w1")
    assert house.ask(session, {"type": "custom", "data": {"event": "wave", "hand": "left"}}) == []
    assert got == [{"event": "wave", "hand": "left"}]


# A worker whose link has a backlog


def test_a_worker_with_a_backlog_counts_as_full_until_there_is_room() -> None:
    house = stage()
    workers = [house.worker(f"w{number}", capacity=16)[1] for number in range(3)]
    for peer in workers:
        peer.reads = False
    large = "x" * 900_000
    askers = [submit(house, data={"blob": large})[1] for _ in range(48)]
    assert [len(requests(peer)) for peer in workers] == [1, 1, 1]
    assert house.gateway.dispatcher.queue_length == 45
    assert [asker.messages for asker in askers] == [[]] * 48
    workers[0].make_room()
    assert [len(requests(peer)) for peer in workers] == [2, 1, 1]
    workers[0].reads = True
    workers[0].make_room()
    assert len(requests(workers[0])) == 16, "its capacity holds as before"


def test_a_worker_with_a_backlog_keeps_its_keys() -> None:
    house = stage()
    session, peer = house.worker("w1", capacity=16)
    peer.reads = False
    submit(house, data={"blob": "x" * 900_000}, affinity="k")
    _, other = house.worker("w2", capacity=16)
    submit(house, affinity="k")
    assert requests(other) == []
    peer.make_room()
    assert len(requests(peer)) == 2
    house.say(session, {"type": "custom", "data": {"event": "capacity", "capacity": 0}})
    submit(house, affinity="k")
    assert len(requests(other)) == 1


def test_a_backlog_is_told_to_other_nodes() -> None:
    here, there = stages(2)
    _, peer = there.worker("w1", capacity=4)
    peer.reads = False
    for house in (here, there):
        house.pass_time(0.2)
    submit(here, data={"blob": "x" * 900_000})
    for house in (here, there):
        house.pass_time(0.2)
    for _ in range(3):
        submit(here)
    assert len(requests(peer)) == 1
    assert here.gateway.dispatcher.queue_length + there.gateway.dispatcher.queue_length == 3
    peer.reads = True
    peer.make_room()
    for house in (there, here):
        house.pass_time(0.2)
    assert len(requests(peer)) == 4


# Answers that can't be accepted


def answered(house: Stage, session: Session, peer: MemoryPeer, data: str, **more: Any) -> list[dict[str, Any]]:
    """A request, and the worker's answer to it as text; what its requester gets."""
    _, asker = submit(house, **more)
    name = requests(peer)[-1]["msg_id"]
    session.receive(f'{{"type": "response", "msg_id": "{name}", "data": {data}}}'.encode(), True)
    return asker.messages


@pytest.mark.parametrize(
    ("success", "expected"), [("1", True), ("0", False), ('"yes"', True), ('""', False), ("[]", False), ("null", True)]
)
def test_success_is_taken_by_truth(success: str, expected: bool) -> None:
    house = stage()
    session, peer = house.worker("w1")
    (answer,) = answered(house, session, peer, f'{{"success": {success}, "result": 5}}')
    assert (answer["success"], answer["data"]) == (expected, 5 if expected else None)
    assert errors(peer) == []


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("NaN", None),
        (
            '{"a": [1, NaN, -Infinity, Infinity], "b": "NaN, \\\\"Infinity"}',
            {"a": [1, None, None, None], "b": 'NaN, "Infinity'},
        ),
        ('["\\\\\\\\", NaN]', ["\\", None]),
    ],
)
def test_what_is_no_number_becomes_null_and_is_counted(result: str, expected: Any) -> None:
    house = stage()
    session, peer = house.worker("w1")
    (answer,) = answered(house, session, peer, f'{{"success": true, "result": {result}}}'.replace("\\\\", "\\"))
    assert (answer["success"], answer["data"]) == (True, expected)
    assert errors(peer) == []
    assert house.gateway.counters.answers_mended == 1


@pytest.mark.parametrize(
    "data",
    ['"not an object"', '{"success": true, "result": 1e999}', '{"success": true, "result": ', '{"request_id": {}}'],
)
def test_an_answer_that_cannot_be_accepted_is_answered_at_once_with_the_reason(data: str) -> None:
    house = stage()
    session, peer = house.worker("w1")
    _, other = house.worker("w2")
    (answer,) = answered(house, session, peer, data)
    assert (answer["success"], answer["processed_by"]) == (False, "w1")
    assert answer["error"].startswith("The worker's answer could not be accepted")
    assert requests(other) == []
    assert len(errors(peer)) == 1, "the worker is told as well"
    assert house.gateway.dispatcher.outstanding == 0


def test_a_worker_cannot_end_another_one_s_request_by_a_broken_answer() -> None:
    house = stage()
    _, _ = house.worker("w1", commands=["echo"])
    _, asker = submit(house)
    session, _ = house.worker("w2", commands=["sum"])
    session.receive(b'{"type": "response", "msg_id": "r-1", "data": 7}', True)
    assert asker.messages == []


def over_the_limit(session: Session, head: dict[str, Any] | str) -> None:
    """The transport drops an answer for its size, of which the beginning has come, and closes."""
    text = head if isinstance(head, str) else json.dumps(head)[:-2]
    session.oversized(text.encode())
    session.closed(1009, "")


def test_an_answer_over_the_limit_is_answered_as_too_large_and_closes_no_other_worker() -> None:
    house = stage()
    first, peer = house.worker("w1")
    _, asker = submit(house)
    _, other = house.worker("w2")
    head = {"type": "response", "data": {"success": True, "result": "x"}}
    over_the_limit(first, head)
    (answer,) = asker.messages
    assert (answer["success"], answer["processed_by"]) == (False, "w1")
    assert "too large" in answer["error"]
    assert requests(other) == []
    assert requests(peer)


@pytest.mark.parametrize(
    "head",
    [
        {"type": "response", "msg_id": "m", "data": {"request_id": "ID", "success": True, "result": "x"}},
        {"type": "response", "msg_id": "ID", "data": {"success": True, "result": "x"}},
        {"msg_id": "ID", "data": {"result": "x"}},
        {"type": "response", "data": {"success": True, "request_id": "ID", "result": "x"}},
        {"type": "response", "data": {"result": {"request_id": "OTHER"}, "request_id": "ID", "error": "x"}},
        {"type": "response", "data": {"result": '{"request_id": "OTHER"', "request_id": "ID", "error": "x"}},
    ],
)
def test_of_several_requests_at_a_worker_only_the_one_whose_answer_is_too_large_fails(head: dict[str, Any]) -> None:
    house = stage()
    first, peer = house.worker("w1")
    askers = [submit(house)[1] for _ in range(3)]
    names = [request["msg_id"] for request in requests(peer)]
    _, other = house.worker("w2")
    over_the_limit(first, json.dumps(head)[:-2].replace("ID", names[1]).replace("OTHER", names[0]))
    assert len(requests(peer)) == 3, "it is sent nothing in the answered one's place"
    assert "too large" in askers[1].messages[0]["error"]
    assert askers[0].messages == askers[2].messages == []
    again = {request["msg_id"]: request["data"]["request"]["attempt"] for request in requests(other)}
    assert again == {names[0]: 2, names[2]: 2}


@pytest.mark.parametrize(
    "head",
    [
        "",
        '{"type": "response", "msg_id": "m", "data": {"result": "x',
        '{"type": "response", "msg_id": "m", "data": {"result": {"request_id": "r-1", "x": "',
        '{"type": "response", "msg_id": "m", "data": {"result": "\\"request_id\\": \\"r-1\\", ',
        '{"type": "response", "msg_id": "m", "data": {"request_id": "r-999", "result": "',
        '{"type": "custom", "msg_id": "r-1", "data": {"request_id": "r-1", ',
    ],
)
def test_where_nobody_can_tell_whose_answer_it_was_all_are_treated_as_of_a_lost_worker(head: str) -> None:
    house = stage()
    first, _ = house.worker("w1")
    _, once = submit(house, idempotent=False)
    askers = [submit(house)[1] for _ in range(2)]
    _, other = house.worker("w2")
    over_the_limit(first, head)
    assert [asker.messages for asker in askers] == [[], []]
    assert len(requests(other)) == 2
    (answer,) = once.messages
    assert answer["error"] == "Worker lost"


def test_a_late_answer_that_is_too_large_fails_nothing_else() -> None:
    house = stage()
    first, _ = house.worker("w1")
    _, asker = submit(house)
    _, other = house.worker("w2")
    over_the_limit(first, '{"type": "response", "data": {"request_id": "r-999", "result": "')
    assert (asker.messages, len(requests(other))) == ([], 1)


def test_a_worker_that_closes_with_1009_itself_is_a_lost_one() -> None:
    house = stage()
    first, _ = house.worker("w1")
    _, asker = submit(house)
    _, other = house.worker("w2")
    first.closed(1009, "the peer's own")
    assert (asker.messages, len(requests(other))) == ([], 1)


def test_the_answers_to_unknown_types_and_events_name_exactly_those_that_are_taken() -> None:
    house = stage()
    house.gateway.envelopes.add("dance_report", lambda session, data: None)

    def answer_to(message: dict[str, Any]) -> Any:
        session, peer = house.worker("w1")
        house.say(session, message)
        found = errors(peer)
        house.close(session)
        return found[0] if found else {}

    def types(kind: str) -> Any:
        return answer_to({"type": kind})

    def events(event: str) -> Any:
        return answer_to({"type": "custom", "data": {"event": event, "capacity": 1, "token": "a.b.c"}})

    for answer in (types, events):
        named = types_named_in(answer("dance")["error"])
        assert named == sorted(word for word in WORDS | set(named) if answer(word).get("code") != "unknown_type")
    assert types_named_in(events("dance")["error"]) == ["capacity", "dance_report", "token_refresh"]
