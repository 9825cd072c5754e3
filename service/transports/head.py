"""The head of an HTTP/1.1 request, and the answer that opens a WebSocket; sans-I/O.

Where a head and the body after it end is decided in `http_framing`, what makes a WebSocket handshake valid in
`handshake`. Strict: bytes that no head may have are refused before anything is made of it, since what two programs read
differently is how rules are got around. No exception but BadHead leaves this module, whatever the bytes.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, NoReturn
from urllib.parse import unquote

from service.core.header_fields import NO_PATH, SINGLE, joined, names_another, twice
from service.core.ports import HttpAnswer
from service.core.proof import Proof

from .handshake import BadHead, asks_to_upgrade, check_bytes
from .proxies import RequestSource

HEAD_LIMIT: Final = 8192
"""Bytes that a head may have, with the empty line that ends it."""

HEADER_COUNT_LIMIT: Final = 100

ResolveSource = Callable[[str, Mapping[str, str], str], RequestSource]
"""(address of the peer, headers, the socket's own scheme) → who asks for what; `ProxyRules.resolve` is one."""

_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+").fullmatch
# The request line and header lines, to be matched as a whole: cheaper than looking at each line, and nothing is left
# over. No two parts of it match the same byte, so it takes a time that grows with the head and no more.
_WHOLE = re.compile(
    rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+ [\x21-\x7e]+ HTTP/1\.[01](?:\r\n[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t\x20-\x7e]*)*"
).fullmatch
_SCHEME = re.compile(r"(?:https?|wss?)://[^/?#]*", re.IGNORECASE)


@dataclass(slots=True)
class Head:
    """A parsed head; as far as the core is concerned, an HttpHead.

    `path` is percent-decoded, `query` is as it came. Headers that came more than once are joined, by `header_fields`.
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
    prefix: str = ""
    certificate: Proof | None = None

    @property
    def wants_upgrade(self) -> bool:
        """Whether this asks for a WebSocket, rightly or wrongly."""
        return asks_to_upgrade(self.headers)


def parse_head(data: bytes, peer: str, kind: str, resolve: ResolveSource, scheme: str = "http") -> Head:
    """Parse a head, given without the empty line that ends it.

    `peer` is the address at the other end of the socket, `kind` that of the port, `scheme` http or https, as the socket
    is spoken to. Raises BadHead.
    """
    if not _WHOLE(data):
        _explain(data)
    lines = data.decode("ascii").split("\r\n")
    method, target, version = lines[0].split(" ")
    headers = _parse_headers(lines)
    http_1_1 = version == "HTTP/1.1"
    if http_1_1 and "host" not in headers:
        raise BadHead(400, "The Host header is missing.")
    path, query = _parse_target(target, headers.get("host"))
    source = resolve(peer, headers, scheme)
    return Head(
        method, path, query, headers, peer, source.address, source.scheme, source.host, kind, http_1_1, source.prefix
    )


def _explain(data: bytes) -> NoReturn:
    """Say what is wrong with a head that isn't _WHOLE."""
    check_bytes(data)
    words = data.partition(b"\r\n")[0].decode("ascii").split(" ")
    if len(words) != 3 or not _TOKEN(words[0]) or not words[1] or "\t" in words[1]:
        raise BadHead(400, "The request line is not HTTP's: method, target and version, one space between.")
    if words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadHead(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    # Folded lines and lone CRs and LFs are how one head is made to look like two.
    raise BadHead(400, "A header line is not `name: value` and CRLF.")


def _parse_headers(lines: list[str]) -> dict[str, str]:
    """The headers of a head's lines, of which the first is not one."""
    if len(lines) > HEADER_COUNT_LIMIT + 1:
        raise BadHead(431, f"At most {HEADER_COUNT_LIMIT} headers are read.")
    headers: dict[str, str] = {}
    for line in islice(lines, 1, None):
        name, _, value = line.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        if name in headers:
            if name in SINGLE:
                raise BadHead(400, twice(name))
            value = joined(name, headers[name], value)
        headers[name] = value
    return headers


def _parse_target(target: str, host: str | None) -> tuple[str, str]:
    if not target.startswith("/"):
        whole = _SCHEME.match(target)
        if whole is not None:
            if names_another(whole.group(), host):
                raise BadHead(400, twice("host"))
            target = target[whole.end() :] or "/"
    path, _, query = target.partition("?")
    if not path.startswith("/") and path != "*":
        raise BadHead(400, NO_PATH)
    return unquote(path) if "%" in path else path, query


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


OWN_FAULT: Final = HttpAnswer(
    500, (("content-type", "text/plain; charset=utf-8"),), b"The gateway failed at this request.\n"
)


class Upgrade(NamedTuple):
    """A handshake that keeps to the protocol; whether it is let in is the Gate's to say."""

    head: Head
    accept: str
    size: int
    """Bytes of the head; what comes after them are frames."""
