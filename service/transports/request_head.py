"""Enough of an HTTP/1.1 request head to tell whether it asks for a WebSocket.

Sans-I/O and strict: what it doesn't recognise without doubt is not an upgrade, and goes to the HTTP server,
which has the last word on what is malformed.
"""

import re
from typing import Final

_METHOD: Final = b"GET "
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")


def may_be_get(data: bytes) -> bool:
    """Whether what has come so far is the beginning of a GET request (nothing yet is)."""
    return data[: len(_METHOD)] == _METHOD[: len(data)]


def is_whole(data: bytes) -> bool:
    """Whether the blank line that ends a head has come."""
    return _BLANK_LINE.search(data) is not None


def asks_for_websocket(data: bytes) -> bool:
    """Whether `data` begins with a whole, plain HTTP/1.1 GET that asks to become a WebSocket and has no body."""
    head, end, _ = data.partition(b"\r\n\r\n")
    request, *fields = head.split(b"\r\n")
    if not end or not request.startswith(_METHOD) or not request.endswith(b" HTTP/1.1"):
        return False
    upgrade = connection = b""
    for field in fields:
        name, colon, value = field.partition(b":")
        match name.lower():
            case b"upgrade":
                upgrade += value + b","
            case b"connection":
                connection += value + b","
            case b"content-length" if value.strip() != b"0":
                return False
            case b"transfer-encoding":
                return False
        if not colon or not name or name != name.strip():
            return False
    return b"websocket" in _tokens(upgrade) and b"upgrade" in _tokens(connection)


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip().lower() for token in value.split(b",")]
