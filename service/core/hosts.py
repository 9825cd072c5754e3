"""Hosts: under which names a gateway may be asked for, and which of them nobody can have pointed at it.

DNS rebinding: the owner of `http://evil.example` points that name at a gateway which only the visitor's machine can
reach. Then the page is of the gateway's own origin, but its requests still have `Host: evil.example`. So a name that
the operator doesn't know is refused. What nobody else can point at the gateway is allowed: an address, `localhost`, a
name of one label or of a private network (`.internal`), and any name by https, which needs the gateway's certificate.

Source: protocol reference, "Who gets in".
"""

import re
from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

_OWN_NETWORKS: Final = (".localhost", ".local", ".internal", ".svc", ".home.arpa")
"""Endings that no public name has (RFC 6761, 6762, 8375; Kubernetes)."""


_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# The host names that exist (RFC 1123 section 2.1; underscores are common), an IPv4 address, or an IPv6 one in brackets.
# None of it would have to be escaped in a URL or a log.
_AUTHORITY: Final = re.compile(
    rf"(?P<name>{_LABEL}(?:\.{_LABEL})*\.?|\[(?P<v6>[0-9A-Fa-f:.]{{2,45}})\])(?::(?P<port>[0-9]{{0,5}}))?"
)
_LONGEST_NAME: Final = 254
_LAST_PORT: Final = 65535


class Authority(NamedTuple):
    """What a `Host` header says. `name`: an IPv6 address in brackets; `port`: empty where it names none."""

    name: str
    port: str


def read_authority(text: str) -> Authority | None:
    """The parts of `name[:port]`, as they are written; None for what no host is called, and for ports that no host
    has."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    name, v6, port = found.groups()
    if len(name) > _LONGEST_NAME or (port and int(port) > _LAST_PORT):
        return None
    if v6 is not None and not isinstance(_address(v6), IPv6Address):
        return None
    return Authority(name, port or "")


def host_of(authority: str) -> str:
    """The host of `name[:port]` or `[v6][:port]`, lower case, without port and brackets."""
    authority = authority.strip().lower()
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    name, _, port = authority.rpartition(":")
    return name if name and port.isdigit() else authority


_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://((\[[0-9a-f:.]+\]|[^\s\x00-\x20/?#@:\\\[\],]+)(?::[0-9]{1,5})?)")


class Origin(NamedTuple):
    """The parts of an origin. `authority` is the host with its port, if it names one."""

    scheme: str
    authority: str
    host: str


def read_origin(text: str) -> Origin | None:
    """The parts of what stands in an `Origin` header; None for `null`, and for what no browser sends.

    Source: RFC 6454 section 6.2. Not by a parser of URLs, which reads more into it (`http://a:80@b`).
    """
    found = _ORIGIN.fullmatch(text.lower())
    return None if found is None else Origin(found[1], found[2], found[3].strip("[]"))


_LONGEST_ADDRESS: Final = 45
"""Characters of an IPv6 address that ends in an IPv4 one, without its zone."""


def is_address(host: str) -> bool:
    """Whether a host is an IP address and no name."""
    return _address(host) is not None


def is_loopback(host: str) -> bool:
    """Whether a host, an address or a name, is this machine's own (RFC 6761 section 6.3)."""
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    parsed = _address(host)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed is not None and parsed.is_loopback


def network(address: str) -> str:
    """What counts as one address: of IPv6 the /64, which one household has."""
    if ":" not in address:
        return address
    parsed = _address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Address(int(parsed) >> 64 << 64)) + "/64"
    return address


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text is, zone or not; None for a name. What is too long for one is not looked at."""
    text = text.partition("%")[0]
    return _parsed(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=1024)  # a connection's address is asked about ten times while it comes and goes
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


class HostPolicy:
    """`allowed`: names, `*.example.com` for all below one, or `*`; None: any host. `over_tls`: by https any too."""

    def __init__(self, allowed: Collection[str] | None, *, over_tls: bool = False) -> None:
        self._any: Final = allowed is None or "*" in allowed
        self._names: Final = frozenset(host_of(name).rstrip(".") for name in allowed or () if "*" not in name)
        self._below: Final = tuple(name[1:].lower() for name in allowed or () if name.startswith("*."))
        self._over_tls: Final = over_tls

    def allows(self, authority: str, scheme: str) -> bool:
        """Whether the gateway may be asked for as `authority` (`name[:port]`; empty: the client doesn't say)."""
        if self._any or not authority or (self._over_tls and scheme == "https"):
            return True
        host = host_of(authority).rstrip(".")
        if host in self._names or "." not in host or is_address(host) or host.endswith(_OWN_NETWORKS):
            return True
        return bool(self._below) and host.endswith(self._below)
