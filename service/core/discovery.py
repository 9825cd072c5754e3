"""Discovery: where a client that asks from here should connect to. Pure: a question in, an answer out.

What is advertised must be reachable from where the question came, so it is made from the host that was asked for.
Over https the dedicated port is never advertised, since TLS ends at a proxy that serves the question's own port.
Source: protocol reference, "Discovery".
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

PATH: Final = "/api/websocket"
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(slots=True)
class Places:
    """Where this deployment listens. `websocket_port` is None where WebSockets share the HTTP port;
    `http_port` and `websocket_port` are the ports really bound. `public_url` is a ws(s) URL, or None."""

    environment: str
    hostname: str
    local_ip: str
    http_port: int
    websocket_port: int | None
    public_url: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """How the question came: the host (`name[:port]`, maybe empty) and scheme that the client used, proxies
    accounted for, and when (seconds since the epoch)."""

    host: str
    scheme: str
    at: float


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to connect to; `host` has its brackets if it is IPv6."""

    url: str
    host: str
    port: int
    http_port: int


def endpoint(places: Places, asked: Asked) -> Endpoint:
    """The WebSocket endpoint for whoever asked."""
    match = _AUTHORITY.fullmatch(asked.host)
    host = match.group(1) if match else _bracketed(places.local_ip)
    default = _DEFAULT_PORTS[asked.scheme]
    own_port = int(match.group(2)) if match and match.group(2) else None
    if own_port is not None and not 0 < own_port < 65536:
        own_port = None
    if places.public_url is not None:
        public = urlsplit(places.public_url)
        public_port = public.port or _DEFAULT_PORTS[public.scheme]
        return Endpoint(places.public_url, _bracketed(public.hostname or ""), public_port, own_port or places.http_port)
    if match is None:
        # Nobody said which host they asked for (HTTP/1.0, or nonsense): our own address is the best there is.
        own_port = own_port or places.http_port
    scheme = "wss" if asked.scheme == "https" else "ws"
    port = places.websocket_port
    if port is None or scheme == "wss":
        port = own_port or default
        authority = host if port == default else f"{host}:{port}"
        return Endpoint(
            f"{scheme}://{authority}{PATH}", host, port, port if places.websocket_port is None else places.http_port
        )
    return Endpoint(f"{scheme}://{host}:{port}", host, port, places.http_port)


def websocket_info(places: Places, asked: Asked) -> dict[str, object]:
    """The answer of `/api/b-client/websocket-info`."""
    found = endpoint(places, asked)
    return {
        "websocket_url": found.url,
        "websocket_host": found.host,
        "websocket_port": found.port,
        "http_port": found.http_port,
        "environment": places.environment,
        "timestamp": int(asked.at * 1000),
    }


def info(places: Places, asked: Asked) -> dict[str, object]:
    """The answer of `/api/b-client/info`."""
    found = endpoint(places, asked)
    return {
        "success": True,
        "b_client_info": {
            "websocket": {
                "enabled": True,
                "host": found.host,
                "port": found.port,
                "environment": places.environment,
            },
            "api_port": found.http_port,
            "websocket_port": found.port,
            "hostname": places.hostname,
            "local_ip": places.local_ip,
            "environment": places.environment,
            "timestamp": int(asked.at * 1000),
        },
    }


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
