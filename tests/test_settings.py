"""Every rule of the settings, by tables: what is accepted, what comes out, and in which words the rest is refused."""

import ast
import os
import re
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, ValidationError

from service.settings import Row, Settings, SettingsError, reference_markdown
from service.settings.defaults import api_type, port, websocket_port, worker_port
from service.settings.forms import Form
from service.settings.problems import in_words

ROOT = Path(__file__).resolve().parent.parent
KEY = "k3y-of-the-shop-4711"
PRODUCTION = {"ENVIRONMENT": "production"}
NAMES = [row.name for row in Settings.load({}).describe()]
SECRETS = ["PORTICO_API_KEYS", "WEBSOCKET_HANDSHAKE_KEY", "OPEN_API_KEY", "REDIS_URL"]


def problems(environ: dict[str, str], dotenv: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ, dotenv)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def row(settings: Settings, name: str) -> Row:
    return next(row for row in settings.describe() if row.name == name)


def attempt(environ: dict[str, str], dotenv: Path | None = None) -> tuple[Settings | None, list[str]]:
    try:
        return Settings.load(environ, dotenv), []
    except SettingsError as error:
        return None, error.problems


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


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
    "websocket_handshake_key": None,
    "duplicate_client": "replace",
    "outbound_limit": 1048576,
    "max_message_size": 1048576,
    "max_worker_message_size": 5242880,
    "max_connections": 0,
    "max_connections_per_address": 0,
    "max_connections_per_user": 0,
    "max_handshakes_per_second": 0,
    "max_messages_per_second": 0,
    "max_bytes_per_second": 0,
    "handshake_timeout": 5.0,
    "registration_timeout": 60.0,
    "ping_interval": 25.0,
    "pong_timeout": 10.0,
    "drain_seconds": 1.0,
    "worker_capacity": 16,
    "worker_timeout": 30.0,
    "queue_limit": 1000,
    "max_attempts": 3,
    "lb_strategy": "least_loaded",
    "cleanup_interval": 60.0,
    "extensions": (),
    "compression": False,
    "history_length": 1000,
    "history_ttl": 86400.0,
    "node_lease": 5.0,
    "ingress": True,
    "log_format": "console",
    "log_level": "info",
    "redis_host": None,
    "redis_port": 6379,
    "redis_url": None,
    "redis_prefix": "portico:",
    "open_api_key": None,
    "open_api_base_url": "https://api.openai.com/v1",
}
PRODUCTION_DEFAULTS = DEVELOPMENT_DEFAULTS | {
    "environment": "production",
    "websocket_port": 8001,
    "worker_port": None,
    "max_messages_per_second": 1000,
    "max_bytes_per_second": 4194304,
    "drain_seconds": 20.0,
    "log_format": "json",
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
        ({"ENVIRONMENT": "staging"}, "", "development"),
        ({"ENVIRONMENT": "staging", "PORT": "5000"}, "", "development"),
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


API = {"SERVICE_ROLE": "api", "REDIS_URL": "redis://r"}
WEBSOCKET = {"SERVICE_ROLE": "websocket", "REDIS_HOST": "r"}


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


REFUSALS = [
    ({"SERVICE_ROLE": "websocket", "API_TYPE": "http"}, "SERVICE_ROLE=websocket contradicts API_TYPE=http"),
    ({"SERVICE_ROLE": "websocket", "API_TYPE": "combined"}, "SERVICE_ROLE=websocket contradicts API_TYPE=combined"),
    ({"SERVICE_ROLE": "api", "API_TYPE": "websocket"}, "SERVICE_ROLE=api contradicts API_TYPE=websocket"),
    ({"SERVICE_ROLE": "api"}, "SERVICE_ROLE=api makes this process a part of a gateway, whose parts find one another"),
    ({"SERVICE_ROLE": "API"}, "set REDIS_URL, or leave SERVICE_ROLE and API_TYPE unset."),
    ({"PORTICO_EXTENSIONS": "a,b c"}, "PORTICO_EXTENSIONS has 'b c': write the name of a Python module"),
    ({"SERVICE_ROLE": "websocket"}, "SERVICE_ROLE=websocket makes this process a part of a gateway"),
    ({"API_TYPE": "http"}, "API_TYPE=http makes this process a part of a gateway"),
    ({"API_TYPE": "websocket"}, "API_TYPE=websocket makes this process a part of a gateway"),
    ({"PORTICO_WORKERS": "0"}, "PORTICO_WORKERS must be a whole number from 1 to 256, but it is '0'."),
    ({"PORTICO_WORKERS": "257"}, "PORTICO_WORKERS must be a whole number from 1 to 256"),
    ({"PORTICO_REDIS_PREFIX": "a b"}, "PORTICO_REDIS_PREFIX must be 1 to 64 letters, digits, colons, dots, hyphens"),
    ({"PORTICO_REDIS_PREFIX": "notifications:x"}, "PORTICO_REDIS_PREFIX must not begin with notifications:, which"),
    ({"SERVICE_ROLE": "web"}, "SERVICE_ROLE must be api or websocket, but it is 'web'."),
    ({"API_TYPE": "both"}, "API_TYPE must be combined, http or websocket, but it is 'both'."),
    ({"PORT": "65535"}, "PORT=65535 leaves no port above it for WebSockets"),
    ({"WEBSOCKET_PORT": "8000"}, "PORT and WEBSOCKET_PORT are both 8000 (PORT by default)"),
    ({"PORT": "8766", "ENVIRONMENT": "development"}, "are both 8766 (WEBSOCKET_PORT by default): set another port"),
    ({"PORT": "9000", "WORKER_PORT": "9000"}, "PORT and WORKER_PORT are both 9000: set another port, or WORKER_PORT"),
    ({"PORT": "9000", "WORKER_PORT": "9001"}, "WEBSOCKET_PORT and WORKER_PORT are both 9001 (WEBSOCKET_PORT by def"),
    ({"PORT": "65536"}, "PORT must be a port from 1 to 65535 (or 0: any free one), but it is '65536'."),
    ({"PORT": "-1"}, "PORT must be a port"),
    ({"PORT": "http"}, "PORT must be a port"),
    ({"PORT": "9" * 400}, "PORT must be a port"),
    ({"WEBSOCKET_PORT": "none"}, "any free one), or same, but it is 'none'."),
    ({"WEBSOCKET_PORT": "70000"}, "WEBSOCKET_PORT must be a port"),
    ({"WORKER_PORT": "same"}, "any free one), or off, but it is 'same'."),
    ({"HOST": "10.0.0.256"}, "HOST must be an address or a host name"),
    ({"HOST": "a b"}, "HOST must be an address or a host name"),
    ({"DEBUG": "maybe"}, "DEBUG must be true or false, but it is 'maybe'."),
    ({"REDIS_HOST": "redis://x"}, "REDIS_HOST must be an address or a host name"),
    ({"REDIS_PORT": "0"}, "REDIS_PORT must be a port from 1 to 65535, but it is '0'."),
    (
        {"REDIS_URL": "http://localhost"},
        "REDIS_URL must be a redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://",
    ),
    ({"REDIS_URL": "redis+sentinel://a,b"}, "must be a URL of sentinels and their master, such as redis+sentinel://"),
    ({"REDIS_URL": "redis+sentinel://a,/mymaster"}, "must be a URL of sentinels and their master"),
    ({"REDIS_URL": "redis+sentinel://a:x,b/mymaster"}, "must be a URL of sentinels and their master"),
    ({"REDIS_URL": "redis+sentinel://a,b/mymaster/one"}, "must be a URL of sentinels and their master"),
    ({"REDIS_URL": "redis+cluster://a:0"}, "must be a URL of nodes of a cluster, such as redis+cluster://c1:6379,"),
    ({"REDIS_URL": "rediss+cluster://a,b/1"}, "must be a URL of nodes of a cluster"),
    ({"REDIS_URL": "redis+ring://a,b"}, "REDIS_URL must be a redis://"),
    ({"REDIS_URL": "unix://socket"}, "REDIS_URL must be"),
    ({"OPEN_API_KEY": "two words"}, "OPEN_API_KEY must be printable ASCII characters without spaces."),
    ({"OPEN_API_BASE_URL": "api.openai.com"}, "OPEN_API_BASE_URL must be an http:// or https:// URL"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "https://gw.example.com"}, "must be a ws:// or wss:// URL with a host"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "wss://"}, "must be a ws:// or wss:// URL with a host"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "wss://gw:99999"}, "must be a ws:// or wss:// URL with a host"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "wss://gw:0"}, "must be a ws:// or wss:// URL with a host"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "wss://[::1"}, "must be a ws:// or wss:// URL with a host"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "ws://gw/#top"}, "PORTICO_PUBLIC_WEBSOCKET_URL must not hold a fragment"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "ws://a:b@gw"}, "must not hold a user name or password"),
    ({"PORTICO_TRUSTED_PROXIES": "proxy"}, "has 'proxy': write an address or a network"),
    ({"PORTICO_TRUSTED_PROXIES": "10.0.0.0/33"}, "has '10.0.0.0/33': write an address or a network"),
    ({"PORTICO_TRUSTED_PROXIES": "fe80::1%eth0"}, "has 'fe80::1%eth0': write an address or a network"),
    ({"PORTICO_TRUSTED_PROXIES": "10.0.0.5/8"}, "an address within a network: write 10.0.0.0/8 for the network."),
    ({"PORTICO_ALLOWED_ORIGINS": "example.com"}, "'example.com', which has no scheme: write https://example.com."),
    ({"PORTICO_ALLOWED_ORIGINS": "*.example.com"}, "which has no scheme: write https://*.example.com."),
    ({"PORTICO_ALLOWED_ORIGINS": "https://a.com/"}, "an origin ends with its host and port: write https://a.com."),
    ({"PORTICO_ALLOWED_ORIGINS": "https://a.com:0"}, "whose port is out of range"),
    ({"PORTICO_ALLOWED_ORIGINS": "https://a.com:65536"}, "whose port is out of range"),
    ({"PORTICO_ALLOWED_ORIGINS": "https://*"}, "write origins such as"),
    ({"PORTICO_ALLOWED_ORIGINS": "https://a.*.com"}, "write origins such as"),
    ({"PORTICO_ALLOWED_ORIGINS": "null"}, "has no scheme"),
    ({"PORTICO_ALLOWED_ORIGINS": "https://müller.de"}, "write the host as browsers send it (xn--…)"),
    ({"PORTICO_ALLOWED_ORIGINS": "http://[::g]"}, "write origins such as"),
    ({"PORTICO_ALLOWED_ORIGINS": "http://[1::2::3]"}, "which holds no valid IPv6 address"),
    ({"PORTICO_ALLOWED_ORIGINS": "http://10.0.0.999"}, "which holds no valid host"),
    ({"PORTICO_API_KEYS": "short"}, "has a key that is too short (number 1): use 16 characters or more."),
    ({"PORTICO_API_KEYS": f"{KEY},short"}, "has a key that is too short (number 2)"),
    ({"PORTICO_API_KEYS": "a key with several words"}, "has a key (number 1) that is not all printable ASCII"),
    ({"WEBSOCKET_HANDSHAKE_KEY": "\udcff"}, "WEBSOCKET_HANDSHAKE_KEY must be UTF-8 text."),
    ({"PORTICO_NAME": "a b"}, "PORTICO_NAME must be 1 to 128 letters, digits, dots, hyphens or underscores"),
    ({"PORTICO_NAME": "a" * 129}, "PORTICO_NAME must be"),
    ({"PORTICO_DUPLICATE_CLIENT": "drop"}, "PORTICO_DUPLICATE_CLIENT must be replace, keep or allow, but it is 'drop'"),
    ({"PORTICO_LB_STRATEGY": "best"}, "PORTICO_LB_STRATEGY must be least_loaded, round_robin, random or weighted"),
    ({"PORTICO_TLS_CERT": "/cert.pem"}, "PORTICO_TLS_CERT is set without PORTICO_TLS_KEY: set both, or neither."),
    ({"PORTICO_TLS_KEY": "/key.pem"}, "PORTICO_TLS_KEY is set without PORTICO_TLS_CERT: set both, or neither."),
    ({"PORTICO_LOG_FORMAT": "xml"}, "PORTICO_LOG_FORMAT must be json or console, but it is 'xml'."),
    ({"PORTICO_LOG_LEVEL": "loud"}, "PORTICO_LOG_LEVEL must be debug, info, warning, error or critical"),
]
_SECONDS = ("HANDSHAKE_TIMEOUT", "REGISTRATION_TIMEOUT", "PING_INTERVAL", "PONG_TIMEOUT", "WORKER_TIMEOUT")
for _name in (*_SECONDS, "HISTORY_TTL", "NODE_LEASE"):
    REFUSALS += [
        ({f"PORTICO_{_name}": bad}, f"PORTICO_{_name} must be a number of seconds, more than 0 and at most 86400")
        for bad in ("0", "-1", "86401", "nan", "inf", "1e999", "5s", "1,5")
    ]
