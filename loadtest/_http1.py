"""HTTP/1.1 answers as they come in (RFC 9112): bytes in, a status and a body out, no I/O.

Knows framing only: Content-Length, chunked, or up to the end of the connection.
"""

from __future__ import annotations

from typing import Final

_HEAD_LIMIT: Final = 64 * 1024


class AnswerError(Exception):
    """What came is no HTTP answer; the text says why."""


class AnswerReader:
    """One answer. `feed` it until it is `complete`.

    Attributes:
        status: its status, 0 as long as its head is not there.
        body: its body, once it is complete.
        keeps: whether the connection can be used again.
        rest: what came after it.
    """

    __slots__ = ("_buffer", "_chunks", "_length", "body", "complete", "keeps", "rest", "status")

    def __init__(self) -> None:
        self._buffer = b""
        self._chunks: list[bytes] | None = None
        self._length: int | None = None
        self.status = 0
        self.body = b""
        self.complete = False
        self.keeps = True
        self.rest = b""

    def feed(self, data: bytes) -> bool:
        """Take bytes; whether the answer is complete. Raises AnswerError."""
        self._buffer += data
        if not self.status and not self._head():
            return False
        if self._chunks is not None:
            self._chunked(self._chunks)
        elif self._length is not None and len(self._buffer) >= self._length:
            self._done(self._buffer[: self._length], self._buffer[self._length :])
        return self.complete

    def end(self) -> bool:
        """The connection is over; whether the answer is complete."""
        if self.status and not self.complete and self._chunks is None and self._length is None:
            self._done(self._buffer, b"")
        return self.complete

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEAD_LIMIT or not b"HTTP/1.".startswith(self._buffer[:7]):
                raise AnswerError("what came is no HTTP answer")
            return False
        first, *lines = self._buffer[:end].split(b"\r\n")
        words = first.split(b" ", 2)
        if len(words) < 2 or not first.startswith(b"HTTP/1.") or not words[1].isdigit():
            raise AnswerError("what came is no HTTP answer")
        self._buffer = self._buffer[end + 4 :]
        fields = dict[bytes, bytes]()
        for line in lines:
            name, _, value = line.partition(b":")
            fields[name.strip().lower()] = value.strip()
        status = int(words[1])
        if 100 <= status < 200 and status != 101:
            return self._head() if self._buffer else False
        self.status = status
        connection = fields.get(b"connection", b"").lower()
        self.keeps = first.startswith(b"HTTP/1.1") and b"close" not in connection
        if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
            self._chunks = []
        elif status in (204, 304):
            self._length = 0
        elif (length := fields.get(b"content-length")) is not None:
            if not length.isdigit():
                raise AnswerError("the answer's Content-Length is no number")
            self._length = int(length)
        else:
            self.keeps = False
        return True

    def _chunked(self, chunks: list[bytes]) -> None:
        while (line := self._buffer.find(b"\r\n")) >= 0:
            try:
                size = int(self._buffer[:line].partition(b";")[0], 16)
            except ValueError as error:
                raise AnswerError("the answer's chunks are none") from error
            start = line + 2
            if size == 0:
                end = self._buffer.find(b"\r\n", start)
                # Trailers end with an empty line.
                while end > start:
                    start, end = end + 2, self._buffer.find(b"\r\n", end + 2)
                if end < 0:
                    return
                self._done(b"".join(chunks), self._buffer[end + 2 :])
                return
            if len(self._buffer) < start + size + 2:
                return
            chunks.append(self._buffer[start : start + size])
            self._buffer = self._buffer[start + size + 2 :]

    def _done(self, body: bytes, rest: bytes) -> None:
        self.body, self.rest, self._buffer, self.complete = body, rest, b"", True
