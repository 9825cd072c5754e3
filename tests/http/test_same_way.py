"""Without the right to know it, who asks is refused by the same lines and bytes whether a user is there or not."""

import json
from typing import Any

import pytest

from service.core.api_keys import SCOPES, ApiKey, Scope, digest_of
from service.core.ports import HttpAnswer
from service.core.refusals import GUESSES
from service.http.apis import whole_api
from service.http.table import ROUTES, Route
from tests.core.connections.test_authentication import FakeTokens, register
from tests.fakes import start_login
from tests.http.stage import KEY, SessionOwner, house
from tests.http.test_api import head
from tests.lines import lines_of

GUARDED = [route for route in ROUTES if route.scope is not None]
BODIES: dict[str, dict[str, Any]] = {
    "publishNotifications": {"target": {"user_id": "{}"}, "type": "t", "data": {}},
    "startLogin": {"user_id": "{}", "username": "x"},
    "askClient": {"action": "a"},
    "revoke": {"user_id": "{}", "ttl": 60},
}
QUERIES = {"listLogins": "user_id={}", "listClients": "user_id={}", "streamEvents": "user_id={}"}

Told = list[tuple[HttpAnswer, int]]
"""An answer, and how many bytes of the body would be read for it."""


def called(at: SessionOwner, route: Route, name: str, secret: str | None) -> tuple[Told, list[tuple[str, int]]]:
    """What a route answers, asked for a name with a secret, and the lines by which it comes to that."""
    api = whole_api(at.parts)
    path = route.path.format_map({"client_id": f"dev-{name}", "session_id": name})
    headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
    asked = head(route.method, path, QUERIES.get(route.operation, "").format(name), **headers)
    body = json.dumps(BODIES[route.operation]).replace("{}", name).encode() if route.operation in BODIES else b""
    answers: Told = []

    def call() -> None:
        made = api.call(asked)
        assert made is not None
        answer = made.answer(body)
        assert isinstance(answer, HttpAnswer)  # nothing is waited for
        answers.append((answer, made.body_limit))

    return answers, lines_of(call)


def with_somebody(*scopes: Scope) -> SessionOwner:
    """A gateway at which `qqa` is connected and logged in, with a key of these scopes."""
    tokens = FakeTokens()
    keys = [ApiKey("shop", frozenset(scopes), digest_of(KEY))]
    at = house(production=True, authentication="required", tokens=tokens, api_keys=keys)
    session, _ = at.stage.connect("/")
    shown = tokens.make("her", "qqa")
    at.stage.ask(session, register(shown, client_id="dev-qqa", user_id="qqa"))
    start_login(at.stage, "qqa")
    return at


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.operation)
@pytest.mark.parametrize("shown", [None, "wrong", "a.her.c", KEY])
def test_a_caller_without_the_right_goes_the_same_way_for_everybody(route: Route, shown: str | None) -> None:
    at = with_somebody(*(scope for scope in SCOPES if scope not in (route.scope, "admin")))
    called(at, route, "qqe", shown)
    there, not_there = (called(at, route, name, shown) for name in ("qqa", "qqe"))
    assert there == not_there
    ((answer, body_limit),), lines = there
    assert answer.status == (403 if shown == KEY else 401)
    # The body isn't even read, and no handler, presence or store is asked.
    assert body_limit == 0
    assert not [file for file, _ in lines if file.startswith(("backplane/", "core/cluster/", "core/push/"))]


def test_a_caller_who_may_know_goes_another_way() -> None:
    # Else the test above could not fail.
    at = with_somebody("admin")
    (route,) = (route for route in GUARDED if route.operation == "kickClient")
    called(at, route, "qqe", KEY)
    assert called(at, route, "qqe", KEY)[1] != called(at, route, "qqa", KEY)[1]


def test_the_right_key_goes_the_way_of_wrong_ones_while_guesses_are_not_looked_at() -> None:
    at = with_somebody("publish")
    for _ in range(2 * GUESSES):
        at.stage.gateway.refusals.on_refused("api_key", "127.0.0.1")
    route = next(route for route in GUARDED if route.operation == "publishNotifications")
    near, far = KEY[:-1] + "x", "x" * len(KEY)
    called(at, route, "qqe", far)
    right, *wrong = (called(at, route, "qqe", secret) for secret in (KEY, near, far))
    assert wrong == [right, right]
