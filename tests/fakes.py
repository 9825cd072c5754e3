"""The core's outside, made of plain objects: peers in memory, clocks turned by hand, a queue for what is deferred.

`stage()` puts a Gateway between them. Nothing here waits, so tests of the core are plain functions:

    stage = stage()
    session, peer = stage.connect("/ws")
    stage.say(session, {"type": "c_client_register", "client_id": "c1"})
    assert peer.take()[0]["type"] == "registration_success"
"""

import json
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Raw

from portico.wire.codes import CloseCode
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import Event, Target
from service.backplane.memory import MemoryBackplane, World
from service.backplane.memory_logins import MemoryLoginStore
from service.core.cluster.backplane import Publication, Published
from service.core.connections.session import Session
from service.core.gateway import Gateway, GatewayParts, Rules, make_id
from service.core.ports import BACKLOG, HttpAnswer
from service.core.proof import Proof
from service.core.push.login_store import Login, LogoutEvent
from service.core.push.logins import Ending
from service.core.reply import Reply
from service.core.revocations import LocalRevocations

START = 1_732_000_000.0
"""What a ManualClock's wall shows at first."""


def strict_loads(text: str | bytes) -> Any:
    """JSON as a strict program reads it: no NaN or Infinity, no key twice in one object."""

    def constant(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        read = dict(found)
        if len(read) != len(found):
            raise ValueError("a key occurs twice")
        return read

    return json.loads(text, parse_constant=constant, object_pairs_hook=pairs)


class MemoryPeer:
    """A Peer that keeps what it is given. `frames` are all the Frames; `taken` says how many `take` has given."""

    def __init__(self, *, transport: str = "memory", address: str = "127.0.0.1") -> None:
        self.transport = transport
        self.address = address
        self.port: int | None = 50000
        self.frames: list[Frame] = []
        self.taken = 0
        self.closes: list[tuple[CloseCode, str]] = []
        self.sent_after_close = 0
        self.message_size: int | None = None
        self.rate_limited = True
        self.reads = True
        """False: what is sent waits, until `make_room`."""
        self._waiting = 0
        self._room_calls: list[Callable[[], None]] = []

    def traffic(self) -> tuple[int, int] | None:
        """What was sent, and that nothing is known to have come: there is no wire."""
        return sum(len(frame.wire) for frame in self.frames), 0

    def send(self, frame: Frame) -> None:
        """Keep a frame; after a close only count it, as a transport would drop it."""
        if self.closes:
            self.sent_after_close += 1
            return
        self.frames.append(frame)
        if not self.reads:
            self._waiting += len(frame.wire)

    @property
    def has_backlog(self) -> bool:
        """Whether more waits than a transport takes for nothing."""
        return self._waiting > BACKLOG

    def when_room(self, call: Callable[[], None]) -> None:
        """Keep the call until `make_room`."""
        if not self.closes:
            self._room_calls.append(call)

    def make_room(self) -> None:
        """The peer has taken everything: whoever waits for room is called, unless it was closed."""
        self._waiting = 0
        calls, self._room_calls = self._room_calls, []
        for call in calls if not self.closes else ():
            call()

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Keep the close. The reason must fit a Close frame."""
        assert len(reason.encode()) <= 123, "a close reason has at most 123 bytes"
        self.closes.append((code, reason))

    def allow_message_size(self, size: int) -> None:
        """Keep the size."""
        self.message_size = size

    def lift_rate_limit(self) -> None:
        """Keep that there is no limit any more."""
        self.rate_limited = False

    @property
    def texts(self) -> list[str]:
        """Everything that was sent, as text."""
        return [frame.payload.decode() for frame in self.frames]

    @property
    def messages(self) -> list[Any]:
        """Everything that was sent, as JSON; what is not strict JSON raises ValueError."""
        return [strict_loads(frame.payload) for frame in self.frames]

    def take(self) -> list[Any]:
        """What was sent since the last `take`, as JSON."""
        fresh = [strict_loads(frame.payload) for frame in self.frames[self.taken :]]
        self.taken = len(self.frames)
        return fresh

    @property
    def close_code(self) -> int | None:
        """The code that the connection was closed with; None while it is open."""
        return int(self.closes[0][0]) if self.closes else None


class ManualClock:
    """Both clocks of the core, moved by hand. `now` and `wall` are what the core is given."""

    def __init__(self, now: float = 1000.0, wall: float = START) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        """Seconds, monotonic."""
        return self._now

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self._wall

    def move(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        self._now += seconds
        self._wall += seconds


class FifoDefer:
    """A Defer: keeps callables until `run`, in their order."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def __call__(self, call: Callable[[], None]) -> None:
        self._waiting.append(call)

    def __len__(self) -> int:
        return len(self._waiting)

    def step(self) -> bool:
        """Run the next one; False if there is none."""
        if not self._waiting:
            return False
        self._waiting.popleft()()
        return True

    def run(self) -> int:
        """Run everything, including what is deferred meanwhile. Returns how many there were."""
        count = 0
        while self.step():
            count += 1
        return count


class RecordingJournal:
    """A Journal that keeps what happened, as `(what, session, …)`. `broken` are the bugs that came up."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self.broken: list[Exception] = []
        self.refused: list[tuple[str, str]] = []

    def on_refused(self, cause: str, address: str) -> None:
        """Somebody was refused."""
        self.refused.append((cause, address))

    def on_opened(self, session: Session) -> None:
        """A connection was accepted."""
        self.entries.append(("opened", session))

    def on_registered(self, session: Session) -> None:
        """A connection said who it is."""
        self.entries.append(("registered", session, session.identity))

    def on_closed(self, session: Session, code: int, reason: str, seconds: float) -> None:
        """A connection is over."""
        self.entries.append(("closed", session, code, reason, seconds))

    def on_fault(self, session: Session, fault: PeerFault) -> None:
        """A message was refused."""
        self.entries.append(("faulted", session, fault))

    def on_error(self, session: Session | None, error: Exception) -> None:
        """A bug of ours came up."""
        self.entries.append(("broke", session, error))
        self.broken.append(error)

    def of(self, what: str) -> list[tuple[Any, ...]]:
        """The entries of one kind."""
        return [entry for entry in self.entries if entry[0] == what]


@dataclass(frozen=True)
class FakeHandshake:
    """A Handshake."""

    path: str = "/"
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"
    scheme: str = "http"
    host: str = "127.0.0.1:8766"
    kind: str = "websocket"
    certificate: Proof | None = None


def handshake(
    path: str = "/",
    *,
    headers: Mapping[str, str] | None = None,
    kind: str = "websocket",
    query: str = "",
    address: str = "127.0.0.1",
    scheme: str = "http",
    host: str = "127.0.0.1:8766",
) -> FakeHandshake:
    """A handshake as a transport hands it to the core. Header names in lower case."""
    return FakeHandshake(path, query, headers or {}, address, scheme, host, kind)


class Refused(Exception):
    """A handshake was refused; `answer` is the HTTP answer."""

    def __init__(self, answer: HttpAnswer) -> None:
        super().__init__(f"{answer.status}: {answer.body!r}")
        self.answer = answer


@dataclass
class Stage:
    """A Gateway with everything around it in the test's hands."""

    gateway: Gateway
    clock: ManualClock
    defer: FifoDefer
    journal: RecordingJournal
    world: World
    peers: dict[Session, MemoryPeer] = field(default_factory=dict)

    def connect(
        self,
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        kind: str = "websocket",
        address: str = "127.0.0.1",
        host: str = "127.0.0.1:8766",
        query: str = "",
    ) -> tuple[Session, MemoryPeer]:
        """A connection, upgraded. Raises Refused where the gateway refuses the handshake."""
        shown = handshake(path, headers=headers, kind=kind, address=address, host=host, query=query)
        answer = self.gateway.admit(shown)
        if isinstance(answer, HttpAnswer):
            raise Refused(answer)
        peer = MemoryPeer(address=address)
        session = self.gateway.opened(peer, answer)
        self.peers[session] = peer
        return session, peer

    def say(self, session: Session, message: object, *, text: bool = True) -> None:
        """A message from the peer: bytes as they are, a str as UTF-8, anything else as JSON."""
        if isinstance(message, bytes):
            payload = message
        elif isinstance(message, str):
            payload = message.encode()
        else:
            payload = json.dumps(message).encode()
        session.receive(payload, text)

    def ask(self, session: Session, message: object, *, text: bool = True) -> list[Any]:
        """`say`, and what the peer was sent for it."""
        peer = self.peers[session]
        peer.take()
        self.say(session, message, text=text)
        return peer.take()

    def close(self, session: Session, code: int = 1000, reason: str = "") -> None:
        """The peer goes, or its transport reports the end of what the gateway closed."""
        session.closed(code, reason)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, then tick."""
        self.clock.move(seconds)
        self.gateway.tick()

    def client(self, **identity: str | None) -> tuple[Session, MemoryPeer]:
        """A registered C-Client; what it was sent for that has been taken."""
        session, peer = self.connect("/ws")
        self.say(session, {"type": "c_client_register", **identity})
        answer = peer.take()[0]
        assert answer["type"] == "registration_success", answer
        return session, peer

    def worker(
        self, client_id: str = "w1", *, commands: list[str] | None = None, **more: object
    ) -> tuple[Session, MemoryPeer]:
        """A worker that has said who it is; what it was sent for that has been taken, requests excepted."""
        session, peer = self.connect("/worker")
        data: dict[str, object] = {"client_id": client_id, "role": "worker", **more}
        if commands is not None:
            data["commands"] = commands
        self.say(session, {"type": "connect", "data": data})
        peer.taken = 2
        return session, peer


def stage(**rules: Any) -> Stage:
    """A Stage whose Gateway has these Rules; chance is seeded. It is alone in its world."""
    return stages(1, **rules)[0]


def stages(count: int, **rules: Any) -> list[Stage]:
    """Some Stages that are nodes of one deployment, with one clock: `node-1`, `node-2`, …; `node` for one alone."""
    clock = ManualClock()
    world = World(now=clock.now)
    login_store = MemoryLoginStore(now=clock.now)
    revocations = LocalRevocations()
    made = []
    for number in range(1, count + 1):
        defer = FifoDefer()
        journal = RecordingJournal()
        mine = {"random": random.Random(6 + number), **rules}
        handed = {name: mine.pop(name) for name in ("tokens", "audit", "connect_hook", "event_log") if name in mine}
        node = mine.pop("node", "node" if count == 1 else f"node-{number}")
        parts = GatewayParts(
            now=clock.now,
            wall=clock.wall,
            defer=defer,
            journal=journal,
            backplane=MemoryBackplane(world, node, make_id),
            login_store=login_store,
            revocations=revocations,
            **handed,
        )
        gateway = Gateway(Rules(**mine), parts)
        made.append(Stage(gateway, clock, defer, journal, world))
    return made


def publish(stage: Stage, target: Target, event: Event, event_id: str | None = None, **more: Any) -> Published:
    """Push through a stage's gateway. Raises the PeerFault that it is refused with."""
    results: list[Published | PeerFault] = []
    stage.gateway.backplane.publish(Publication(target, event, event_id, **more), Reply(results.append))
    (result,) = results
    if isinstance(result, PeerFault):
        raise result
    return result


def start_login(
    stage: Stage,
    user_id: str,
    username: str | None = "ann",
    ttl: float = 60,
    *,
    data: bytes = b"{}",
    extra: Mapping[str, Raw] | None = None,
    message: str | None = None,
    on_logout: LogoutEvent | None = None,
) -> Login:
    """Start a login session at a stage. Raises the PeerFault that it is refused with."""
    results: list[Login | PeerFault] = []
    stage.gateway.logins.start(
        user_id,
        username,
        Raw(data),
        ttl,
        extra or {},
        Reply(results.append),
        message=message,
        on_logout=on_logout,
    )
    (result,) = results
    if isinstance(result, PeerFault):
        raise result
    return result


def end_login(stage: Stage, session_id: str, reason: Ending = "logout") -> Login | None:
    """End a login session at a stage. Raises the PeerFault that it is refused with."""
    results: list[Login | PeerFault | None] = []
    stage.gateway.logins.end(session_id, reason, Reply(results.append))
    (result,) = results
    if isinstance(result, PeerFault):
        raise result
    return result


def refusal(answer: object) -> tuple[int, Any]:
    """The status and the JSON (or text) of an HTTP refusal."""
    assert isinstance(answer, HttpAnswer)
    kind = dict(answer.headers).get("content-type", "")
    return answer.status, json.loads(answer.body) if kind == "application/json" else answer.body.decode()
