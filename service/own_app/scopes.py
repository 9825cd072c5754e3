"""Scopes: what the app is told of a request: whom it comes from, with trusted proxies taken into account.

What an untrusted client says of forwarding is left out, so that an app which believes it (ProxyFix) believes nobody.
"""

from typing import Final, Protocol

from service.asgi_types import Scope
from service.core.header_fields import path_of

_FORWARDED: Final = b"x-forwarded-"
_ALSO: Final = frozenset({b"forwarded", b"x-real-ip"})
_DENIAL: Final = "websocket.http.response"


class Asked(Protocol):
    """Who asks, proxies taken into account: see HttpHead."""

    @property
    def address(self) -> str: ...
    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def peer(self) -> str: ...
    @property
    def prefix(self) -> str: ...


def scope_for(scope: Scope, asked: Asked, *, trusted: bool) -> Scope:
    """The scope that the app gets of the server's. `trusted`: whether the peer is a proxy that is believed."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if trusted or not (name.lower().startswith(_FORWARDED) or name.lower() in _ALSO)
    ]
    if trusted and asked.host:
        headers = [(b"host", asked.host.encode("latin-1")), *((n, v) for n, v in headers if n.lower() != b"host")]
    schemes = ("ws", "wss") if scope["type"] == "websocket" else ("http", "https")
    client = scope.get("client")
    port = client[1] if client and str(client[0]).removeprefix("::ffff:") == asked.address else 0
    prefix = asked.prefix
    return {
        **scope,
        "headers": headers,
        "scheme": schemes[asked.scheme == "https"],
        "client": (asked.address, port) if asked.address else None,
        "path": prefix + path_of(scope["path"]),
        "raw_path": prefix.encode("ascii") + _raw(scope),
        "root_path": prefix,
        "extensions": {name: value for name, value in (scope.get("extensions") or {}).items() if name == _DENIAL},
    }


def _raw(scope: Scope) -> bytes:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    if raw.startswith(b"/") or b"://" not in raw:
        return raw
    _, slash, rest = raw.partition(b"://")[2].partition(b"/")
    return slash + rest or b"/"
