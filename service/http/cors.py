"""Cors: what a browser is told about pages of other origins, by the same allow-list as WebSocket handshakes.

No credentials are ever allowed: keys travel in `Authorization`, which a page must know by itself.
"""

from collections.abc import Collection
from typing import Final

from service.core.connections.origins import OriginPolicy
from service.core.ports import HttpAnswer

from .answers import NOT_KEPT

ALLOWED_HEADERS: Final = "authorization, content-type"
_VARY: Final = ("vary", "origin")
_SECONDS: Final = "600"


def cors_headers(origins: OriginPolicy, origin: str | None, host: str) -> tuple[tuple[str, str], ...]:
    """The headers that let a page of `origin` read an answer; `host` is what it asked for."""
    if origin is None or not _may_read(origins, origin, host):
        return (_VARY,)
    return (("access-control-allow-origin", origin), _VARY)


def preflight(origins: OriginPolicy, origin: str | None, host: str, methods: Collection[str]) -> HttpAnswer:
    """The answer to OPTIONS, for a path that takes `methods`: a browser's question or anybody's."""
    allowed = ", ".join(sorted({*methods, "OPTIONS"}))
    headers = (("allow", allowed), NOT_KEPT, *cors_headers(origins, origin, host))
    if not _may_read(origins, origin, host):
        return HttpAnswer(204, headers, b"")
    details = (
        ("access-control-allow-methods", allowed),
        ("access-control-allow-headers", ALLOWED_HEADERS),
        ("access-control-max-age", _SECONDS),
    )
    return HttpAnswer(204, headers + details, b"")


def _may_read(origins: OriginPolicy, origin: str | None, host: str) -> bool:
    # What is sent back as a header must be one line of ASCII, whatever the allow-list says.
    return origin is not None and origin.isascii() and origin.isprintable() and origins.allows(origin, host)