for _name in ("MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_ADDRESS", "MAX_HANDSHAKES_PER_SECOND", "QUEUE_LIMIT"):
    REFUSALS += [
        ({f"PORTICO_{_name}": bad}, f"PORTICO_{_name} must be a whole number from 0")
        for bad in ("-1", "1.5", "many", "1" + 400 * "0")
    ]
for _name in ("COMPRESSION", "INGRESS"):
    REFUSALS += [({f"PORTICO_{_name}": bad}, f"PORTICO_{_name} must be true or false") for bad in ("maybe", "2")]
REFUSALS += [
    ({"PORTICO_HISTORY_LENGTH": "0"}, "PORTICO_HISTORY_LENGTH must be a whole number from 1"),
    ({"PORTICO_CLEANUP_INTERVAL": "0"}, "PORTICO_CLEANUP_INTERVAL must be a number of seconds"),
    ({"PORTICO_DRAIN_SECONDS": "-1"}, "PORTICO_DRAIN_SECONDS must be a number of seconds from 0 to 3600"),
    ({"PORTICO_DRAIN_SECONDS": "3601"}, "PORTICO_DRAIN_SECONDS must be a number of seconds from 0 to 3600"),
    ({"PORTICO_WORKER_CAPACITY": "0"}, "PORTICO_WORKER_CAPACITY must be a whole number from 1"),
    ({"PORTICO_MAX_ATTEMPTS": "0"}, "PORTICO_MAX_ATTEMPTS must be a whole number from 1"),
    ({"PORTICO_MAX_MESSAGES_PER_SECOND": "x"}, "PORTICO_MAX_MESSAGES_PER_SECOND must be a whole number from 0"),
    ({"PORTICO_MAX_BYTES_PER_SECOND": "x"}, "PORTICO_MAX_BYTES_PER_SECOND must be a whole number from 0"),
    ({"PORTICO_MAX_CONNECTIONS_PER_USER": "-1"}, "PORTICO_MAX_CONNECTIONS_PER_USER must be a whole number from 0"),
    ({"PORTICO_ADVERTISED_HOST": "ws://x"}, "PORTICO_ADVERTISED_HOST must be an address or a host name"),
    ({"PORTICO_OUTBOUND_LIMIT": "0"}, "PORTICO_OUTBOUND_LIMIT must be a whole number of bytes from 1 to 1073741824"),
    ({"PORTICO_MAX_MESSAGE_SIZE": "1MiB"}, "PORTICO_MAX_MESSAGE_SIZE must be a whole number of bytes"),
    ({"PORTICO_MAX_WORKER_MESSAGE_SIZE": "2000000000"}, "PORTICO_MAX_WORKER_MESSAGE_SIZE must be a whole number"),
]


