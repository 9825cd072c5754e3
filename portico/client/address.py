"""Where the gateway's WebSocket is: given as it is, or asked for over HTTP at every attempt.

The client, the worker and the requester all take their address so: `base_url` is the gateway's HTTP address, which is
asked; `url` is a WebSocket address. Knows the discovery call (`GET /api/b-client/websocket-info`) and the paths of the
dialects; opens no WebSocket. Promises that what a `Locate` finds is a ws:// or wss:// URL with a host.
"""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

import httpx
import msgspec

from .errors import BadAddress, DiscoveryFailed, printable
from .scheme import TLS, is_meant_for_tls, why_unanswered

DISCOVERY_PATH: Final = "/api/b-client/websocket-info"
SILENT: Final = (httpx.RemoteProtocolError, httpx.ReadError)
"""How httpx calls it that there was a connection, and no answer."""
DISCOVERY_TIMEOUT: Final = 10.0

# What a gateway's own URL may end in; a role's path takes its place, and a proxy's prefix stays.
_DIALECT_PATHS: Final = ("/api/websocket", "/requester", "/worker", "/ws", "/")


@dataclass(frozen=True, slots=True)
class Locate:
    """How to find the gateway: `where` says so to people, `find` is asked before every attempt."""

    where: str
    find: Callable[[], Awaitable[str]]


class _Info(msgspec.Struct):
    websocket_url: str


_HTTP: Final = ("http", "https")
_WEBSOCKET: Final = ("ws", "wss")


def _split(url: str, schemes: tuple[str, str]) -> SplitResult:
    """The parts of a URL of one of two schemes. Raises BadAddress, with what would be right."""
    example = "http://localhost:8000" if schemes == _HTTP else "ws://localhost:8766"
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except (ValueError, AttributeError, TypeError):
        usable, parts = False, SplitResult("", "", "", "", "")
    if not usable or parts.scheme not in schemes or not url.isprintable() or " " in url:
        hint = ""
        if usable and parts.scheme in _HTTP:
            hint = " An HTTP address is given as base_url."
        elif usable and parts.scheme in _WEBSOCKET:
            hint = " A WebSocket address is given as url."
        raise BadAddress(f"{printable(str(url))!r} is not an address like {example}.{hint}")
    if parts.username is not None or parts.password is not None:
        raise BadAddress("An address must not contain a user name or password; give a token instead.")
    return parts


def websocket_address(url: str, role_path: str = "") -> str:
    """A checked WebSocket URL; `role_path` (such as `/worker`) is used where the URL names no path.

    Raises BadAddress.
    """
    parts = _split(url, _WEBSOCKET)
    path = parts.path if parts.path not in ("", "/") else (role_path or "/")
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def for_role(url: str, role_path: str) -> str:
    """The URL that discovery gave, with its dialect's path replaced by a role's. Raises BadAddress."""
    parts = _split(url, _WEBSOCKET)
    ending = next((p for p in _DIALECT_PATHS if parts.path.endswith(p)), "")
    prefix = parts.path[: len(parts.path) - len(ending)] if ending else parts.path
    return urlunsplit((parts.scheme, parts.netloc, prefix + role_path, parts.query, ""))


async def discover(base_url: str, *, ssl_context: ssl.SSLContext | None = None) -> str:
    """Ask a gateway where its WebSocket is.

    `base_url`: its HTTP address, like http://localhost:8000. Raises BadAddress or DiscoveryFailed.
    Cancelling is safe.
    """
    asked = _discovery_url(base_url)
    secure = asked.startswith("https:")
    try:
        # The WebSocket goes straight to the gateway, so the question that finds it must too:
        # through a proxy of the environment it would be answered for another point of view.
        async with httpx.AsyncClient(
            verify=(ssl_context or ssl.create_default_context()) if secure else False,
            timeout=DISCOVERY_TIMEOUT,
            trust_env=False,
            follow_redirects=True,
        ) as http:
            answer = await http.get(asked)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        why = await why_unanswered(asked, error, silent=isinstance(error, SILENT))
        raise DiscoveryFailed(f"No answer from {printable(asked)}: {why}.") from error
    if answer.status_code == 400 and await is_meant_for_tls(asked):
        raise DiscoveryFailed(f"{printable(asked)} answered 400: {TLS}.")
    if answer.status_code != 200:
        raise DiscoveryFailed(
            f"{printable(asked)} answered {answer.status_code} instead of the WebSocket's address; "
            "is this a gateway's HTTP address?"
        )
    try:
        url = msgspec.json.decode(answer.content, type=_Info).websocket_url
        return websocket_address(url)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, BadAddress) as error:
        raise DiscoveryFailed(f"{printable(asked)} answered without a usable websocket_url.") from error


def _discovery_url(base_url: str) -> str:
    parts = _split(base_url, _HTTP)
    if parts.query or parts.fragment:
        raise BadAddress(f"{printable(base_url)!r} has a query or a fragment; leave it out.")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + DISCOVERY_PATH, "", ""))


def locate(
    *,
    base_url: str | None = None,
    url: str | None = None,
    role_path: str = "",
    ssl_context: ssl.SSLContext | None = None,
) -> Locate:
    """How to find the gateway from what the program was given: a `base_url`, or a WebSocket `url`.

    `role_path` empty: the path that discovery names is kept. Raises BadAddress unless exactly one of the two is given.
    """
    if base_url is not None and url is None:
        asked = base_url
        _discovery_url(asked)

        async def ask() -> str:
            found = await discover(asked, ssl_context=ssl_context)
            return for_role(found, role_path) if role_path else found

        return Locate(asked, ask)
    if url is not None and base_url is None:
        address = websocket_address(url, role_path)

        async def known() -> str:
            return address

        return Locate(address, known)
    raise BadAddress("Give either base_url (http://…) or url (ws://…), not both and not neither.")
