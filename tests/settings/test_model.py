"""What the settings are where nothing is said, and what follows from what is."""

import os
import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from service.settings import Settings
from service.settings.defaults import api_type, port, websocket_port, worker_port
from tests.settings.given import API, PRODUCTION, WEBSOCKET, row, write

DEVELOPMENT_DEFAULTS = {
    "environment": "development",
    "service_role": None,
    "api_type": "combined",
    "workers": 1,
    "debug": False,
    "dyno": None,
    "host": "0.0.0.0",
    "port": 8000,
    "http_port": 8000,
    "websocket_port": 8766,
    "worker_port": 8765,
    "tls_cert": None,
    "tls_key": None,
    "public_websocket_url": None,
    "advertised_host": None,
    "trusted_proxies": (),
    "allowed_origins": None,
    "api_keys": (),
    "api_keys_file": None,
    "websocket_handshake_key": None,
    "auth": "off",
    "jwt_secret": None,
    "jwt_public_keys": None,
    "jwks_url": None,
    "connect_url": None,
    "connect_headers": ("authorization", "cookie", "origin", "sec-websocket-protocol", "user-agent"),
    "connect_timeout": 5.0,
    "announce_others": False,
    "webhook_url": None,
    "webhook_networks": (ip_network("127.0.0.0/8"), ip_network("::1/128")),
    "webhook_timeout": 10.0,
    "webhook_give_up": 86400.0,
    "webhook_outbox": 100_000,
    "event_stream": 0,
    "relay_types": ("*", "-"),
    "offline_seconds": 10.0,
    "webhook_keys": (),
    "token_issuer": None,
    "token_audience": (),
    "token_leeway": 30.0,
    "open_requesters": True,
    "open_users": True,
    "open_metrics": True,
    "page": True,
    "hsts": 0,
    "duplicate_client": "replace",
    "outbound_limit": 1048576,
    "slow_seconds": 5.0,
    "outbound_hard_limit": 33554432,
    "outbound_total_limit": 268435456,
    "max_message_size": 1048576,
    "max_worker_message_size": 5242880,
    "max_requester_message_size": 5242880,
    "max_connections": 0,
    "max_connections_per_address": 0,
    "max_connections_per_user": 0,
    "max_handshakes_per_second": 0,
    "max_http_requests_per_second": 0,
    "max_messages_per_second": 0,
    "max_bytes_per_second": 0,
    "handshake_timeout": 5.0,
    "registration_timeout": 60.0,
    "ping_interval": 25.0,
    "pong_timeout": 10.0,
    "drain_seconds": 1.0,
    "worker_capacity": 16,
    "worker_timeout": 30.0,
    "max_request_timeout": 3600.0,
    "queue_limit": 1000,
    "queue_bytes": 64 << 20,
    "max_attempts": 3,
    "lb_strategy": "least_loaded",
    "cleanup_interval": 60.0,
    "extensions": (),
    "app": None,
    "app_timeout": 30.0,
    "app_concurrency": 1000,
    "app_threads": 32,
    "app_max_body": 16 << 20,
    "compression": False,
    "h2c": False,
    "allowed_hosts": None,
    "access_log": False,
    "advise_split_at": 1000,
    "advise_streams_at": 10_000,
    "audit_log": "off",
    "history_length": 1000,
    "history_ttl": 86400.0,
    "history_bytes": 134_217_728,
    "node_lease": 5.0,
    "ingress": True,
    "log_format": "console",
    "log_level": "info",
    "tls_client_ca": None,
    "quotas": (),
    "redirect_port": None,
    "redis_host": None,
    "redis_port": 6379,
    "redis_url": None,
    "redis_prefix": "portico:",
    "open_api_key": None,
    "open_api_base_url": "https://api.openai.com/v1",
    "chat_model": "gpt-4o-mini",
    "chat_models": (),
    "chat_max_tokens": 4096,
    "chat_max_messages": 200,
    "chat_max_characters": 200_000,
    "chat_concurrency": 16,
    "chat_connect_timeout": 10.0,
    "chat_first_token_timeout": 60.0,
    "chat_stall_timeout": 30.0,
}


PRODUCTION_DEFAULTS = DEVELOPMENT_DEFAULTS | {
    "environment": "production",
    "websocket_port": 8001,
    "worker_port": None,
    "webhook_networks": (),
    "open_requesters": False,
    "open_users": False,
    "max_messages_per_second": 1000,
    "max_connections_per_address": 2000,
    "max_handshakes_per_second": 1000,
    "max_bytes_per_second": 4194304,
    "drain_seconds": 20.0,
    "log_format": "json",
    "audit_log": "stderr",
}


@pytest.mark.parametrize(("environ", "expected"), [({}, DEVELOPMENT_DEFAULTS), (PRODUCTION, PRODUCTION_DEFAULTS)])
def test_the_defaults(environ: dict[str, str], expected: dict[str, object]) -> None:
    settings = Settings.load(environ)
    assert {name: getattr(settings, name) for name in expected} == expected
    assert set(Settings.model_fields) | {"http_port"} == {*expected, "name"}
    assert settings.production is (settings.environment == "production")


def test_the_nodes_name_is_the_host_and_the_process() -> None:
    assert re.fullmatch(rf"[A-Za-z0-9._-]+-{os.getpid()}", Settings.load({}).name)
    assert Settings.load({"PORTICO_NAME": "gw-1.eu_west"}).name == "gw-1.eu_west"


