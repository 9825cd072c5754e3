"""How an envelope connection becomes a worker: by its path, by `connect`, by a handshake and by saying nothing; who may
be one; what it replaces when it comes back, and how it stops being one."""

from typing import Any

import pytest

from service.core.dialects.worker_arrivals import GRACE

from ...fakes import START, MemoryPeer, stage, stages
from .test_envelope import errors, requests, submit

KEY = {"handshake_key": "key"}
API: dict[str, Any] = {"api_keys": ("api",)}
BEARER = {"authorization": "Bearer api"}


@pytest.mark.parametrize(("path", "kind"), [("/worker", "websocket"), ("/", "worker"), ("/anything", "worker")])
def test_a_worker_by_place_is_greeted_and_after_its_grace_serves_everything(path: str, kind: str) -> None:
    house = stage(worker_capacity=3)
    _, peer = house.connect(path, kind=kind)
    (greeting,) = peer.take()
    assert (greeting["type"], greeting["timestamp"]) == ("connect", START)
    assert greeting["msg_id"].startswith("msg_")
    assert greeting["data"]["client_id"]
    assert (greeting["data"]["server_time"], greeting["data"]["heartbeat_interval"]) == (START, 25.0)
    assert peer.message_size == 5 << 20
    _, asker = submit(house)
    assert peer.take() == [], "it may be about to say what it serves"
    house.pass_time(GRACE + 0.2)
    (request,) = peer.take()
    assert (request["type"], request["data"]["action"]) == ("request", "echo")
    (status,) = house.gateway.dispatcher.worker_statuses()
    assert (status.commands, status.capacity, status.weight) == (None, 3, 1.0)
    assert asker.messages == []
    house.pass_time(10)
    assert peer.close_code is None, "a worker may be silent for ever"


def test_the_first_message_ends_the_grace() -> None:
    house = stage()
    session, peer = house.connect("/worker")
    submit(house)
    house.say(session, {"type": "heartbeat"})
    assert [message["type"] for message in peer.messages] == ["connect", "heartbeat", "request"]


def test_connect_says_what_a_worker_takes_and_what_waited_is_not_lost() -> None:
    house = stage()
    session, peer = house.connect("/worker")
    _, asker = submit(house, "get_time")
    data = {"client_id": "w1", "commands": ["get_time"], "capacity": 2, "weight": 2.5}
    house.say(session, {"type": "connect", "msg_id": "m", "data": data})
    assert asker.messages == []
    greeting, again, request = peer.messages
    assert (greeting["type"], again["type"], again["data"]["client_id"]) == ("connect", "connect", "w1")
    assert request["data"]["action"] == "get_time"
    (status,) = house.gateway.dispatcher.worker_statuses()
    assert (status.client_id, status.commands, status.capacity, status.weight) == ("w1", ["get_time"], 2, 2.5)


def test_a_worker_that_renames_itself_keeps_its_work() -> None:
    house = stage(max_attempts=1)
    session, peer = house.worker("w1")
    _, asker = submit(house, idempotent=False)
    house.say(session, {"type": "connect", "data": {"client_id": "w2", "role": "worker"}})
    assert asker.messages == []
    (request,) = requests(peer)
    house.say(session, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True, "result": 1}})
    (answer,) = asker.messages
    assert (answer["success"], answer["processed_by"]) == (True, "w2")


@pytest.mark.parametrize("path", ["/", "/ws", "/api/websocket"])
def test_role_worker_on_any_path(path: str) -> None:
    house = stage()
    session, peer = house.connect(path)
    assert peer.messages == []
    house.say(session, {"type": "connect", "data": {"role": "worker", "client_id": "w1"}})
    assert peer.take()[0]["data"]["client_id"] == "w1"
    submit(house)
    assert len(requests(peer)) == 1
    assert peer.message_size == 5 << 20


def test_connect_without_a_role_is_a_client_elsewhere() -> None:
    house = stage()
    session, peer = house.connect("/ws")
    (greeting,) = house.ask(session, {"type": "connect", "data": {"user_id": "u1"}})
    assert greeting["type"] == "connect"
    assert greeting["data"]["client_id"]
    assert house.gateway.dispatcher.worker_statuses() == []
    assert peer.message_size is None


