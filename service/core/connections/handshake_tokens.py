"""Where a handshake bears a token: in `Authorization`, as a subprotocol `bearer.<token>`, or as `?token=`.

Two tokens in one of these places count as none: a proxy in front, or a reader of its log, may have taken the other.

Knows text only; whether a token holds is the Tokens'. For example a page, which can set no header, offers the
subprotocol `bearer.eyJ…`, and is answered by it. Source: protocol reference, "Trust".
"""

from contextlib import suppress
from typing import Final
from urllib.parse import parse_qs

from ..ports import Handshake

BEARER_SUBPROTOCOL: Final = "bearer."
"""What a page puts before its token among the subprotocols, since it can set no header."""
_SEVERAL: Final = "several,tokens"
"""What is shown in the place of several: no token, so it is refused as one that is malformed."""


def token_of(handshake: Handshake, *, is_key: bool) -> str | None:
    """The token that a handshake bears. Where it bears several, the first in this order is the one. `is_key`: what is
    in `Authorization` is an API key, and no token."""
    scheme, _, value = handshake.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and not is_key:
        return value.strip()
    named = _bearers(handshake.headers.get("sec-websocket-protocol"))
    if named:
        return named[0][len(BEARER_SUBPROTOCOL) :] if len(named) == 1 else _SEVERAL
    if "token=" in handshake.query:
        with suppress(ValueError):  # more fields than anybody means
            found = parse_qs(handshake.query, keep_blank_values=True, max_num_fields=100).get("token", [])
            return _SEVERAL if len(found) > 1 else found[0] if found else None
    return None


def bearer_of(offered: str | None) -> str | None:
    """The subprotocol that bears a token, among those that a handshake offers."""
    named = _bearers(offered)
    return named[0] if named else None


def _bearers(offered: str | None) -> list[str]:
    if offered is None or BEARER_SUBPROTOCOL not in offered:
        return []
    return [name for name in map(str.strip, offered.split(",")) if name.startswith(BEARER_SUBPROTOCOL)]


def looks_like_token(secret: str) -> bool:
    """Whether it has a token's three parts, and so is no key."""
    return secret.count(".") == 2
