"""The headers and the peer of a request, as ASGI has them: what both of the apps here read the same way."""

from collections.abc import Mapping
from typing import Any


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """By lower-case name; the values of a header that came several times are joined by commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin1").lower(), raw_value.decode("latin1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def peer_of(scope: Mapping[str, Any]) -> str:
    """The address of the socket's own peer: a header that is called Remote-Addr is the caller's invention."""
    client = scope.get("client")
    return client[0] if client else ""