@pytest.mark.parametrize(("environ", "sentence"), REFUSALS)
def test_what_is_refused_and_how(environ: dict[str, str], sentence: str) -> None:
    told = problems(environ)
    assert any(sentence in problem for problem in told), told
    assert all(problem.endswith((".", "?")) for problem in told)
    assert all(problem.isprintable() for problem in told)


def test_every_variable_that_can_be_refused_is_in_the_table() -> None:
    refused = {name for environ, sentence in REFUSALS for name in environ if name in sentence or len(environ) == 1}
    assert refused == set(NAMES) - {"ENVIRONMENT", "DYNO"}


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("HOST", "[::]", "host", "::"),
        ("HOST", "LocalHost", "host", "localhost"),
        ("DEBUG", "1", "debug", True),
        ("DEBUG", "False", "debug", False),
        ("PORTICO_PUBLIC_WEBSOCKET_URL", "wss://gw.example.com/ws", "public_websocket_url", "wss://gw.example.com/ws"),
        ("PORTICO_PUBLIC_WEBSOCKET_URL", "ws://[::1]:9000", "public_websocket_url", "ws://[::1]:9000"),
        ("PORTICO_TRUSTED_PROXIES", "10.0.0.5", "trusted_proxies", (ip_network("10.0.0.5/32"),)),
        (
            "PORTICO_TRUSTED_PROXIES",
            " 10.0.0.0/8, ::1 ,,10.0.0.0/8",
            "trusted_proxies",
            (ip_network("10.0.0.0/8"), ip_network("::1/128")),
        ),
        ("PORTICO_ALLOWED_ORIGINS", "*", "allowed_origins", ("*",)),
        ("PORTICO_ALLOWED_ORIGINS", "HTTPS://A.example:443", "allowed_origins", ("https://a.example",)),
        ("PORTICO_ALLOWED_ORIGINS", "http://localhost:5173", "allowed_origins", ("http://localhost:5173",)),
        ("PORTICO_ALLOWED_ORIGINS", "https://*.a.com:8443", "allowed_origins", ("https://*.a.com:8443",)),
        ("PORTICO_ALLOWED_ORIGINS", "http://[0:0::1]:80", "allowed_origins", ("http://[::1]",)),
        ("PORTICO_ALLOWED_ORIGINS", "app://a, app://b", "allowed_origins", ("app://a", "app://b")),
        ("PORTICO_API_KEYS", f"{KEY}, {KEY}2,{KEY}", "api_keys", (SecretStr(KEY), SecretStr(KEY + "2"))),
        ("PORTICO_API_KEYS", "k" * 16, "api_keys", (SecretStr("k" * 16),)),
        ("WEBSOCKET_HANDSHAKE_KEY", " söhne ", "websocket_handshake_key", SecretStr("söhne")),
        ("OPEN_API_KEY", "sk-1", "open_api_key", SecretStr("sk-1")),
        ("OPEN_API_BASE_URL", "http://127.0.0.1:11434/v1", "open_api_base_url", "http://127.0.0.1:11434/v1"),
        ("REDIS_URL", "rediss://:pw@redis.example:6380/1", "redis_url", SecretStr("rediss://:pw@redis.example:6380/1")),
        (
            "REDIS_URL",
            "rediss+sentinel://u:p,w@s1,[::1]:26380/mymaster/1?sentinel_password=pw",
            "redis_url",
            SecretStr("rediss+sentinel://u:p,w@s1,[::1]:26380/mymaster/1?sentinel_password=pw"),
        ),
        ("REDIS_URL", "redis+cluster://:pw@a,b:1", "redis_url", SecretStr("redis+cluster://:pw@a,b:1")),
        ("REDIS_URL", "unix:///run/redis.sock", "redis_url", SecretStr("unix:///run/redis.sock")),
        ("REDIS_HOST", "redis", "redis_url", SecretStr("redis://redis:6379/0")),
        ("REDIS_HOST", "::1", "redis_url", SecretStr("redis://[::1]:6379/0")),
        ("PORTICO_REDIS_PREFIX", "shop.gw:", "redis_prefix", "shop.gw:"),
        ("PORTICO_WORKERS", "4", "workers", 4),
        ("PORTICO_DUPLICATE_CLIENT", "Keep", "duplicate_client", "keep"),
        ("PORTICO_LB_STRATEGY", "weighted_random", "lb_strategy", "weighted_random"),
        ("PORTICO_LOG_FORMAT", "json", "log_format", "json"),
        ("PORTICO_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("DEBUG", "true", "log_level", "debug"),
        ("PORTICO_PING_INTERVAL", "0.5", "ping_interval", 0.5),
        ("PORTICO_DRAIN_SECONDS", "0", "drain_seconds", 0.0),
        ("PORTICO_MAX_MESSAGES_PER_SECOND", "7", "max_messages_per_second", 7),
        ("PORTICO_QUEUE_LIMIT", "0", "queue_limit", 0),
        ("API_TYPE", "combined", "api_type", "combined"),
    ],
)
def test_what_is_accepted(name: str, text: str, attribute: str, value: object) -> None:
    settings = Settings.load({name: text})
    assert getattr(settings, attribute) == value


