"""Pages: what a browser gets on the HTTP port: a page to try the gateway with, one for streamed answers, their files.

The files are read once, and only those that are in `service/pages` then have a route, so no path can lead anywhere
else. Open to everybody: there is no secret in them, and what a page does it does through the API or a WebSocket, which
are guarded. Promises that a browser loads and runs nothing but these files, and connects nowhere but to this gateway,
and to other ports of the same host, to which WebSockets may be moved while a page is open.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

from service.core.cluster.discovery import Asked, Places, endpoints
from service.core.hosts import read_authority
from service.core.ports import HttpAnswer, Wall

from .request import HttpHandler, HttpRequest
from .table import Route

START: Final = "index.html"
STREAMING: Final = "streaming.html"
_PLACES: Final = {START: "/", STREAMING: "/streaming/socket"}
"""The files that are pages; the others are below `/pages/`."""

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_NAME: Final = re.compile(rf"[a-z][a-z0-9-]*\.({'|'.join(_TYPES)})")
# All that CSP can name as a host (CSP Level 3, section 2.3.1): no IPv6, and nothing that would end the source.
_HOST: Final = re.compile(r"[A-Za-z0-9_.-]+")
_CONFINED: Final = (
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    # Kept by the browser, but asked for anew each time: a page never meets the modules of another version.
    ("cache-control", "no-cache"),
)


@dataclass(frozen=True, slots=True)
class Page:
    """One file: where it is served, what it is, and its bytes."""

    path: str
    content_type: str
    body: bytes
    etag: str


def _read() -> dict[str, Page]:
    pages = {}
    for file in files("service").joinpath("pages").iterdir():
        match = _NAME.fullmatch(file.name)
        if match is None:  # what an editor or a system left there is not for browsers
            continue
        body = file.read_bytes()
        path = _PLACES.get(file.name, f"/pages/{file.name}")
        pages[file.name] = Page(path, _TYPES[match[1]], body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return pages


PAGES: Final[Mapping[str, Page]] = _read()
PAGE_ROUTES: Final = tuple(
    Route(f"page {name}", "GET", page.path, "", {200: None}, scope=None) for name, page in sorted(PAGES.items())
)
"""The routes of the pages; not part of the API, so not in its table nor in its description."""
BESIDE_AN_APP: Final = "/portico"
"""Where the page is if `/` is an app's. In the same folder as `/`, so that its links lead to the same places."""


def page_routes(start: str) -> tuple[Route, ...]:
    """The routes, with the page itself at `start`."""
    return tuple(replace(route, path=start) if route.path == "/" else route for route in PAGE_ROUTES)


def socket_source(url: str) -> str:
    """The CSP source that lets a page connect to a WebSocket URL: its origin, or only its scheme for an IPv6 host,
    which CSP has no words for."""
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "wss" else "ws"
    host = parts.hostname or ""
    if not _HOST.fullmatch(host):
        return f"{scheme}:"
    return f"{scheme}://{host}" if parts.port is None else f"{scheme}://{host}:{parts.port}"


def host_sources(asked: Asked) -> tuple[str, ...]:
    """The CSP sources for every port of the host that was asked for; none for a host that CSP has no words for."""
    host = urlsplit(f"//{asked.host}").hostname or "" if read_authority(asked.host) else ""
    schemes = ("wss",) if asked.scheme == "https" else ("ws", "wss")  # a browser lets no page of https use ws
    return tuple(f"{scheme}://{host}:*" for scheme in schemes) if _HOST.fullmatch(host) else ()


def content_security_policy(*sources: str) -> str:
    """The policy of a page that may connect to these sources: nothing from elsewhere, nothing inline, no HTML from
    text."""
    return "; ".join(
        (
            "default-src 'self'",
            " ".join(("connect-src 'self'", *sources)),
            "object-src 'none'",
            "base-uri 'none'",
            # Forms are sent by script. Should that fail, nothing that was typed may end up in a URL.
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def pages_handlers(places: Places, wall: Wall) -> dict[str, HttpHandler]:
    """The handlers of this module, by operation."""
    return {f"page {name}": partial(_get, places, wall, page) for name, page in PAGES.items()}


def _get(places: Places, wall: Wall, page: Page, request: HttpRequest) -> HttpAnswer:
    # Discovery will name one of these to the page, since both are asked in the same way.
    asked = Asked(request.head.host, request.head.scheme, wall(), request.head.prefix)
    sources = [socket_source(place.url) for place in endpoints(places, asked)]
    # Some browsers don't count a WebSocket to the page's own host as 'self'.
    sources += host_sources(asked)
    headers = (
        ("content-type", page.content_type),
        ("etag", page.etag),
        ("content-security-policy", content_security_policy(*dict.fromkeys(sources))),
        *_CONFINED,
    )
    if _is_known(request.head.headers.get("if-none-match", ""), page.etag):
        return HttpAnswer(304, headers, b"")
    return HttpAnswer(200, headers, page.body)


def _is_known(if_none_match: str, etag: str) -> bool:
    # A proxy that compresses makes the tag a weak one. It names the same file still (RFC 9110 section 13.1.2).
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in (etag, "*") for tag in tags)
