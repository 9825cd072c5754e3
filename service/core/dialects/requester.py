"""What the gateway does with requesters: every message is a request for a worker, every frame an answer.
Source: protocol reference, "Requester dialect"."""

from typing import TYPE_CHECKING

from portico.wire.dialects import requester as wire
from portico.wire.dialects.negotiate import Dialect
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import NULL, Event

from ..connections.authentication import Authentication
from ..connections.session import Session

if TYPE_CHECKING:
    from ..dispatch.dispatcher import Dispatcher
    from ..dispatch.model import Outcome, Request


class RequesterHandler:
    """The requester dialect's decisions."""

    name = Dialect.REQUESTER.value

    def __init__(
        self, dispatcher: "Dispatcher", authentication: Authentication, *, message_size: int, prove: bool
    ) -> None:
        """`message_size`: bytes that a message may have; if requesters have to `prove` themselves, of those that have
        shown a key."""
        self._dispatcher = dispatcher
        self._authentication = authentication
        self._message_size = message_size
        self._prove = prove
        self._must_prove = authentication.rules.mode == "required"

    def opened(self, session: Session) -> None:
        """A requester gets answers and nothing else: no greeting."""
        if session.trusted or session.proof is not None or not self._prove:
            session.peer.allow_message_size(self._message_size)

    def receive(self, session: Session, payload: bytes) -> None:
        """One request. Raises PeerFault."""
        request = wire.quick_request(payload) or wire.decode_request(payload)
        token = None if request.request_id == NULL else bytes(request.request_id).decode()
        try:
            if session.proof is not None or self._must_prove:
                self._authentication.check_command(session, request.command)
            self._dispatcher.submit(
                session,
                token,
                request.command,
                request.data,
                timeout=request.timeout,
                stream=bool(request.stream),
                affinity=request.affinity,
                idempotent=request.idempotent is not False,
            )
        except PeerFault as fault:
            fault.msg_id = token
            raise

    def refusal(self, fault: PeerFault) -> Frame:
        """The answer to a fault, in the form of an answer."""
        return wire.error(fault)

    def push(self, event: Event) -> Frame | None:
        """Requesters never get pushes."""
        return None

    def answer(self, session: Session, request: "Request", outcome: "Outcome") -> None:
        """What came of a request."""
        # A token is JSON, as it came.
        request_id = f'"{request.id}"' if request.token is None else request.token
        if outcome.partial:
            session.send(wire.partial_response(request_id, outcome.data, outcome.processed_by))
        else:
            session.send(wire.response(request_id, outcome.success, outcome.data, outcome.error, outcome.processed_by))

    def draining(self, retry_within_ms: int) -> Frame | None:
        """Requesters take the next message for their answer: no notices."""
        return None

    def expired(self, session: Session) -> None:
        """One that hasn't asked anything yet is welcome."""

    def oversized(self, session: Session, head: bytes) -> None:
        """No requester is asked anything."""

    def closed(self, session: Session) -> None:
        """A requester that leaves cancels what it has in flight."""
        self._dispatcher.cancel_requests_of(session)
