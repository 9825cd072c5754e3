"""Every route of the table, and what may be wrong with a body: 400 or 413 in JSON, with the field; nothing done."""

import json
from typing import Any

import msgspec
import pytest

from service.core.push.publications import Notification
from service.http import forms
from service.http.table import ROUTES, Route

from .stage import SessionOwner, house, problem

PATHS = {"{session_id}": "s1", "{client_id}": "c1"}
GOOD: dict[str, dict[str, Any]] = {
    "publishNotifications": {"target": {"user_id": "u1"}, "type": "t"},
    "startLogin": {"user_id": "u1"},
    "askWorkers": {"command": "nobody"},
    "askClient": {"action": "a"},
    "revoke": {"user_id": "u1", "ttl": 60},
}
"""A body that is right, of each route that wants one."""
FORMS: dict[str, type[msgspec.Struct]] = {
    "publishNotifications": Notification,
    "startLogin": forms.NewLogin,
    "askWorkers": forms.WorkerRequest,
    "askClient": forms.ClientRequest,
    "revoke": forms.NewRevocation,
}
WITH_BODY = [route for route in ROUTES if route.body is not None]
ACTS = [route for route in ROUTES if route.method not in ("GET", "HEAD")]
WITHOUT_BODY = [route for route in ACTS if route.body is None]
FIELDS = [(route, field) for route in WITH_BODY for field in msgspec.structs.fields(FORMS[route.operation])]


def name(value: object) -> str | None:
    if isinstance(value, Route):
        return value.operation
    return value.name if isinstance(value, msgspec.structs.FieldInfo) else None


def path_of(route: Route) -> str:
    path = route.path
    for pattern, value in PATHS.items():
        path = path.replace(pattern, value)
    return path


async def ask(at: SessionOwner, route: Route, body: bytes | dict[str, Any], content_type: str | None = None) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": content_type} if content_type else None
    answer = await at.call(route.method, path_of(route), content=content, headers=headers)
    assert at.broken == []
    return answer


def test_the_table_is_whole() -> None:
    assert {route.operation for route in WITH_BODY} == set(GOOD) == set(FORMS)
    assert {route.operation for route in WITHOUT_BODY} == {"drain", "endLogin", "kickClient"}


@pytest.mark.parametrize("route", ACTS, ids=name)
async def test_a_body_that_is_no_json_or_has_unknown_fields_is_refused(route: Route) -> None:
    at = house()
    session, _ = at.stage.client(client_id="c1", user_id="u1")
    good = GOOD.get(route.operation, {})
    for body in (b"{", b"not json", b"\xff", b'{"a": NaN}'):
        assert problem(await ask(at, route, body))[:2] == (400, "bad_json"), body
    for body in (b"1", b'"text"', b"null", *([] if route.operation == "publishNotifications" else [b"[]"])):
        assert problem(await ask(at, route, body))[:2] == (400, "not_an_object"), body
    if route.operation != "startLogin":  # it passes them on
        for unknown in ("whatever", "tt1"):
            assert problem(await ask(at, route, {**good, unknown: 1})) == (400, "bad_field", unknown)
    huge = await ask(at, route, b" " * (route.body_limit + 1))
    assert problem(huge)[:2] == (413, "too_large")
    assert (at.drains, session.over) == ([], False)


@pytest.mark.parametrize("route", WITHOUT_BODY, ids=name)
@pytest.mark.parametrize("body", [b"", b"{}", b" {} \n"])
async def test_where_no_body_is_wanted_an_empty_one_does(route: Route, body: bytes) -> None:
    assert (await ask(house(), route, body)).status_code in (202, 404)


@pytest.mark.parametrize("route", WITH_BODY, ids=name)
async def test_where_a_body_is_wanted_its_type_is_not_looked_at_and_it_may_not_be_empty(route: Route) -> None:
    at = house()
    assert problem(await ask(at, route, b""))[:2] == (400, "bad_json")
    answers = [
        (await ask(house(), route, GOOD[route.operation], content_type)).status_code
        for content_type in (None, "application/json", "text/plain", "application/x-www-form-urlencoded")
    ]
    assert len(set(answers)) == 1
    assert answers[0] in (201, 202, 404, 503)


@pytest.mark.parametrize(("route", "field"), FIELDS, ids=name)
async def test_null_counts_as_absent_and_a_wrong_type_is_named(route: Route, field: msgspec.structs.FieldInfo) -> None:
    good = GOOD[route.operation]
    at = house()
    answer = await ask(at, route, {**good, field.name: None})
    if field.required:
        assert problem(answer) == (400, "missing_field", field.name)
        assert repr(field.name) in answer.json()["error"]["message"]
    else:
        absent = await ask(at, route, {key: value for key, value in good.items() if key != field.name})
        assert answer.status_code == absent.status_code
    anything = (forms.Anything, forms.ScalarId)
    if not any(part in anything for part in (field.type, *getattr(field.type, "__args__", ()))):
        wrong = await ask(at, route, {**good, field.name: [1]})
        assert problem(wrong) == (400, "bad_field", field.name)
        assert repr(field.name) in wrong.json()["error"]["message"]


async def test_what_is_no_scalar_is_no_request_id() -> None:
    body = {"command": "nobody", "request_id": [1]}
    assert problem(await ask(house(), next(r for r in ROUTES if r.operation == "askWorkers"), body))[2] == "request_id"