def test_redis_by_url_wins_over_redis_by_host_and_port() -> None:
    both = {"REDIS_HOST": "one", "REDIS_PORT": "7000"}
    assert Settings.load(both).redis_url == SecretStr("redis://one:7000/0")
    assert Settings.load({**both, "REDIS_URL": "redis://two"}).redis_url == SecretStr("redis://two")


def test_the_platforms_router_is_a_trusted_proxy() -> None:
    router, own = ip_network("10.0.0.0/8"), ip_network("192.0.2.1/32")
    settings = Settings.load({"PORT": "5000", "DYNO": "web.1"})
    assert settings.trusted_proxies == (router,)
    assert row(settings, "PORTICO_TRUSTED_PROXIES").origin == "derived"
    with_own = Settings.load({"PORT": "5000", "DYNO": "web.1", "PORTICO_TRUSTED_PROXIES": "192.0.2.1"})
    assert with_own.trusted_proxies == (own, router)


def test_a_dyno_in_a_file_is_nobodys_platform(tmp_path: Path) -> None:
    settings = Settings.load({}, write(tmp_path / "env", "DYNO=web.1"))
    assert (settings.dyno, settings.websocket_port, settings.trusted_proxies) == (None, 8766, ())


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    dotenv = write(tmp_path / "env", "PORTICO_QUEUELIMIT=1\nPORTICO_QUEUE_LIMIT=-1\n")
    told = problems(
        {"PORT": "x", "API_TYPE": "http", "PORTICO_API_KEYS": "a,b", "PORTICO_ALLOWED_ORIGINS": "a,b"}, dotenv
    )
    starts = ["PORTICO_QUEUELIMIT", "API_TYPE", "PORT", *["PORTICO_ALLOWED_ORIGINS"] * 2, *["PORTICO_API_KEYS"] * 2]
    assert sorted(re.split("[ =]", problem)[0] for problem in told) == sorted([*starts, "PORTICO_QUEUE_LIMIT"])


