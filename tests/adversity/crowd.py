"""Crowd: thousands of sockets in one thread, each a client that behaves, or one that doesn't.

Plain sockets and one selector, no trio: 20,000 clients cost about a core's attention and little memory. Knows
RFC 6455 framing and nothing of the code under test. Nothing happens except in `pump` and `until`.
"""

import heapq
import json
import selectors
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from types import TracebackType
from typing import Final, Self, TypeVar

from tests.adversity.scene import LEAST_PATIENCE
from tests.transports.raw import CLOSE, PING, PONG, TEXT, Address, close_frame, frame, upgrade

_DIALLING: Final = 400  # connections under way at once: more than this and the listener's queue drops some
_READ: Final = 65536
_BURST: Final = 50
_AHEAD: Final = 500
_NO_PORT_YET: Final = 24  # IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, per destination
_RESET: Final = struct.pack("ii", 1, 0)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

Member = TypeVar("Member", bound="Socket")


class Socket:
    """One TCP connection. A subclass says what to do when it is open, when bytes come, and at its end."""

    __slots__ = ("_mask", "_out", "crowd", "ended", "opened", "sock", "source")

    def __init__(self, crowd: "Crowd", source: str | None = None) -> None:
        self.crowd = crowd
        self.source = source
        self.sock: socket.socket | None = None
        self.opened = False
        self.ended = False
        self._mask = 0
        self._out: bytes = b""

    def on_open(self) -> None:
        """The connection is there."""

    def on_data(self, data: bytes) -> None:
        """Bytes came."""

    def on_end(self) -> None:
        """It is over, whoever ended it; called once."""

    def more(self) -> bytes:
        """What to send next, once everything is out; nothing by default."""
        return b""

    def send(self, data: bytes) -> None:
        """Bytes as they are, as the kernel takes them."""
        if not self.ended:
            self._out += data
            self._write()

    def read(self, on: bool) -> None:
        """Start or stop reading."""
        self._watch(self._mask | READ if on else self._mask & ~READ)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection, with a reset or without."""
        if self.ended:
            return
        self.ended = True
        if self.sock is not None:
            self._watch(0)
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.sock.close()
        self.crowd.left(self)
        self.on_end()

    # What the crowd does with it.

    def dial(self, address: Address, receive_buffer: int | None) -> None:
        """Begin to connect."""
        sock = self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if self.source is not None:
            sock.setsockopt(socket.IPPROTO_IP, _NO_PORT_YET, 1)
            sock.bind((self.source, 0))
        sock.connect_ex(address)
        self._watch(WRITE)

    def ready(self, mask: int) -> None:
        """The selector has something for it."""
        assert self.sock is not None
        if not self.opened:
            if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.hang_up()
                return
            self.opened = True
            self.crowd.dialled()
            self._watch(READ)
            self.on_open()
            return
        if mask & WRITE:
            self._write()
        if mask & READ and not self.ended:
            try:
                data = self.sock.recv(_READ)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self.on_data(data)
            else:
                self.hang_up()

    def _write(self) -> None:
        assert self.sock is not None
        while not self.ended:
            if not self._out:
                self._out = self.more()
            if not self._out:
                break
            try:
                sent = self.sock.send(self._out)
            except BlockingIOError:
                break
            except OSError:
                # What came before it broke is still to be read.
                self._out = b""
                self._watch(self._mask & ~WRITE or READ)
                return
            self._out = self._out[sent:]
            if self._out:
                break
        if not self.ended:
            self._watch(self._mask | WRITE if self._out else self._mask & ~WRITE)

    def _watch(self, mask: int) -> None:
        if mask == self._mask:
            return
        assert self.sock is not None
        if not self._mask:
            self.crowd.selector.register(self.sock, mask, self)
        elif not mask:
            self.crowd.selector.unregister(self.sock)
        else:
            self.crowd.selector.modify(self.sock, mask, self)
        self._mask = mask


class Client(Socket):
    """A WebSocket client that reads, answers pings and closes as it should.

    `first` is what it says as soon as it is let in. `code`: 0 until it is over, then the close code it got, 1006
    if the connection just ended, or the HTTP status if it was not let in; `reason` likewise.
    """

    __slots__ = (
        "_in",
        "_status",
        "answers_pings",
        "code",
        "first",
        "hits",
        "offer",
        "path",
        "pings",
        "reason",
        "registered",
        "texts",
    )

    def __init__(self, crowd: "Crowd", first: str | None = None, path: str = "/", *, source: str | None = None) -> None:
        super().__init__(crowd, source)
        self.first = first
        self.path = path
        self.offer = b""  # a header more in the handshake
        self.answers_pings = True
        self.code = 0
        self.reason = ""
        self.registered = False
        self.texts = 0
        self.hits = 0
        self.pings = 0
        self._status = 0
        self._in = b""

    @property
    def let_in(self) -> bool:
        """Whether its upgrade was answered by 101."""
        return self._status == 101

    def say(self, message: object) -> None:
        """One text message, as JSON."""
        self.send(frame(TEXT, json.dumps(message).encode()))

    def on_open(self) -> None:
        """Ask for the upgrade."""
        self.send(upgrade(self.path, extra=self.offer))

    def on_let_in(self) -> None:
        """Say what is to be said first."""
        if self.first is not None:
            self.send(frame(TEXT, self.first.encode()))

    def on_text(self, payload: bytes) -> None:
        """One message."""
        self.texts += 1
        if not self.registered and (b'"registration_success"' in payload or b'"connect"' in payload):
            self.registered = True
        elif self.crowd.mark in payload:
            self.hits += 1

    def on_data(self, data: bytes) -> None:
        """The head of the answer, then frames."""
        data = self._in + data
        if not self._status:
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self._in = data
                return
            self._status = int(head.split(b" ", 2)[1])
            if self._status != 101:
                self.code, self.reason = self._status, head.decode("latin-1")
                self.hang_up()
                return
            self.on_let_in()
            data = rest
        position = 0
        while not self.ended and (cut := _cut(data, position)) is not None:
            opcode, payload, position = cut
            if opcode == TEXT:
                self.on_text(payload)
            elif opcode == PING and self.answers_pings:
                self.pings += 1
                self.send(frame(PONG, payload))
            elif opcode == CLOSE and not self.code:
                self.code = int.from_bytes(payload[:2], "big") if payload else 1005
                self.reason = payload[2:].decode()
                self._out = b""
                self.send(close_frame(1000))
        self._in = data[position:]

    def on_end(self) -> None:
        """It just ended, unless it was told to go."""
        if not self.code:
            self.code = 1006


class LateClient(Client):
    """Asks for something else first, so that its upgrade comes on a connection that has served plain HTTP."""

    __slots__ = ("_asked",)

    def on_open(self) -> None:
        """Ask for something else."""
        self._asked = False
        self.send(b"GET /api/b-client/websocket-info HTTP/1.1\r\nHost: gw\r\n\r\n")

    def on_data(self, data: bytes) -> None:
        """The answer to that, then as any client."""
        if self._asked:
            super().on_data(data)
            return
        self._in += data
        head, found, body = self._in.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            self._asked = True
            self._in = b""
            status = int(head.split(b" ", 2)[1])
            if status == 200:
                super().on_open()
            else:
                # Plain HTTP connections count too: it was one too many before it asked for anything else.
                self.code, self.reason = status, head.decode("latin-1")
                self.hang_up()


class BusyClient(Client):
    """Says the same thing without end, from being let in until it is told to go; some hundreds ahead of the answers."""

    __slots__ = ("_burst", "_said")

    def __init__(self, crowd: "Crowd", first: str, message: object) -> None:
        super().__init__(crowd, first)
        self._burst = frame(TEXT, json.dumps(message).encode()) * _BURST
        self._said = 0

    def on_text(self, payload: bytes) -> None:
        """The first answer sets it going, and the others keep it so."""
        super().on_text(payload)
        if self.texts % _BURST == 1:
            self.send(b"")

    def more(self) -> bytes:
        """The same again."""
        if not self.registered or self.code or self._said - self.texts > _AHEAD:
            return b""
        self._said += _BURST
        return self._burst


class Attacker(Socket):
    """Sends what it is given, a piece `every` so many seconds, reads for its patience's time, and hangs up."""

    __slots__ = ("_every", "_patience", "_pieces", "_reset", "answer")

    def __init__(
        self,
        crowd: "Crowd",
        pieces: Iterable[bytes],
        patience: float = 0.1,
        *,
        reset: bool = False,
        every: float = 0.005,
    ) -> None:
        super().__init__(crowd)
        self._pieces = deque(pieces)
        self._patience = patience
        self._every = every
        self._reset = reset
        self.answer = b""

    def on_open(self) -> None:
        """Send the first piece; the rest follows a moment later each."""
        self._next()

    def _next(self) -> None:
        if self.ended:
            return
        self.send(self._pieces.popleft())
        if self._pieces:
            self.crowd.later(self._every, self._next)
        else:
            self.crowd.later(self._patience, self._enough)

    def _enough(self) -> None:
        self.hang_up(reset=self._reset)

    def on_data(self, data: bytes) -> None:
        """Keep the beginning of the answer."""
        if len(self.answer) < 4096:
            self.answer += data


