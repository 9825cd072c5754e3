"""C-Clients at the level of sessions: every rule of registration, heartbeats, automatic logins and their reports."""

from typing import Any

import pytest
from msgspec import Raw

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target
from service.core.connections.session import Session, State

from ...fakes import START, end_login, stage, start_login
from .sentences import WORDS, types_named_in

ME = {"client_id": "c1", "user_id": "u1", "username": "ann", "node_id": "n1"}


def test_registration() -> None:
    house = stage(node="node-7", heartbeat_interval=20)
    session, peer = house.connect("/ws")
    assert peer.messages == [], "until the dialect is known the gateway says nothing"
    (answer,) = house.ask(session, {"type": "c_client_register", **ME, "unknown": {"x": 1}})
    assert answer == {
        "type": "registration_success",
        "client_id": "c1",
        "user_id": "u1",
        "connection_id": session.id,
        "node": "node-7",
        "heartbeat_interval": 20,
        "resume": {
            "epoch": house.world.epoch,
            "offsets": {"all": 0, "client:c1": 0, "user:u1": 0, "node:n1": 0},
            "recovered": True,
        },
    }
    assert session.state is State.REGISTERED
    house.pass_time(10_000)
    assert peer.close_code is None, "a registered client may be silent for ever"


@pytest.mark.parametrize("headers", [{}, {"sec-websocket-protocol": "portico.c-client.v1"}])
def test_silence_is_closed_with_4000(headers: dict[str, str]) -> None:
    house = stage(registration_timeout=60)
    _, peer = house.connect("/", headers=headers)
    house.pass_time(59)
    assert peer.close_code is None
    house.pass_time(1.3)
    assert peer.close_code == 4000
    assert peer.messages == []


def test_a_client_that_is_only_ever_rejected_is_closed_with_4000() -> None:
    house = stage()
    session, peer = house.connect("/ws")
    house.say(session, {"type": "c_client_register", "client_id": ""})
    house.pass_time(61)
    assert peer.close_code == 4000


def test_a_client_without_a_name_is_given_one_and_keeps_it() -> None:
    house = stage()
    session, _ = house.connect("/ws")
    (answer,) = house.ask(session, {"type": "c_client_register", "client_id": None})
    assert 1 <= len(answer["client_id"]) <= 128
    assert answer["user_id"] is None
    (again,) = house.ask(session, {"type": "c_client_register", "user_id": "u2"})
    assert (again["client_id"], again["user_id"]) == (answer["client_id"], "u2")


@pytest.mark.parametrize("field", ["client_id", "user_id", "username", "node_id"])
@pytest.mark.parametrize("value", ["a\u202eb", "x" * 257, 7, "a\nb"])
def test_a_rejection_repeats_the_identity(field: str, value: object) -> None:
    house = stage()
    session, peer = house.connect("/ws")
    (answer,) = house.ask(session, {"type": "c_client_register", **ME, field: value})
    assert (answer["type"], answer["reason"]) == ("registration_rejected", "bad_field")
    assert field in answer["message"]
    assert {name: answer[name] for name in ME} == {**ME, field: value}
    assert peer.close_code is None
    assert len(house.gateway.hub) == 0
    assert house.ask(session, {"type": "c_client_register", **ME})[0]["type"] == "registration_success"


