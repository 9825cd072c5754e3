"""Discovery: where a client that asks from here should connect to. Pure: a question in, an answer out.

What is advertised must be reachable from where the question came, so it is made from the host that was asked for.
Over https a port without TLS is never advertised, since TLS ends at a proxy that serves the question's own port. Where
this process takes no WebSockets, or no more since it drains, another node is named, or nobody: then the answer is a
sentence that says why.
Source: protocol reference, "Discovery".
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from .backplane import NodeState
from .node_selection import Listening, NodeSelection

PATH: Final = "/api/websocket"
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

NOBODY: Final = "No node takes WebSockets now: none is connected to Redis, or all are draining. Try again in a moment."
DRAINING: Final = "This node is draining, and no other takes WebSockets. Try again in a moment."
NO_TLS: Final = (
    "You asked over https, and no node that takes WebSockets speaks TLS: the operator has to set "
    "PORTICO_PUBLIC_WEBSOCKET_URL to the wss:// address at which the proxy serves them."
)


@dataclass(slots=True)
class Places:
    """Where this deployment listens. `websocket_port` is None where WebSockets share the HTTP port;
    `http_port` and `websocket_port` are the ports really bound. `public_url` is a ws(s) URL, or None.
    `node_selection`: of the nodes that take WebSockets; None where there are no others. `takes_websockets`: whether
    this process is one; while it is `draining` it takes none any more. `tls`: its ports speak TLS by themselves."""

    environment: str
    hostname: str
    local_ip: str
    http_port: int
    websocket_port: int | None
    public_url: str | None
    node_selection: NodeSelection | None = None
    takes_websockets: bool = True
    draining: bool = False
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """How the question came: the host (`name[:port]`, maybe empty) and scheme that the client used, proxies
    accounted for, and when (seconds since the epoch). `prefix`: what proxies took off the path, such as `/gw`."""

    host: str
    scheme: str
    at: float
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to connect to; `host` has its brackets if it is IPv6."""

    url: str
    host: str
    port: int
    http_port: int


def endpoint(places: Places, asked: Asked) -> Endpoint | str:
    """The WebSocket endpoint for a client that asked so; if no node takes WebSockets now, a sentence that says why."""
    if _names_itself(places):
        return _ours(places, asked)
    usable = _usable(places, asked)
    chosen = None if places.node_selection is None else places.node_selection.choose(usable)
    if chosen is not None:
        return _theirs(places, asked, *chosen)
    if places.draining:
        return DRAINING
    return NO_TLS if places.node_selection is not None and places.node_selection.open_now() else NOBODY


def endpoints(places: Places, asked: Asked) -> list[Endpoint]:
    """Every endpoint that `endpoint` may give to the same question."""
    if _names_itself(places):
        return [_ours(places, asked)]
    if places.node_selection is None:
        return []
    usable = _usable(places, asked)
    return [_theirs(places, asked, *found) for found in places.node_selection.open_now() if usable(*found)]


def _names_itself(places: Places) -> bool:
    if places.draining:
        return False
    return places.takes_websockets or places.public_url is not None


def _usable(places: Places, asked: Asked) -> Callable[[NodeState, Listening], bool]:
    """Whether a node can be reached from where the question came."""

    def usable(state: NodeState, listening: Listening) -> bool:
        # Over https the port that was asked is a proxy's, and the proxy leads to this process. So the address works for
        # another node only if this process takes WebSockets too; if the proxy leads them elsewhere, only a public URL,
        # which the operator sets, can say where.
        return asked.scheme != "https" or places.takes_websockets or listening.tls or state.websocket_url is not None

    return usable


def _ours(places: Places, asked: Asked) -> Endpoint:
    host, own_port = _asked_for(places, asked)
    if places.public_url is not None:
        return _public(places.public_url, own_port or places.http_port)
    port = places.websocket_port
    if port is not None and (places.tls or asked.scheme != "https"):
        return Endpoint(f"{'wss' if places.tls else 'ws'}://{host}:{port}", host, port, places.http_port)
    port = own_port or _DEFAULT_PORTS[asked.scheme]
    return _on_port_of_question(asked, host, port, port if places.websocket_port is None else places.http_port)


def _theirs(places: Places, asked: Asked, state: NodeState, listening: Listening) -> Endpoint:
    host, own_port = _asked_for(places, asked)
    public_url = state.websocket_url or places.public_url
    if public_url is not None:
        return _public(public_url, own_port or places.http_port)
    if asked.scheme == "https" and not listening.tls:
        return _on_port_of_question(asked, host, own_port or _DEFAULT_PORTS["https"], places.http_port)
    if listening.host is not None:
        host = _bracketed(listening.host)
    elif not _AUTHORITY.fullmatch(asked.host) or not _is_near(places, listening):
        host = _bracketed(listening.ip)
    scheme = "wss" if listening.tls else "ws"
    return Endpoint(f"{scheme}://{host}:{listening.port}", host, listening.port, places.http_port)


def _asked_for(places: Places, asked: Asked) -> tuple[str, int | None]:
    """The host that was asked for, and the port if the question names one."""
    match = _AUTHORITY.fullmatch(asked.host)
    if match is None:
        # Nobody said which host they asked for (HTTP/1.0, or nonsense): our own address is the best there is.
        return _bracketed(places.local_ip), places.http_port
    port = int(match.group(2)) if match.group(2) else None
    return match.group(1), port if port is not None and 0 < port < 65536 else None


def _on_port_of_question(asked: Asked, host: str, port: int, http_port: int) -> Endpoint:
    scheme = "wss" if asked.scheme == "https" else "ws"
    authority = host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"
    return Endpoint(f"{scheme}://{authority}{asked.prefix}{PATH}", host, port, http_port)


def _public(url: str, http_port: int) -> Endpoint:
    parts = urlsplit(url)
    return Endpoint(url, _bracketed(parts.hostname or ""), parts.port or _DEFAULT_PORTS[parts.scheme], http_port)


def _is_near(places: Places, listening: Listening) -> bool:
    """Whether a node is on this machine, so that who reaches us reaches it by the same name."""
    if listening.machine == places.hostname:
        return True
    try:
        return ipaddress.ip_address(listening.ip).is_loopback
    except ValueError:
        return False


def websocket_info(places: Places, asked: Asked) -> dict[str, object] | str:
    """The answer of `/api/b-client/websocket-info`; a sentence where nobody takes WebSockets now."""
    found = endpoint(places, asked)
    if isinstance(found, str):
        return found
    return {
        "websocket_url": found.url,
        "websocket_host": found.host,
        "websocket_port": found.port,
        "http_port": found.http_port,
        "environment": places.environment,
        "timestamp": int(asked.at * 1000),
    }


def info(places: Places, asked: Asked, *, stranger: bool = False) -> dict[str, object] | str:
    """The answer of `/api/b-client/info`; a sentence where nobody takes WebSockets now. A `stranger` is told nothing of
    this machine: what it asked for stands for its name and address."""
    found = endpoint(places, asked)
    if isinstance(found, str):
        return found
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
            "hostname": found.host if stranger else places.hostname,
            "local_ip": found.host if stranger else places.local_ip,
            "environment": places.environment,
            "timestamp": int(asked.at * 1000),
        },
    }


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
