"""Where to connect, for whoever asks from wherever."""

from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.core.cluster.backplane import NodeState
from service.core.cluster.discovery import (
    DRAINING,
    NO_TLS,
    NOBODY,
    Asked,
    Places,
    endpoint,
    endpoints,
    info,
    websocket_info,
)
from service.core.cluster.node_selection import Listening, NodeSelection, announcement


def places(websocket_port: int | None = 8766, public_url: str | None = None, http_port: int = 8000) -> Places:
    return Places("development", "box-1", "10.0.0.5", http_port, websocket_port, public_url)


def told(at: Places, asked: Asked) -> dict[str, Any]:
    found = websocket_info(at, asked)
    assert not isinstance(found, str)
    return found


@pytest.mark.parametrize(
    ("port", "host", "scheme", "url"),
    [
        (8766, "gw.example.com:8000", "http", "ws://gw.example.com:8766"),
        (8766, "localhost:8000", "http", "ws://localhost:8766"),
        (8766, "127.0.0.1", "http", "ws://127.0.0.1:8766"),
        (8766, "[::1]:8000", "http", "ws://[::1]:8766"),
        (8766, "gw.example.com", "https", "wss://gw.example.com/api/websocket"),
        (8766, "gw.example.com:8443", "https", "wss://gw.example.com:8443/api/websocket"),
        (None, "gw.example.com:8000", "http", "ws://gw.example.com:8000/api/websocket"),
        (None, "gw.example.com", "http", "ws://gw.example.com/api/websocket"),
        (None, "gw.example.com:80", "http", "ws://gw.example.com/api/websocket"),
        (None, "gw.example.com", "https", "wss://gw.example.com/api/websocket"),
        (None, "[::1]", "http", "ws://[::1]/api/websocket"),
        # Nobody said which host: our own address.
        (8766, "", "http", "ws://10.0.0.5:8766"),
        (None, "", "http", "ws://10.0.0.5:8000/api/websocket"),
        (8766, "evil.com/path", "http", "ws://10.0.0.5:8766"),
        (8766, "user@evil.com", "http", "ws://10.0.0.5:8766"),
        (8766, "a b", "http", "ws://10.0.0.5:8766"),
        (8766, "\u202e", "http", "ws://10.0.0.5:8766"),
    ],
)
def test_what_is_advertised(port: int | None, host: str, scheme: str, url: str) -> None:
    found = told(places(port), Asked(host, scheme, 1732000000.5))
    assert found["websocket_url"] == url
    parts = urlsplit(url)
    assert found["websocket_port"] == (parts.port or (443 if parts.scheme == "wss" else 80))
    assert str(found["websocket_host"]).strip("[]") == parts.hostname
    assert ":" not in str(found["websocket_host"]).strip("[]") or str(found["websocket_host"]).startswith("[")


@pytest.mark.parametrize("host", ["gw.example.com", "gw.example.com:0", "gw.example.com:99999"])
def test_a_port_that_is_none_is_the_scheme_s(host: str) -> None:
    found = endpoint(places(None), Asked(host, "http", 0))
    assert not isinstance(found, str)
    assert found.port == 80


@pytest.mark.parametrize("websocket_port", [8766, None])
@pytest.mark.parametrize("base", ["http://gw.example.com", "http://127.0.0.1", "http://[::1]"])
def test_the_three_ways_in_which_clients_build_the_address_agree(websocket_port: int | None, base: str) -> None:
    found = told(places(websocket_port, http_port=80), Asked(urlsplit(base).netloc, "http", 0))
    url = urlsplit(str(found["websocket_url"]))
    by_parts = urlsplit(f"ws://{found['websocket_host']}:{found['websocket_port']}")
    by_base = urlsplit(f"ws://{base.removeprefix('http://')}:{found['websocket_port']}")
    assert (by_parts.hostname, by_parts.port) == (url.hostname, url.port or 80)
    assert (by_base.hostname, by_base.port) == (url.hostname, url.port or 80)


