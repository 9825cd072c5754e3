"""What browsers are told about pages of other origins."""

import httpx
import pytest

from .stage import BEARER, KEY, house

SHOP = "https://shop.example.com"
RULES = {"allowed_origins": [SHOP, "https://*.example.org"], "production": True, "api_keys": [KEY]}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (SHOP, True),
        ("https://a.example.org", True),
        ("http://127.0.0.1:3000", True),  # the gateway's own host, any port
        ("https://evil.example.net", False),
        ("null", False),
        ("https://shop.example.com.evil.net", False),
    ],
)
@pytest.mark.parametrize("path", ["/api/b-client/websocket-info", "/nothing", "/livez"])
async def test_an_answer_says_which_pages_may_read_it(path: str, origin: str, allowed: bool) -> None:
    answer = await house(**RULES).call("GET", path, headers={"origin": origin})
    assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers


async def test_without_an_origin_nothing_is_said() -> None:
    answer = await house(**RULES).call("GET", "/livez")
    assert "access-control-allow-origin" not in answer.headers


async def test_in_development_any_page_may_unless_a_list_is_set() -> None:
    answer = await house().call("GET", "/api/health", headers={"origin": "http://localhost:5173"})
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"


async def test_a_refusal_can_be_read_by_the_page() -> None:
    answer = await house(**RULES).call("GET", "/api/workers", headers={"origin": SHOP})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, SHOP)


async def test_preflight() -> None:
    at = house(**RULES)
    asked = {"origin": SHOP, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with at.serving() as base, httpx.AsyncClient(base_url=base) as caller:
        # A browser sends no key with its question.
        answer = await caller.options("/api/notifications", headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert answer.headers["access-control-allow-methods"] == "OPTIONS, POST"
        assert "authorization" in answer.headers["access-control-allow-headers"]
        assert "content-type" in answer.headers["access-control-allow-headers"]

        event = {"target": {"all": True}, "type": "t"}
        answer = await caller.post("/api/notifications", json=event, headers={"origin": SHOP, **BEARER})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (202, SHOP)

        answer = await caller.options("/api/notifications", headers={**asked, "origin": "https://evil.example.net"})
        assert answer.status_code == 204
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_what_is_no_line_of_ascii_is_never_sent_back() -> None:
    at = house(allowed_origins=["*"])
    answer = await at.call("GET", "/livez", headers={"origin": b"https://\xe4.example"})
    assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (400, False)
