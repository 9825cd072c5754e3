"""One connection's life.

A session is opened by a transport after the upgrade and is in one state at a time:

    OPENED ──first message, path or subprotocol──▶ SPEAKING ──says who it is──▶ JOINING ⇄ REGISTERED
       └──────────────────────────┴─────────────────────────────┴──────┴────▶ CLOSING ────▶ CLOSED

OPENED: the dialect is unknown; the gateway says nothing and a deadline runs. SPEAKING: the dialect is known, nobody can
address the connection yet. JOINING: it is in the hub, but its node may not hear of all pushes to it yet, or what it
missed is still on its way to it; pushes to it are held, and so is everything else until its registration is answered.
REGISTERED: it gets all. CLOSING: a Close was queued; what still comes is not read. CLOSED: the transport
has said so. Everything that depends on the dialect is its DialectHandler's; these are shared by all sessions and
hold no state of one.
"""

from enum import Enum
from math import ceil
from typing import TYPE_CHECKING, Final, Protocol

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import Event, Identity
from portico.wire.strict_json import is_json

from ..api_keys import ApiKey
from ..hosts import network
from ..locality import Locality
from ..ports import Peer
from ..proof import Proof
from .held import Held, HeldMessage

if TYPE_CHECKING:
    from ..dispatch.model import Outcome, Request, Worker


class State(Enum):
    """Where a session is in its life."""

    OPENED = "opened"
    SPEAKING = "speaking"
    JOINING = "joining"
    REGISTERED = "registered"
    CLOSING = "closing"
    CLOSED = "closed"


