"""Whatever comes in a body, a path or a query: an answer in JSON, never a bug."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .stage import house

NAMES = ["target", "type", "data", "id", "ttl", "durable", "user_id", "username", "session_data", "all"]
NAMES += ["command", "timeout", "action", "params", "client_id", "affinity", "idempotent", "request_id"]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=4),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(NAMES), values, max_size=8)
bodies = st.one_of(
    st.binary(max_size=60),
    objects.map(lambda value: json.dumps(value).encode()),
    st.lists(objects | values, max_size=4).map(lambda value: json.dumps(value).encode()),
    st.tuples(objects, st.binary(min_size=1, max_size=3), st.integers(0, 200)).map(
        lambda drawn: _spliced(json.dumps(drawn[0]).encode(), drawn[1], drawn[2])
    ),
)


BASES = ["/", "/api/clients/", "/api/logins/", "/api/clients?", "/api/logins?user_id=", "/api/logins?"]


def _spliced(text: bytes, junk: bytes, at: int) -> bytes:
    return text[:at] + junk + text[at:]


@pytest.mark.parametrize("path", ["/api/notifications", "/api/logins", "/api/requests", "/api/clients/c1/requests"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(body=bodies)
async def test_any_body(path: str, body: bytes) -> None:
    at = house()
    at.stage.client(client_id="c1", user_id="u1")
    answer = await at.call("POST", path, content=body)
    assert answer.status_code in (200, 201, 202, 400, 404, 409, 503)
    _check(at, answer)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "OPTIONS", "PUT"]),
    base=st.sampled_from(BASES),
    rest=st.binary(max_size=20),
)
async def test_any_path_and_query(method: str, base: str, rest: bytes) -> None:
    at = house()
    answer = await at.call(method, base + quote(rest, safe="=&/+"))
    assert answer.status_code in (200, 204, 400, 404, 405)
    _check(at, answer)


def _check(at: Any, answer: Any) -> None:
    assert at.broken == []
    assert at.stage.journal.broken == []
    if answer.status_code >= 400:
        assert "error" in answer.json()
