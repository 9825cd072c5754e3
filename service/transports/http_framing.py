"""Where one HTTP/1.1 request on a connection ends and the next one begins; sans-I/O.

This is the only place that decides it, for every connection: the reactor's, and those that Hypercorn serves, whose
bytes pass a Guard first. Two parsers that disagree about it are how a request is smuggled past a proxy. So whatever
leaves room for another reading is refused with 400, and the connection is closed: a length beside a transfer coding,
two lengths, a sign or a blank in a length, a line that ends in LF alone, a folded header line. One empty line before a
request is passed over, as old programs send it behind a body (RFC 9112 section 2.2). No exception but BadHead
leaves this module, whatever the bytes. Source: RFC 9112 sections 6 and 7.1.
"""

import re
from collections.abc import Mapping
from typing import Final

from .handshake import BadHead, check_bytes
from .head import HEAD_LIMIT, Head, parse_head
from .proxies import RequestSource

PREFACE: Final = b"PRI * HTTP/2.0\r\n"
"""What a client of HTTP/2 begins with (RFC 9113 section 3.4)."""
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_LONE: Final = re.compile(rb"(?<!\r)\n|\r(?![\n])(?!\Z)")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e]*)?")
_TRAILER: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t\x20-\x7e]*")
_LONGEST_CHUNK_LINE: Final = 256
_LONGEST_TRAILER: Final = 8192


