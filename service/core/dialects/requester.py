"""What the gateway does with requesters: every message is a request for a worker or takes one back, every frame an
answer. Taking one back is answered in its name: a request has one final answer, whatever becomes of it.
Source: protocol reference, "Requester dialect"."""

from collections.abc import Mapping
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
    from ..dispatch.model import Outcome, Request, WorkerLink


class RequesterHandler:
    """The requester dialect's decisions."""

    name = Dialect.REQUESTER.value

    def __init__(
        self,
        dispatcher: "Dispatcher",
        authentication: Authentication,
        own_commands: "Mapping[str, WorkerLink]",
        *,
        message_size: int,
        prove: bool,
    ) -> None:
        """`own_commands`: what this gateway answers to its own pages, whatever workers there are. `message_size`: bytes
        that a message may have; if requesters have to `prove` themselves, of those that have shown a key."""
        self._dispatcher = dispatcher
        self._authentication = authentication
        self._own_commands = own_commands
        self._message_size = message_size
        self._prove = prove
        # Where the connect hook is asked it may have refused the session, which is told so with its first message.
        self._must_prove = authentication.rules.mode == "required" or authentication.hook is not None

    def opened(self, session: Session) -> None:
        """A requester gets answers and nothing else: no greeting."""
        if session.trusted or session.proof is not None or not self._prove:
            session.peer.allow_message_size(self._message_size)

    def receive(self, session: Session, payload: bytes) -> None:
        """One request, or the end of one. Raises PeerFault."""
        request = wire.quick_request(payload) or wire.decode_message(payload)
        if isinstance(request, wire.Cancel):
            self._cancel(session, request.request_id)
            return
        token = None if request.request_id == NULL else bytes(request.request_id).decode()
        try:
            authentication = self._authentication
            if session.proof is not None or self._must_prove or authentication.limit is not None:
                authentication.check_command(session, request.command)
            own = self._own_commands.get(request.command)
            if own is not None:
                stream = bool(request.stream)
                self._dispatcher.ask_client(
                    own, session, token, request.command, request.data, request.timeout, stream=stream
                )
                return
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

    def _cancel(self, session: Session, token: str) -> None:
        """Take back what has this id. One that is over was answered already, so that nothing is said of it."""
        named = [request for request in self._dispatcher.requests_of(session) if request.token == token]
        # Those that wait first, lest they be sent to the workers that the others leave.
        for request in sorted(named, key=lambda request: request.worker is not None):
            if request.over:  # a link may call back at once
                continue
            by = None if request.worker is None else request.worker.client_id
            self._dispatcher.cancel_request(request)
            session.send(wire.response(token, False, None, wire.CANCELLED, by))

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
            session.send(wire.partial_response(request_id, outcome.data, outcome.processed_by, outcome.error))
        else:
            session.send(wire.response(request_id, outcome.success, outcome.data, outcome.error, outcome.processed_by))

    def draining(self, retry_within_ms: int) -> Frame | None:
        """Requesters take the next message for their answer: no notices."""
        return None

    def expired(self, session: Session) -> None:
        """Does nothing: a requester may be silent for as long as it likes."""

    def oversized(self, session: Session, head: bytes) -> None:
        """Does nothing: a requester answers no requests."""

    def closed(self, session: Session) -> None:
        """A requester that leaves cancels what it has in flight."""
        self._dispatcher.cancel_requests_of(session)