class Crowd:
    """All the sockets of one test. Leaving the block closes them.

    `mark`: what counts as a hit in a message that a Client gets.
    """

    def __init__(self, address: Address, *, mark: bytes = b"\0") -> None:
        self.address = address
        self.mark = mark
        self.selector = selectors.DefaultSelector()
        self.members: dict[Socket, None] = {}
        self._waiting: deque[tuple[Socket, Address, int | None]] = deque()
        self._dialling = 0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._waiting.clear()
        for member in list(self.members):
            member.hang_up(reset=True)
        self.selector.close()

    def join(self, member: Member, *, address: Address | None = None, receive_buffer: int | None = None) -> Member:
        """Let it connect, as soon as not too many are connecting."""
        self._waiting.append((member, address or self.address, receive_buffer))
        self._dial()
        return member

    def c_clients(self, number: int, prefix: str = "c", **fields: str) -> list[Client]:
        """So many registered C-Clients, each its own user; waits until they are all in."""
        clients = [self.join(Client(self, register(f"{prefix}{n}", **fields))) for n in range(number)]
        self.until(lambda: all(client.registered for client in clients), 60, "everybody registered")
        return clients

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it in so many seconds."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), call))

    def pump(self, seconds: float) -> None:
        """Let things happen for so long."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            self._step(end - now)

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Let things happen until `condition()`. AssertionError, naming `what`, if it doesn't come true.

        `seconds` is what it may take on a machine with nothing else to do; a busy one is given LEAST_PATIENCE.
        """
        end = time.monotonic() + max(seconds, LEAST_PATIENCE)
        while not condition():
            assert time.monotonic() < end, f"not in {seconds} s: {what}; {self.summary()}"
            self._step(0.05)

    def until_all(self, clients: Sequence[Client], heard: Sequence[int], what: str) -> None:
        """Until each client has one hit more than it had when it had `heard` so many."""
        wanted = [hits + 1 for hits in heard]
        self.until(lambda: all(c.hits == hits for c, hits in zip(clients, wanted, strict=True)), 60, what)

    def summary(self) -> str:
        """How the members are doing, for a test that failed."""
        states = Counter(
            "in" if isinstance(m, Client) and m.registered else "open" if m.opened else "dialling" for m in self.members
        )
        return f"{dict(states)}, {len(self._waiting)} waiting"

    # What the members tell.

    def dialled(self) -> None:
        """One more is connected, or has failed to."""
        self._dialling -= 1
        self._dial()

    def left(self, member: Socket) -> None:
        """One is over."""
        self.members.pop(member, None)
        if member.sock is not None and not member.opened:
            self.dialled()

    def _dial(self) -> None:
        while self._waiting and self._dialling < _DIALLING:
            member, address, receive_buffer = self._waiting.popleft()
            self._dialling += 1
            self.members[member] = None
            member.dial(address, receive_buffer)

    def _step(self, patience: float) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        if self._timers:
            patience = max(0.0, min(patience, self._timers[0][0] - now))
        for key, mask in self.selector.select(min(patience, 0.05)):
            member: Socket = key.data
            if not member.ended:
                member.ready(mask)


def register(client_id: str, **fields: str) -> str:
    """A C-Client's first message; its user is its own unless given."""
    return json.dumps({"type": "c_client_register", "client_id": client_id, "user_id": f"u-{client_id}", **fields})


def _cut(data: bytes, position: int) -> tuple[int, bytes, int] | None:
    """The frame at `position`: opcode, payload, where the next begins; None if it isn't whole."""
    if len(data) - position < 2:
        return None
    size, start = data[position + 1] & 0x7F, position + 2
    if size == 126:
        size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
    elif size == 127:
        size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
    if len(data) < start + size:
        return None
    return data[position] & 0x0F, data[start : start + size], start + size