def test_a_new_registration_replaces_the_identity() -> None:
    house = stage()
    session, peer = house.client(**ME, channel_id="ch1")
    start_login(house, "u2", "bob")
    success, login = house.ask(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u2"})
    assert (success["type"], success["user_id"]) == ("registration_success", "u2")
    assert (login["type"], login["user_id"]) == ("auto_login", "u2")
    peer.take()
    for gone in (Target("user_id", "u1"), Target("node_id", "n1"), Target("channel_id", "ch1")):
        assert house.gateway.delivery.deliver(gone, Event("e")) == (0, 0)
    assert house.gateway.delivery.deliver(Target("user_id", "u2"), Event("e")) == (1, 1)
    assert len(house.gateway.hub) == 1


def test_a_rejected_change_leaves_the_identity() -> None:
    house = stage()
    session, _ = house.client(**ME)
    (answer,) = house.ask(session, {"type": "c_client_register", "client_id": "c1", "user_id": "\x00"})
    assert answer["type"] == "registration_rejected"
    assert session.identity.user_id == "u1"


def test_the_same_client_back_replaces_the_older() -> None:
    house = stage()
    old, old_peer = house.client(**ME)
    new, new_peer = house.client(**{**ME, "username": "another name does not count"})
    assert old_peer.close_code == 4009
    assert new_peer.close_code is None
    assert list(house.gateway.hub) == [new]
    house.close(old, 4009)
    assert list(house.gateway.hub) == [new]


def test_keep_rejects_the_newer() -> None:
    house = stage(duplicates="keep")
    old, old_peer = house.client(**ME)
    session, peer = house.connect("/ws")
    (answer,) = house.ask(session, {"type": "c_client_register", **ME})
    assert (answer["type"], answer["reason"]) == ("registration_rejected", "already_connected")
    assert {name: answer[name] for name in ME} == ME
    assert old_peer.close_code is peer.close_code is None
    house.close(old)
    assert house.ask(session, {"type": "c_client_register", **ME})[0]["type"] == "registration_success"
    assert house.ask(session, {"type": "c_client_register", **ME})[0]["type"] == "registration_success", "itself"


def test_allow_has_both() -> None:
    house = stage(duplicates="allow")
    house.client(**ME)
    house.client(**ME)
    assert len(house.gateway.hub) == 2


@pytest.mark.parametrize("other", [{"user_id": "u2"}, {"node_id": "n2"}, {"client_id": "c2"}, {"user_id": None}])
@pytest.mark.parametrize("policy", ["replace", "keep"])
def test_another_user_or_node_is_another_client(other: dict[str, Any], policy: str) -> None:
    house = stage(duplicates=policy)
    _, peer = house.client(**ME)
    house.client(**{**ME, **other})
    assert peer.close_code is None
    assert len(house.gateway.hub) == 2


def test_a_user_switch_can_make_it_the_same_client() -> None:
    house = stage()
    _, old_peer = house.client(**ME)
    session, _ = house.client(**{**ME, "user_id": "u2"})
    house.say(session, {"type": "c_client_register", **ME})
    assert old_peer.close_code == 4009
    assert list(house.gateway.hub) == [session]


def test_a_worker_of_the_same_name_is_no_duplicate() -> None:
    house = stage()
    _, peer = house.worker("c1")
    house.client(client_id="c1")
    assert peer.close_code is None


def test_heartbeat_in_any_spelling() -> None:
    house = stage()
    session, _ = house.client(**ME)
    for spelling in (b'{"type":"heartbeat"}', b'{"type": "heartbeat"}', b'{ "x": 1, "type": "heart\\u0062eat" }'):
        assert house.ask(session, spelling) == [{"type": "heartbeat"}]
        assert house.ask(session, spelling, text=False) == [{"type": "heartbeat"}]


def test_resume_of_what_is_not_kept_is_said_to_be_lost() -> None:
    house = stage()
    session, _ = house.connect("/ws")
    resume = {"epoch": "e", "offsets": {"user:u1": 41, "all": 3}}
    (answer,) = house.ask(session, {"type": "c_client_register", **ME, "resume": resume})
    assert answer["resume"]["recovered"] is False
    assert answer["resume"]["lost"] == ["all", "user:u1"]


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        (b"nonsense", "bad_json", None),
        (b"[]", "not_an_object", None),
        (b"{}", "missing_field", "type"),
        (b'{"type":null}', "bad_field", "type"),
        (b'{"type":"dance"}', "unknown_type", "type"),
        (b'{"type":"heartbeat","type":"heartbeat"}', "bad_json", "type"),
        (b'{"type":"heartbeat","x":1e999}', "bad_json", None),
        (b'{"type":"session_feedback"}', "missing_field", "success"),
        (b'{"type":"session_feedback","success":null}', "bad_field", "success"),
        (b'{"type":"session_feedback","success":true}', "not_found", "session_id"),
        (b'{"type":"session_feedback","success":true,"session_id":"x"}', "not_found", "session_id"),
        (b"[" * 10_000 + b"]" * 10_000, "not_an_object", None),
    ],
)
def test_bad_input_is_answered_and_nothing_else(message: bytes, code: str, field: str | None) -> None:
    house = stage()
    session, peer = house.client(**ME)
    _, bystander = house.client(client_id="c2")
    (answer,) = house.ask(session, message)
    assert (answer["type"], answer["code"], answer.get("field")) == ("error", code, field)
    assert answer["message"]
    assert peer.close_code is None
    assert bystander.take() == []
    assert house.gateway.counters.faults["c_client", code] == 1


