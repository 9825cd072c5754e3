"""A Gate, Receivers and counts for driving a transport without the core behind it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from portico.wire.frame import Frame
from service.core.ports import Admission, Handshake, HttpAnswer, HttpHead, Peer, Receiver


@dataclass
class Counts:
    """Where the transport under test counts."""

    messages_in: int = 0
    bytes_in: int = 0
    messages_out: int = 0
    bytes_out: int = 0
    handshakes_refused: int = 0
    protocol_errors: int = 0
    contained_errors: int = 0
    slow_closed: int = 0
    mute_closed: int = 0
    handshakes_timed_out: int = 0
    accept_pauses: int = 0


def admitted(subprotocol: str | None = None, max_message_size: int = 1024 * 1024) -> Admission:
    """An Admission."""
    return Admission(subprotocol, max_message_size)


class Recorder:
    """Keeps what it is given, answers each message with itself, and tells who waits."""

    def __init__(self, peer: Peer, handshake: Handshake) -> None:
        self.peer = peer
        self.handshake = handshake
        self.messages: list[tuple[bytes, bool]] = []
        self.closings: list[tuple[int, str]] = []
        self.after_closed = 0
        self.heads: list[bytes] = []
        self.traffic: tuple[int, int] | None = None
        self.over = trio.Event()

    def receive(self, payload: bytes, text: bool) -> None:
        if self.closings:
            self.after_closed += 1
        self.messages.append((payload, text))
        self.on_message(payload, text)

    def on_message(self, payload: bytes, text: bool) -> None:
        """What to do with a message: here an echo, as text."""
        self.peer.send(Frame(payload))

    def oversized(self, head: bytes) -> None:
        assert not self.closings
        self.heads.append(head)

    def closed(self, code: int, reason: str) -> None:
        self.traffic = self.peer.traffic()
        self.closings.append((code, reason))
        self.over.set()

    async def ending(self) -> tuple[int, str]:
        """Wait for `closed` and give what it said."""
        with trio.fail_after(60):
            await self.over.wait()
        return self.closings[0]


class Silent(Recorder):
    """A Recorder that answers nothing."""

    def on_message(self, payload: bytes, text: bool) -> None:
        pass


MakeReceiver = Callable[[Peer, Handshake], Recorder]


@dataclass
class ScriptGate:
    """Admits `/` and whatever isn't refused below; keeps every Recorder it made.

    `/refused` gets 403 with a header of its own, `/nowhere` 404.
    """

    make: MakeReceiver = Recorder
    admission: Admission = field(default_factory=admitted)
    greeting: bytes | None = None
    recorders: list[Recorder] = field(default_factory=list)
    handshakes: list[Handshake] = field(default_factory=list)
    _arrived: trio.Event = field(default_factory=trio.Event)

    def admit(self, handshake: Handshake) -> Admission | HttpAnswer:
        if handshake.path == "/refused":
            return HttpAnswer(403, (("content-type", "text/plain"), ("x-why", "script")), b"No.\n")
        if handshake.path == "/nowhere":
            return HttpAnswer(404, (("content-type", "text/plain"),), b"Nothing here.\n")
        self.handshakes.append(handshake)
        return self.admission

    def opened(self, peer: Peer, admission: Admission) -> Receiver:
        recorder = self.make(peer, self.handshakes[-1])
        self.recorders.append(recorder)
        if self.greeting is not None:
            peer.send(Frame(self.greeting))
        self._arrived.set()
        self._arrived = trio.Event()
        return recorder

    async def recorder(self, number: int = 0) -> Recorder:
        """Wait for the connection of that number (from 0, in the order of their coming)."""
        with trio.fail_after(60):
            while len(self.recorders) <= number:
                await self._arrived.wait()
        return self.recorders[number]


@dataclass
class ScriptCall:
    """An HttpCall that is answered at once."""

    head: HttpHead
    body_limit: int = 0
    outdated: bool = False

    def answer(self, body: bytes) -> HttpAnswer:
        if self.head.path == "/hello":
            text = f"{self.head.method} {self.head.query}\n".encode()
            return HttpAnswer(200, (("content-type", "text/plain"),), text)
        return HttpAnswer(426, (("upgrade", "websocket"),), b"This port is for WebSockets.\n")

    def refuse_large(self) -> HttpAnswer:
        return HttpAnswer(413, (), b"")

    def refuse_slow(self) -> HttpAnswer:
        return HttpAnswer(400, (), b"")

    def observe(self, answer: HttpAnswer, received: int, seconds: float) -> None:
        """Nobody counts."""


class PortApi:
    """`/hello` is answered; the rest is told to upgrade."""

    def over_rate(self, head: HttpHead, *, counts: bool = True) -> None:
        """Nobody is."""

    def call(self, head: HttpHead) -> ScriptCall:
        return ScriptCall(head)


plain_http = PortApi()