def test_a_refused_port_is_not_compared_with_others() -> None:
    assert len(problems({"PORT": "x", "WEBSOCKET_PORT": "8000"})) == 1


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PORTICO_QUEUE_LIMITS", "PORTICO_QUEUE_LIMIT"),
        ("PORTICO_TRUSTED_PROXY", "PORTICO_TRUSTED_PROXIES"),
        ("PORTICO_PORT", "PORT"),
        ("PORTICO_REDIS_URL", "REDIS_URL"),
        ("portico_log_level", "PORTICO_LOG_LEVEL"),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_one(name: str, nearest: str, tmp_path: Path) -> None:
    sentence = "is not a setting of Portico: did you mean"
    secret = "tell-nobody"
    assert problems({name: secret}) == [f"{name} in the environment {sentence} {nearest}?"]
    assert problems({}, write(tmp_path / "env", f"{name}={secret}")) == [f"{name} in .env {sentence} {nearest}?"]


def test_an_unknown_name_is_safe_to_print() -> None:
    (told,) = problems({"PORTICO_\x1b[2J": "1"})
    assert told.startswith(r"'PORTICO_\x1b[2J' in the environment is not a setting")
    (told,) = problems({"PORTICO_" + "X" * 5000: "1"})
    assert len(told) < 200