@pytest.mark.parametrize("message", [{"type": "heartbeat"}, {"type": "session_feedback", "success": True}])
def test_registration_comes_first(message: object) -> None:
    house = stage()
    session, _ = house.connect("/ws", headers={"sec-websocket-protocol": "portico.c-client.v1"})
    (answer,) = house.ask(session, message)
    assert answer["code"] == "not_registered"


def test_binary_that_is_no_json() -> None:
    house = stage()
    session, peer = house.client(**ME)
    for payload in (b"\xff\xfe", b"hello", b'{"type":'):
        assert house.ask(session, payload, text=False)[0]["code"] == "binary_not_supported"
    assert peer.close_code is None


def test_a_login_reaches_the_user_s_clients_and_those_that_come() -> None:
    house = stage()
    _, first = house.client(client_id="a", user_id="u1")
    _, stranger = house.client(client_id="b", user_id="u2")
    extra = {"website_config": Raw(b'{"theme":"dark"}'), "user_id": Raw(b'"forged"'), "type": Raw(b'"x"')}
    login = start_login(house, "u1", data=b'{"k":1}', extra=extra)
    expected = {
        "type": "auto_login",
        "website_config": {"theme": "dark"},
        "session_id": login.session_id,
        "user_id": "u1",
        "username": "ann",
        "session_data": {"k": 1},
        "message": "Automatic login",
        "timestamp": START,
        "expires_at": START + 60,
    }
    assert first.take() == [expected]
    assert stranger.take() == []
    house.clock.move(5)
    session, _ = house.connect("/ws")
    answer, came = house.ask(session, {"type": "c_client_register", "client_id": "c", "user_id": "u1"})
    assert answer["type"] == "registration_success"
    assert came == {**expected, "timestamp": START + 5}


@pytest.mark.parametrize("reason", ["logout", "revoked"])
def test_the_end_of_a_login(reason: Any) -> None:
    house = stage()
    _, peer = house.client(client_id="a", user_id="u1")
    login = start_login(house, "u1")
    peer.take()
    end_login(house, login.session_id, reason)
    (notice,) = peer.take()
    assert list(notice) == ["type", "session_id", "user_id", "username", "reason", "message", "timestamp"]
    assert (notice["type"], notice["reason"]) == ("logout_notification", reason)
    assert end_login(house, login.session_id, reason) is None
    assert peer.take() == []
    session, _ = house.connect("/ws")
    assert len(house.ask(session, {"type": "c_client_register", "user_id": "u1"})) == 1


def test_a_login_expires_by_the_clock() -> None:
    house = stage()
    _, peer = house.client(client_id="a", user_id="u1")
    start_login(house, "u1", None)
    peer.take()
    house.pass_time(59)
    assert peer.take() == []
    house.pass_time(2.1)
    (notice,) = peer.take()
    assert (notice["type"], notice["reason"]) == ("logout_notification", "expired")
    assert len(house.gateway.logins) == 0


