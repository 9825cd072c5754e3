"""The app as a whole: what is there, what isn't, and what breaks."""

import httpx
import pytest

from service.backplane.memory import MemoryBackplane
from service.core.push.logins import Logins
from service.http.apis import whole_api
from service.http.app import create_http
from service.http.pages import PAGE_ROUTES
from service.http.table import ROUTES

from .stage import SessionOwner, house, no_proxies, problem


async def test_every_route_of_the_table_is_there_by_its_own_methods_only() -> None:
    routes = (*ROUTES, *PAGE_ROUTES)
    assert len({route.operation for route in routes}) == len(routes)
    at = house()
    for path in {route.path for route in routes}:
        methods = {route.method for route in routes if route.path == path}
        allowed = {*methods, "OPTIONS", *({"HEAD"} if "GET" in methods else ())}
        answer = await at.call("OPTIONS", path.format(client_id="c1", session_id="s1"))
        assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (204, allowed)


async def test_a_route_that_was_added_to_the_app_is_served_beside_the_api() -> None:
    at = house()
    at.app.add_url_rule("/shop", "shop", lambda: "of its own")
    assert (await at.call("GET", "/shop")).text == "of its own"
    assert (await at.call("GET", "/livez")).status_code == 200
    assert (await at.call("POST", "/shop")).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/notifications/",
        "/api//health",
        "/static/x",
        "/api/clients//requests",
        "/api/logins/a/b",
        "/api/%00",
        "/%ff",
        "/api/health%2f",
    ],
)
async def test_an_unknown_route_is_404_in_json(path: str) -> None:
    at = house()
    answer = await at.call("GET", f"http://gw.example.com{path}")
    assert problem(answer) == (404, "not_found", None)
    assert at.stage.gateway.counters.faults["http", "not_found"] == 1


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/notifications", {"POST", "OPTIONS"}),
        ("POST", "/api/health", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/api/logins", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("PATCH", "/api/clients/c1", {"DELETE", "OPTIONS"}),
        ("BREW", "/metrics", {"GET", "HEAD", "OPTIONS"}),
    ],
)
async def test_another_method_is_405_in_json(method: str, path: str, allowed: set[str]) -> None:
    answer = await house().call(method, path)
    assert problem(answer) == (405, "not_found", None)
    assert set(answer.headers["allow"].split(", ")) == allowed


async def test_a_bug_is_500_without_details_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(MemoryBackplane, "publish", publish)
    at = house()
    answer = await at.call("POST", "/api/notifications", json={"target": {"all": True}, "type": "t"})
    assert problem(answer) == (500, "internal", None)
    assert "secret" not in answer.text
    [error] = at.broken
    assert isinstance(error, RuntimeError)
    assert at.stage.gateway.counters.internal_errors == 1


async def test_unless_anybody_is_told_of_bugs_they_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at = house()
    app = create_http(whole_api(at.parts), resolver=no_proxies)

    def get(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Logins, "get", get)
    answer = await SessionOwner(at.stage, app, at.parts, at.places, [], []).call("GET", "/api/logins/forged%0Aline")
    assert problem(answer) == (500, "internal", None)
    [record] = caplog.records
    assert record.exc_info is not None
    assert "forged" not in record.getMessage()


async def test_head_has_the_headers_and_no_body() -> None:
    at = house()
    async with at.serving() as base, httpx.AsyncClient(base_url=base) as caller:
        for path in ("/api/health", "/livez", "/readyz", "/metrics", "/api/b-client/info", "/openapi.json"):
            head, get = await caller.head(path), await caller.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"] == get.headers["content-type"]
            assert get.content


async def test_nothing_is_kept_by_caches() -> None:
    at = house()
    for path in ("/api/health", "/api/b-client/websocket-info", "/metrics", "/nothing", "/api/workers"):
        answer = await at.call("GET", path)
        assert answer.headers["cache-control"] == "no-store"