@pytest.mark.parametrize(
    ("public", "host", "port"),
    [
        ("wss://push.example.com", "push.example.com", 443),
        ("ws://push.example.com/x", "push.example.com", 80),
        ("wss://[2001:db8::1]:9000/ws", "[2001:db8::1]", 9000),
    ],
)
def test_the_public_url_goes_before_all(public: str, host: str, port: int) -> None:
    found = told(places(public_url=public), Asked("localhost:8000", "http", 0))
    assert (found["websocket_url"], found["websocket_host"], found["websocket_port"]) == (public, host, port)


def test_both_forms_have_every_field() -> None:
    asked = Asked("gw.example.com:8000", "http", 1732000000.123)
    assert websocket_info(places(), asked) == {
        "websocket_url": "ws://gw.example.com:8766",
        "websocket_host": "gw.example.com",
        "websocket_port": 8766,
        "http_port": 8000,
        "environment": "development",
        "timestamp": 1732000000123,
    }
    assert info(places(), asked) == {
        "success": True,
        "b_client_info": {
            "websocket": {"enabled": True, "host": "gw.example.com", "port": 8766, "environment": "development"},
            "api_port": 8000,
            "websocket_port": 8766,
            "hostname": "box-1",
            "local_ip": "10.0.0.5",
            "environment": "development",
            "timestamp": 1732000000123,
        },
    }


HERE = Listening(8001, "10.0.0.5", "box-1")
THERE = Listening(8001, "10.0.0.6", "box-2")


def split(*nodes: tuple[str, Listening | None, dict[str, Any]], public_url: str | None = None) -> Places:
    """The Places of a process for HTTP, and others that take WebSockets."""
    states: list[NodeState] = [announcement("api", "api", None, public_url=None, draining=False, load=0)]
    for name, listening, more in nodes:
        said: dict[str, Any] = {"public_url": None, "draining": False, "load": 0, **more}
        states.append(announcement(name, "websocket", listening, **said))
    selection = NodeSelection(lambda: states, Random(7))
    return Places("production", "box-1", "10.0.0.5", 8000, None, public_url, selection, takes_websockets=False)


@pytest.mark.parametrize(
    ("listening", "host", "scheme", "url"),
    [
        # On the same machine: by the name that the question came by.
        (HERE, "gw.example.com:8000", "http", "ws://gw.example.com:8001"),
        (HERE, "127.0.0.1:8000", "http", "ws://127.0.0.1:8001"),
        (HERE, "[::1]:8000", "http", "ws://[::1]:8001"),
        (Listening(8001, "127.0.0.1", "box-2"), "localhost:8000", "http", "ws://localhost:8001"),
        (Listening(8001, "::1", "box-2"), "localhost:8000", "http", "ws://localhost:8001"),
        (HERE, "", "http", "ws://10.0.0.5:8001"),
        # NodeSelection: by its own address, or what its operator says.
        (THERE, "gw.example.com:8000", "http", "ws://10.0.0.6:8001"),
        (THERE, "", "http", "ws://10.0.0.6:8001"),
        (Listening(8001, "2001:db8::6", "box-2"), "gw.example.com", "http", "ws://[2001:db8::6]:8001"),
        (Listening(8001, "10.0.0.6", "box-2", "ws-2.example.com"), "gw:8000", "http", "ws://ws-2.example.com:8001"),
        (Listening(8001, "10.0.0.5", "box-1", "ws-1.example.com"), "gw:8000", "http", "ws://ws-1.example.com:8001"),
        # With TLS of its own, however the question came.
        (Listening(8001, "10.0.0.6", "box-2", "ws.example.com", True), "gw", "https", "wss://ws.example.com:8001"),
        (Listening(8001, "10.0.0.6", "box-2", "ws.example.com", True), "gw", "http", "wss://ws.example.com:8001"),
    ],
)
def test_where_others_take_the_websockets_one_of_them_is_named(
    listening: Listening, host: str, scheme: str, url: str
) -> None:
    at = split(("ws-1", listening, {}))
    asked = Asked(host, scheme, 0)
    found = told(at, asked)
    assert found["websocket_url"] == url
    parts = urlsplit(url)
    assert found["websocket_port"] == (parts.port or 443)
    assert found["websocket_host"].strip("[]") == parts.hostname
    assert found["http_port"] == 8000
    assert [place.url for place in endpoints(at, asked)] == [url]
    old = info(at, asked)
    assert not isinstance(old, str)


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [("ws-1", HERE, {"draining": True})],
        [("api-2", None, {})],
    ],
)
def test_where_nobody_takes_websockets_nobody_is_named(nodes: list[tuple[str, Listening | None, Any]]) -> None:
    at = split(*nodes)
    asked = Asked("gw.example.com:8000", "http", 0)
    assert websocket_info(at, asked) == NOBODY
    assert info(at, asked) == NOBODY
    assert endpoints(at, asked) == []


