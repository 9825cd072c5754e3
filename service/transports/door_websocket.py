"""DoorWebsocket: Hypercorn's ASGI WebSocket stream, with the WebSocket protocol done right.

Hypercorn keeps the handshake's conversation with the app; the frames are read and written by `websockets`' Sans-I/O
protocol, which the native transport uses too. What Hypercorn 0.18 gets wrong by itself, and this doesn't:

- A handshake with bytes beyond ASCII, a wrong version or key, or a body ended the server: it is refused.
- Frames that come before the answer were lost: they are kept.
- A broken frame gets its Close (1002, 1007, 1009), and the connection ends; messages are bounded as they come.
- Compression was always agreed to, at 33 KiB a connection, and 1 MiB could unfold to 750 MiB: it is negotiated where
  the door says so, keeps nothing between messages, and is bounded like them.
- Pongs are waited for, and the app is told the true close code.

It talks plain ASGI to the app, plus one extension in the scope (`door.EXTENSION`). Subclasses a class that is
not Hypercorn's public API: only `front_door` decides whether it is used.
"""

import random
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any, Final

import trio
from hypercorn.protocol.events import Body, Data, EndBody, EndData, Event, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.utils import UnexpectedMessageError
from websockets.exceptions import InvalidState, PayloadTooBig
from websockets.extensions import Extension
from websockets.frames import CTRL_OPCODES, Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.typing import ExtensionName

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build without the C extension
    from websockets.utils import apply_mask

from portico.wire.codes import ABNORMAL, CloseCode
from portico.wire.frame import Frame as OutgoingFrame
from service.core.header_fields import fields_of, twice
from service.core.ports import NOSNIFF, OVERSIZED_HEAD, HttpAnswer
from service.core.standstill import STOOD_STILL, Standstill

from .deflate import Agreement, Inflater, Unfit, inflated_head, negotiate
from .door import EXTENSION, Door
from .handshake import BadHead, check_bytes, check_handshake
from .inbound import Inflation
from .traffic import CONNECTION, Traffic, shows_life

# How long the app may take, after a Close came, over what came before it.
_LAST_WORDS: Final = 2.0
# What an HTTP/2 stream must take within the send timeout.
_SLICE: Final = 16 * 1024
# What a fragment takes in memory besides its bytes.
_PART: Final = 48
_DEFAULT_LIMIT: Final = 1024 * 1024
_EXTENSIONS: Final = b"sec-websocket-extensions"


class _Protocol(Protocol):
    """The library's, for which a Close within a fragmented message would be a fault (RFC 6455 section 5.4)."""

    begun = b""
    """What has come of the frame that was too large, if one was."""

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)

    def fail(self, code: int, reason: str = "") -> None:
        """As the library's, but the beginning of a frame that is too large is kept, which it throws away."""
        if code == CloseCode.TOO_LARGE:
            unread = bytes(self.reader.buffer[: 4 + OVERSIZED_HEAD])
            self.begun = apply_mask(unread[4:], unread[:4]) if len(unread) > 4 else b""
        super().fail(code, reason)


