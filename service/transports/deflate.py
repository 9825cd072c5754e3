"""permessage-deflate (RFC 7692): what is agreed on in a handshake, and inflating within a bound; sans-I/O.

Agreed on is always that no context is taken over, in neither direction: then a frame is compressed once for all who
get it, and a connection keeps no window (up to 300 KB) between its messages. `websockets` does the negotiating. The
inflating is our own: the library's wants the whole frame first, holds several copies of it, and calls data that is
no deflate a fault of the protocol.

Promises: never more than the limit and one piece of output exist, whatever the input would unfold to.
"""

import zlib
from typing import Final, NamedTuple

from websockets.exceptions import InvalidHandshake, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension

from portico.wire.codes import CloseCode

_POLICY: Final = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
_EMPTY_BLOCK: Final = b"\x00\x00\xff\xff"
# What inflates is no bigger than this at a time, so that what is too much is seen before it is there.
_PIECE: Final = 65536
# A window of the largest size reads what was compressed with any.
_WINDOW_BITS: Final = -15
# Blocks marked as the last are rare, and each costs a new inflater: a message of nothing else would hold up everybody.
_FINAL_BLOCKS: Final = 64


class Agreement(NamedTuple):
    """What an offer was answered by."""

    header: str
    """The value of Sec-WebSocket-Extensions in the answer."""
    window_bits: int
    """How far back what we compress may refer: `Frame.deflated` takes it."""


def negotiate(offers: str) -> Agreement | None:
    """Answer the Sec-WebSocket-Extensions of a request: by the first of its offers that can be met, or not at all."""
    try:
        offered = parse_extension(offers)
    except InvalidHandshake:
        return None
    for name, parameters in offered:
        if name != _POLICY.name:
            continue
        try:
            answer, agreed = _POLICY.process_request_params(parameters, ())
        except NegotiationError:
            continue
        return Agreement(build_extension([(name, answer)]), agreed.local_max_window_bits)
    return None


class Unfit(Exception):
    """What the peer sent as compressed is too much, or cannot be inflated; `code` is what to close with."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


_TOO_LARGE: Final = (CloseCode.TOO_LARGE, "message too large when inflated")
_NO_DEFLATE: Final = (CloseCode.NOT_UTF8, "not deflate's format")


def inflated_head(data: bytes, size: int) -> bytes:
    """The first bytes of a compressed message, at most `size`, from the first of its compressed ones; empty if they are
    no deflate."""
    try:
        return zlib.decompressobj(_WINDOW_BITS).decompress(data, size)
    except zlib.error:
        return b""


class Inflater:
    """One compressed message's, from its first byte to its last."""

    __slots__ = ("_finals", "_inflate")

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_WINDOW_BITS)
        self._finals = 0

    def take(self, data: bytes | bytearray | memoryview, out: bytearray, limit: int) -> None:
        """Inflate a part of the message onto `out`, which may get `limit` bytes long in all. Raises Unfit."""
        with memoryview(data) as view:
            for start in range(0, len(view), _PIECE):
                self._take(view[start : start + _PIECE], out, limit)

    def end(self, out: bytearray, limit: int) -> None:
        """The message has no more parts: the rest of it goes onto `out`. Raises Unfit."""
        self._take(_EMPTY_BLOCK, out, limit)

    def _take(self, data: bytes | memoryview, out: bytearray, limit: int) -> None:
        while True:
            try:
                piece = self._inflate.decompress(data, _PIECE)
            except zlib.error:
                raise Unfit(*_NO_DEFLATE) from None
            out += piece
            if len(out) > limit:
                raise Unfit(*_TOO_LARGE)
            if self._inflate.eof:
                # A block marked as the last ends a stream, not the message (RFC 7692 section 7.2.3.5).
                data = self._inflate.unused_data
                self._finals += 1
                if self._finals > _FINAL_BLOCKS:
                    raise Unfit(*_NO_DEFLATE)
                self._inflate = zlib.decompressobj(_WINDOW_BITS)
                if not data:
                    return
            elif len(piece) < _PIECE:
                return
            else:
                data = self._inflate.unconsumed_tail
