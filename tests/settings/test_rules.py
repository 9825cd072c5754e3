"""What involves more than one setting: what is allowed, and worth a warning."""

import pytest

from service.settings import Settings
from tests.settings.given import API, KEY, PRODUCTION, WEBSOCKET

SECRET = "0123456789abcdef0123456789abcdef"
TOKENS = {"PORTICO_AUTH": "required", "PORTICO_JWT_SECRET": SECRET}
LOCKED = {**PRODUCTION, **TOKENS, "PORTICO_API_KEYS": KEY}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        (LOCKED, []),
        ({"PORTICO_ALLOWED_ORIGINS": "*", "DEBUG": "true"}, []),
        ({**PRODUCTION, **TOKENS}, ["in production the HTTP API answers 403", "workers are refused"]),
        ({**PRODUCTION, "PORTICO_API_KEYS": KEY}, ["anybody may connect as any user"]),
        ({"PORTICO_JWT_SECRET": SECRET}, ["PORTICO_JWT_SECRET is set, but PORTICO_AUTH is off"]),
        ({**PRODUCTION, **TOKENS, "WEBSOCKET_HANDSHAKE_KEY": "x" * 16}, ["PORTICO_API_KEYS is not set"]),
        ({**LOCKED, "PORTICO_ALLOWED_ORIGINS": "*"}, ["every web page may connect"]),
        ({**LOCKED, "DEBUG": "true"}, ["DEBUG is on in production"]),
        ({"PORTICO_CONNECT_URL": "http://shop/who"}, ["PORTICO_CONNECT_URL is set, but PORTICO_AUTH is off"]),
        ({"PORTICO_WEBHOOK_URL": "http://shop/hook"}, ["PORTICO_WEBHOOK_URL is set without PORTICO_WEBHOOK_KEYS"]),
        ({"PORTICO_WEBHOOK_URL": "http://shop/hook", "PORTICO_WEBHOOK_KEYS": "k" * 32}, []),
        ({"REDIS_URL": "redis://:geheim@r"}, []),
        ({"REDIS_HOST": "r"}, []),
        ({**API, "WEBSOCKET_PORT": "9000", "WORKER_PORT": "9001"}, ["WEBSOCKET_PORT is ignored", "WORKER_PORT is ig"]),
        (
            {**WEBSOCKET, "WEBSOCKET_PORT": "8001", "WORKER_PORT": "9001"},
            ["ignored where API_TYPE is websocket: it ta"],
        ),
        ({"REDIS_PORT": "7000"}, ["REDIS_PORT is set without REDIS_HOST"]),
        ({"OPEN_API_KEY": "sk-abc"}, []),
        ({"OPEN_API_BASE_URL": "http://llm:1/v1"}, ["OPEN_API_BASE_URL is set without OPEN_API_KEY"]),
        ({"PORTICO_CHAT_MODEL": "m"}, ["PORTICO_CHAT_MODEL is set without OPEN_API_KEY, so nobody answers chat"]),
        ({**API, "OPEN_API_KEY": "sk-abc"}, ["OPEN_API_KEY is set, but this process takes no WebSockets"]),
        ({**WEBSOCKET, "OPEN_API_KEY": "sk-abc"}, []),
        ({**API, "PORTICO_TRUSTED_PROXIES": "10.0.0.1"}, ["set PORTICO_PUBLIC_WEBSOCKET_URL to the wss:// address"]),
        ({**API, "PORTICO_TRUSTED_PROXIES": "10.0.0.1", "PORTICO_PUBLIC_WEBSOCKET_URL": "wss://gw.example.com"}, []),
        ({**WEBSOCKET, "PORTICO_TRUSTED_PROXIES": "10.0.0.1"}, []),
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