def test_a_worker_that_becomes_a_client_gives_its_work_back() -> None:
    house = stage()
    session, _ = house.worker("w1")
    _, asker = submit(house)
    _, second = house.worker("w2")
    house.say(session, {"type": "connect", "data": {"role": "client", "client_id": "w1"}})
    assert len(requests(second)) == 1
    assert asker.messages == []
    assert [status.client_id for status in house.gateway.dispatcher.worker_statuses()] == ["w2"]


def handshake_message(key: str | None) -> dict[str, Any]:
    return {"type": "handshake", "msg_id": "m7", "data": {} if key is None else {"handshake_key": key}}


@pytest.mark.parametrize(
    ("rules", "key", "accepted"),
    [
        ({}, None, True),
        ({}, "whatever", True),
        (KEY, "key", True),
        (KEY, "wrong", False),
        (KEY, None, False),
        ({"production": True, **KEY}, "key", True),
        ({"production": True, **KEY}, "wrong", False),
        ({"production": True, **KEY}, None, False),
        ({"production": True, **KEY, "api_keys": ["api"]}, "api", False),
    ],
)
@pytest.mark.parametrize("path", ["/", "/ws", "/worker"])
def test_handshake(rules: dict[str, Any], key: str | None, accepted: bool, path: str) -> None:
    house = stage(**rules)
    session, peer = house.connect(path)
    found = house.ask(session, handshake_message(key))
    if accepted:
        assert found[0]["type"] == "notification"
        assert found[0]["data"]["title"] == "Handshake Successful"
        assert peer.close_code is None
        submit(house)
        assert len(requests(peer)) == 1
        assert peer.message_size == 5 << 20
    else:
        assert found[0]["type"] == "error"
        assert found[0]["data"] == {"error": "Invalid handshake", "code": "HANDSHAKE_ERROR", "msg_id": "m7"}
        assert peer.close_code == 4001
        assert house.gateway.dispatcher.worker_statuses() == []


@pytest.mark.parametrize("path", ["/", "/worker"])
@pytest.mark.parametrize(
    ("rules", "headers", "message", "limited"),
    [
        ({}, None, handshake_message("whatever"), True),
        (KEY, None, handshake_message("key"), False),
        (KEY, None, {"type": "connect", "data": {"role": "worker"}}, True),
        ({"production": True, **KEY}, None, {"type": "connect", "data": {"role": "worker", "token": "key"}}, False),
        ({"production": True, **API}, None, {"type": "connect", "data": {"role": "worker", "token": "api"}}, False),
        ({"production": True, **API}, BEARER, {"type": "connect", "data": {"role": "worker"}}, False),
        ({"production": True, **API}, BEARER, handshake_message(None), False),
    ],
)
def test_only_who_showed_a_secret_may_answer_faster_than_the_rate(
    rules: dict[str, Any], headers: dict[str, str] | None, message: dict[str, Any], limited: bool, path: str
) -> None:
    house = stage(**rules)
    session, peer = house.connect(path, headers=headers)
    assert house.ask(session, message)[0]["type"] != "error"
    assert peer.rate_limited is limited


def test_who_bore_an_api_key_on_the_worker_path_need_say_nothing_for_it() -> None:
    house = stage(production=True, **API)
    _, peer = house.connect("/worker", headers=BEARER)
    assert not peer.rate_limited
    _, client = house.connect("/ws", headers=BEARER)
    assert client.rate_limited, "only workers are exempt"


def test_a_handshake_does_not_forget_what_a_worker_serves() -> None:
    house = stage()
    session, _ = house.worker("w1", commands=["sum"], capacity=2)
    house.say(session, handshake_message(None))
    (status,) = house.gateway.dispatcher.worker_statuses()
    assert (status.commands, status.capacity) == (["sum"], 2)


@pytest.mark.parametrize("rules", [KEY, {"api_keys": ["api"]}])
def test_an_unproven_worker_in_production(rules: dict[str, Any]) -> None:
    house = stage(production=True, registration_timeout=60, **rules)
    _, peer = house.connect("/worker")
    assert peer.messages[0]["type"] == "connect"
    _, asker = submit(house)
    assert asker.messages[0]["error"] == "No available workers"
    house.pass_time(60.2)
    assert peer.close_code == 4001


