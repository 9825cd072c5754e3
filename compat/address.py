"""The three ways in which existing clients build the WebSocket address from what discovery answered.

Knows the two forms of the discovery answer and plain text arithmetic; it never opens a connection and never repairs
what it was told: a bare IPv6 address or a `0.0.0.0` in the answer must show up as a client that doesn't get in.
"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

FORMS: Final = ("websocket-info", "info")
WAYS: Final = ("url", "host-port", "base-url")


class NoAddressError(Exception):
    """The answer, or the way asked for, gives no address; the text is one sentence for the user."""


@dataclass(frozen=True)
class Whereabouts:
    """What a discovery answer says about the WebSocket side; the `info` form names no URL."""

    url: str | None
    host: str
    port: int


def whereabouts(form: str, answer: dict[str, Any]) -> Whereabouts:
    """Read a discovery answer of either form.

    `form` is one of FORMS. Raises NoAddressError where a field that clients need is missing.
    """
    try:
        if form == "info":
            info = answer["b_client_info"]
            return Whereabouts(None, info["websocket"]["host"], info["websocket_port"])
        return Whereabouts(answer["websocket_url"], answer["websocket_host"], answer["websocket_port"])
    except (KeyError, TypeError) as error:
        raise NoAddressError(f"The {form} answer lacks what an address is built from ({error}).") from error


def build(way: str, base_url: str, found: Whereabouts) -> str:
    """Build the address in one of WAYS, without checking that the result makes sense.

    Raises NoAddressError where the way needs a URL and the answer named none.
    """
    if way == "host-port":
        return f"ws://{found.host}:{found.port}"
    if way == "base-url":
        return f"ws://{base_url.partition('://')[2].rstrip('/')}:{found.port}"
    if found.url is None:
        raise NoAddressError("The info form names no URL: use --address host-port or base-url.")
    return found.url


def why_not(way: str, base_url: str) -> str | None:
    """Say why a way can't give a valid address for this base URL, or return None where it can."""
    if way == "url":
        return None
    parts = urlsplit(base_url)
    if parts.scheme == "https":
        return "over https only the url way is valid: the others build ws://"
    if way == "base-url" and parts.port is not None:
        return f"the base URL names a port already ({parts.port}), a second one makes no URL"
    if way == "base-url" and parts.path.rstrip("/"):
        return f"the base URL has a path ({parts.path}), a port after it makes no URL"
    return None
