"""What the gateway does with C-Clients: registration, heartbeats, reports on automatic logins, and message types that
were added.

Who may register, and from when pushes reach a client, is Registration's; here is how it is asked and answered.
Source: protocol reference, "C-Client dialect".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.dialects import c_client as wire
from portico.wire.dialects.envelope import beginning_of
from portico.wire.dialects.negotiate import Dialect
from portico.wire.faults import PeerFault, unknown_type
from portico.wire.frame import Frame
from portico.wire.messages import Event, Identity, identity_of, named
from portico.wire.outline import LARGE

from ..back_end_events import BackEndEvents
from ..cluster.backplane import Backplane, StreamPositions
from ..connections.authentication import Authentication
from ..connections.registrant import Refusal, Registered
from ..connections.registration import Registration
from ..connections.session import Session, State
from ..dispatch.dispatcher import Dispatcher
from ..dispatch.model import Verdict
from ..push.logins import Logins

if TYPE_CHECKING:
    from ..dispatch.model import Outcome, Request

OnMessage = Callable[[Session, bytes], None]
"""What is done with one type of message: it may send, close, or raise PeerFault; it must not wait."""


@dataclass(frozen=True, slots=True)
class CClientParts:
    """What C-Clients are served with. `heartbeat_interval` in seconds."""

    registration: Registration
    authentication: Authentication
    logins: Logins
    backplane: Backplane
    dispatcher: Dispatcher
    events: BackEndEvents
    heartbeat_interval: float
    make_id: Callable[[], str]


class CClientHandler:
    """The C-Client dialect's decisions (its clients' Registrant)."""

    name = Dialect.C_CLIENT.value

    def __init__(self, parts: CClientParts) -> None:
        self._registration = parts.registration
        self._authentication = parts.authentication
        self._logins = parts.logins
        self._backplane = parts.backplane
        self._heartbeat_interval: Final = parts.heartbeat_interval
        self._make_id = parts.make_id
        self._dispatcher = parts.dispatcher
        self._events = parts.events
        self._added: dict[str, OnMessage] = {}
        self._links: dict[Session, CClientLink] = {}

    def add(self, kind: str, on_message: OnMessage) -> None:
        """Add a message type: `on_message(session, payload)` gets each message whose `type` is `kind` from
        a registered client. ValueError where the type is taken."""
        if kind in self._added or kind in wire.TYPES:
            raise ValueError(f"there is a message type {kind!r} already; choose another name")
        self._added[kind] = on_message

    def opened(self, session: Session) -> None:
        """The client speaks first."""

    def receive(self, session: Session, payload: bytes) -> None:
        """One message. Raises PeerFault."""
        if payload in wire.HEARTBEAT_MESSAGES:
            self._heartbeat(session)
            return
        if len(payload) > LARGE:
            payload = wire.read(payload)
        try:
            message = wire.decode_message(payload)
        except wire.BadRegister as fault:
            session.owner.on_fault(session, fault)
            session.send(wire.registration_rejected(fault.code, fault.message, fault.claimed))
            return
        except PeerFault as fault:
            if fault.field != "type" or fault.code is not ErrorCode.MISSING_FIELD:
                raise
            self._other(session, None, payload, fault)
            return
        match message:
            case wire.Register():
                self.register(session, message)
            case wire.SessionFeedback():
                _need_registration(session)
                self._logins.report(session, message.session_id, message.success, message.message, session.refuse)
            case wire.Heartbeat():
                self._heartbeat(session)
            case wire.TokenRefresh():
                session.send(wire.token_refreshed(self._authentication.refresh(session, message.token)))
            case _:
                on_message = self._added.get(message)
                if on_message is None:
                    self._other(session, message, payload, unknown_type({*wire.TYPES, *self._added}))
                    return
                _need_registration(session)
                on_message(session, payload)

    def _other(self, session: Session, kind: str | None, payload: bytes, fault: PeerFault) -> None:
        """A message of no type that is known here, or of none: an answer to what the client was asked, or something for
        the back ends. Raises `fault` where it is neither."""
        link = self._links.get(session)
        if link is not None:
            answer = wire.answer_of(payload)
            if answer is not None:
                verdict = self._dispatcher.on_answer(
                    link, answer.request_id, success=answer.success, result=answer.result, error=answer.error
                )
                if verdict is not Verdict.UNKNOWN:
                    return
        if not self._events.relays(kind):
            raise fault
        _need_registration(session)
        wire.check_other(payload)
        self._events.on_message(session, payload)

    # What it is asked

    def link(self, session: Session) -> "CClientLink":
        """How dispatch reaches this session; one for its whole life."""
        link = self._links.get(session)
        if link is None:
            link = self._links[session] = CClientLink(session)
        return link

    def is_asked(self, session: Session) -> bool:
        """Whether the session has yet to answer what it was asked."""
        link = self._links.get(session)
        return link is not None and self._dispatcher.awaits_client(link)

    def _heartbeat(self, session: Session) -> None:
        _need_registration(session)
        session.send(wire.HEARTBEAT)

    def register(self, session: Session, register: wire.Register) -> None:
        """The client says who it is, or who it is now."""
        identity = identity_of(register)
        if identity.client_id is None:
            # A client that never named itself keeps the name that it was given.
            identity = named(identity, session.identity.client_id or f"c-client-{self._make_id()}")
        try:
            identity = self._authentication.identity_of(session, register.token, identity)
        except PeerFault as fault:
            session.owner.on_fault(session, fault)
            refusal = Refusal(fault.code, fault.message, fault.close, fault.code)
            self._registration.refuse(session, identity, self, refusal)
            return
        left_off = register.resume
        resume = None if left_off is None else StreamPositions(left_off.epoch, left_off.offsets)
        self._registration.register(session, identity, self, resume=resume, replaces=True, greet=True)

    def on_registered(self, session: Session, identity: Identity, registered: Registered) -> None:
        """The session gets every push from now on: say so, and send its automatic login right behind."""
        session.send(
            wire.registration_success(
                identity,
                session.id,
                self._backplane.node,
                self._heartbeat_interval,
                registered.resume(),
                None if session.proof is None else session.proof.expires_at,
            )
        )
        if registered.greeting is not None:
            session.send(wire.push(registered.greeting))

    def on_refused(self, session: Session, identity: Identity, refusal: Refusal) -> None:
        """A registration is refused: say so."""
        session.send(wire.registration_rejected(refusal.reason, refusal.message, identity))
        if refusal.close is None and not self._authentication.is_covered(session):
            # The session keeps its old identity, but has shown another user's token.
            session.close(CloseCode.NOT_ALLOWED, refusal.reason)

    def refusal(self, fault: PeerFault) -> Frame:
        """The answer to a fault."""
        return wire.error(fault)

    def push(self, event: Event) -> Frame:
        """An event in this dialect."""
        return wire.push(event)

    def answer(self, session: Session, request: "Request", outcome: "Outcome") -> None:
        """Does nothing: C-Clients send no requests."""

    def draining(self, retry_within_ms: int) -> Frame:
        """The notice before a drain."""
        return wire.draining(retry_within_ms)

    def expired(self, session: Session) -> None:
        """Close a C-Client that has not registered in time; one that waits for the answer has registered."""
        if session.state is State.SPEAKING:
            session.close(CloseCode.SILENT, "register within the registration timeout")

    def oversized(self, session: Session, head: bytes) -> None:
        """A message over the limit begins with `head`. If it answers a request, the caller is told at once."""
        link = self._links.get(session)
        if link is not None:
            name = beginning_of(head).top_request_id
            names = [] if name is None else [name]
            self._dispatcher.reject_answer(link, names, "it is too large.", certain=name is not None)

    def closed(self, session: Session) -> None:
        """The requests that the client was asked end as lost."""
        link = self._links.pop(session, None)
        if link is not None:
            self._dispatcher.forget_client(link)


class CClientLink:
    """How dispatch reaches one C-Client that is asked something (its WorkerLink)."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def send_request(self, request: "Request", deadline_ms: int) -> None:
        """Ask it."""
        self._session.send(wire.ask(request.command, request.id, request.data))

    def send_cancel(self, request: "Request") -> None:
        """Does nothing: this dialect has no message for it."""


def _need_registration(session: Session) -> None:
    if session.state is not State.REGISTERED and session.state is not State.JOINING:
        raise PeerFault(ErrorCode.NOT_REGISTERED, f"Register first, with a {wire.REGISTER}.")
