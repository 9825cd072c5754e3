"""What makes a WebSocket handshake valid, for every transport: one set of rules, one sentence for each.

Knows header text only; who reads it from where is the transport's. For example a handshake with version 12 gets
426 and `Only WebSocket version 13 is spoken here.` on every port. Source: RFC 6455 section 4.2.1, for HTTP/2 RFC 8441.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Final

from portico.wire.codes import ErrorCode
from portico.wire.messages import encode
from service.core.header_fields import NOT_PRINTABLE
from service.core.ports import HttpAnswer

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FORBIDDEN: Final = re.compile(rb"[^\t\r\n\x20-\x7e]")


class BadHead(Exception):
    """A request head that can't be accepted, and the answer to it. The sender is at fault."""

    def __init__(self, status: int, sentence: str, *headers: tuple[str, str]) -> None:
        super().__init__(sentence)
        self.answer = head_refusal(status, sentence, *headers)


_CODES: Final = {
    405: ErrorCode.NOT_FOUND,
    413: ErrorCode.TOO_LARGE,
    429: ErrorCode.RATE_LIMITED,
    431: ErrorCode.TOO_LARGE,
    503: ErrorCode.UNAVAILABLE,
}


def head_refusal(status: int, sentence: str, *headers: tuple[str, str]) -> HttpAnswer:
    """The answer to a head that can't be accepted, in the form of all errors of the HTTP API."""
    code = _CODES.get(status, ErrorCode.BAD_FIELD)
    problem = {"error": {"code": code.value, "message": sentence, "field": None}}
    return HttpAnswer(status, (("content-type", "application/json"), *headers), encode(problem))


def check_bytes(data: bytes) -> None:
    """Refuse bytes that no head may have (control bytes, anything from 0x80 up). Raises BadHead."""
    if _FORBIDDEN.search(data) is not None:
        raise BadHead(400, NOT_PRINTABLE)


def asks_to_upgrade(headers: Mapping[str, str]) -> bool:
    """Whether these headers ask for a WebSocket over HTTP/1.1, rightly or wrongly."""
    return "websocket" in _tokens(headers, "upgrade") and "upgrade" in _tokens(headers, "connection")


def _tokens(headers: Mapping[str, str], name: str) -> list[str]:
    return [token.strip().lower() for token in headers.get(name, "").split(",")]


def has_body(headers: Mapping[str, str]) -> bool:
    """Whether these headers announce a body."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def check_handshake(method: str, http_version: str, headers: Mapping[str, str]) -> None:
    """Refuse a handshake that breaks a rule. Raises BadHead.

    `http_version` as `1.1`; `headers` have lower-case names. Over HTTP/2 and later there is no method of its own to
    check and no key.
    """
    over_http_1 = http_version < "2"
    if over_http_1 and method != "GET":
        raise BadHead(405, "A WebSocket handshake is a GET.", ("allow", "GET"))
    if http_version < "1.1":
        raise BadHead(400, "A WebSocket handshake is HTTP/1.1.")
    if has_body(headers):
        raise BadHead(400, "A WebSocket handshake has no body.")
    if headers.get("sec-websocket-version") != "13":
        raise BadHead(
            426,
            "Only WebSocket version 13 is spoken here.",
            ("sec-websocket-version", "13"),
            ("upgrade", "websocket"),
        )
    if over_http_1 and not _is_key(headers.get("sec-websocket-key", "")):
        raise BadHead(400, "Sec-WebSocket-Key is not 16 bytes in base64.")


def accept_key(key: str) -> str:
    """What goes into Sec-WebSocket-Accept, for a key that was checked."""
    # The handshake's own use of SHA-1: a proof of having read the key, no secret.
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key.encode(), validate=True)) == 16
    except binascii.Error:
        return False
