"""Discovery over HTTP: the same question from different places."""

from collections.abc import Mapping
from random import Random

import httpx

from service.core.cluster.node_selection import Listening, NodeSelection, announcement
from tests.fakes import START

from .stage import behind_proxy, house

INFO = "/api/b-client/websocket-info"


async def test_both_forms() -> None:
    at = house()
    answer = await at.call("GET", INFO)
    assert answer.status_code == 200
    assert answer.json() == {
        "websocket_url": "ws://127.0.0.1:8766",
        "websocket_host": "127.0.0.1",
        "websocket_port": 8766,
        "http_port": 8000,
        "environment": "development",
        "timestamp": int(START * 1000),
    }
    assert (await at.call("GET", "/api/b-client/info")).json() == {
        "success": True,
        "b_client_info": {
            "websocket": {"enabled": True, "host": "127.0.0.1", "port": 8766, "environment": "development"},
            "api_port": 8000,
            "websocket_port": 8766,
            "hostname": "box-1",
            "local_ip": "10.0.0.5",
            "environment": "development",
            "timestamp": int(START * 1000),
        },
    }


async def test_over_a_real_socket_the_address_is_the_one_that_was_asked() -> None:
    at = house()
    at.places.websocket_port = None
    async with at.serving() as base, httpx.AsyncClient(base_url=base) as caller:
        found = (await caller.get(INFO)).json()
        authority = base.removeprefix("http://")
        assert found["websocket_url"] == f"ws://{authority}/api/websocket"
        assert f"{found['websocket_host']}:{found['websocket_port']}" == authority
        found = (await caller.get(INFO, headers={"host": "[::1]:9000"})).json()
        assert (found["websocket_url"], found["websocket_host"]) == ("ws://[::1]:9000/api/websocket", "[::1]")


async def test_proxies_are_believed_where_they_are_trusted() -> None:
    said = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https", "x-forwarded-host": "push.example.com"}
    at = house(resolver=behind_proxy)
    found = (await at.call("GET", INFO, peer=("10.0.0.1", 1), headers=said)).json()
    assert found["websocket_url"] == "wss://push.example.com/api/websocket"
    found = (await at.call("GET", INFO, peer=("203.0.113.9", 1), headers=said)).json()
    assert found["websocket_url"] == "ws://127.0.0.1:8766"


async def test_a_prefix_that_a_proxy_took_off_is_kept() -> None:
    said = {"x-forwarded-proto": "https", "x-forwarded-host": "push.example.com", "x-forwarded-prefix": "/gw"}
    at = house(resolver=behind_proxy)
    found = (await at.call("GET", INFO, peer=("10.0.0.1", 1), headers=said)).json()
    assert found["websocket_url"] == "wss://push.example.com/gw/api/websocket"
    found = (await at.call("GET", INFO, peer=("203.0.113.9", 1), headers=said)).json()
    assert found["websocket_url"] == "ws://127.0.0.1:8766"


async def test_a_node_that_drains_says_so_instead_of_naming_itself() -> None:
    at = house()
    at.places.draining = True
    answer = await at.call("GET", INFO)
    assert answer.status_code == 503
    assert "draining" in answer.json()["error"]


async def test_ports_that_are_bound_later_are_the_ones_that_are_told() -> None:
    at = house()
    at.places.websocket_port = 54321
    assert (await at.call("GET", INFO)).json()["websocket_port"] == 54321


async def test_several_headers_of_one_name_are_one() -> None:
    seen: list[Mapping[str, str]] = []

    def resolver(peer: str, headers: Mapping[str, str], scheme: str) -> object:
        seen.append(headers)
        return behind_proxy(peer, headers, scheme)

    at = house(resolver=resolver)
    headers = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.9")]
    await at.call("GET", INFO, headers=headers)
    assert seen[0]["x-forwarded-for"].replace(" ", "") == "198.51.100.1,203.0.113.9"


async def test_where_nobody_takes_websockets_both_forms_say_so() -> None:
    at = house()
    at.places.takes_websockets = False
    at.places.node_selection = NodeSelection(list, Random(7))
    for path in (INFO, "/api/b-client/info"):
        answer = await at.call("GET", path)
        assert answer.status_code == 503
        assert set(answer.json()) == {"success", "error"}
        assert answer.json()["success"] is False
        assert answer.headers["retry-after"] == "1"
    # The page is there all the same, and may connect to its own host, on whatever port a node comes up there.
    page = await at.call("GET", "/")
    assert page.status_code == 200
    assert "connect-src 'self' ws://127.0.0.1:* wss://127.0.0.1:*;" in page.headers["content-security-policy"]


async def test_the_page_may_connect_to_every_node_that_may_be_named() -> None:
    at = house()
    states = [
        announcement(name, "websocket", Listening(port, ip, name), public_url=None, draining=False, load=0)
        for name, ip, port in (("box-1", "10.0.0.5", 8001), ("box-2", "10.0.0.6", 8001))
    ]
    at.places.takes_websockets = False
    at.places.node_selection = NodeSelection(lambda: states, Random(7))
    policy = (await at.call("GET", "/")).headers["content-security-policy"]
    assert "connect-src 'self' ws://127.0.0.1:8001 ws://10.0.0.6:8001 ws://127.0.0.1:* wss://127.0.0.1:*;" in policy
    named = {(await at.call("GET", INFO)).json()["websocket_url"] for _ in range(20)}
    assert named == {"ws://127.0.0.1:8001", "ws://10.0.0.6:8001"}
