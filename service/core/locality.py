"""Locality: whether a request comes from a program on the gateway's own machine, which in development needs no key.

Loopback alone proves little: a browser on this machine sends requests for pages from anywhere, and a proxy on it sends
requests for everybody. So a local caller's address is loopback, it asks for a loopback name or an address (no name that
was rebound), no header says that a proxy stands between, and the page that asks, if one does, is the gateway's own or
one of this machine.

For example `curl http://127.0.0.1:8000/api/clients` is local. The same with `Origin: https://shop.example`, with
`Host: gw.example.com`, or with any `X-Forwarded-For` is not. Knows header text and addresses only.
Source: protocol reference, "Trust".
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from .hosts import host_of, is_address, is_loopback, read_origin

_BY_PROXIES: Final = (
    "akamai-", "cdn-", "cf-", "client-ip", "fastly-", "fly-", "forwarded", "front-end-https", "proxy-", "true-client",
    "via", "wl-proxy-", "x-amz-cf-", "x-amzn-trace", "x-appengine", "x-arr-", "x-azure-", "x-client-ip",
    "x-cloud-trace", "x-cluster-client", "x-envoy-", "x-fd-", "x-forward", "x-host", "x-nginx", "x-original-",
    "x-originating", "x-proxy", "x-real-", "x-remote-", "x-rewrite-", "x-scheme", "x-url-scheme", "x-varnish",
    "x-vercel-",
)  # fmt: skip
"""How the names of headers begin that proxies and content networks add, and programs don't."""


class Locality(IntEnum):
    """Where the caller is."""

    FOREIGN_PAGE = 0
    """A web page of another site, or of a name that may have been rebound."""
    ELSEWHERE = 1
    """A program anywhere, or a page of the gateway's own."""
    LOCAL = 2
    """A program on this machine, or a page of it."""


def locality_of(headers: Mapping[str, str], host: str, address: str) -> Locality:
    """Where a request comes from: `host` is what it asks for (`name[:port]`), `address` the caller's. Never raises."""
    host = host_of(host)
    unbound = is_loopback(host) or is_address(host)
    origin = headers.get("origin")
    if origin is None:
        # Of another site, though without `Origin`: an image, a link or a form, whose answer the page can't read.
        # Browsers send this header to loopback addresses and over TLS.
        foreign = headers.get("sec-fetch-site") == "cross-site"
    else:
        asking = _host_of_origin(origin)
        foreign = not (is_loopback(asking) or (asking == host and unbound))
    if foreign:
        return Locality.FOREIGN_PAGE
    if unbound and is_loopback(address) and is_address(address) and not through_proxy(headers):
        return Locality.LOCAL
    return Locality.ELSEWHERE


def through_proxy(headers: Mapping[str, str]) -> bool:
    """Whether a header says that a proxy passed the request on, whatever it says about the caller."""
    return any(name.startswith(_BY_PROXIES) for name in headers)


def _host_of_origin(origin: str) -> str:
    asking = read_origin(origin)
    return asking.host if asking is not None and asking.scheme in ("http", "https") else ""
