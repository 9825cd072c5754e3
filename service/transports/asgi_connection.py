"""AsgiConnection: the Peer of one WebSocket that an ASGI server keeps, and the task that writes for it.

Knows ASGI's messages and, where the server below is Hypercorn behind our door, one extension of them. `send` only
queues; the writer task sends one message at a time and waits until the server has taken it. So what waits is what the
server has not taken yet.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

import trio

from portico.wire.codes import ABNORMAL, CloseCode
from portico.wire.frame import Frame
from service.asgi_types import Send
from service.core.ports import BACKLOG, TransportCounts

from .allowance import Allowance
from .door import Log, describe
from .pressure import Pressure
from .unfinished import WHY as CROWDED

CLOSING_TIME: Final = 2.0
"""Seconds that the peer has for its own Close."""
# How long what is queued before our Close has to go out.
_FLUSH_TIME: Final = 10.0
# Bytes of a Close's reason (RFC 6455 section 5.5).
_REASON_LIMIT: Final = 123


class AsgiConnection:
    """See the module. `extension` is the door's in the scope, or empty."""

    transport = "asgi"

    def __init__(
        self,
        send: Send,
        extension: Mapping[str, Any],
        address: str,
        pressure: Pressure,
        allowance: Allowance,
        counts: TransportCounts,
        log: Log,
    ) -> None:
        self.address = address
        self.port: int | None = None
        self.allowance: Allowance | None = allowance
        self.limit = 0
        self.closing: tuple[CloseCode, str] | None = None
        self.patience = trio.CancelScope()
        self.waiting = 0  # bytes of messages that the server has not taken
        self._send = send
        self._pressure = pressure
        self._counts = counts
        self._log = log
        self._tell_limit: Callable[[int], None] | None = extension.get("limit")
        self._ask_taken: Callable[[], int | None] | None = extension.get("taken")
        self._ask_head: Callable[[], bytes | None] | None = extension.get("oversized")
        self._throw_away: Callable[[], None] | None = extension.get("throw_away")
        self._ask_traffic: Callable[[], tuple[int, int] | None] | None = extension.get("traffic")
        # Payloads, the first of which is on its way: a Frame has its bytes twice.
        self._frames: deque[bytes] = deque()
        self._sent = 0
        self._room_calls: list[Callable[[], None]] = []
        self._wake = trio.Event()
        self._close_sent = False
        self._ended = False

    # ---- the Peer port

    def send(self, frame: Frame) -> None:
        """Queue one text message; see `Peer`."""
        if self._ended or self.closing is not None:
            return
        if self.waiting > self._pressure.limit and not self._pressure.admits(self):
            self.close_slow()
            return
        self._frames.append(frame.payload)
        self.waiting += len(frame.payload)
        if self.waiting > BACKLOG:
            self._pressure.entered(self)
        self._wake.set()

    def traffic(self) -> tuple[int, int] | None:
        """Bytes that the peer has taken and sent; None where the server below can't say. See `Peer`."""
        return None if self._ask_traffic is None else self._ask_traffic()

    @property
    def has_backlog(self) -> bool:
        """Whether more than BACKLOG bytes wait to go out."""
        return self.waiting > BACKLOG

    def when_room(self, call: Callable[[], None]) -> None:
        """Call this once, soon, when there is no backlog; see `Peer`."""
        if not self._ended and self.closing is None:
            self._room_calls.append(call)
            self._wake.set()

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Close after what is queued; see `Peer`."""
        if self._ended or self.closing is not None:
            return
        self._pressure.unfinished.forget(self)
        self.closing = (code, reason.encode()[:_REASON_LIMIT].decode(errors="ignore"))
        self.patience.deadline = trio.current_time() + _FLUSH_TIME
        self._wake.set()

    def allow_message_size(self, size: int) -> None:
        """From the next message on accept up to `size` bytes; see `Peer`."""
        if self._ended:
            return
        self.limit = size
        if self._tell_limit is not None:
            self._tell_limit(size)

    def lift_rate_limit(self) -> None:
        """From the next message on accept as many a second as come; see `Peer`."""
        self.allowance = None

    # ---- what `Pressure` asks

    @property
    def frame_count(self) -> int:
        """How many messages wait."""
        return len(self._frames)

    def first_frames(self, count: int) -> Iterable[bytes]:
        """The messages that go out next."""
        return islice(self._frames, count)

    def last_frames(self, count: int) -> Iterable[bytes]:
        """The messages that were queued last."""
        return islice(reversed(self._frames), count)

    def taken(self) -> int:
        """Bytes that the peer has taken; where the server below can't say, those that the server has."""
        taken = self._ask_taken() if self._ask_taken is not None else None
        return self._sent if taken is None else taken

    def close_slow(self) -> None:
        """Close with 4008. What waits is thrown away."""
        if self._ended or self.closing is not None:
            return
        self._counts.slow_closed += 1
        self._drop_queue()
        self.close(CloseCode.TOO_SLOW, CloseCode.TOO_SLOW.meaning)
        self.patience.deadline = trio.current_time() + CLOSING_TIME

    def close_crowded(self) -> None:
        """Close with 1013: unfinished messages hold too much. What there is of this one's is thrown away."""
        if self._ended or self.closing is not None:
            return
        self.close(CloseCode.TRY_LATER, CROWDED)
        if self._throw_away is not None:
            self._throw_away()

    # ---- the transport's side

    def keeps(self, size: int) -> None:
        """So many bytes are kept of a message that is not whole yet; where the server below says so."""
        if self.closing is None and not self._ended:
            self._pressure.unfinished.keeps(self, size)

    def count(self, size: int) -> None:
        """A frame came that is no whole message; where the server below shows them. Closes one that sends too many."""
        if self.closing is None and self.allowance is not None and not self.allowance.take(size, trio.current_time()):
            self.close(CloseCode.RATE_LIMITED, CloseCode.RATE_LIMITED.meaning)

    def oversized_head(self) -> bytes | None:
        """How a message began for whose size the server below has closed; None if there was none, or it can't say."""
        return self._ask_head() if self._ask_head is not None else None

    def end(self) -> None:
        """From here on the Peer does nothing; what is queued still goes out."""
        self._ended = True
        self._pressure.unfinished.forget(self)
        self._wake.set()

    def ending(self, code: int, reason: str) -> tuple[int, str]:
        """How the connection ended, given what the server below says: ours, if ours came first."""
        if self.closing is not None and (self._close_sent or code == ABNORMAL):
            own, why = self.closing
            return int(own), why
        return code, reason

    async def write(self) -> None:
        """Send what is queued, then the Close. Cancelling it leaves half a message on the wire."""
        try:
            while await self._write_on():
                await self._wake.wait()
                self._wake = trio.Event()
        finally:
            self._drop_queue()

    async def _write_on(self) -> bool:
        """Send what there is; whether there may be more."""
        while self._frames:
            payload = self._frames[0]
            await self._send({"type": "websocket.send", "text": payload.decode()})
            self._counts.messages_out += 1
            self._counts.bytes_out += len(payload)
            self._sent += len(payload)
            # Meanwhile what waits may have been thrown away.
            if self._frames and self._frames[0] is payload:
                self._pressure.written(self, 1)
                self._frames.popleft()
                self.waiting -= len(payload)
            if self._room_calls:
                self._tell_of_room()
        self._pressure.forget(self)
        if self._room_calls:
            self._tell_of_room()
        if self.closing is not None:
            self._close_sent = True
            self.patience.deadline = trio.current_time() + CLOSING_TIME
            code, reason = self.closing
            await self._send({"type": "websocket.close", "code": int(code), "reason": reason})
            return False
        return not self._ended

    def _tell_of_room(self) -> None:
        while self._room_calls and not self.has_backlog and not self._ended and self.closing is None:
            call = self._room_calls.pop(0)
            try:
                call()
            except Exception as error:
                self._counts.contained_errors += 1
                self._log("contained_error", where="room", error=describe(error))

    def _drop_queue(self) -> None:
        self._pressure.forget(self)
        self._frames.clear()
        self.waiting = 0
        self._room_calls.clear()