MOVES: Final[dict[State, frozenset[State]]] = {
    State.OPENED: frozenset({State.SPEAKING, State.CLOSING, State.CLOSED}),
    State.SPEAKING: frozenset({State.JOINING, State.CLOSING, State.CLOSED}),
    State.JOINING: frozenset({State.JOINING, State.REGISTERED, State.CLOSING, State.CLOSED}),
    State.REGISTERED: frozenset({State.JOINING, State.CLOSING, State.CLOSED}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
_OVER: Final = (State.CLOSING, State.CLOSED)
NOBODY: Final = Identity()


class DialectHandler(Protocol):
    """What a dialect does: one object for all its sessions. No call may wait; `receive` may raise PeerFault."""

    @property
    def name(self) -> str:
        """The dialect's name in logs and metrics."""

    def opened(self, session: "Session") -> None:
        """The session speaks this dialect from now on."""

    def receive(self, session: "Session", payload: bytes) -> None:
        """One message, UTF-8. Raises PeerFault for what cannot be accepted."""

    def refusal(self, fault: PeerFault) -> Frame:
        """The answer to a fault."""

    def push(self, event: Event) -> Frame | None:
        """An event in this dialect; None where the dialect has no place for pushes."""

    def answer(self, session: "Session", request: "Request", outcome: "Outcome") -> None:
        """What came of a request of this session's."""

    def draining(self, retry_within_ms: int) -> Frame | None:
        """The notice before a drain; None where the dialect has no place for it."""

    def expired(self, session: "Session") -> None:
        """The session's deadline passed."""

    def oversized(self, session: "Session", head: bytes) -> None:
        """A message over the limit begins like this; the session is about to be closed for it."""

    def closed(self, session: "Session") -> None:
        """The session is over (we closed it, or its connection ended): once, and still in the hub, if it was."""


class SessionDeadlines(Protocol):
    """Who keeps the sessions' deadlines."""

    def expect(self, session: "Session", seconds: float | None) -> None:
        """Have the dialect's `expired` called after so long; None: never."""


class SessionOwner(Protocol):
    """What a session tells the gateway that it belongs to."""

    def on_closed(self, session: "Session", code: int, reason: str) -> None:
        """The connection is over, and nothing more comes of it."""

    def on_fault(self, session: "Session", fault: PeerFault) -> None:
        """A peer's message was refused."""

    def on_error(self, session: "Session | None", error: Exception) -> None:
        """A bug of ours came up while handling a message."""


class Session:
    """One connection, from the upgrade to the end. The Receiver of its transport's messages, the Caller of
    its requests."""

    __slots__ = (
        "_id",
        "handler",
        "held",
        "identity",
        "key",
        "locality",
        "opened_at",
        "owner",
        "peer",
        "proof",
        "registered_at",
        "replaceable",
        "state",
        "trusted",
        "unique",
        "worker",
    )

    def __init__(
        self,
        owner: SessionOwner,
        peer: Peer,
        session_id: str,
        handler: DialectHandler,
        opened_at: float,
        *,
        key: ApiKey | None = None,
        locality: Locality = Locality.ELSEWHERE,
    ) -> None:
        self.owner = owner
        self.peer = peer
        self._id = bytes.fromhex(session_id)  # as text it would take twice the memory
        self.handler = handler
        self.opened_at = opened_at
        self.identity: Identity = NOBODY
        self.state = State.OPENED
        self.held: Held | None = None  # what waits until it has joined
        self.registered_at: float | None = None  # by the wall's clock; None while it is nobody, or joining
        self.unique = False  # of two connections of this client one stays
        self.replaceable = False  # a newer connection of the same client, on any node, replaces it
        self.key = key  # the API key that it has shown
        self.trusted: Final = key is not None and key.may("request")  # its requests come before strangers'
        self.locality = locality
        self.proof: Proof | None = None  # what it has shown of who it is
        self.worker: Worker | None = None

    def move(self, state: State) -> None:
        """Go to another state. A move that the table doesn't have is a bug of ours: RuntimeError."""
        if state not in MOVES[self.state]:
            raise RuntimeError(f"a session cannot go from {self.state.value} to {state.value}")
        self.state = state

    @property
    def id(self) -> str:
        """Its name in logs and lists: hexadecimal digits, unguessable."""
        return self._id.hex()

    @property
    def address(self) -> str:
        """The client's address; the same for the whole of its life."""
        return self.peer.address

    @property
    def party(self) -> str:
        """Whom its requests count for (dispatch's Caller): its key, the worker or the user that it is, if that is
        proven, else its address."""
        if self.key is not None:
            return f"key {self.key.name}"
        if self.worker is not None:
            return f"worker {self.id}"
        proof = self.proof
        if proof is not None and (proof.user_id is not None or proof.tenant is not None):
            return f"user {proof.tenant!r} {proof.user_id!r}"
        return f"address {network(self.address)}"

    @property
    def over(self) -> bool:
        """True from the moment that a Close was queued."""
        return self.state in _OVER

    def speak(self, handler: DialectHandler) -> None:
        """The dialect is decided."""
        self.move(State.SPEAKING)
        self.handler = handler
        handler.opened(self)

    def send(self, frame: Frame) -> None:
        """Queue one message, which is no push; on a session that is over this does nothing."""
        if self.held is not None and self.held.unanswered:
            self.hold(frame)
        elif self.state not in _OVER:
            self.peer.send(frame)

    def hold(self, frame: Frame, stream: str | None = None, offset: int | None = None) -> None:
        """Keep a push until what comes before it has gone out; once there is too much, the session is closed."""
        if self.held is None:
            self.send(frame)
        elif not self.held.add(HeldMessage(frame, stream, offset)):
            self.close(CloseCode.TOO_SLOW, "too much came while joining; resume")

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Close after what is queued; a session that is over is left alone."""
        if self.state not in _OVER:
            self.move(State.CLOSING)
            self.held = None
            # Not only when the peer has answered our Close: until then a worker would be sent more requests.
            self._over()
            self.peer.close(code, reason)

    def receive(self, payload: bytes, text: bool) -> None:
        """One message from the transport. A binary one is taken as text where it is UTF-8 JSON."""
        if self.state in _OVER:
            return
        try:
            if not text and not is_json(payload):
                raise PeerFault(
                    ErrorCode.BINARY_NOT_SUPPORTED,
                    "A binary message must be UTF-8 JSON; send text, or JSON as bytes.",
                )
            self.handler.receive(self, payload)
        except PeerFault as fault:
            self.refuse(fault)
        except Exception as error:
            self.owner.on_error(self, error)
            self.refuse(PeerFault(ErrorCode.INTERNAL, "Something went wrong here; the message was dropped."))

    def refuse(self, fault: PeerFault) -> None:
        """Answer a fault, and close where it says so."""
        self.owner.on_fault(self, fault)
        try:
            self.send(self.handler.refusal(fault))
        except Exception as error:
            self.owner.on_error(self, error)
        if fault.close is not None:
            wait = fault.retry_after
            self.close(fault.close, fault.code if wait is None else f"retry_within_ms={ceil(wait * 1000)}")

    def on_answer(self, request: "Request", outcome: "Outcome") -> None:
        """What came of a request of ours (dispatch's Caller)."""
        try:
            self.handler.answer(self, request, outcome)
        except Exception as error:
            self.owner.on_error(self, error)

    def oversized(self, head: bytes) -> None:
        """The transport had to drop a message for its size, and is about to close."""
        if self.state in _OVER:
            return
        try:
            self.handler.oversized(self, head)
        except Exception as error:
            self.owner.on_error(self, error)

    def closed(self, code: int, reason: str) -> None:
        """The transport says that the connection is over."""
        if self.state is State.CLOSED:
            return
        told = self.state is State.CLOSING
        self.move(State.CLOSED)
        self.held = None
        if not told:
            self._over()
        self.owner.on_closed(self, code, reason)

    def _over(self) -> None:
        try:
            self.handler.closed(self)
        except Exception as error:
            self.owner.on_error(self, error)