def no_http_2() -> BadHead:
    """What a client is told that begins with HTTP/2 where nobody has agreed on it."""
    return BadHead(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")


def end_of_head(data: bytes) -> int:
    """Where the empty line begins that ends the head at the beginning of `data`; -1 if it has not come yet.

    Raises BadHead for what can't become a head any more.
    """
    end = data.find(b"\r\n\r\n")
    if end > HEAD_LIMIT - 4 or (end < 0 and len(data) >= HEAD_LIMIT):
        raise BadHead(431, f"A request head has at most {HEAD_LIMIT} bytes.")
    if end < 0:
        check_bytes(data)
        if _LONE.search(data) is not None:
            raise BadHead(400, "The lines of a request head end with CRLF.")
    return end


def body_length(head: Head) -> int | None:
    """How many bytes the body has that follows this head; None where it comes in chunks. Raises BadHead."""
    headers = head.headers
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is None:
        if length is None:
            return 0
        if not _LENGTH.fullmatch(length):
            raise BadHead(400, "Content-Length is not a number of bytes.")
        return int(length)
    if length is not None:
        raise BadHead(400, "A request has a Content-Length or a Transfer-Encoding, never both.")
    if not head.http_1_1:
        raise BadHead(400, "HTTP/1.0 has no Transfer-Encoding.")
    if coding.lower() != "chunked":
        raise BadHead(501, "The only Transfer-Encoding that is understood here is chunked.")
    return None


class Chunks:
    """The decoding of one body that comes in chunks. Extensions and trailers are checked and ignored."""

    __slots__ = ("_left", "_line", "_trailers")

    def __init__(self) -> None:
        self._left = 0  # bytes of the chunk that have not come yet, with the CRLF after it
        self._line = b""  # of a chunk's or trailer's line, what has come so far
        self._trailers = -1  # bytes of trailers; -1 before the last chunk

    def take(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """The pieces of the body in `data`, and what comes after the body: None while that has not ended.

        Raises BadHead.
        """
        parts: list[bytes] = []
        at = 0
        while at < len(data):
            if self._left:
                at = self._content(data, at, parts)
                continue
            end = data.find(b"\n", at)
            piece = data[at:] if end < 0 else data[at : end + 1]
            line = self._line + piece
            if len(line) > (_LONGEST_CHUNK_LINE if self._trailers < 0 else _LONGEST_TRAILER):
                raise BadHead(400, "A line of the chunked body is too long.")
            if end < 0:
                self._line = line
                break
            self._line = b""
            at = end + 1
            if not line.endswith(b"\r\n"):
                raise BadHead(400, "The lines of a chunked body end with CRLF.")
            if self._ended_by(line[:-2]):
                return parts, data[at:]
        return parts, None

    def _content(self, data: bytes, at: int, parts: list[bytes]) -> int:
        """The bytes of a chunk, and the CRLF that has to follow them."""
        left = self._left
        if left > 2:
            part = data[at : at + left - 2]
            parts.append(part)
            self._left -= len(part)
            return at + len(part)
        if data[at : at + 1] != (b"\r" if left == 2 else b"\n"):
            raise BadHead(400, "A chunk is longer than it says.")
        self._left -= 1
        return at + 1

    def _ended_by(self, line: bytes) -> bool:
        """A whole line came. Whether it is the body's last."""
        if self._trailers >= 0:
            self._trailers += len(line) + 2
            if line and (self._trailers > _LONGEST_TRAILER or not _TRAILER.fullmatch(line)):
                raise BadHead(400, "The trailers of the chunked body are not header lines.")
            return not line
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise BadHead(400, "A chunk does not begin with its size.")
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailers = 0
        return False


class Guard:
    """Watches the bytes that another HTTP/1.1 server is about to read, and refuses what `body_length` would.

    `http_2`: the connection may begin with HTTP/2; `h2c`: it may become that, if it asks. `sound`: how many bytes of
    those that were checked last may be read, where they were refused. `upgrades`: the client has asked for a WebSocket.
    """

    __slots__ = ("_blank", "_chunks", "_h2c", "_head", "_http_2", "_left", "_off", "sound", "upgrades")

    def __init__(self, *, http_2: bool = False, h2c: bool = False) -> None:
        self._http_2 = http_2
        self._h2c = h2c
        self._head = b""
        self._blank = 0  # bytes of the empty line before this request that were passed over
        self._left = 0
        self._chunks: Chunks | None = None
        self._off = False
        self.sound = 0
        self.upgrades = False

    def check(self, data: bytes) -> int:
        """More bytes came: how many of them there are up to the end of a request, all where none ends. What is behind
        it has not been checked. Raises BadHead. Once the client has asked for another protocol it looks no more."""
        size = len(data)
        while data and not self._off:
            self.sound = size - len(data)
            if self._left:
                passed = min(self._left, len(data))
                self._left -= passed
                data = data[passed:]
            elif self._chunks is not None:
                _, rest = self._chunks.take(data)
                if rest is None:
                    break
                self._chunks, data = None, rest
            else:
                data = self._begin(self._head + data)
            if data and self.between:
                return size - len(data)
        return size

    def without_blank_line(self, data: bytes) -> bytes:
        """What is to be checked, and read, of bytes that come `between` requests: without an empty line at their
        beginning, or the part of it that is there. The other server would refuse it."""
        if self._blank == 0 and data.startswith(b"\r"):
            self._blank, data = 1, data[1:]
        if self._blank == 1 and data:
            if not data.startswith(b"\n"):
                return b"\r" + data  # and no empty line, which is refused
            self._blank, data = 2, data[1:]
        return data

    @property
    def between(self) -> bool:
        """Whether what comes next begins a request."""
        return not (self._left or self._chunks is not None or self._head or self._off)

    def _begin(self, data: bytes) -> bytes:
        self._blank = 0
        if data.startswith(PREFACE[: len(data)]):
            if not self._http_2 and len(data) >= len(PREFACE):
                raise no_http_2()
            self._off = len(data) >= len(PREFACE)
            self._head = b"" if self._off else data
            return b""
        end = end_of_head(data)
        if end < 0:
            self._head = data
            return b""
        self._head = b""
        head = parse_head(data[:end], "", "websocket", _nobody)
        length = body_length(head)
        self.upgrades = head.wants_upgrade
        self._off = self._changes_protocol(head)
        if length is None:
            self._chunks = Chunks()
        else:
            self._left = length
        return data[end + 4 :]

    def _changes_protocol(self, head: Head) -> bool:
        """Whether what follows is no HTTP/1.1, by Hypercorn's reading of this head. (An upgrade to a WebSocket that is
        refused closes the connection.)"""
        asked = head.headers.get("upgrade", "").lower()
        if asked == "websocket":
            return self.upgrades and head.method == "GET"
        bodiless = "content-length" not in head.headers and "transfer-encoding" not in head.headers
        return self._h2c and asked == "h2c" and bodiless


def _nobody(peer: str, headers: Mapping[str, str], scheme: str) -> RequestSource:
    return RequestSource("", scheme, "")