class _Inflating(Extension):
    """The library's place for permessage-deflate, filled with our own inflating: bounded, and nothing kept."""

    name = ExtensionName("permessage-deflate")

    def __init__(self) -> None:
        self._inflater: Inflater | None = None
        self.head: bytes | None = None  # of a message that is too large when inflated

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Inflate what is compressed; frames that break a rule go on as they are, to be refused."""
        if frame.opcode is Opcode.CONT:
            if self._inflater is None or frame.rsv1:
                return frame
        elif frame.opcode in CTRL_OPCODES or not frame.rsv1:
            return frame
        else:
            self._inflater = Inflater()
        data = bytearray()
        limit = sys.maxsize if max_size is None else max_size
        try:
            self._inflater.take(frame.data, data, limit)
            if frame.fin:
                self._inflater.end(data, limit)
                self._inflater = None
        except Unfit as unfit:
            if unfit.code is CloseCode.TOO_LARGE:
                self.head = bytes(data[:OVERSIZED_HEAD])
                raise PayloadTooBig(None, limit) from None
            # What the library closes with 1007 for.
            raise UnicodeDecodeError("deflate", b"", 0, 0, unfit.reason) from None
        return replace(frame, data=data, rsv1=False)

    def encode(self, frame: Frame) -> Frame:
        """As it is: the protocol sends nothing but control frames."""
        return frame


class DoorWebsocket(WSStream):
    """One WebSocket, between Hypercorn's connection and the ASGI app."""

    def __init__(self, door: Door, app: Any, *rest: Any) -> None:
        super().__init__(self._with_extension, *rest)
        self._asgi_app = app
        self._door = door
        self._protocol = _Protocol(Side.SERVER, max_size=_DEFAULT_LIMIT)
        self._answered = trio.Event()  # the upgrade was, or never will be
        self._agreement: Agreement | None = None
        self._parts: list[bytes] = []
        self._parts_size = 0  # what these take
        self._deaf = False  # whatever else comes is thrown away
        self._text = False
        self._ponged = trio.Event()
        self._count: Callable[[int], object] = _uncounted
        self._tell_kept: Callable[[int], object] = _uncounted
        self._begun_at: float | None = None  # when what is not whole yet began
        self._disconnect_told = False
        self._puts: set[trio.CancelScope] = set()
        self._app_returned = trio.Event()
        self._close_written = False
        self._over = trio.Event()
        self._traffic: Callable[[], Traffic | None] = CONNECTION.get() or _unknown

    # ---- what Hypercorn's connection tells us

    async def handle(self, event: Event) -> None:
        """Take an event of the connection. Cancelling it in the middle ends the connection."""
        if self.closed:
            return
        if isinstance(event, Request):
            await self._begin(event)
        elif isinstance(event, Body | Data):
            await self._receive(event.data)
        elif isinstance(event, StreamClosed):
            self.closed = True
            self._answered.set()
            self._over.set()
            await self._tell_disconnect()

    async def _begin(self, request: Request) -> None:
        try:
            _check(request)
        except BadHead as bad:
            self._door.counts.handshakes_refused += 1
            await self._refuse(request, bad.answer)
            return
        # Unknown to Hypercorn is not negotiated by Hypercorn.
        headers = [field for field in request.headers if field[0].lower() != _EXTENSIONS]
        offers = [value.decode("ascii") for name, value in request.headers if name.lower() == _EXTENSIONS]
        if offers and self._door.rules.compression:
            self._agreement = negotiate(", ".join(offers))
        await super().handle(replace(request, headers=headers))

    async def _refuse(self, request: Request, answer: HttpAnswer) -> None:
        told = self._door.rules.https_headers if self.scheme == "wss" else ()
        headers = [(name.encode(), value.encode()) for name, value in (NOSNIFF, *answer.headers, *told)]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        if request.http_version < "2":
            headers.append((b"connection", b"close"))
        else:
            # HTTP/2 has no such header (RFC 9113 section 8.2.2).
            headers = [(name, value) for name, value in headers if name != b"upgrade"]
        await self.send(Response(stream_id=self.stream_id, status_code=answer.status, headers=headers))
        await self.send(Body(stream_id=self.stream_id, data=answer.body))
        await self.send(EndBody(stream_id=self.stream_id))
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _receive(self, data: bytes) -> None:
        # Some clients don't wait for the answer; theirs waits here, unread.
        await self._answered.wait()
        if self.closed or self._disconnect_told or self._deaf:
            return
        self._protocol.receive_data(data)
        if not self._protocol.eof_sent:
            await self._flush()  # pongs, which no message of the app's may hold up
        for frame in self._protocol.events_received():
            if not isinstance(frame, Frame):
                continue  # only a Frame ever comes once a connection is open
            if frame.opcode in CTRL_OPCODES or not frame.fin:
                self._count(len(frame.data) if frame.opcode in CTRL_OPCODES else 0)
            if frame.opcode is Opcode.PONG:
                self._ponged.set()
            elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT) and not await self._message(frame):
                break
        if not (self._parts or self._protocol.reader.buffer):
            self._begun_at = None
        elif self._begun_at is None:
            self._begun_at = trio.current_time()
        self._tell_kept(self._kept())
        error = self._protocol.parser_exc
        if error is not None and not isinstance(error, PayloadTooBig):
            self._door.counts.protocol_errors += 1
        if self._protocol.eof_sent:
            self.task_group.spawn(self._end)
            await self._tell_disconnect()

    async def _end(self) -> None:
        """Answer the peer's Close or its fault, once the app has answered the messages before it."""
        with trio.move_on_after(_LAST_WORDS):
            await self._app_returned.wait()
        await self._flush()
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _tell_disconnect(self) -> None:
        if not self._disconnect_told:
            self._disconnect_told = True
            code, reason = self._ending()
            await self._put({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def _put(self, event: dict[str, Any]) -> None:
        # The app's queue has a bound: once nobody takes from it any more, nobody may wait for room in it.
        if self.app_put is None or self._app_returned.is_set():
            return
        with trio.CancelScope() as waiting:
            self._puts.add(waiting)
            try:
                await self.app_put(event)
            finally:
                self._puts.discard(waiting)

    async def _message(self, frame: Frame) -> bool:
        if frame.opcode is not Opcode.CONT:
            self._text = frame.opcode is Opcode.TEXT
        if frame.data:
            self._parts.append(bytes(frame.data))
            self._parts_size += len(frame.data) + _PART
        if self._close_written or self._deaf:
            self._parts.clear()  # nothing is taken any more, but the peer's Close must be found
            return True
        if not frame.fin:
            return True
        self._begun_at = None
        payload = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        event: dict[str, Any] = {"type": "websocket.receive", "bytes": None, "text": None}
        if self._text:
            try:
                event["text"] = payload.decode()
            except UnicodeDecodeError:
                self._door.counts.protocol_errors += 1
                self._protocol.fail(CloseCode.NOT_UTF8, CloseCode.NOT_UTF8.meaning)
                return False
        else:
            event["bytes"] = payload
        await self._put(event)
        return True

    def _kept(self) -> int:
        """Bytes that are kept of a message that is not whole yet."""
        if not self._parts:
            self._parts_size = 0
        inflating = Inflation.cost if self._parts and self._agreement is not None else 0
        return self._parts_size + len(self._protocol.reader.buffer) + inflating

    def _throw_away(self) -> None:
        self._deaf = True
        self._parts.clear()
        self._protocol.reader.buffer.clear()

    async def _flush(self) -> None:
        """Send what the protocol has to say."""
        data = b"".join(self._protocol.data_to_send())
        if self._protocol.close_sent is not None:
            self._close_written = True
        if data:
            await self.send(Data(stream_id=self.stream_id, data=data))

    def _ending(self) -> tuple[int, str]:
        """The code and reason that came first, ours or theirs (RFC 6455 section 7.1.5)."""
        protocol = self._protocol
        first = protocol.close_rcvd if protocol.close_rcvd_then_sent else protocol.close_sent
        return (ABNORMAL, "") if first is None else (int(first.code), first.reason)

    # ---- what the app tells us

    async def app_send(self, message: Any) -> None:
        """Take an ASGI message of the app (None: the app has returned)."""
        if message is None:
            self._app_returned.set()
            for waiting in self._puts:
                waiting.cancel()
        if self.closed:
            return
        # Over HTTP/2 a stream whose window is shut would hold the app for ever. Over HTTP/1.1 the connection
        # has its own deadline, for progress.
        over_h2 = self.scope["http_version"] >= "2"
        with trio.move_on_after(self._door.send_timeout if over_h2 else inf) as patience:
            await self._app_send(message, patience)
        if patience.cancelled_caught:
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _app_send(self, message: Any, patience: trio.CancelScope) -> None:
        if message is None and self._disconnect_told:
            await self._over.wait()
        elif self.state is not ASGIWebsocketState.CONNECTED:
            await super().app_send(message)
        elif message is None:
            await self._close(CloseCode.INTERNAL, "")
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif message["type"] == "websocket.send":
            await self._write(message, patience)
        elif message["type"] == "websocket.close":
            await self._close(message.get("code", CloseCode.NORMAL), message.get("reason") or "")
            if self._deaf:
                await self.send(StreamClosed(stream_id=self.stream_id))
        else:
            raise UnexpectedMessageError(self.state, message["type"])

    async def _write(self, message: Any, patience: trio.CancelScope) -> None:
        # The protocol would refuse once the peer's Close has come; ours, which must be the last, has not
        # gone yet.
        if not self._close_written:
            data = self._framed(message.get("text"), message.get("bytes"))
            step = len(data) if patience.deadline == inf else _SLICE
            for start in range(0, len(data), step):
                await self.send(Data(stream_id=self.stream_id, data=data[start : start + step]))
                patience.deadline += self._door.send_timeout

    def _framed(self, text: str | None, data: bytes) -> bytes:
        if text is None:
            return Frame(Opcode.BINARY, data).serialize(mask=False)
        frame = OutgoingFrame(text.encode())
        return frame.wire if self._agreement is None else frame.deflated(self._agreement.window_bits)

    async def _close(self, code: int, reason: str) -> None:
        self.state = ASGIWebsocketState.CLOSED
        with suppress(InvalidState):  # the peer's Close has come meanwhile, and is being answered
            self._protocol.send_close(code, reason)
            await self._flush()
            await self.send(EndData(stream_id=self.stream_id))

    async def _accept(self, message: Any) -> None:
        if self._agreement is not None:
            answer = (_EXTENSIONS, self._agreement.header.encode())
            message = {**message, "headers": [*message.get("headers", ()), answer]}
            self._protocol.extensions = [_Inflating()]
        await super()._accept(message)
        if self._door.rules.ping_interval:
            self.task_group.spawn(self._keep_alive)
        self._answered.set()

    async def _with_extension(
        self, scope: Any, receive: Any, send: Any, sync_spawn: Callable[..., Any], call_soon: Callable[..., Any]
    ) -> None:
        scope["extensions"][EXTENSION] = {
            "limit": self._limit,
            "taken": self._taken,
            "count": self._count_with,
            "keeps": self._keeps_with,
            "throw_away": self._throw_away,
            "oversized": self._oversized,
            "traffic": self._traffic,
        }
        await self._asgi_app(scope, receive, send, sync_spawn, call_soon)

    def _limit(self, size: int) -> None:
        self._protocol.max_message_size = size or None

    def _count_with(self, call: Callable[[int], object]) -> None:
        self._count = call

    def _keeps_with(self, call: Callable[[int], object]) -> None:
        self._tell_kept = call

    def _taken(self) -> int | None:
        seen = self._traffic()
        return None if seen is None else seen.taken

    def _oversized(self) -> bytes | None:
        if not isinstance(self._protocol.parser_exc, PayloadTooBig):
            return None
        begun = self._protocol.begun
        for extension in self._protocol.extensions:
            if isinstance(extension, _Inflating) and extension.head is not None:
                begun = extension.head
            elif not self._parts and not begun.lstrip().startswith(b"{"):
                begun = inflated_head(begun, OVERSIZED_HEAD)
        return (b"".join(self._parts) + begun)[:OVERSIZED_HEAD]

    # ---- pings

    async def _keep_alive(self) -> None:
        number = 0
        while not self.closed:
            due = trio.current_time() + self._door.rules.ping_interval * random.uniform(0.8, 1.0)
            with trio.move_on_at(due):
                await self._over.wait()
            if self.closed or self._protocol.state is not State.OPEN:
                return
            if trio.current_time() - due <= STOOD_STILL and self._holds_too_long():
                await self._give_up("a message was not finished in time")
                return
            number += 1
            self._ponged = trio.Event()
            self._protocol.send_ping(b"%d" % number)
            await self._flush()
            if not await self._is_there() and not self.closed:
                await self._give_up("no pong came in time")

    async def _give_up(self, why: str) -> None:
        self._door.counts.mute_closed += 1
        await self._close(CloseCode.SILENT, why)
        await self.send(StreamClosed(stream_id=self.stream_id))

    def _holds_too_long(self) -> bool:
        """Whether a message that began long ago is not whole yet. Bytes that flow are life, but not for ever."""
        return self._begun_at is not None and trio.current_time() - self._begun_at > self._door.rules.message_timeout

    async def _is_there(self) -> bool:
        """Whether a pong came in time, or the connection has ended. Bytes that flow meanwhile give it more time: see
        `shows_life`."""
        before = self._traffic()
        standstill = Standstill(self._door.rules.pong_timeout, trio.current_time())
        while True:
            with trio.move_on_after(self._door.rules.pong_timeout):
                await self._ponged.wait()
                return True
            judge = standstill.may_judge(trio.current_time())
            now = self._traffic()
            if self.closed:
                return True
            if judge and (not shows_life(before, now) or self._holds_too_long()):
                return False
            before = now


def _uncounted(_: int) -> None:
    """Where nobody counts."""


def _unknown() -> None:
    """The traffic where nobody knows."""


def _check(request: Request) -> None:
    """Refuse a malformed handshake. Raises BadHead."""
    for _, value in request.headers:
        check_bytes(value)
    headers, doubled = fields_of((name, value.strip()) for name, value in request.headers)
    if doubled is not None:
        raise BadHead(400, twice(doubled))
    check_handshake("GET", request.http_version, headers)
