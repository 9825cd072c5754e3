from functools import partial
from typing import Any

import pytest

from portico import Client, Requester, Worker
from portico.client.address import discover, for_role, locate, websocket_address
from portico.client.errors import BadAddress, DiscoveryFailed
from tests.portico.client.fake_gateway import fake_http


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://localhost:8765", "ws://localhost:8765/worker"),
        ("ws://localhost:8765/", "ws://localhost:8765/worker"),
        ("wss://gw.example.com/ws", "wss://gw.example.com/ws"),
        ("ws://[::1]:8766", "ws://[::1]:8766/worker"),
    ],
)
def test_a_given_url_gets_the_role_s_path_only_where_it_names_none(url: str, expected: str) -> None:
    assert websocket_address(url, "/worker") == expected


def test_without_a_role_the_root_is_used() -> None:
    assert websocket_address("ws://localhost:8766") == "ws://localhost:8766/"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("ws://gw:8766", "ws://gw:8766/requester"),
        ("ws://gw:8000/api/websocket", "ws://gw:8000/requester"),
        ("wss://gw.example.com/portico/api/websocket", "wss://gw.example.com/portico/requester"),
        ("wss://gw.example.com/portico/ws", "wss://gw.example.com/portico/requester"),
        ("wss://gw.example.com/portico", "wss://gw.example.com/portico/requester"),
    ],
)
def test_a_discovered_url_keeps_a_proxy_s_prefix(found: str, expected: str) -> None:
    assert for_role(found, "/requester") == expected


@pytest.mark.parametrize(
    "url", ["", "localhost:8765", "http://localhost:8000", "ws://", "ws://host:99999", "ws://host:port", "ws://[::1"]
)
def test_what_is_no_websocket_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(BadAddress, match="ws://localhost"):
        websocket_address(url)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"base_url": "ws://localhost:8766"}, "A WebSocket address is given as url"),
        ({"url": "http://localhost:8000"}, "An HTTP address is given as base_url"),
        ({"base_url": "localhost:8000"}, "not an address like http://localhost:8000"),
        ({"base_url": "http://local host"}, "not an address like"),
        ({"base_url": "http://localhost\n"}, "not an address like"),
        ({"base_url": ""}, "not an address like"),
        ({"base_url": 8000}, "'8000' is not an address like"),
        ({"url": b"ws://localhost"}, "not an address like ws://localhost:8766"),
        ({"base_url": "http://localhost:8000/?a=b"}, "leave it out"),
        ({"base_url": "http://localhost:8000/#top"}, "leave it out"),
        ({}, "Give either base_url"),
    ],
)
@pytest.mark.parametrize("program", [Client, Requester, partial(Worker, commands={"echo": print})])
def test_all_three_say_what_is_wrong_with_an_address(program: Any, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadAddress) as caught:
        program(**given)
    assert sentence in str(caught.value)
    assert str(caught.value).isprintable()


async def test_a_proxy_s_prefix_may_be_part_of_the_base_url() -> None:
    asked: list[str] = []

    def answer(path: str) -> tuple[int, object]:
        asked.append(path)
        return 200, {"websocket_url": "ws://127.0.0.1:8766/portico/api/websocket"}

    async with fake_http(answer) as base_url:
        assert await locate(base_url=f"{base_url}/portico/", role_path="/worker").find() == (
            "ws://127.0.0.1:8766/portico/worker"
        )
    assert asked == ["/portico/api/b-client/websocket-info"]


def test_a_secret_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadAddress) as caught:
        websocket_address("ws://ann:sesame@host")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(("url", "base_url"), [(None, None), ("ws://a", "http://a")])
def test_exactly_one_address_is_wanted(url: str | None, base_url: str | None) -> None:
    with pytest.raises(BadAddress, match="either"):
        locate(url=url, base_url=base_url)


async def test_discovery_asks_the_gateway_and_answers_for_the_role() -> None:
    asked: list[str] = []

    def answer(path: str) -> tuple[int, object]:
        asked.append(path)
        return 200, {"websocket_url": "ws://127.0.0.1:8766/api/websocket", "websocket_port": 8766}

    async with fake_http(answer) as base_url:
        found = locate(base_url=base_url + "/", role_path="/worker")
        assert await found.find() == "ws://127.0.0.1:8766/worker"
        assert found.where == base_url + "/"
        assert await locate(base_url=base_url).find() == "ws://127.0.0.1:8766/api/websocket"
    assert asked == ["/api/b-client/websocket-info"] * 2


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (503, {"success": False, "error": "no node"}),
        (404, b"nothing here"),
        (200, b"<html>"),
        (200, b"\xff\xfe"),
        (200, b"[" * 50_000),
        (200, {"websocket_url": 5}),
        (200, {"websocket_url": "http://elsewhere"}),
        (200, {}),
        (200, []),
    ],
)
async def test_what_is_no_discovery_answer_is_one_clear_error(status: int, content: object) -> None:
    async with fake_http(lambda _: (status, content)) as base_url:
        with pytest.raises(DiscoveryFailed) as caught:
            await discover(base_url)
    assert base_url in str(caught.value)


async def test_nobody_there_is_the_same_error() -> None:
    async with fake_http(lambda _: (200, {})) as base_url:
        pass
    with pytest.raises(DiscoveryFailed, match="No answer from"):
        await discover(base_url)
