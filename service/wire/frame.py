"""Frame: one outgoing text message, encoded once and shared by every connection that it goes to.

A server's frames are not masked (RFC 6455 section 5.3), so the bytes on the wire are the same for
every receiver: a broadcast to 10,000 connections is one encoding and 10,000 sends of one object.
"""

from struct import Struct
from typing import Final

_FIN_TEXT: Final = 0x81
_SHORT = Struct("!BB").pack
_MEDIUM = Struct("!BBH").pack
_LONG = Struct("!BBQ").pack


class Frame:
    """An encoded outgoing message.

    `payload` is the message, UTF-8 text; `wire` is the whole unfragmented, unmasked WebSocket frame.
    Immutable by convention: many connections hold the same Frame.
    """

    __slots__ = ("payload", "wire")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        size = len(payload)
        if size < 126:
            self.wire = _SHORT(_FIN_TEXT, size) + payload
        elif size < 65536:
            self.wire = _MEDIUM(_FIN_TEXT, 126, size) + payload
        else:
            self.wire = _LONG(_FIN_TEXT, 127, size) + payload

    def __repr__(self) -> str:
        return f"<Frame of {len(self.payload)} bytes>"
