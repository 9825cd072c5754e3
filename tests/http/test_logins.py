"""Login sessions, as a back end sees them."""

import json
from typing import Any

import pytest

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.http.logins import MAX_LOGIN
from tests.fakes import START

from .stage import house, problem


async def test_a_session_from_its_start_to_its_end() -> None:
    at = house()
    session, peer = at.stage.client(client_id="c1", user_id="u1")
    made = {
        "user_id": "u1",
        "username": "ann",
        "session_data": {"token": "t"},
        "ttl": 60,
        "website_config": {"url": "https://shop.example.com"},
        "message": "Welcome back",
        "on_logout": {"type": "user_logout", "data": {"user_id": "u1", "logout_api": "/logout"}},
    }
    answer = await at.call("POST", "/api/logins", json=made)
    assert answer.status_code == 201
    login = answer.json()
    session_id = login["session_id"]
    assert answer.headers["location"] == f"/api/logins/{session_id}"
    assert login == {
        "website_config": {"url": "https://shop.example.com"},
        "message": "Welcome back",
        "on_logout": {"type": "user_logout", "data": {"user_id": "u1", "logout_api": "/logout"}},
        "session_id": session_id,
        "user_id": "u1",
        "username": "ann",
        "session_data": {"token": "t"},
        "created_at": START,
        "expires_at": START + 60,
        "feedback": [],
    }
    assert peer.take() == [
        {
            "type": "auto_login",
            "website_config": {"url": "https://shop.example.com"},
            "session_id": session_id,
            "user_id": "u1",
            "username": "ann",
            "session_data": {"token": "t"},
            "message": "Welcome back",
            "timestamp": START,
            "expires_at": START + 60,
        }
    ]
    at.stage.say(session, {"type": "session_feedback", "session_id": session_id, "success": True, "message": "in"})
    found = (await at.call("GET", f"/api/logins/{session_id}")).json()
    assert found["feedback"] == [{"client_id": "c1", "success": True, "message": "in", "timestamp": START}]
    listed = await at.call("GET", "/api/logins", params={"user_id": "u1"})
    assert listed.json() == {"logins": [found]}

    ended = await at.call("DELETE", f"/api/logins/{session_id}")
    assert (ended.status_code, ended.json()) == (
        200,
        {"session_id": session_id, "user_id": "u1", "reason": "logout"},
    )
    assert peer.take() == [
        {
            "type": "logout_notification",
            "website_config": {"url": "https://shop.example.com"},
            "session_id": session_id,
            "user_id": "u1",
            "username": "ann",
            "reason": "logout",
            "message": "You have been logged out",
            "timestamp": START,
        },
        {"type": "user_logout", "user_id": "u1", "logout_api": "/logout"},
    ]
    for method in ("GET", "DELETE"):
        gone = await at.call(method, f"/api/logins/{session_id}")
        assert problem(gone) == (404, "not_found", "session_id")
    assert (await at.call("GET", "/api/logins?user_id=u1")).json() == {"logins": []}


async def test_revoking() -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1", user_id="u1")
    session_id = (await at.call("POST", "/api/logins", json={"user_id": "u1"})).json()["session_id"]
    wrong = await at.call("DELETE", f"/api/logins/{session_id}?reason=expired")
    assert problem(wrong) == (400, "bad_field", "reason")
    answer = await at.call("DELETE", f"/api/logins/{session_id}?reason=revoked")
    assert answer.json()["reason"] == "revoked"
    assert [message["type"] for message in peer.take()] == ["auto_login", "logout_notification"]


async def test_the_least_that_a_session_needs() -> None:
    at = house()
    login = (await at.call("POST", "/api/logins", json={"user_id": "u1"})).json()
    assert (login["username"], login["session_data"], login["expires_at"]) == (None, None, START + 86_400)
    assert (login["message"], login["on_logout"]) == (None, None)