@pytest.mark.parametrize(
    ("token", "accepted"), [("key", True), ("api", True), ("wrong", False), (None, False), ("", False)]
)
@pytest.mark.parametrize("path", ["/ws", "/worker"])
def test_a_token_in_connect(token: str | None, accepted: bool, path: str) -> None:
    house = stage(production=True, handshake_key="key", api_keys=["api"])
    session, peer = house.connect(path)
    house.say(session, {"type": "connect", "data": {"role": "worker", "client_id": "w1", "token": token}})
    assert (peer.close_code is None) == accepted
    assert len(house.gateway.dispatcher.worker_statuses()) == accepted
    if not accepted:
        assert (errors(peer)[0]["code"], peer.close_code) == ("unauthorized", 4001)


def test_an_api_key_in_the_handshake_is_proof() -> None:
    house = stage(production=True, handshake_key="key", api_keys=["api"])
    _, peer = house.connect("/worker", headers={"authorization": "Bearer api"})
    house.pass_time(61)
    assert peer.close_code is None
    assert len(house.gateway.dispatcher.worker_statuses()) == 1
    _, stranger = house.connect("/worker", headers={"authorization": "Bearer nonsense"})
    house.pass_time(61)
    assert stranger.close_code == 4001


@pytest.mark.parametrize("message", [None, handshake_message("x"), {"type": "connect", "data": {"role": "worker"}}])
def test_production_without_a_secret_refuses_workers_with_4003(message: Any) -> None:
    house = stage(production=True)
    session, peer = house.connect("/worker" if message is None else "/ws")
    if message is not None:
        house.say(session, message)
    (error,) = errors(peer)
    assert error["code"] == "forbidden"
    assert "WEBSOCKET_HANDSHAKE_KEY" in error["error"]
    assert peer.close_code == 4003
    assert len(house.gateway.hub) == 0


def test_half_a_handshake_then_silence() -> None:
    house = stage(production=True, **KEY)
    session, peer = house.connect("/ws")
    house.say(session, '{"type":"handshake"')
    assert peer.close_code == 1003
    _, silent = house.connect("/ws")
    house.pass_time(61)
    assert silent.close_code == 4000
    assert session.over


def test_capacity_within_the_grace_is_the_worker_s_word() -> None:
    house = stage()
    session, peer = house.connect("/worker")
    house.say(session, {"type": "custom", "data": {"event": "capacity", "capacity": 1}})
    submit(house)
    submit(house)
    house.pass_time(GRACE + 0.2)
    assert len(requests(peer)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "connect", "data": {"client_id": "w1", "capacity": "8"}},
        {"type": "connect", "data": {"client_id": "w" * 129}},
        {"type": "connect", "data": {"commands": [7]}},
        {"type": "handshake", "data": {"handshake_key": 7}},
        {"type": "connekt", "data": {}},
    ],
)
def test_a_worker_whose_first_message_is_refused_is_no_worker_for_everything(wrong: dict[str, Any]) -> None:
    house = stage()
    session, peer = house.connect("/worker")
    house.say(session, wrong)
    assert len(errors(peer)) == 1
    house.pass_time(GRACE + 0.2)
    _, asker = submit(house)
    assert requests(peer) == []
    assert [answer["error"] for answer in asker.messages] == ["No available workers"]
    house.say(session, {"type": "connect", "data": {"client_id": "w1", "commands": ["echo"]}})
    submit(house)
    assert len(requests(peer)) == 1, "one that then says it right is a worker"


def test_what_waited_for_a_worker_that_said_something_wrong_is_answered() -> None:
    house = stage()
    session, _ = house.connect("/worker")
    _, asker = submit(house)
    assert asker.messages == []
    house.say(session, {"type": "connect", "data": {"capacity": "8"}})
    assert [answer["error"] for answer in asker.messages] == ["No available workers"]


def test_a_worker_that_becomes_a_client_has_a_client_s_limit() -> None:
    house = stage(max_message_size=1000)
    session, peer = house.worker("w1")
    assert peer.message_size == 5 << 20
    house.say(session, {"type": "connect", "data": {"role": "client", "client_id": "w1"}})
    assert peer.message_size == 1000