def test_over_https_a_process_for_http_names_only_who_can_be_reached() -> None:
    asked = Asked("gw.example.com", "https", 0)
    plain = split(("ws-1", HERE, {}), ("ws-2", THERE, {}))
    assert websocket_info(plain, asked) == NO_TLS
    assert info(plain, asked) == NO_TLS
    assert endpoints(plain, asked) == []
    # One that speaks TLS, and one that has an address of its own, are named; the other never.
    for good in (
        ("ws-3", Listening(8001, "10.0.0.7", "box-3", "ws-3.example.com", tls=True), {}),
        ("ws-3", THERE, {"public_url": "wss://ws-3.example.com:8001"}),
    ):
        at = split(("ws-1", HERE, {}), good)
        assert {told(at, asked)["websocket_url"] for _ in range(20)} == {"wss://ws-3.example.com:8001"}
    assert websocket_info(split(("ws-1", HERE, {"draining": True})), asked) == NOBODY


def test_a_node_that_drains_names_another_or_nobody() -> None:
    states = [announcement("ws-1", "websocket", HERE, public_url=None, draining=True, load=0)]
    at = Places("production", "box-1", "10.0.0.5", 8001, None, None, NodeSelection(lambda: states, Random(7)))
    asked = Asked("gw.example.com:8001", "http", 0)
    assert told(at, asked)["websocket_url"] == "ws://gw.example.com:8001/api/websocket"
    at.draining = True
    assert websocket_info(at, asked) == DRAINING
    assert endpoints(at, asked) == []
    states.append(announcement("ws-2", "websocket", THERE, public_url=None, draining=False, load=0))
    assert told(at, asked)["websocket_url"] == "ws://10.0.0.6:8001"
    # Behind a proxy with TLS: the question's own port, where the proxy has the others to choose from.
    assert told(at, Asked("gw.example.com", "https", 0))["websocket_url"] == "wss://gw.example.com/api/websocket"
    at.public_url = "wss://push.example.com"
    assert told(at, asked)["websocket_url"] == "wss://push.example.com"
    states.pop()
    assert websocket_info(at, asked) == DRAINING


def test_what_a_proxy_took_off_the_path_is_in_the_address_that_leads_through_it() -> None:
    for scheme, port, url in (
        ("https", 8766, "wss://gw.example.com/gw/api/websocket"),
        ("http", None, "ws://gw.example.com/gw/api/websocket"),
        ("http", 8766, "ws://gw.example.com:8766"),
    ):
        assert told(places(port), Asked("gw.example.com", scheme, 0, "/gw"))["websocket_url"] == url


def test_a_public_url_goes_before_the_nodes_and_each_may_have_its_own() -> None:
    asked = Asked("gw.example.com:8000", "http", 0)
    assert told(split(public_url="wss://push.example.com"), asked)["websocket_url"] == "wss://push.example.com"
    own = split(("ws-1", HERE, {"public_url": "wss://ws-1.example.com/x"}))
    found = told(own, asked)
    assert (found["websocket_url"], found["websocket_host"], found["websocket_port"]) == (
        "wss://ws-1.example.com/x",
        "ws-1.example.com",
        443,
    )