@pytest.mark.parametrize(
    ("environ", "dotenv", "expected"),
    [
        ({}, "", "development"),
        ({"PORT": "5000"}, "", "production"),
        ({"PORT": "0"}, "", "production"),
        ({"PORT": ""}, "", "development"),
        ({}, "PORT=5000", "development"),
        ({"PORT": "5000"}, "PORT=6000", "production"),
        ({"PORT": "5000", "ENVIRONMENT": "development"}, "", "development"),
        ({"PORT": "5000"}, "ENVIRONMENT=development", "development"),
        ({"PORT": "5000", "ENVIRONMENT": ""}, "", "production"),
        ({}, "ENVIRONMENT=production", "production"),
        ({"ENVIRONMENT": "Production"}, "", "production"),
    ],
)
def test_which_environment_it_is(environ: dict[str, str], dotenv: str, expected: str, tmp_path: Path) -> None:
    settings = Settings.load(environ, write(tmp_path / "env", dotenv))
    assert settings.environment == expected


@pytest.mark.parametrize(
    ("environ", "ports"),
    [
        ({"PORT": "3000"}, (3000, 3001, None)),
        ({"PORT": "3000", "ENVIRONMENT": "development"}, (3000, 8766, 8765)),
        ({"WEBSOCKET_PORT": "same"}, (8000, None, 8765)),
        ({"WEBSOCKET_PORT": "SAME"}, (8000, None, 8765)),
        ({"WEBSOCKET_PORT": " 9001 "}, (8000, 9001, 8765)),
        ({"WORKER_PORT": "off"}, (8000, 8766, None)),
        ({"WORKER_PORT": ""}, (8000, 8766, None)),
        ({"WORKER_PORT": "9002", **PRODUCTION}, (8000, 8001, 9002)),
        ({"PORT": "0", "WEBSOCKET_PORT": "0", "WORKER_PORT": "0"}, (0, 0, 0)),
        ({"PORT": "0"}, (0, 0, None)),
        ({"PORT": "0", "ENVIRONMENT": "development"}, (0, 8766, 8765)),
        ({"PORT": "5000", "DYNO": "web.1"}, (5000, None, None)),
        ({"PORT": "5000", "DYNO": "web.1", "WEBSOCKET_PORT": "5001"}, (5000, 5001, None)),
        ({"PORT": "65535", "WEBSOCKET_PORT": "same"}, (65535, None, None)),
    ],
)
def test_the_ports(environ: dict[str, str], ports: tuple[int, int | None, int | None]) -> None:
    settings = Settings.load(environ)
    assert (settings.port, settings.websocket_port, settings.worker_port) == ports


@pytest.mark.parametrize(
    ("role", "given_type", "derived"),
    [
        (None, None, ("combined", 8000, 8766, 8765)),
        ("api", None, ("http", 8000, None, None)),
        ("api", "combined", ("combined", 8000, 8766, 8765)),
        ("websocket", None, ("websocket", 8001, None, None)),
    ],
)
def test_what_a_role_implies(role: str | None, given_type: str | None, derived: tuple[object, ...]) -> None:
    known: dict[str, object] = {"environment": "development", "dyno": None, "tls_cert": None, "service_role": role}
    known["api_type"] = given_type or api_type(known)
    known["port"] = port(known)
    assert (known["api_type"], known["port"], websocket_port(known), worker_port(known)) == derived


@pytest.mark.parametrize(
    ("environ", "ports"),
    [
        (API, (8000, None, None)),
        (WEBSOCKET, (8001, None, None)),
        ({**API, "PORT": "9000", "WEBSOCKET_PORT": "9000", "WORKER_PORT": "9001"}, (9000, None, None)),
        ({**WEBSOCKET, "PORT": "9000", "WEBSOCKET_PORT": "9000", "WORKER_PORT": "9001"}, (9000, None, 9001)),
        ({"API_TYPE": "http", "REDIS_URL": "unix:///run/redis"}, (8000, None, None)),
    ],
)
def test_the_ports_of_a_part(environ: dict[str, str], ports: tuple[object, ...]) -> None:
    settings = Settings.load(environ)
    assert (settings.port, settings.websocket_port, settings.worker_port) == ports


def test_the_api_role_with_both_kinds_is_one_process() -> None:
    settings = Settings.load({"SERVICE_ROLE": "api", "API_TYPE": "combined"})
    assert (settings.api_type, settings.port, settings.websocket_port) == ("combined", 8000, 8766)


def test_redis_by_url_wins_over_redis_by_host_and_port() -> None:
    both = {"REDIS_HOST": "one", "REDIS_PORT": "7000"}
    assert Settings.load(both).redis_url == SecretStr("redis://one:7000/0")
    assert Settings.load({**both, "REDIS_URL": "redis://two"}).redis_url == SecretStr("redis://two")


def test_the_platforms_router_is_a_trusted_proxy() -> None:
    router, own = ip_network("10.0.0.0/8"), ip_network("192.0.2.1/32")
    settings = Settings.load({"PORT": "5000", "DYNO": "web.1"})
    assert settings.trusted_proxies == (router,)
    assert row(settings, "PORTICO_TRUSTED_PROXIES").source == "derived"
    with_own = Settings.load({"PORT": "5000", "DYNO": "web.1", "PORTICO_TRUSTED_PROXIES": "192.0.2.1"})
    assert with_own.trusted_proxies == (own, router)


def test_a_dyno_in_a_file_is_nobodys_platform(tmp_path: Path) -> None:
    settings = Settings.load({}, write(tmp_path / "env", "DYNO=web.1"))
    assert (settings.dyno, settings.websocket_port, settings.trusted_proxies) == (None, 8766, ())


def test_the_settings_never_change() -> None:
    settings = Settings.load({})
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]  # the mistake under test
    assert settings.port == 8000
    assert isinstance(hash(settings), int)
