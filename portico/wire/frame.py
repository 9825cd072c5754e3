"""Frame: one outgoing text message, encoded once and shared by every connection that it goes to.

A server's frames are not masked (RFC 6455 section 5.3), so the bytes on the wire are the same for
every receiver: a broadcast to 10,000 connections is one encoding and 10,000 sends of one object. The same holds
for the compressed form (RFC 7692), since no connection's depends on what went to it before.
"""

import zlib
from struct import Struct
from typing import Final

_FIN_TEXT: Final = 0x81
_SHORT = Struct("!BB").pack
_MEDIUM = Struct("!BBH").pack
_LONG = Struct("!BBQ").pack
_SHORT_HEADS: Final = tuple(_SHORT(_FIN_TEXT, size) for size in range(126))

SMALLEST_COMPRESSED: Final = 256
"""Bytes of payload from which on compressing is worth its time: below, 7 µs would save less than 100 bytes."""

_RSV1: Final = 0x40
# Better levels make JSON a tenth smaller and take twice the time and more. With this memory level a compressor is
# made in a quarter of the time that it takes by default, and one is made for every frame.
_LEVEL: Final = 1
_MEMORY_LEVEL: Final = 5
_EMPTY_BLOCK: Final = b"\x00\x00\xff\xff"


class Frame:
    """An encoded outgoing message.

    `payload` is the message, UTF-8 text; `wire` is the whole unfragmented, unmasked WebSocket frame.
    Immutable by convention: many connections hold the same Frame.
    """

    __slots__ = ("_deflated", "payload", "wire")

    # Not there before it is asked for: frames that nobody wants compressed don't pay for it.
    _deflated: dict[int, bytes]

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        size = len(payload)
        # As `_framed`, for the two commonest lengths.
        if size < 126:
            self.wire = _SHORT_HEADS[size] + payload
        elif size < 65536:
            self.wire = _MEDIUM(_FIN_TEXT, 126, size) + payload
        else:
            self.wire = _framed(_FIN_TEXT, payload)

    def deflated(self, window_bits: int) -> bytes:
        """The frame for connections with permessage-deflate and no context takeover: compressed at the first asking
        for each of the window sizes (9 to 15), or `wire` itself where that would gain nothing.
        """
        if len(self.payload) < SMALLEST_COMPRESSED:
            return self.wire
        try:
            forms = self._deflated
        except AttributeError:
            forms = self._deflated = {}
        form = forms.get(window_bits)
        if form is None:
            form = forms[window_bits] = self._deflate(window_bits)
        return form

    def _deflate(self, window_bits: int) -> bytes:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -window_bits, _MEMORY_LEVEL)
        data = compressor.compress(self.payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        data = data.removesuffix(_EMPTY_BLOCK)  # RFC 7692 section 7.2.1
        return _framed(self.wire[0] | _RSV1, data) if len(data) < len(self.payload) else self.wire

    def __repr__(self) -> str:
        return f"<Frame of {len(self.payload)} bytes>"


def _framed(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return _SHORT(first, size) + payload
    if size < 65536:
        return _MEDIUM(first, 126, size) + payload
    return _LONG(first, 127, size) + payload
