"""From bytes to messages: the receiving side of one WebSocket connection, sans-I/O.

The commonest frames (a whole, unfragmented text or binary message; ping; pong) are cut and unmasked here, since
that costs a fifth of what a general parser does. Everything else (fragments, Close, whatever breaks
a rule) goes to `websockets`' Sans-I/O Protocol, made when it is needed and dropped when it isn't: an idle
connection has none. The tests fuzz the two against each other. Compressed messages, where they were agreed on, are
inflated here as they come.

Promises: messages in order, text checked to be UTF-8; a bounded number of frames a call, so that no
connection takes more than its turn; what is kept between calls is bounded by the message size limit.
"""

import codecs
import logging
from typing import Final

from websockets.exceptions import PayloadTooBig
from websockets.frames import CONT, DATA_OPCODES, TEXT, Frame
from websockets.protocol import OPEN as PROTOCOL_OPEN
from websockets.protocol import Protocol, Side

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build without the C extension
    from websockets.utils import apply_mask

from portico.wire.codes import CloseCode
from service.core.ports import OVERSIZED_HEAD, Receiver, TransportCounts

from .allowance import Allowance
from .close_frames import CLOSE
from .deflate import Inflater, Unfit, inflated_head

PONG: Final = 0x8A
"""The first byte of a pong."""

FRAMES_A_TURN: Final = 32
"""Frames that one connection gets handled before others have their turn."""

READ_SIZE: Final = 4096
BIG_READ_SIZE: Final = 65536

UNLIMITED: Final = 1 << 63

_SLICED: Final = 16384  # above this a view saves more than it costs
_WHOLE_TEXT: Final = 0x81
_WHOLE_MESSAGE: Final = (0x81, 0x82)
_OPCODES: Final = frozenset((0x0, 0x1, 0x2, 0x8, 0x9, 0xA))
_COMMON_CLOSES: Final = (1000, 1001)
_WHOLE_PING: Final = 0x89
_FIN: Final = 0x80
_COMPRESSED: Final = (0xC1, 0xC2, 0x41, 0x42)
_CONTINUED: Final = (0x00, 0x80)

# The library's own lines tell nothing that the gateway doesn't, and quote what the peer sent.
_SILENT = logging.getLogger("service.transports.websockets")
_SILENT.disabled = True

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class Assembly:
    """What is needed only while frames come that are not whole messages."""

    __slots__ = ("buffer", "decoder", "limit", "protocol")

    missing: Final = 0
    cost: Final = 8192
    """Bytes that it takes besides the buffer, in round figures."""

    def __init__(self, limit: int) -> None:
        # The connection's limit may change meanwhile; a message is held to the one it began under.
        self.limit = limit
        self.protocol = Protocol(
            Side.SERVER,
            state=PROTOCOL_OPEN,
            max_size=None if limit == UNLIMITED else limit,
            logger=_SILENT,
        )
        self.buffer = bytearray()
        self.decoder: codecs.IncrementalDecoder | None = None


class Inflation:
    """A compressed message on its way in. Its frames are inflated as they come, never kept as they are."""

    __slots__ = ("_inflater", "_mask", "buffer", "counted", "final", "limit", "missing", "text")

    cost: Final = 40 * 1024
    """Bytes that it takes besides the buffer, most of them zlib's, in round figures."""

    def __init__(self, text: bool, limit: int) -> None:
        self.text = text
        self.limit = limit
        self.buffer = bytearray()
        self.missing = 0  # bytes of the present frame that are yet to come
        self.final = False
        self.counted = False  # what it keeps was said
        self._mask = b""
        self._inflater = Inflater()

    def begin(self, size: int, mask: bytes, final: bool) -> None:
        """Its next frame. Raises Unfit."""
        # What can't be made smaller is a little bigger when compressed.
        if size > self.limit + self.limit // 8 + 64:
            raise Unfit(CloseCode.TOO_LARGE, "frame too large")
        self.missing = size
        self.final = final
        self._mask = mask

    def take(self, masked: memoryview) -> None:
        """What has come of the frame. Raises Unfit."""
        size = len(masked)
        self.missing -= size
        self._inflater.take(apply_mask(masked, self._mask), self.buffer, self.limit)
        turned = size % 4
        self._mask = self._mask[turned:] + self._mask[:turned]

    def end(self) -> bytes:
        """The whole message. Raises Unfit."""
        self._inflater.end(self.buffer, self.limit)
        if self.text and not self.buffer.isascii():
            try:
                self.buffer.decode()
            except UnicodeDecodeError:
                raise Unfit(CloseCode.NOT_UTF8, "text is UTF-8") from None
        return bytes(self.buffer)