def test_on_the_worker_path_nothing_larger_than_a_client_s_is_taken_before_a_secret_is_shown() -> None:
    house = stage(production=True, handshake_key="key", max_message_size=1000)
    session, peer = house.connect("/worker")
    assert peer.message_size in (None, 1000)
    house.say(session, handshake_message("key"))
    assert peer.message_size == 5 << 20


def test_an_unproven_worker_that_becomes_a_client_has_a_client_s_limit_and_deadline() -> None:
    house = stage(production=True, handshake_key="key", max_message_size=1000)
    session, peer = house.connect("/worker")
    house.say(session, {"type": "connect", "data": {"role": "client", "capacity": "x"}})
    assert peer.close_code is None
    house.pass_time(61)
    assert peer.close_code == 4001, "what was refused leaves it unproven, and its time runs"


def work(peer: MemoryPeer) -> list[str]:
    return [message["data"]["action"] for message in requests(peer)]


@pytest.mark.parametrize("policy", ["replace", "keep", "allow"])
@pytest.mark.parametrize("path", ["/worker", "/"])
def test_a_worker_that_comes_back_replaces_its_ghost_and_gets_what_that_held(path: str, policy: str) -> None:
    house = stage(duplicates=policy)
    _, ghost = house.worker("w1", commands=["echo"], capacity=2)
    _, asker = submit(house)
    assert work(ghost) == ["echo"]
    session, peer = house.connect(path)
    data = {"client_id": "w1", "role": "worker", "commands": ["echo"], "capacity": 2}
    house.say(session, {"type": "connect", "data": data})
    assert ghost.close_code == 4009
    assert peer.close_code is None
    assert work(peer) == ["echo"], "it was not told that there is no worker"
    (status,) = house.gateway.dispatcher.worker_statuses()
    assert (status.client_id, status.outstanding) == ("w1", 1)
    request = requests(peer)[0]
    house.say(session, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True, "result": 1}})
    assert [answer["success"] for answer in asker.messages] == [True]
    for _ in range(4):
        submit(house)
    assert len(requests(ghost)) == 1


def test_only_a_worker_of_the_same_identity_is_replaced() -> None:
    house = stage()
    client, of_client = house.connect("/ws")
    house.say(client, {"type": "connect", "data": {"client_id": "w1", "role": "client"}})
    _, other = house.worker("w1", user_id="u2")
    _, newer = house.worker("w1")
    assert (of_client.close_code, other.close_code, newer.close_code) == (None, None, None)


def test_a_stranger_without_the_secret_replaces_nobody() -> None:
    house = stage(production=True, handshake_key="key")
    session, peer = house.connect("/worker")
    house.say(session, {"type": "connect", "data": {"client_id": "w1", "token": "key"}})
    stranger, refused = house.connect("/worker")
    house.say(stranger, {"type": "connect", "data": {"client_id": "w1", "token": "wrong"}})
    assert (peer.close_code, refused.close_code) == (None, 4001)


def test_a_worker_that_comes_back_to_another_node_replaces_its_ghost_there() -> None:
    here, there = stages(2)
    _, ghost = here.worker("w1", commands=["echo"])
    _, asker = submit(here)
    _, peer = there.worker("w1", commands=["echo"])
    for _ in range(3):
        for house in (here, there):
            house.pass_time(0.2)
    assert ghost.close_code == 4009
    assert work(peer) == ["echo"]
    assert asker.messages == []


def test_commands_that_other_nodes_could_not_be_told_of_are_refused_in_words() -> None:
    house = stage()
    session, peer = house.connect("/ws")
    commands = [f"{number:0128}" for number in range(65_000)]
    house.say(session, {"type": "connect", "data": {"client_id": "w1", "role": "worker", "commands": commands}})
    ((code, field),) = [(error["code"], error["field"]) for error in errors(peer)]
    assert (code, field) == ("bad_field", "commands")
    assert house.gateway.dispatcher.worker_statuses() == []
    house.say(
        session, {"type": "connect", "data": {"client_id": "w1", "role": "worker", "commands": commands[:62_000]}}
    )
    assert len(house.gateway.dispatcher.worker_statuses()) == 1
