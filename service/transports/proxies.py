"""ProxyRules: who a request really comes from, when proxies stand in between.

Knows addresses and header text only: no socket, no framework. It promises that nothing that an untrusted
peer writes has any effect, and that text which isn't a plain address, scheme, host or port is ignored:
what comes out is safe to compare, to build a URL from and to log.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from service.core.hosts import read_authority

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
# More hops than any real chain has; the rest is not looked at.
_MAX_HOPS: Final = 32
# What a proxy took off the path: plain segments, so that it can stand in a URL as it is.
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99}){1,10}")


class RequestSource(NamedTuple):
    """Where a request comes from and what it asked for, proxies taken into account.

    `address` is an IP address without a port (or what the transport said, for a Unix socket); `host` is
    `name[:port]` as the client asked for it, an IPv6 address in brackets, empty if it didn't say; `prefix` is what
    the proxies took off the path, such as `/gw`, empty for nothing.
    """

    address: str
    scheme: str
    host: str
    prefix: str = ""


class ProxyRules:
    """Which peers are believed when they say on whose behalf they ask."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        """Trust the proxies in `networks`: addresses or CIDR blocks; `*` trusts every peer.

        Raises ValueError, naming the entry, for one that is neither.
        """
        self._everyone = "*" in networks
        self._networks: tuple[_Network, ...] = tuple(_network(text) for text in networks if text != "*")

    def trusts(self, address: str) -> bool:
        """Whether what `address` says about others is believed."""
        if self._everyone:
            return True
        parsed, _ = _peer(address)
        return parsed is not None and self._holds(parsed)

    def resolve(self, peer: str, headers: Mapping[str, str], scheme: str) -> RequestSource:
        """The source of a request that came over a socket from `peer`.

        `headers` have lower-case names, several of one name joined by commas; `scheme` is the socket's
        own, `http` or `https`. From an untrusted peer only `host` is read.
        """
        _, address = _peer(peer)
        host = headers.get("host", "").strip()
        if read_authority(host) is None:
            host = ""
        if not self.trusts(peer):
            return RequestSource(address, scheme, host)
        client, proxies = self._client(address, headers.get("x-forwarded-for", ""))
        told = {name: _told(headers, f"x-forwarded-{name}", proxies) for name in ("proto", "host", "port")}
        return RequestSource(
            client,
            _SCHEMES.get(told["proto"].lower(), scheme),
            _forwarded_host(told["host"], told["port"], host),
            _forwarded_prefix(headers, proxies),
        )

    def _client(self, address: str, chain: str) -> tuple[str, int]:
        """The client's address, and how many proxies in a row, up to the one at `address`, are trusted."""
        # Each proxy appends whom it heard from, so what a client made up is on the left: walk from the
        # right over the proxies that are trusted, and stop at the first hop that isn't one of them.
        client = address
        proxies = 1
        hops = chain.split(",")[-_MAX_HOPS:]
        for hop in reversed(hops):
            parsed = _address(_without_port(hop.strip()))
            if parsed is None:
                break
            client = str(parsed)
            if not self._everyone and not self._holds(parsed):
                break
            proxies += 1
        # The leftmost hop is the client, though it may have a trusted address as well.
        return client, min(proxies, len(hops))

    def _holds(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _values(headers: Mapping[str, str], name: str, proxies: int) -> list[str]:
    """What the trusted proxies wrote or let pass, the outermost first; values further left may be anyone's."""
    return [value.strip() for value in headers.get(name, "").split(",")[-proxies:]]


def _told(headers: Mapping[str, str], name: str, proxies: int) -> str:
    """What the outermost of the trusted proxies says: it is the one that the client asked.

    For example `X-Forwarded-Host: gw, inner` with two proxies: the outer was asked for `gw`, the inner for `inner`. A
    header with fewer values is one that not every proxy appends to.
    """
    return _values(headers, name, proxies)[0]


def _forwarded_prefix(headers: Mapping[str, str], proxies: int) -> str:
    """What all of them took off, one after another."""
    parts = [value.rstrip("/") for value in _values(headers, "x-forwarded-prefix", proxies)]
    prefix = "".join(parts)
    return prefix if _PREFIX.fullmatch(prefix) else ""


def _forwarded_host(told: str, told_port: str, host: str) -> str:
    forwarded = read_authority(told)
    if forwarded is not None:
        host = told
    port = _port(told_port)
    asked = read_authority(host)
    if not port or asked is None:
        return host
    # A port within X-Forwarded-Host is what the client typed; X-Forwarded-Port is the proxy's own opinion.
    if forwarded is not None and forwarded.port:
        return host
    return f"{asked.name}:{port}"


def _port(text: str | None) -> str | None:
    """The port as text, `` for none, None for something that is no port."""
    if not text:
        return ""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return None
    return str(int(text)) if 0 < int(text) < 65536 else None


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    # One colon: an IPv4 address with a port. More: an IPv6 address.
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _address(text: str) -> _Address | None:
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A dual-stack listener sees 192.0.2.1 as ::ffff:192.0.2.1; it is the same client.
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


@lru_cache(maxsize=4096)  # parsing costs a twentieth of a connection's handshake, and cluster_messages share addresses
def _peer(text: str) -> tuple[_Address | None, str]:
    """What the socket says of its other end, as an address and as plain text."""
    parsed = _address(text)
    return parsed, text if parsed is None else str(parsed)


def _network(text: str) -> _Network:
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address or a network; write 10.0.0.0/8, 192.0.2.7, fd00::/8 or *"
        ) from None


def peer_port(peer: object, address: str) -> int | None:
    """The port of a socket's peer (`getpeername`, or the scope's `client`); None for one whose address is not
    `address`, since it is a proxy, or who has none."""
    if isinstance(peer, list | tuple) and len(peer) >= 2 and isinstance(peer[1], int):
        return peer[1] if str(peer[0]).removeprefix("::ffff:") == address else None
    return None
