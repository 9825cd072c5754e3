"""The gateway's own actions, and adding one."""

import json
import re
from typing import Any

import pytest
from msgspec import Raw

from portico.wire.codes import CloseCode
from service.core.connections.presence import Distinct, Presence, Status, Totals
from service.core.dialects import actions
from service.core.dialects.actions import ActionError, Actions, calculate
from service.core.reply import Reply

from ...fakes import stage, stages


@pytest.mark.parametrize(
    ("a", "b", "op", "result"),
    [
        (10, 20, "+", 30),
        (10, 20, "-", -10),
        (3, 4, "*", 12),
        (1, 2, "/", 0.5),
        (0.5, 0.25, "+", 0.75),
        (2**62, 1, "+", 2**62 + 1),
        (2**62, 2**62, "*", 2.0**124),
        (-(2**62), 2**62, "*", -(2.0**124)),
    ],
)
def test_calculate(a: float, b: float, op: str, result: float) -> None:
    assert calculate(Raw(json.dumps({"a": a, "b": b, "op": op}).encode())) == result


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ('{"a":1,"b":0,"op":"/"}', "Division by zero"),
        ('{"a":1,"b":0.0,"op":"/"}', "Division by zero"),
        ('{"a":1,"b":2,"op":"**"}', "Unknown operator"),
        ('{"a":1,"b":2,"op":"__import__"}', "Unknown operator"),
        ('{"a":1e308,"b":1e308,"op":"*"}', "too large"),
        ('{"a":1e308,"b":1e-308,"op":"/"}', "too large"),
        ('{"a":"1","b":2}', "calculate needs"),
        ('{"a":1}', "calculate needs"),
        ('{"a":true,"b":1}', "calculate needs"),
        ("[1,2]", "calculate needs"),
        ("null", "calculate needs"),
        ('{"a":' + "9" * 300 + ',"b":' + "9" * 300 + ',"op":"*"}', "too large"),
    ],
)
def test_what_calculate_refuses(params: str, error: str) -> None:
    with pytest.raises(ActionError, match=error):
        calculate(Raw(params.encode()))


def act(house: Any, action: str, params: object = None) -> Any:
    session, _ = house.connect("/ws")
    (answer,) = house.ask(session, {"type": "request", "data": {"action": action, "params": params}})
    assert answer["data"]["success"], answer
    return answer["data"]["result"]


def test_large_integers_can_be_written() -> None:
    assert act(stage(), "calculate", {"a": 2**63, "b": 2, "op": "*"}) == 2.0**64


def test_get_time() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", act(stage(), "get_time"))


def test_get_client_info() -> None:
    house = stage()
    house.client(client_id="c", user_id="u")
    house.worker("w1")
    kicked, _ = house.client(client_id="k")
    kicked.close(CloseCode.KICKED, "kicked")
    found = act(house, "get_client_info")
    assert (found["total_clients"], found["healthy_clients"], len(found["clients"])) == (3, 2, 3)
    client, worker, _ = found["clients"]
    assert (client["client_id"], client["user_id"], client["dialect"], client["role"]) == (
        "c",
        "u",
        "c_client",
        "client",
    )
    assert (worker["client_id"], worker["dialect"], worker["role"]) == ("w1", "envelope", "worker")


def test_get_client_info_is_over_all_nodes() -> None:
    one, two, three = stages(3)
    one.client(client_id="a", user_id="u")
    two.worker("w1")
    closing, _ = three.client(client_id="b")
    closing.close(CloseCode.KICKED, "kicked")
    found = act(one, "get_client_info")
    assert (found["total_clients"], found["healthy_clients"]) == (3, 2)
    assert [(c["client_id"], c["node"]) for c in found["clients"] if c["client_id"] in ("a", "b", "w1")] == [
        ("a", "node-1"),
        ("w1", "node-2"),
        ("b", "node-3"),
    ]


def test_get_client_info_tells_of_a_connection_what_older_programs_show() -> None:
    house = stage()
    closing, _ = house.client(client_id="c")
    house.connect("/ws/u1")
    house.pass_time(7)
    closing.close(CloseCode.KICKED, "kicked")
    one, other = act(house, "get_client_info")["clients"]
    shown = {name: one[name] for name in ("id", "ip", "port", "status", "duration")}
    assert shown == {"id": "c", "ip": "127.0.0.1", "port": 50000, "status": "closing", "duration": 7.0}
    assert (other["id"], other["status"]) == (other["connection_id"], "connected")


def ask(house: Any, session: Any, action: str = "get_client_info") -> dict[str, Any]:
    (answer,) = house.ask(session, {"type": "request", "data": {"action": action}})
    found: dict[str, Any] = answer["data"]
    return found