async def test_null_is_as_good_as_nothing() -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1", user_id="u1")
    session_id = (
        await at.call("POST", "/api/logins", json={"user_id": "u1", "message": None, "on_logout": None})
    ).json()["session_id"]
    await at.call("DELETE", f"/api/logins/{session_id}")
    login, notice = peer.take()
    assert (login["message"], notice["type"]) == ("Automatic login", "logout_notification")
    bare = {"user_id": "u1", "on_logout": {"type": "user_logout", "data": None}}
    session_id = (await at.call("POST", "/api/logins", json=bare)).json()["session_id"]
    await at.call("DELETE", f"/api/logins/{session_id}")
    assert peer.take()[-1] == {"type": "user_logout"}


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"{}", "missing_field", "user_id"),
        (b"[]", "not_an_object", None),
        (b"", "bad_json", None),
        (b'{"user_id": null}', "missing_field", "user_id"),
        (b'{"user_id": ""}', "bad_field", "user_id"),
        (b'{"user_id": 5}', "bad_field", "user_id"),
        (b'{"user_id": "%s"}' % (b"x" * 257), "bad_field", "user_id"),
        (b'{"user_id": "a\\u0000"}', "bad_field", "user_id"),
        (b'{"user_id": "u1", "username": 1}', "bad_field", "username"),
        (b'{"user_id": "u1", "username": "\\u202e"}', "bad_field", "username"),
        (b'{"user_id": "u1", "ttl": 0}', "bad_field", "ttl"),
        (b'{"user_id": "u1", "ttl": 2592001}', "bad_field", "ttl"),
        (b'{"user_id": "u1", "ttl": "60"}', "bad_field", "ttl"),
        (b'{"user_id": "u1", "ttl": NaN}', "bad_json", None),
        (b'{"user_id": "u1", "config": {"n": 1e999}}', "bad_json", None),
        (b'{"user_id": "u1", "config": %s}' % (b"1" * 400), "bad_json", None),
        (b'{"user_id": "u1", "config": "\xff"}', "bad_json", None),
        (b'{"user_id": "u1", "user_id": "u2"}', "bad_json", "user_id"),
        (b'{"user_id": "u1", "message": {"text": "hi"}}', "bad_field", "message"),
        (b'{"user_id": "u1", "on_logout": "user_logout"}', "bad_field", "on_logout"),
        (b'{"user_id": "u1", "on_logout": {"data": {}}}', "missing_field", "on_logout.type"),
        (b'{"user_id": "u1", "on_logout": {"type": ""}}', "bad_field", "on_logout.type"),
        (b'{"user_id": "u1", "on_logout": {"type": "a\\u0000"}}', "bad_field", "on_logout.type"),
        (b'{"user_id": "u1", "on_logout": {"type": "a", "data": [1]}}', "bad_field", "on_logout.data"),
        (b'{"user_id": "u1", "on_logout": {"type": "a", "dta": {}}}', "bad_field", "on_logout.dta"),
    ],
)
async def test_a_bad_session_is_refused_and_nothing_done(body: bytes, code: str, field: str | None) -> None:
    at = house()
    answer = await at.call("POST", "/api/logins", content=body)
    assert problem(answer) == (400, code, field)
    assert len(at.stage.gateway.logins) == 0


async def test_what_would_be_kept_too_long_is_too_large() -> None:
    at = house()
    body = json.dumps({"user_id": "u1", "cookies": "x" * MAX_LOGIN})
    assert problem(await at.call("POST", "/api/logins", content=body)) == (413, "too_large", None)
    assert len(at.stage.gateway.logins) == 0


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [("", "missing_field", "user_id"), ("?user_id=", "missing_field", "user_id"), ("?user=u1", "bad_field", None)],
)
async def test_whose_sessions_must_be_said(query: str, code: str, field: str | None) -> None:
    assert problem(await house().call("GET", f"/api/logins{query}")) == (400, code, field)


async def test_without_the_store_the_answer_is_503_and_nothing_is_pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    at = house()
    store = at.stage.gateway.logins.store
    _, peer = at.stage.client(client_id="c1", user_id="u1")

    def away(*words: Any) -> None:
        words[-1](PeerFault(ErrorCode.UNAVAILABLE, "Away."))

    for method in ("start", "get", "of_user", "end"):
        monkeypatch.setattr(store, method, away)
    for how, path in (
        ("POST", "/api/logins"),
        ("GET", "/api/logins?user_id=u1"),
        ("GET", "/api/logins/x"),
        ("DELETE", "/api/logins/x"),
    ):
        body = {"user_id": "u1"} if how == "POST" else None
        assert problem(await at.call(how, path, json=body)) == (503, "unavailable", None)
    assert peer.take() == []