def test_other_programs_variables_are_their_own_affair() -> None:
    assert Settings.load({"PATH": "/bin", "DATABASE_URL": "x", "PORTICOS": "2", "": "x"}) == Settings.load({})


LINKS = {
    "PORTICO_SERVICE_HOST": "10.0.0.1",
    "PORTICO_SERVICE_PORT": "8000",
    "PORTICO_SERVICE_PORT_HTTP": "8000",
    "PORTICO_PORT": "tcp://10.0.0.1:8000",
    "PORTICO_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "PORTICO_PORT_8000_TCP_ADDR": "10.0.0.1",
    "PORTICO_WEB_SERVICE_HOST": "10.0.0.2",
    "REDIS_PORT": "tcp://10.0.0.3:6379",
}


def test_what_kubernetes_sets_for_a_service_called_portico_is_ignored_there_only() -> None:
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.100"}
    assert Settings.load({**LINKS, **inside}) == Settings.load({})
    assert len(problems(LINKS)) == len(LINKS)
    assert len(problems({**inside, "PORTICO_SERVICE_HOSTS": "x"})) == 1
    assert Settings.load({**inside, "REDIS_HOST": "r", "REDIS_PORT": "7000"}).redis_port == 7000


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    text = '\ufeff# comment\nexport PORT=5000\nPORTICO_NAME="one"\nPORTICO_LOG_LEVEL=error # why\nHOST=::1\nOTHER=1\n'
    settings = Settings.load({"PORTICO_NAME": "two", "HOST": ""}, write(tmp_path / "env", text))
    assert (settings.port, settings.name, settings.log_level, settings.host) == (5000, "two", "error", "0.0.0.0")
    origins = {name: row(settings, name).origin for name in ("PORT", "PORTICO_NAME", "HOST", "WEBSOCKET_PORT")}
    assert origins == {
        "PORT": ".env",
        "PORTICO_NAME": "environment",
        "HOST": "default",
        "WEBSOCKET_PORT": "derived",
    }


def test_nothing_is_filled_in_from_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME_OF_TEST", "leak")
    settings = Settings.load({}, write(tmp_path / "env", "WEBSOCKET_HANDSHAKE_KEY=a${HOME_OF_TEST}$b\n"))
    assert settings.websocket_handshake_key == SecretStr("a${HOME_OF_TEST}$b")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PORT=5000\nnot a line\n", "Line 2 of {file} cannot be understood: write NAME=value"),
        (b"PORT='5000\n", "Line 1 of {file} cannot be understood"),
        (b"HOST\n", "Line 1 of {file} gives HOST no value: write HOST=value"),
        (b"HOST=\xff\n", "The file {file} is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_understood(content: bytes, sentence: str, tmp_path: Path) -> None:
    file = Path(os.path.relpath(tmp_path)) / "env"
    file.write_bytes(content)
    shown = sentence.partition("{file}")
    (told,) = problems({}, file)
    assert told.startswith(shown[0])
    assert shown[2] in told


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    (told,) = problems({}, tmp_path / "x")
    assert told.startswith("The file ")
    assert "cannot be read (No such file or directory)" in told
    assert len(problems({}, tmp_path)) == 1
    assert len(problems({}, Path("\0"))) == 1


def test_without_a_mapping_the_process_and_its_directory_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"PORTICO_NAME": "real"})
    assert Settings.load().name == "real"
    write(tmp_path / ".env", "HOST=::1\n")
    assert (Settings.load().name, Settings.load().host) == ("real", "::1")
    other = write(tmp_path / "other", "HOST=::2\n")
    assert Settings.load(dotenv=other).host == "::2"
    untouched = Settings.load({})
    assert (untouched.name == "real", untouched.host) == (False, "0.0.0.0")


