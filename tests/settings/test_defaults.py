"""Defaults that depend on other settings, each by itself."""

from ipaddress import ip_address

import pytest

from service.settings import defaults

HERE = {"dyno": None, "tls_cert": None, "api_type": "combined", "environment": "development", "port": 8000}


@pytest.mark.parametrize(
    ("role", "api_type", "port"), [("api", "http", 8000), ("websocket", "websocket", 8001), ("all", "combined", 8000)]
)
def test_what_a_role_is_for(role: str, api_type: str, port: int) -> None:
    assert defaults.api_type({"service_role": role}) == api_type
    assert defaults.port({"service_role": role}) == port


@pytest.mark.parametrize(
    ("more", "websocket", "worker"),
    [
        ({}, 8766, 8765),
        ({"environment": "production"}, 8001, None),
        ({"environment": "production", "port": 3000}, 3001, None),
        ({"environment": "production", "port": 0}, 0, None),  # the system chooses both
        ({"dyno": "web.1"}, None, 8765),  # the platform opens one port only
        ({"tls_cert": "cert.pem"}, None, None),
        ({"api_type": "http"}, None, None),
        ({"api_type": "websocket"}, None, None),
    ],
)
def test_the_ports_beside_the_first(more: dict[str, object], websocket: int | None, worker: int | None) -> None:
    assert defaults.websocket_port(HERE | more) == websocket
    assert defaults.worker_port(HERE | more) == worker


@pytest.mark.parametrize(
    ("host", "url"), [("redis", "redis://redis:6380/0"), ("::1", "redis://[::1]:6380/0"), (None, None)]
)
def test_a_host_of_redis_becomes_its_url(host: str | None, url: str | None) -> None:
    made = defaults.redis_url({"redis_host": host, "redis_port": 6380})
    assert (made and made.get_secret_value()) == url


def test_only_in_development_this_machine_is_trusted() -> None:
    networks = defaults.own_machine_in_development({"environment": "development"})
    assert [any(ip_address(one) in network for network in networks) for one in ("127.9.9.9", "::1", "10.0.0.1")] == [
        True,
        True,
        False,
    ]
    assert defaults.own_machine_in_development({"environment": "production"}) == ()
    assert defaults.open_in_development({"environment": "development"})
    assert not defaults.open_in_development({"environment": "production"})


def test_a_name_has_only_what_keys_and_channels_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "häuschen:7 \x1b[1m" + "x" * 200)
    monkeypatch.setattr("os.getpid", lambda: 7)
    assert defaults.name({}) == ("h-uschen-7-1m" + "x" * 200)[:100] + "-7"
    monkeypatch.setattr("socket.gethostname", lambda: "")
    assert defaults.name({}) == "node-7"


def test_ports_that_a_part_of_the_gateway_does_not_open_are_ignored() -> None:
    assert defaults.ignored_ports("http") == ("WEBSOCKET_PORT", "WORKER_PORT")
    assert defaults.ignored_ports("websocket") == ("WEBSOCKET_PORT",)
    assert defaults.ignored_ports("combined") == ()