@pytest.mark.parametrize("action", ["get_client_info", "get_metrics"])
def test_totals_for_those_who_see_no_others_are_found_out_once_in_a_second(
    monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    asked = []
    status = Presence.status

    def counted(presence: Presence, reply: Reply[Status]) -> None:
        asked.append(presence)
        status(presence, reply)

    monkeypatch.setattr(Presence, "status", counted)
    one, _ = stages(2, production=True)
    sessions = [one.connect("/ws")[0] for _ in range(3)]
    told = [ask(one, session, action) for session in sessions for _ in range(20)]
    assert len(asked) == 1
    assert all(answer["success"] for answer in told)
    one.client(client_id="later")
    assert ask(one, sessions[0], action)["result"]["total_clients"] == told[0]["result"]["total_clients"] == 0
    one.pass_time(actions.KEPT_SECONDS)
    assert ask(one, sessions[0], action)["result"]["total_clients"] == 1
    assert len(asked) == 2


def test_totals_that_are_still_being_asked_for_are_not_asked_for_again() -> None:
    silent: list[Reply[Status]] = []
    told: list[Status] = []
    recent = actions.RecentStatus(silent.append, lambda: 1000.0)
    for _ in range(5):
        recent.tell(told.append)
    assert len(silent) == 1
    status = Status(Totals(0, 0, 0, {}, {}), {}, None, Distinct())
    silent[0](status)
    assert told == [status] * 5


def test_few_at_one_node_are_counted_each_time() -> None:
    house = stage(production=True)
    session, _ = house.connect("/ws")
    assert ask(house, session)["result"]["total_clients"] == 0
    house.client(client_id="c")
    assert ask(house, session)["result"]["total_clients"] == 1


@pytest.mark.parametrize("action", ["get_client_info", "get_metrics"])
def test_what_lists_cost_is_bounded_for_each_caller(monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    monkeypatch.setattr(actions, "LISTED_BYTES_PER_SECOND", 10_000)
    monkeypatch.setattr(actions, "LISTED_BYTES_AT_ONCE", 30_000)
    house = stage()
    for number in range(20):
        house.worker(f"w{number}")
    # From one address, by however many connections.
    sessions = [house.connect("/ws", address="192.0.2.7")[0] for _ in range(2)]
    answers = [ask(house, sessions[number % 2], action) for number in range(30)]
    refused = [answer for answer in answers if not answer["success"]]
    assert answers[0]["success"]
    assert refused
    assert answers.index(refused[0]) <= 30_000 / len(json.dumps(answers[0])) + 2
    assert "again" in refused[0]["error"]
    assert sum(len(json.dumps(answer)) for answer in answers) < 60_000
    # Others are told, what costs nothing is answered, and after a while so is this one.
    assert ask(house, house.connect("/ws", address="192.0.2.8")[0], action)["success"]
    assert ask(house, sessions[0], "get_time")["success"]
    house.pass_time(20)
    assert ask(house, sessions[0], action)["success"]


def test_how_many_callers_are_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "CALLERS", 3)
    lists = actions.Lists(lambda: 1000.0)
    for number in range(10):
        lists.check(f"192.0.2.{number}")
        lists.on_told(f"192.0.2.{number}", 100)
    assert len(lists) == 3


def test_get_metrics() -> None:
    house = stage()
    house.client(client_id="c", user_id="u")
    house.worker("w1")
    house.gateway.counters.messages_in += 7
    found = act(house, "get_metrics")
    assert (found["total_connections"], found["total_clients"], found["total_workers"]) == (3, 2, 1)
    assert (found["node"], found["metrics"]["messages_received"]) == ("node", 7)
    assert found["workers"][0]["client_id"] == "w1"


def test_get_metrics_tells_who_sees_no_others_the_totals_and_no_more() -> None:
    house = stage(production=True)
    house.client(client_id="c", user_id="u")
    found = act(house, "get_metrics")
    assert set(found) == {"timestamp", "total_connections", "total_clients", "total_workers"}


def test_get_client_info_answers_while_a_node_is_silent_with_those_that_are_known() -> None:
    one, two = stages(2)
    two.client(client_id="b")
    two.gateway.cluster_messages.on_message = lambda *_: None  # type: ignore[method-assign]
    session, peer = one.connect("/ws")
    one.say(session, {"type": "connect", "data": {"client_id": "a"}})
    peer.take()
    one.say(session, {"type": "request", "msg_id": "m", "data": {"action": "get_client_info"}})
    assert peer.take() == []
    one.pass_time(1.2)
    one.pass_time(1.2)
    (answer,) = peer.take()
    assert (answer["msg_id"], answer["data"]["result"]["total_clients"]) == ("m", 1)


def test_a_name_is_taken_once() -> None:
    actions = Actions()
    actions.add("a", lambda call: 1)
    assert "a" in actions
    with pytest.raises(ValueError, match="'a'"):
        actions.add("a", lambda call: 2)