def test_a_directory_called_dotenv_is_somebodys_virtual_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {})
    (tmp_path / ".env").mkdir()
    assert Settings.load().port == 8000


LOCKED = {**PRODUCTION, "PORTICO_API_KEYS": KEY}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        (LOCKED, []),
        ({"PORTICO_ALLOWED_ORIGINS": "*", "DEBUG": "true"}, []),
        (PRODUCTION, ["PORTICO_API_KEYS is not set, so in production the HTTP API answers 403", "workers are refused"]),
        ({**PRODUCTION, "WEBSOCKET_HANDSHAKE_KEY": "x"}, ["PORTICO_API_KEYS is not set"]),
        ({**LOCKED, "PORTICO_ALLOWED_ORIGINS": "*"}, ["every web page may connect"]),
        ({**LOCKED, "DEBUG": "true"}, ["DEBUG is on in production"]),
        ({"REDIS_URL": "redis://:geheim@r"}, []),
        ({"REDIS_HOST": "r"}, []),
        ({**API, "WEBSOCKET_PORT": "9000", "WORKER_PORT": "9001"}, ["WEBSOCKET_PORT is ignored", "WORKER_PORT is ig"]),
        (
            {**WEBSOCKET, "WEBSOCKET_PORT": "8001", "WORKER_PORT": "9001"},
            ["ignored where API_TYPE is websocket: it ta"],
        ),
        ({"REDIS_PORT": "7000"}, ["REDIS_PORT is set without REDIS_HOST"]),
        ({"ENVIRONMENT": "prod"}, ["ENVIRONMENT is 'prod', which counts as development"]),
        ({"PORTICO_TRUSTED_PROXIES": "::/0"}, ["PORTICO_TRUSTED_PROXIES trusts every address"]),
        ({**LOCKED, "DYNO": "web.1", "WEBSOCKET_PORT": "9000"}, ["WEBSOCKET_PORT=9000 can't be reached"]),
        ({**LOCKED, "DYNO": "web.1", "WORKER_PORT": "9000"}, ["WORKER_PORT=9000 can't be reached"]),
        ({"PORTICO_MAX_BYTES_PER_SECOND": "2621439"}, ["PORTICO_MAX_BYTES_PER_SECOND to 2621440 or more"]),
        ({"PORTICO_MAX_BYTES_PER_SECOND": "2621440"}, []),
    ],
)
def test_warnings(environ: dict[str, str], expected: list[str]) -> None:
    told = Settings.load(environ).warnings()
    assert len(told) == len(expected), told
    for sentence, part in zip(told, expected, strict=True):
        assert part in sentence
        assert sentence.endswith(".")


def test_secrets_are_never_shown() -> None:
    secret = "tell-nobody-4711-words"
    environ = {
        "PORTICO_API_KEYS": secret,
        "WEBSOCKET_HANDSHAKE_KEY": secret,
        "OPEN_API_KEY": secret,
        "REDIS_URL": f"redis://:{secret}@redis",
    }
    settings = Settings.load(environ)
    shown = [str(settings), repr(settings), settings.model_dump_json(), *settings.warnings()]
    assert secret not in " ".join([*shown, *map(repr, settings.describe())])
    for name in SECRETS:
        assert row(settings, name) == Row(name, "******** (set)", "environment")
        assert row(Settings.load({}), name).value == "(not set)"
    broken = {
        "PORTICO_API_KEYS": f"short,{secret} {secret}",
        "WEBSOCKET_HANDSHAKE_KEY": f"{secret}\udcff",
        "OPEN_API_KEY": f"{secret} {secret}",
        "REDIS_URL": f"https://{secret}",
        "PORTICO_PUBLIC_WEBSOCKET_URL": f"http://u:{secret}@x",
        "OPEN_API_BASE_URL": f"https://u:{secret}@x",
    }
    told = problems(broken)
    assert len(told) == len(broken) + 1
    assert secret not in " ".join(told)


def test_a_secret_that_pydantic_itself_refuses_is_not_quoted() -> None:
    class Strict(BaseModel):
        word: Annotated[SecretStr, Field(min_length=40), Form("40 characters or more")]
        count: Annotated[int, Form("a whole number")]

    values = {"word": "tell-nobody", "count": "x"}
    with pytest.raises(ValidationError) as caught:
        Strict.model_validate(values)
    assert in_words(caught.value, values, Strict.model_fields) == {
        "word": ["word must be 40 characters or more."],
        "count": ["count must be a whole number, but it is 'x'."],
    }