class Inbound:
    """One connection's incoming frames. A subclass says what to do with what they ask for."""

    __slots__ = ("_assembly", "_inbox", "_need", "allowance", "counts", "deflate", "limit", "listening", "receiver")

    def __init__(self, counts: TransportCounts) -> None:
        self.counts = counts
        self.receiver: Receiver | None = None
        self.allowance: Allowance | None = None
        # Messages are handed on; False from the moment that a Close went either way.
        self.listening = False
        self.limit = UNLIMITED
        # The window in bits with which messages may go out compressed; then they may come so, too. 0: neither.
        self.deflate = 0
        self._inbox: bytes | bytearray = b""
        self._need = 0
        self._assembly: Assembly | Inflation | None = None

    # What a subclass does.

    def respond(self, data: bytes) -> None:
        """Send a pong, or a Close in answer to one."""
        raise NotImplementedError

    def pong(self) -> None:
        """A pong came."""
        raise NotImplementedError

    def theirs(self, code: int, reason: str) -> None:
        """The peer's Close came, and was answered by `respond`."""
        raise NotImplementedError

    def fault(self, code: int, reason: str) -> None:
        """The peer broke a rule: the connection has to end with this code; nothing was sent yet."""
        raise NotImplementedError

    def allowed(self, size: int) -> bool:
        """Whether one more message, of `size` bytes, is within the allowance; if not, the connection is ending."""
        raise NotImplementedError

    def allowed_bytes(self, size: int) -> bool:
        """Whether `size` more bytes of a message that is not whole yet are within the allowance."""
        raise NotImplementedError

    def kept(self, size: int) -> None:
        """So many bytes are kept of a message that is not whole yet; 0 where there is none. Said from READ_SIZE on, and
        for every fragment."""
        raise NotImplementedError

    # What it is given.

    @property
    def unfinished(self) -> object:
        """What there is of a message that is not whole yet, the same object until it is; None where there is none."""
        if self._assembly is not None:
            return self._assembly
        return self._inbox or None

    def wanted(self) -> int:
        """How many bytes are worth reading at once: few, for the others' sake, but within a big frame."""
        missing = self._need - len(self._inbox)
        return READ_SIZE if missing <= READ_SIZE else min(missing, BIG_READ_SIZE)

    def take(self, data: bytes | bytearray) -> bool:
        """Handle what was read. Returns whether whole frames may be left, for `more` to go on with.

        What `Receiver.receive` raises comes out here; the connection has to be ended then.
        """
        inbox = self._inbox
        if inbox:
            if isinstance(inbox, bytes):
                inbox = bytearray(inbox)
            counted = len(inbox) > READ_SIZE
            inbox += data
            if len(inbox) < self._need:
                self._inbox = inbox
                if len(inbox) > READ_SIZE:
                    self._count_kept()
                return False
            self._inbox = b""
            self._need = 0
            more = self.cut(inbox)
            if counted and self.listening:
                self._count_kept()
            return more
        self._need = 0
        return self.cut(data)

    def more(self) -> bool:
        """Go on with what `take` left."""
        data, self._inbox = self._inbox, b""
        return self.cut(data)

    def cut(self, data: bytes | bytearray) -> bool:
        """`take` where nothing was kept from before."""
        position = 0
        end = len(data)
        turn = FRAMES_A_TURN
        receiver = self.receiver
        assert receiver is not None
        if self._assembly is not None and self._assembly.missing:
            position = self._inflate(data, 0)
        while position < end and self.listening:
            if not turn:
                self._keep(data, position, 0)
                return True
            if end - position < 2:
                break
            first = data[position]
            size = data[position + 1] - 0x80
            start = position + 6
            if size == 126:
                start = position + 8
                size = data[position + 2] << 8 | data[position + 3] if start - 4 <= end else 0
            elif size == 127:
                start = position + 14
                size = int.from_bytes(data[position + 2 : start - 4], "big") if start - 4 <= end else 0
            if first == _WHOLE_TEXT and self._assembly is None and start + size <= end and 0 <= size <= self.limit:
                # Nearly all that comes.
                stop = start + size
                turn -= 1
                if size > _SLICED:
                    with memoryview(data) as view:
                        payload = apply_mask(view[start:stop], data[start - 4 : start])
                else:
                    payload = apply_mask(data[start:stop], data[start - 4 : start])
                if not payload.isascii():
                    try:
                        payload.decode()
                    except UnicodeDecodeError:
                        self.fault(CloseCode.NOT_UTF8, "text is UTF-8")
                        return False
                position = stop
                if self.allowance is None or self.allowed(size):
                    self.counts.messages_in += 1
                    receiver.receive(payload, True)
                continue
            if self.deflate and size >= 0 and self._goes_on_compressed(first):
                if start > end:
                    break
                turn -= 1
                position = self._inflate_frame(data, position, start, size)
                continue
            stop = start + size
            room = self.limit if self._assembly is None else self._room(first)
            if size < 0 or size > room or (stop > end and first & 0x0F not in _OPCODES):
                # The library says what is wrong with it, from its head alone.
                self._hand_over(bytes(data[position:]))
                if self.listening:
                    self.fault(CloseCode.PROTOCOL_ERROR, "not a frame")
                # Of a frame that is too large the rest is passed over, up to the peer's Close.
                self._keep(data, position, 0)
                return False
            if stop > end:
                self._keep(data, position, stop - position)
                return False
            turn -= 1
            if first in _WHOLE_MESSAGE and self._assembly is None:
                if size > _SLICED:
                    with memoryview(data) as view:
                        payload = apply_mask(view[start:stop], data[start - 4 : start])
                else:
                    payload = apply_mask(data[start:stop], data[start - 4 : start])
                if first == _WHOLE_TEXT and not payload.isascii():
                    try:
                        payload.decode()
                    except UnicodeDecodeError:
                        self.fault(CloseCode.NOT_UTF8, "text is UTF-8")
                        return False
                if self.allowance is None or self.allowed(size):
                    self.counts.messages_in += 1
                    receiver.receive(payload, first == _WHOLE_TEXT)
            elif first == _WHOLE_PING and size < 126:
                if self.allowance is not None and not self.allowed(size):
                    self._keep(data, stop, 0)
                    return False
                payload = apply_mask(data[start:stop], data[start - 4 : start])
                self.respond(bytes((PONG, size)) + payload)
            elif first == PONG and size < 126:
                # An answer to a ping of ours is one in 20 s; more are a flood like any other.
                if self.allowance is not None and not self.allowed(size):
                    self._keep(data, stop, 0)
                    return False
                self.pong()
            elif first == CLOSE and self._assembly is None and self._plain_close(data, start, stop):
                pass
            else:
                if first == CLOSE:
                    # A Close within a fragmented message is a Close, and the message is void.
                    self._assembly = None
                elif self.allowance is not None and not self.allowed(size):
                    # Each fragment counts as it comes, since nobody has to send the last.
                    self._keep(data, stop, 0)
                    return False
                self._hand_over(bytes(data[position:stop]))
            position = stop
        # After our own Close theirs is still looked for in what is left.
        if position != end:
            self._keep(data, position, 0)
        return False

    def _plain_close(self, data: bytes | bytearray, start: int, stop: int) -> bool:
        """Answer the Close that nearly all peers send: one with a code of the standard's and no reason."""
        if stop - start != 2:
            return False
        payload = apply_mask(data[start:stop], data[start - 4 : start])
        code = int.from_bytes(payload, "big")
        if code not in _COMMON_CLOSES:
            return False
        self.respond(bytes((CLOSE, 2)) + payload)
        self.theirs(code, "")
        return True

    def _room(self, first: int) -> int:
        """How big a frame that begins so may be, within a fragmented message."""
        assembly = self._assembly
        if assembly is None or first & 0x08:
            return self.limit
        return assembly.limit - len(assembly.buffer)

    def _goes_on_compressed(self, first: int) -> bool:
        """Whether a frame that begins so is compressed, where that was agreed on and nothing is wrong with it."""
        if self._assembly is None:
            return first in _COMPRESSED
        return first in _CONTINUED and isinstance(self._assembly, Inflation)

    def _inflate_frame(self, data: bytes | bytearray, position: int, start: int, size: int) -> int:
        """Begin with a compressed frame; returns where what is there of it ends."""
        first = data[position]
        inflation = self._assembly
        if not isinstance(inflation, Inflation):
            inflation = self._assembly = Inflation(first & 0x0F == TEXT, self.limit)
        try:
            inflation.begin(size, bytes(data[start - 4 : start]), first & _FIN != 0)
        except Unfit as unfit:
            mask, masked = data[start - 4 : start], data[start : start + OVERSIZED_HEAD]
            head = inflation.buffer or inflated_head(apply_mask(masked, mask), OVERSIZED_HEAD)
            self._unfit(unfit, head)
            return start
        if not inflation.final and self.allowance is not None and not self.allowed(0):
            return start
        return self._inflate(data, start)

    def _inflate(self, data: bytes | bytearray, start: int) -> int:
        """Go on with a compressed frame, whose next bytes are those from `start`; returns where they end."""
        inflation = self._assembly
        assert isinstance(inflation, Inflation)
        stop = min(start + inflation.missing, len(data))
        held = len(inflation.buffer)
        try:
            with memoryview(data) as view, view[start:stop] as masked:
                inflation.take(masked)
            self._need = inflation.missing
            if inflation.missing or not inflation.final:
                # What it holds counts as it grows: 1 KB may stand for a megabyte, and the end need not come.
                if self.allowance is not None:
                    self.allowed_bytes(len(inflation.buffer) - held)
                if self.listening:
                    inflation.counted = True
                    self._count_kept()
                return stop
            payload = inflation.end()
        except Unfit as unfit:
            self._unfit(unfit, inflation.buffer)
            return stop
        self._assembly = None
        if inflation.counted:
            self._count_kept()
        if self.allowance is None or self.allowed(len(payload) - held):
            self.counts.messages_in += 1
            assert self.receiver is not None
            self.receiver.receive(payload, inflation.text)
        return stop

    def _unfit(self, unfit: Unfit, head: bytes | bytearray) -> None:
        if unfit.code is CloseCode.TOO_LARGE:
            self._oversized(head)
        self.fault(unfit.code, unfit.reason)

    def _oversized(self, head: bytes | bytearray) -> None:
        assert self.receiver is not None
        self.receiver.oversized(bytes(head[:OVERSIZED_HEAD]))

    def _keep(self, data: bytes | bytearray, position: int, need: int) -> None:
        self._inbox = data[position:] if position else data
        self._need = need
        if need > READ_SIZE and len(self._inbox) > READ_SIZE:
            self._count_kept()

    def _hand_over(self, data: bytes) -> None:
        """One frame, or the beginning of something that must fail, to the library."""
        assembly = self._assembly
        if assembly is None:
            assembly = self._assembly = Assembly(self.limit)
        elif isinstance(assembly, Inflation):
            # Nothing that gets here may come between a compressed message's frames: the library says why not.
            assembly = Assembly(self.limit)
            assembly.protocol.current_size = 0
        protocol = assembly.protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
                self._assemble(assembly, event)
        if not self.listening:
            return
        if protocol.state is not PROTOCOL_OPEN:
            self._assembly = None
            if isinstance(protocol.parser_exc, PayloadTooBig):
                self._oversized(assembly.buffer + _begun(data))
            self._closing(protocol)
            return
        if protocol.current_size is None:
            self._assembly = None
        self._count_kept()

    def _count_kept(self) -> None:
        assembly = self._assembly
        self.kept(len(self._inbox) + (0 if assembly is None else len(assembly.buffer) + assembly.cost))

    def _assemble(self, assembly: Assembly, frame: Frame) -> None:
        if frame.opcode is not CONT:
            assembly.decoder = _utf8_decoder() if frame.opcode is TEXT else None
        assembly.buffer += frame.data
        if assembly.decoder is not None:
            try:
                assembly.decoder.decode(bytes(frame.data), frame.fin)
            except UnicodeDecodeError:
                self.fault(CloseCode.NOT_UTF8, "text is UTF-8")
                return
        if not frame.fin:
            return
        self._assembly = None
        self.counts.messages_in += 1
        assert self.receiver is not None
        self.receiver.receive(bytes(assembly.buffer), assembly.decoder is not None)

    def _closing(self, protocol: Protocol) -> None:
        received, sent = protocol.close_rcvd, protocol.close_sent
        if protocol.parser_exc is None and received is not None:
            for data in protocol.data_to_send():
                if data:  # an empty one stands for the end of the stream
                    self.respond(data)
            self.theirs(int(received.code), received.reason)
        elif sent is not None:
            self.fault(int(sent.code), sent.reason)


def _begun(frame: bytes) -> bytes:
    """What has come of a large frame's payload, at most OVERSIZED_HEAD bytes."""
    start = 14 if frame[1] & 0x7F == 127 else 8 if frame[1] & 0x7F == 126 else 6
    masked = frame[start : start + OVERSIZED_HEAD]
    return apply_mask(masked, frame[start - 4 : start]) if masked else b""
