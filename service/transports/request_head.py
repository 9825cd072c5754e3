"""Enough of an HTTP/1.1 request head to tell whether it asks for a WebSocket.

Sans-I/O. What is not without doubt an upgrade is none: it goes to the HTTP server, which refuses what is malformed.
"""

import re
from typing import Final

from .handshake import asks_to_upgrade, has_body

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
    headers: dict[str, str] = {}
    for field in fields:
        # Any byte is a letter in Latin-1: what is not ASCII is refused by whoever gets the head.
        name, colon, value = field.decode("latin-1").partition(":")
        if not colon or not name or name != name.strip():
            return False
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return asks_to_upgrade(headers) and not has_body(headers)