@pytest.mark.parametrize(
    ("environ", "name", "value"),
    [
        ({}, "WEBSOCKET_PORT", "8766"),
        ({"WEBSOCKET_PORT": "same"}, "WEBSOCKET_PORT", "same"),
        ({"WORKER_PORT": ""}, "WORKER_PORT", "off"),
        ({"DEBUG": "1"}, "DEBUG", "true"),
        ({}, "PORTICO_PING_INTERVAL", "25"),
        ({"PORTICO_PING_INTERVAL": "10000.01"}, "PORTICO_PING_INTERVAL", "10000.01"),
        ({"PORTICO_TRUSTED_PROXIES": "::1,10.0.0.0/8"}, "PORTICO_TRUSTED_PROXIES", "::1/128,10.0.0.0/8"),
        ({}, "PORTICO_TRUSTED_PROXIES", "(not set)"),
        ({}, "PORTICO_ALLOWED_ORIGINS", "(not set)"),
        ({"DYNO": "\x1b"}, "DYNO", r"'\x1b'"),
    ],
)
def test_values_are_described_as_one_writes_them(environ: dict[str, str], name: str, value: str) -> None:
    assert row(Settings.load(environ), name).value == value


def test_the_settings_never_change() -> None:
    settings = Settings.load({})
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]  # the mistake under test
    assert settings.port == 8000
    assert isinstance(hash(settings), int)


VALUES = st.one_of(
    st.text(max_size=40),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["same", "off", "*", "http", "api", "websocket", "true", "null", "https://", "://[", "a,b", "1/2"]),
    st.from_regex(r"(ws|wss|http|https|redis|unix)://[\[\]:@/#?%.a-z0-9*-]{0,20}", fullmatch=True),
    st.from_regex(r"[0-9a-f:.,/%*]{1,24}", fullmatch=True),
)
VARIABLES = st.one_of(st.sampled_from(NAMES), st.text(max_size=10).map(lambda end: "PORTICO_" + end))


@hypothesis_settings(deadline=None)
@given(st.dictionaries(VARIABLES, VALUES, max_size=8))
@example({"PORTICO_PUBLIC_WEBSOCKET_URL": "ws://℀.com"})
@example({"PORTICO_ALLOWED_ORIGINS": "https://a.com:٣"})
def test_whatever_the_environment_holds_only_sentences_come_out(environ: dict[str, str]) -> None:
    settings, told = attempt(environ)
    if settings is None:
        assert told
    else:
        rows = settings.describe()
        told = [*settings.warnings(), *(row.value for row in rows)]
        # What is shown can be written back, and means the same.
        masked = (*SECRETS, "DYNO")
        again = {row.name: row.value for row in rows if row.value != "(not set)" and row.name not in masked}
        again |= {name: environ[name] for name in masked if name in environ}
        assert Settings.load(again).model_dump() == settings.model_dump()
    for sentence in told:
        assert sentence.isprintable()


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_a_file_holds_only_sentences_come_out(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed"
    file.write_bytes(data)
    assert all(problem.isprintable() for problem in attempt({}, file)[1])


def test_the_committed_reference_is_what_the_code_says() -> None:
    committed = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert committed == reference_markdown(), "run: python -m service.settings > docs/reference/settings.md"
    for name in NAMES:
        assert committed.count(f"| `{name}` |") == 1


def test_the_generator_depends_on_the_code_alone(tmp_path: Path) -> None:
    write(tmp_path / ".env", "PORTICO_NONSENSE=1\n")
    environ = {"PORT": "no", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "service.settings"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode() == reference_markdown()


def test_the_environment_is_read_here_and_nowhere_else() -> None:
    readers = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "service").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {"environ", "getenv"} & {a.name for a in node.names}
        )
    }
    # The supervisor reads nothing of it: it hands all of it on to its children.
    assert readers == {"service/settings/sources.py", "service/supervision/child.py"}


def test_the_command_line_wins_and_a_port_typed_there_is_no_platform_s(tmp_path: Path) -> None:
    settings = Settings.load({"PORT": "3000", "ENVIRONMENT": "development"}, overrides={"PORT": "4000"})
    assert (settings.port, settings.origin("port")) == (4000, "command line")
    assert Settings.load({}, overrides={"PORT": "4000"}).environment == "development"
    with pytest.raises(SettingsError, match="WEBSOCKET_PORT"):
        Settings.load({}, overrides={"WEBSOCKET_PORT": "many"})
