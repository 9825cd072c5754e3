"""WebSocket frames as a client reads and writes them (RFC 6455 5.2): bytes in, messages out, no I/O.

Knows frames; never what messages mean. Small and quick on purpose, since one load process reads for thousands of
connections: an idle reader holds two words, and a frame costs a fifth of what the general parser of `websockets` takes.
What a server must not send (a masked frame, a reserved bit, a stray fragment) is an error, never skipped.
"""

from __future__ import annotations

from typing import Final

from websockets.frames import Frame, Opcode

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
_LIMIT: Final = 64 * 1024 * 1024


class FrameError(Exception):
    """The server broke RFC 6455; the text says how."""


class FrameReader:
    """The incoming half of one connection."""

    __slots__ = ("_buffer", "_fragments")

    def __init__(self) -> None:
        self._buffer = b""
        self._fragments: tuple[int, bytes] | None = None

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The messages and control frames, as opcode and payload, that these bytes complete.

        Raises:
            FrameError: they are none. What was complete before is lost; the connection is over.
        """
        if self._buffer:
            data = self._buffer + data
        found: list[tuple[int, bytes]] = []
        start, size = 0, len(data)
        while size - start >= 2:
            first, length = data[start], data[start + 1]
            if first & 0x70:
                raise FrameError("a reserved bit is set")
            if length & 0x80:
                raise FrameError("a server's frame is masked")
            body = start + 2
            if length >= 126:
                body += 2 if length == 126 else 8
                if body > size:
                    break
                length = int.from_bytes(data[start + 2 : body], "big")
                if length > _LIMIT:
                    raise FrameError(f"a frame of {length} bytes")
            end = body + length
            if end > size:
                break
            opcode = first & 0x0F
            if 0 < opcode < 3 and first & 0x80 and self._fragments is None:
                found.append((opcode, data[body:end]))
            else:
                self._rare(found, opcode, bool(first & 0x80), data[body:end])
            start = end
        self._buffer = data[start:] if start < size else b""
        return found

    def _rare(self, found: list[tuple[int, bytes]], opcode: int, fin: bool, payload: bytes) -> None:
        """Fragments and control frames."""
        if opcode >= CLOSE:
            if opcode > PONG or not fin or len(payload) > 125:
                raise FrameError("a control frame of a wrong form")
            found.append((opcode, payload))
            return
        if (opcode == 0) is (self._fragments is None) or opcode > BINARY:
            raise FrameError("a fragment out of place" if opcode <= BINARY else f"a frame of unknown kind {opcode}")
        kind, before = self._fragments or (opcode, b"")
        if fin:
            self._fragments = None
            found.append((kind, before + payload))
        else:
            self._fragments = kind, before + payload


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's whole frame, masked."""
    return Frame(Opcode(opcode), payload).serialize(mask=True)


def close_reason(payload: bytes) -> tuple[int, str]:
    """The code and reason in a Close frame's payload; 1005 where there is none (RFC 6455 7.1.5)."""
    if len(payload) < 2:
        return 1005, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace")
