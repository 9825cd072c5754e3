"""Who may use the routes for back ends."""

import pytest
import trio

from service.core.api_keys import SCOPES, ApiKey, digest_of
from service.http.table import ROUTES, Route

from .stage import BEARER, KEY, LOCAL, OUTSIDE, behind_proxy, house, no_proxies, problem

CLOSED = [route for route in ROUTES if not route.open]


def ending(route: Route) -> str:
    """A method of the route's whose answer ends."""
    return "HEAD" if route.stream else route.method


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: route.operation)
async def test_every_route_that_is_not_open_is_guarded(route: Route) -> None:
    method, path = route.method, route.path.format(client_id="c1", session_id="s1")
    at = house(api_keys=[KEY])
    # Whatever the body: nobody without a key learns whether it was right.
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}):
        answer = await at.call(method, path, content=b"{", headers=headers)
        assert problem(answer) == (401, "unauthorized", None)
        assert answer.headers["www-authenticate"].startswith('Bearer realm="portico"')
        assert KEY not in answer.text
        assert "wrong" not in answer.text
    assert (await at.call(ending(route), path, content=b"{", headers=BEARER)).status_code != 401


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: route.operation)
async def test_every_route_wants_its_scope(route: Route) -> None:
    method, path = route.method, route.path.format(client_id="c1", session_id="s1")
    assert route.scope is not None
    without = frozenset(scope for scope in SCOPES if scope not in (route.scope, "admin"))
    at = house(api_keys=[ApiKey("shop", without, digest_of(KEY))])
    answer = await at.call(method, path, content=b"{", headers=BEARER)
    assert problem(answer) == (403, "forbidden", None)
    assert answer.json()["error"]["message"] == f"This API key lacks the scope {route.scope}."
    assert answer.headers["www-authenticate"].endswith(f'error="insufficient_scope", scope="{route.scope}"')
    for scope in (route.scope, "admin"):
        at = house(api_keys=[ApiKey("shop", frozenset((scope,)), digest_of(KEY))])
        assert (await at.call(ending(route), path, content=b"{", headers=BEARER)).status_code not in (401, 403)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.open], ids=lambda route: route.operation)
async def test_open_routes_are_open_to_everybody(route: Route) -> None:
    at = house(production=True)
    answer = await at.call(route.method, route.path, peer=OUTSIDE)
    assert answer.status_code == 200


async def test_a_key_is_taken_from_anywhere_and_in_any_case_of_bearer() -> None:
    at = house(production=True, api_keys=["other", KEY])
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await at.call("GET", "/api/workers", peer=OUTSIDE, headers={"authorization": f"{scheme} {KEY}"})
        assert answer.status_code == 200


async def test_with_keys_a_local_caller_needs_one_too() -> None:
    assert problem(await house(api_keys=[KEY]).call("GET", "/api/workers"))[0] == 401


async def test_production_without_keys_is_closed_and_says_why() -> None:
    answer = await house(production=True).call("GET", "/api/workers")
    assert problem(answer) == (403, "forbidden", None)
    assert "PORTICO_API_KEYS" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", 200),
        ("127.8.8.8", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        ("203.0.113.9", 403),
        ("10.0.0.1", 403),
        ("fe80::1%eth0", 403),
        ("", 403),
        ("localhost", 403),
    ],
)
async def test_development_without_keys_answers_this_machine_only(address: str, status: int) -> None:
    answer = await house().call("GET", "/api/workers", peer=(address, 1))
    assert answer.status_code == status
    if status == 403:
        assert "PORTICO_API_KEYS" in answer.json()["error"]["message"]


@pytest.mark.parametrize("resolver", [no_proxies, behind_proxy])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-for", "127.0.0.1, 203.0.113.9"),
        ("x-forwarded-for", "203.0.113.9, 127.0.0.1"),
        ("x-forwarded-for", "unknown"),
        ("x-real-ip", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
        ("remote-addr", "127.0.0.1"),
    ],
)
async def test_an_outsider_behind_a_proxy_on_this_machine_is_none_of_us(
    resolver: object, name: str, value: str
) -> None:
    at = house(resolver=resolver)
    # A Remote-Addr of the caller's own making helps nobody either.
    peer = OUTSIDE if name == "remote-addr" else LOCAL
    answer = await at.call("GET", "/api/workers", peer=peer, headers={name: value})
    assert problem(answer) == (403, "forbidden", None)


