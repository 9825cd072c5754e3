"""Where a handshake bears a token, and which is the one of several."""

import pytest

from service.core.connections.handshake_tokens import bearer_of, looks_like_token, token_of
from tests.fakes import handshake

IN_HEADER = {"authorization": "Bearer header"}
IN_PROTOCOL = {"sec-websocket-protocol": "portico.c-client.v1, bearer.protocol"}


@pytest.mark.parametrize(
    ("headers", "query", "is_key", "token"),
    [
        ({}, "", False, None),
        ({}, "token=query", False, "query"),
        (IN_PROTOCOL, "token=query", False, "protocol"),
        ({**IN_HEADER, **IN_PROTOCOL}, "token=query", False, "header"),
        ({**IN_HEADER, **IN_PROTOCOL}, "", True, "protocol"),
        ({"authorization": "Basic x"}, "", False, None),
        ({"authorization": "bearer  spaced "}, "", False, "spaced"),
        ({}, "a=b&token=", False, ""),
        ({}, "&".join(["token=x"] * 101), False, None),
    ],
)
def test_the_first_of_several(headers: dict[str, str], query: str, is_key: bool, token: str | None) -> None:
    assert token_of(handshake("/ws", headers=headers, query=query), is_key=is_key) == token


def test_a_subprotocol_among_others() -> None:
    assert bearer_of("a,bearer.x.y.z , b") == "bearer.x.y.z"
    assert bearer_of("a, b") is bearer_of(None) is None


def test_a_token_has_three_parts() -> None:
    assert looks_like_token("a.b.c")
    assert not looks_like_token("a-handshake-key")
