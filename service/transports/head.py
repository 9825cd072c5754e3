"""The HTTP head that asks for an upgrade, and the answers to it; sans-I/O.

Knows RFC 9112's request head as far as a WebSocket port needs it, and RFC 6455 section 4.2. Strict: a
byte that has no business in a head (control bytes, anything from 0x80 up) is refused before anything is
made of it. No exception but BadHead leaves this module, whatever the bytes.
"""

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote

from service.core.ports import HttpAnswer, PlainHttp

from .proxies import Origin

HEAD_LIMIT: Final = 8192
"""Bytes that a head may have, with the empty line that ends it."""

HEADER_COUNT_LIMIT: Final = 100

ResolveOrigin = Callable[[str, Mapping[str, str], str], Origin]
"""(address of the peer, headers, the socket's own scheme) → who asks for what; `ProxyRules.resolve` is one."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FORBIDDEN = re.compile(rb"[^\t\r\n\x20-\x7e]")
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+").fullmatch
_SCHEME = re.compile(r"(?:https?|wss?)://[^/?#]*", re.IGNORECASE)
# Where a second one would leave open which of them counts.
_ONCE: Final = frozenset({"host", "content-length", "sec-websocket-key", "sec-websocket-version"})


class BadHead(Exception):
    """A head that gets this answer; whoever sent it is at fault."""

    def __init__(self, status: int, sentence: str, *headers: tuple[str, str]) -> None:
        super().__init__(sentence)
        self.answer = HttpAnswer(
            status, (("content-type", "text/plain; charset=utf-8"), *headers), sentence.encode() + b"\n"
        )


@dataclass(slots=True)
class Head:
    """A parsed head; as far as the core is concerned, an HttpHead.

    `path` is percent-decoded, `query` is as it came. Headers that came more than once are joined by commas.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    peer: str
    address: str
    scheme: str
    host: str
    kind: str
    http_1_1: bool

    @property
    def wants_upgrade(self) -> bool:
        """Whether this asks for a WebSocket, rightly or wrongly."""
        return "websocket" in _tokens(self.headers, "upgrade") and "upgrade" in _tokens(self.headers, "connection")


def _tokens(headers: Mapping[str, str], name: str) -> list[str]:
    return [token.strip().lower() for token in headers.get(name, "").split(",")]


def check_bytes(data: bytes) -> None:
    """Refuse bytes that no head may have, as soon as they come. Raises BadHead."""
    if _FORBIDDEN.search(data) is not None:
        raise BadHead(400, "A request head is printable ASCII; this one has other bytes in it.")


def parse_head(data: bytes, peer: str, kind: str, resolve: ResolveOrigin) -> Head:
    """Parse a head, given without the empty line that ends it.

    `peer` is the address at the other end of the socket, `kind` that of the port. Raises BadHead.
    """
    check_bytes(data)
    lines = data.decode("ascii").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not _TOKEN(words[0]):
        raise BadHead(400, "The request line is not HTTP's: method, target and version, one space between.")
    method, target, version = words
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadHead(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    headers = _parse_headers(lines[1:])
    http_1_1 = version == "HTTP/1.1"
    if http_1_1 and "host" not in headers:
        raise BadHead(400, "The Host header is missing.")
    path, query = _parse_target(target)
    origin = resolve(peer, headers, "http")
    return Head(method, path, query, headers, peer, origin.address, origin.scheme, origin.host, kind, http_1_1)


def _parse_headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > HEADER_COUNT_LIMIT:
        raise BadHead(431, f"At most {HEADER_COUNT_LIMIT} headers are read.")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        # Folded lines and lone CRs and LFs are how one head is made to look like two.
        if not colon or not _TOKEN(name) or "\r" in value or "\n" in value:
            raise BadHead(400, "A header line is not `name: value` and CRLF.")
        name = name.lower()
        value = value.strip(" \t")
        if name in headers:
            if name in _ONCE:
                raise BadHead(400, f"There is more than one {name} header.")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _parse_target(target: str) -> tuple[str, str]:
    whole = _SCHEME.match(target)
    if whole is not None:
        target = target[whole.end() :] or "/"
    path, _, query = target.partition("?")
    if not path.startswith("/") and path != "*":
        raise BadHead(400, "The request target is not a path.")
    return unquote(path), query


def accept_key(head: Head) -> str:
    """Check an upgrade (RFC 6455 section 4.2.1); what goes into Sec-WebSocket-Accept. Raises BadHead."""
    headers = head.headers
    if head.method != "GET":
        raise BadHead(405, "A WebSocket handshake is a GET.", ("allow", "GET"))
    if not head.http_1_1:
        raise BadHead(400, "A WebSocket handshake is HTTP/1.1.")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise BadHead(400, "A WebSocket handshake has no body.")
    if headers.get("sec-websocket-version") != "13":
        raise BadHead(
            426,
            "Only WebSocket version 13 is spoken here.",
            ("sec-websocket-version", "13"),
            ("upgrade", "websocket"),
        )
    key = headers.get("sec-websocket-key", "").encode()
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        valid = False
    if not valid:
        raise BadHead(400, "Sec-WebSocket-Key is not 16 bytes in base64.")
    # The handshake's own use of SHA-1: a proof of having read the key, no secret.
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()


def switching(accept: str, subprotocol: str | None, extensions: str | None = None) -> bytes:
    """The answer that opens a WebSocket."""
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n"
    )
    if subprotocol is not None:
        head += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    if extensions is not None:
        head += f"Sec-WebSocket-Extensions: {extensions}\r\n"
    return (head + "\r\n").encode()


def render(answer: HttpAnswer, *, with_body: bool = True) -> bytes:
    """A whole HTTP response after which the connection is closed; `with_body=False` for HEAD."""
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {answer.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    lines += [
        f"content-length: {len(answer.body)}",
        f"date: {formatdate(time.time(), usegmt=True)}",
        "connection: close",
        "\r\n",
    ]
    head = "\r\n".join(lines).encode("latin-1", "replace")
    return head + answer.body if with_body else head


OWN_FAULT: Final = HttpAnswer(
    500, (("content-type", "text/plain; charset=utf-8"),), b"The gateway failed at this request.\n"
)


class Upgrade(NamedTuple):
    """A handshake that keeps to the protocol; whether it is let in is the Gate's to say."""

    head: Head
    accept: str
    size: int
    """Bytes of the head; what comes after them are frames."""


class Answers(Protocol):
    """What is asked about a request: the reactor."""

    plain_http: PlainHttp
    resolve_origin: ResolveOrigin


def read_request(data: bytes, peer: str, kind: str, answers: Answers) -> Upgrade | bytes | None:
    """Make what can be made of the bytes that came first.

    None: there is more to come. Bytes: the answer to what is plain HTTP. Raises BadHead.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        check_bytes(data)
    if end > HEAD_LIMIT - 4 or (end < 0 and len(data) >= HEAD_LIMIT):
        raise BadHead(431, f"A request head has at most {HEAD_LIMIT} bytes.")
    if end < 0:
        return None
    head = parse_head(data[:end], peer, kind, answers.resolve_origin)
    if not head.wants_upgrade:
        return render(answers.plain_http(head), with_body=head.method != "HEAD")
    return Upgrade(head, accept_key(head), end + 4)
