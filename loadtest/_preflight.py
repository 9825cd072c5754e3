"""What must be so before a test can start: a gateway at the host, and room for the connections on this machine.

Knows the machine's limits and how a gateway answers. Each fault is one sentence that says what was wrong and what would
be right.
"""

from __future__ import annotations

import math
import resource
from pathlib import Path
from typing import Final

from loadtest._api import Api, ApiError, parse_base_url
from loadtest._link import tls_context
from loadtest._publisher import CONNECTIONS
from loadtest._reactor import Reactor

_SPARE: Final = 128
"""Descriptors of a load process besides its connections."""
_MOST_ADDRESSES: Final = 200
_USABLE: Final = 0.8
"""Of the ports: others come and go too, and those of closed connections rest for a minute."""


def wrong_with_host(reactor: Reactor, host: str | None, timeout: float) -> str | None:
    """What is wrong with the gateway's address; None if a gateway answers there, one that is too busy included."""
    if not host:
        return "--host is missing: give the gateway's address, such as http://localhost:8000."
    try:
        api = Api(reactor, host, None, timeout)
    except ApiError as error:
        return f"--host is {error}."
    try:
        api.websocket_url()
    except ApiError as error:
        if "certificate" in str(error) or "hostname" in str(error).lower():
            paths = tls_context().cert_store_stats()["x509_ca"]
            return (
                f"The certificate at {host} is not trusted ({error}; {paths} authorities are): name its authority's "
                "file in SSL_CERT_FILE, or give the address that the certificate is for."
            )
        if error.status is None:
            return f"Nobody is at {host} ({error}): start the gateway there, or give its address by --host."
        if error.status < 500 and error.status != 429:
            return f"What is at {host} is no gateway (discovery {error}): give the gateway's address by --host."
    finally:
        api.close()
    return None


def wrong_with_room(host: str, users: int, processes: int, machines: bool) -> str | None:
    """What this machine lacks for that many users; None if nothing.

    Args:
        host: the gateway's base URL.
        users: how many there will be at most.
        processes: how many load processes share them.
        machines: whether they may be on several machines, whose ports nobody here can count.
    """
    share = math.ceil(users / processes)
    needed = share + CONNECTIONS + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            room = max(0, hard - CONNECTIONS - _SPARE)
            several = math.ceil(users / room) if room else 0
            return (
                f"{users} users in {processes} process{'es' * (processes > 1)} need {needed} file descriptors each, "
                f"and {hard} are allowed: raise the limit (ulimit -Hn {needed})"
                + (f", or share them among --processes {several}" if several else "")
                + (f", or ask for at most {room * processes} users." if room else ".")
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    if not machines and not is_loopback(host) and users > (room := usable_ports()):
        return (
            f"{users} users need as many local ports, and this machine has {room} for one gateway: widen "
            "net.ipv4.ip_local_port_range, spread the load over more machines (--master, --worker), or ask for at most "
            f"{room} users."
        )
    if is_loopback(host) and source_addresses(host, users) > _MOST_ADDRESSES:
        return (
            f"{users} users are more than loopback has ports for: ask for at most {usable_ports() * _MOST_ADDRESSES}."
        )
    return None


def source_addresses(host: str, users: int) -> int:
    """How many local addresses that many connections to that host must come from: several, on loopback, where the ports
    of one are not enough.
    """
    return max(1, math.ceil(users / usable_ports())) if is_loopback(host) else 1


def is_loopback(host: str) -> bool:
    """Whether that base URL is this machine's IPv4 loopback."""
    try:
        name = parse_base_url(host).host
    except ApiError:
        return False
    return name == "localhost" or name.startswith("127.")


def usable_ports() -> int:
    """How many connections one local address can have to one port."""
    try:
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        low, high = 49152, 65535
    return int((high - low + 1) * _USABLE)