def test_feedback_is_recorded_and_pushed_to_the_others_only() -> None:
    house = stage()
    session, own = house.client(client_id="a", user_id="u1")
    _, other = house.client(client_id="b", user_id="u1")
    _, stranger = house.client(client_id="c", user_id="u2")
    _, listener = house.connect("/ws/u1")
    login = start_login(house, "u1")
    for peer in (own, other, listener):
        peer.take()
    expected = {
        "type": "session_feedback",
        "session_id": login.session_id,
        "user_id": "u1",
        "client_id": "a",
        "success": False,
        "message": "no",
        "timestamp": START,
    }
    for named in ({}, {"session_id": login.session_id}):
        house.say(session, {"type": "session_feedback", "success": False, "message": "no", **named})
        assert (own.take(), stranger.take()) == ([], [])
        assert other.take() == listener.take() == [expected]
    (found, _) = login.feedback
    assert (found.client_id, found.success, found.message, found.timestamp) == ("a", False, "no", START)


def test_nobody_reports_on_another_user_s_login() -> None:
    house = stage()
    session, _ = house.client(client_id="a", user_id="u1")
    nameless, _ = house.client(client_id="b")
    login = start_login(house, "u2", "bob")
    for who in (session, nameless):
        (answer,) = house.ask(who, {"type": "session_feedback", "session_id": login.session_id, "success": True})
        assert answer["code"] == "not_found"
    assert login.feedback == []


def test_feedback_without_a_session_is_on_the_latest() -> None:
    house = stage()
    session, _ = house.client(client_id="a", user_id="u1")
    older, newer = (start_login(house, "u1", name) for name in ("x", "y"))
    house.say(session, {"type": "session_feedback", "success": True})
    assert (len(older.feedback), len(newer.feedback)) == (0, 1)


def test_what_is_kept_of_feedback_is_bounded() -> None:
    house = stage()
    session, _ = house.client(client_id="a", user_id="u1")
    login = start_login(house, "u1", "x")
    for number in range(60):
        house.say(session, {"type": "session_feedback", "success": True, "message": str(number)})
    assert [found.message for found in login.feedback] == [str(number) for number in range(10, 60)]
    (answer,) = house.ask(session, {"type": "session_feedback", "success": True, "message": "x" * 4097})
    assert (answer["code"], answer["field"]) == ("bad_field", "message")


def test_an_added_type_needs_registration_and_a_name_of_its_own() -> None:
    house = stage()
    got: list[bytes] = []

    def wave(session: Session, payload: bytes) -> None:
        got.append(payload)
        raise PeerFault(ErrorCode.BAD_FIELD, "No.")

    house.gateway.c_clients.add("wave", wave)
    with pytest.raises(ValueError, match="heartbeat"):
        house.gateway.c_clients.add("heartbeat", wave)
    early, _ = house.connect("/ws", headers={"sec-websocket-protocol": "portico.c-client.v1"})
    assert house.ask(early, b'{"type":"wave"}')[0]["code"] == "not_registered"
    session, _ = house.client(client_id="a")
    assert house.ask(session, b'{"type":"wave"}')[0]["code"] == "bad_field"
    assert got == [b'{"type":"wave"}']


def test_the_notice_before_a_drain() -> None:
    house = stage()
    _, peer = house.client(client_id="a")
    house.gateway.announce_drain(20_000)
    assert peer.take() == [{"type": "server_draining", "retry_within_ms": 20_000}]


def test_the_answer_to_an_unknown_type_names_exactly_the_types_that_are_taken() -> None:
    house = stage()
    house.gateway.c_clients.add("dance_report", lambda session, payload: None)

    def answer_to(kind: str) -> Any:
        session, _ = house.client(client_id=None)
        answers = house.ask(session, {"type": kind, "success": True, "token": "a.b.c"})
        house.close(session)
        return answers[0] if answers else {}

    named = types_named_in(answer_to("dance")["message"])
    taken = {kind for kind in WORDS | set(named) if answer_to(kind).get("code") != "unknown_type"}
    assert named == sorted(taken)
    assert {"c_client_register", "token_refresh", "dance_report"} < taken
