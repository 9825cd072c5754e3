"""Who may use the routes for back ends."""

import pytest

from service.core.api_keys import SCOPES, ApiKey, digest_of
from service.http.table import ROUTES, Route

from .stage import BEARER, KEY, LOCAL, OUTSIDE, behind_proxy, house, no_proxies, problem

CLOSED = [route for route in ROUTES if not route.open]


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
    assert (await at.call(method, path, content=b"{", headers=BEARER)).status_code != 401


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
        assert (await at.call(method, path, content=b"{", headers=BEARER)).status_code not in (401, 403)


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


async def test_a_caller_of_this_machine_through_a_proxy_of_this_machine() -> None:
    at = house(resolver=behind_proxy)
    answer = await at.call("GET", "/api/workers", headers={"x-forwarded-for": "127.0.0.1"})
    assert answer.status_code == 200
    # What a trusted proxy elsewhere says of 127.0.0.1 is its own machine, not ours.
    answer = await at.call("GET", "/api/workers", peer=("10.0.0.1", 1), headers={"x-forwarded-for": "127.0.0.1"})
    assert answer.status_code == 403


async def test_a_page_that_may_not_is_refused_even_from_this_machine() -> None:
    at = house(allowed_origins=["https://shop.example.com"])
    answer = await at.call("GET", "/api/workers", headers={"origin": "https://evil.example.net"})
    assert problem(answer) == (403, "forbidden", None)
    answer = await at.call("GET", "/api/workers", headers={"origin": "https://shop.example.com"})
    assert answer.status_code == 200