async def test_a_caller_through_a_proxy_of_this_machine_is_none_of_us_whoever_it_is() -> None:
    at = house(resolver=behind_proxy)
    answer = await at.call("GET", "/api/workers", headers={"x-forwarded-for": "127.0.0.1"})
    assert answer.status_code == 403
    # What a trusted proxy elsewhere says of 127.0.0.1 is its own machine, not ours.
    answer = await at.call("GET", "/api/workers", peer=("10.0.0.1", 1), headers={"x-forwarded-for": "127.0.0.1"})
    assert answer.status_code == 403


async def test_a_page_that_may_not_is_refused_even_from_this_machine() -> None:
    at = house(allowed_origins=["https://shop.example.com"])
    answer = await at.call("GET", "/api/workers", headers={"origin": "https://evil.example.net"})
    assert problem(answer) == (403, "forbidden", None)
    # One that may read answers is not this machine's, and has to know a key.
    answer = await at.call("GET", "/api/workers", headers={"origin": "https://shop.example.com"})
    assert problem(answer) == (403, "forbidden", None)
    assert "PORTICO_API_KEYS" in answer.json()["error"]["message"]
    at = house(allowed_origins=["https://shop.example.com"], api_keys=[KEY])
    answer = await at.call("GET", "/api/workers", headers={"origin": "https://shop.example.com", **BEARER})
    assert answer.status_code == 200


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: route.operation)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://evil.example:8000", "host": "evil.example:8000"},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "http://127.0.0.1.evil.example"},
        {"origin": "http://localhost.evil.example"},
        {"origin": "https://evil.example", "content-type": "text/plain"},
        {"sec-fetch-site": "cross-site"},
        *({name: "127.0.0.1"} for name in ("x-forwarded-for", "x-real-ip", "via", "x-forwarded-server", "cf-ray")),
        {"forwarded": "for=127.0.0.1"},
        {"x-forwarded-proto": "http"},
    ],
    ids=str,
)
async def test_a_page_from_elsewhere_has_nothing_done_in_development(route: Route, headers: dict[str, str]) -> None:
    path = route.path.format(client_id="c1", session_id="s1")
    answer = await house().call(route.method, path, content=b"{", headers=headers)
    assert problem(answer) == (403, "forbidden", None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "http://localhost:5173", "sec-fetch-site": "cross-site"},
        {"origin": "https://[::1]:8443", "host": "localhost:8000"},
        {"origin": "http://app.localhost", "host": "app.localhost:8000"},
        {"host": "192.168.1.7:8000", "origin": "http://192.168.1.7:8000"},
        {"host": "[fd00::1]"},
        {"content-type": "text/plain"},
        {"sec-fetch-site": "same-origin"},
    ],
    ids=str,
)
async def test_programs_and_pages_of_this_machine_go_on_working(headers: dict[str, str]) -> None:
    assert (await house().call("GET", "/api/workers", headers=headers)).status_code == 200


async def test_http_1_0_is_what_a_proxy_speaks_that_says_nothing_of_itself() -> None:
    at = house()
    async with at.serving() as base:
        host, _, port = base.removeprefix("http://").partition(":")
        for line, status in (("HTTP/1.1", b"200"), ("HTTP/1.0", b"403")):
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                head = f"GET /api/workers {line}\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n"
                await stream.send_all(head.encode())
                assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("path", ["/", "/api/c-client/status", "/metrics", "/nothing", "/api/workers"])
async def test_in_production_a_name_that_nobody_knows_is_refused_on_every_route(path: str) -> None:
    at = house(production=True, api_keys=[KEY], allowed_hosts=["gw.example.com", "*.gw.example.com"])
    for host in ("evil.example", "gw.example.com.evil.example", "xgw.example.com"):
        answer = await at.call("GET", path, headers={"host": host, **BEARER})
        assert problem(answer) == (403, "forbidden", None)
        assert "PORTICO_ALLOWED_HOSTS" in answer.json()["error"]["message"]
    for host in ("gw.example.com", "GW.example.com.:80", "a.gw.example.com", "10.0.0.9:8000", "localhost", "gateway"):
        assert (await at.call("GET", path, headers={"host": host, **BEARER})).status_code != 403


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/api/health"])
async def test_probes_are_answered_under_any_name(path: str) -> None:
    at = house(production=True, allowed_hosts=["gw.example.com"])
    assert (await at.call("GET", path, headers={"host": "probe.example"})).status_code == 200
