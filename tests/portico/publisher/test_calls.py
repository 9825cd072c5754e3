"""Calls without I/O: what is sent, when it is sent again, what is refused before anything is sent."""

import math
from typing import Any

import pytest

from portico import BadAddress, Push, Target, Unsendable
from portico.publisher import calls
from portico.publisher.answers import Came
from portico.publisher.calls import Attempts

PUSH = calls.push(Push(Target(user_id="u1"), "t"))
LOGIN = calls.login("u1", {})
REQUEST = calls.request("echo", None, None, None, True)
ONCE = calls.request("pay", None, None, None, False)
UNAVAILABLE = Came(503, b"{}")


def attempts(call: calls.ApiCall[Any], patience: float = 30.0) -> Attempts:
    return Attempts(call, patience, random=lambda: 0.5)


@pytest.mark.parametrize(
    ("call", "after_503", "after_break", "after_no_connection"),
    [
        (PUSH, True, True, True),
        (calls.kick("c1"), True, True, True),
        (calls.logout("s1", "logout"), True, True, True),
        (calls.clients({}, 10, 0), True, True, True),
        (LOGIN, False, False, True),
        (REQUEST, False, True, True),
        (ONCE, False, False, True),
        (calls.ask_client("c1", "ring", None, None), False, False, True),
    ],
)
def test_what_is_sent_again(
    call: calls.ApiCall[Any], after_503: bool, after_break: bool, after_no_connection: bool
) -> None:
    assert (attempts(call).after_answer(UNAVAILABLE, 0) is not None) is after_503
    assert (attempts(call).after_failure(True, 0) is not None) is after_break
    assert (attempts(call).after_failure(False, 0) is not None) is after_no_connection
    # Over the rate: nothing was done, so all may come again, when it says.
    assert (attempts(call).after_answer(Came(429, b"", "2"), 0) or 0) >= 2


@pytest.mark.parametrize("status", [200, 202, 400, 401, 403, 404, 413, 500, 502, 504])
def test_other_answers_are_final(status: int) -> None:
    assert attempts(PUSH).after_answer(Came(status, b"{}"), 0) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b"[" * 2000])
@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_in_the_gateways_place_is_a_broken_connection(status: int, body: bytes) -> None:
    for call in (PUSH, REQUEST):
        assert attempts(call).after_answer(Came(status, body), 0) == 0.05
        assert (attempts(call).after_answer(Came(status, body, "2"), 0) or 0) >= 2
    for call in (LOGIN, ONCE):
        assert attempts(call).after_answer(Came(status, body), 0) is None


def test_delays_grow_and_patience_ends() -> None:
    tries = attempts(PUSH, patience=10)
    delays = [tries.after_answer(UNAVAILABLE, 0) for _ in range(10)]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5, 2.5, 2.5]
    assert tries.after_answer(UNAVAILABLE, 8) is None
    assert attempts(PUSH, patience=0).after_answer(UNAVAILABLE, 0) is None
    assert attempts(PUSH).after_answer(Came(503, b"", "100"), 0) is None
    assert attempts(PUSH).after_answer(Came(503, b"", "soon"), 0) == 0.05


def test_patience_ends_before_the_gateway_forgets() -> None:
    for patience in (-1, 241, math.inf, math.nan):
        with pytest.raises(ValueError, match="patience"):
            calls.checked_patience(patience)


@pytest.mark.parametrize("targets", [{}, {"user_id": "u", "client_id": "c"}, {"user_id": "u", "all": True}])
def test_exactly_one_target(targets: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one target"):
        calls.push(Push(Target(**targets), "t"))  # type: ignore[arg-type]  # any field of it


def test_every_push_has_an_id() -> None:
    one = Push(Target(all=True), "t")
    assert one.as_json()["id"]
    first, second = calls.named([one, Push(Target(all=True), "t", id="mine")])
    assert (bool(first.id), second.id) == (True, "mine")


@pytest.mark.parametrize("data", [{"a": object()}, {"a": {1, 2}.__iter__}, {object(): 1}])
def test_what_json_cannot_hold(data: dict[str, object]) -> None:
    with pytest.raises(Unsendable):
        calls.push(Push(Target(all=True), "t", data))


def test_ids_are_parts_of_a_path() -> None:
    assert calls.kick("a/b?c d").path == "/api/clients/a%2Fb%3Fc%20d"
    for call in (calls.kick, lambda empty: calls.logout(empty, "logout")):
        with pytest.raises(ValueError, match="empty"):
            call("")


@pytest.mark.parametrize("key", ["", "a b", "é", "a\nb"])
def test_keys_that_no_header_holds(key: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII") as refused:
        calls.headers_for(key)
    assert key == "" or key not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ws://h", "http://", "http://u:p@h", "http://h?x=1", "http://h:99999"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(BadAddress):
        calls.base_address(url)


def test_a_batch_has_a_limit() -> None:
    with pytest.raises(ValueError, match="10000"):
        calls.push_many([Push(Target(all=True), "t")] * 10_001)
