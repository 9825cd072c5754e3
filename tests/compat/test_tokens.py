"""Tokens as a run shows them, and keeps them to itself."""

import pytest

from compat.tokens import at, claims, hidden, names, with_token
from tests.tokens.signing import token


def test_a_token_is_usable_where_it_may_be_anybody_and_ends() -> None:
    assert claims(token(role="admin", exp=1_900_000_000))["exp"] == 1_900_000_000
    assert names(token(role="admin", exp=5))["token_expires"] == 5
    assert names(None) == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("certainly-no-token", "no JWT"),
        ("a.!!.b", "no JWT"),
        ("a.W10.b", "must be admin"),
        (token(role="client"), "must be admin"),
        (token(role="admin", exp=None), "an end"),
    ],
    ids=["no parts", "no base64", "no object", "another role", "no end"],
)
def test_one_that_a_run_could_not_use_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        claims(text)


def test_a_first_message_gets_the_token_unless_it_has_one() -> None:
    assert with_token({"type": "c_client_register"}, "t") == {"type": "c_client_register", "token": "t"}
    assert with_token({"type": "connect", "data": {"token": None}}, "t") == {"type": "connect", "data": {"token": "t"}}
    for as_it_is in (
        {"type": "c_client_register", "token": "u"},
        {"type": "handshake", "data": {"token": "u"}},
        {"type": "connect", "data": None},
        {"type": "heartbeat"},
        [1],
    ):
        assert with_token(as_it_is, "t") == as_it_is


def test_an_address_shows_it_and_a_certificate_does_not() -> None:
    assert at("ws://h/ws", "t") == "ws://h/ws?token=t"
    assert at("ws://h/ws?a=1", "t") == "ws://h/ws?a=1&token=t"
    assert hidden("ws://h/ws?token=eyJ.x", "eyJ.x") == "ws://h/ws?token=<token>"
    assert hidden("as it is", None) == "as it is"
