"""The defaults that depend on other settings: one function for each, from the fields before it to the value."""

import os
import re
import socket
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from pydantic import SecretStr

# The fields of the model that come before, by name, already valid.
Known = dict[str, Any]
Default = Callable[[Known], Any]


def api_type(known: Known) -> str:
    return {"api": "http", "websocket": "websocket"}.get(known["service_role"], "combined")


def port(known: Known) -> int:
    return 8001 if known["service_role"] == "websocket" else 8000


def websocket_port(known: Known) -> int | None:
    if known["dyno"] or known["tls_cert"] or known["api_type"] != "combined":
        return None
    if known["environment"] == "development":
        return 8766
    # Beside a port that the system chooses, the system chooses again: 0 + 1 would be a real port.
    return known["port"] + 1 if known["port"] else 0


def worker_port(known: Known) -> int | None:
    if known["tls_cert"] or known["api_type"] != "combined":
        return None
    return 8765 if known["environment"] == "development" else None


def redis_url(known: Known) -> SecretStr | None:
    host = known["redis_host"]
    if host is None:
        return None
    return SecretStr(f"redis://{f'[{host}]' if ':' in host else host}:{known['redis_port']}/0")


def own_machine_in_development(known: Known) -> tuple[IPv4Network | IPv6Network, ...]:
    """The loopback networks, where nobody else's program is behind them."""
    if known["environment"] == "production":
        return ()
    return (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def open_in_development(known: Known) -> bool:
    return bool(known["environment"] == "development")


def name(_: Known) -> str:
    host = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:100] or "node"
    return f"{host}-{os.getpid()}"


def by_environment(development: object, production: object) -> Default:
    return lambda known: production if known["environment"] == "production" else development


def ignored_ports(api_type: str) -> tuple[str, ...]:
    """The variables of ports that a process of this type doesn't open, whatever they say.

    They are ignored and not refused: the parts of one gateway may well be given the same variables.
    """
    return {"http": ("WEBSOCKET_PORT", "WORKER_PORT"), "websocket": ("WEBSOCKET_PORT",)}.get(api_type, ())
