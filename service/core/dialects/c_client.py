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
from portico.wire.dialects.negotiate import Dialect
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import Event, Identity, identity_of, named

from ..cluster.backplane import Backplane, Resume
from ..connections.authentication import Authentication
from ..connections.registration import Refusal, Registered, Registration
from ..connections.session import Session, State
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
        self._added: dict[str, OnMessage] = {}

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
        try:
            message = wire.decode_message(payload)
        except wire.BadRegister as fault:
            session.owner.on_fault(session, fault)
            session.send(wire.registration_rejected(fault.code, fault.message, payload))
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
                    raise wire.unknown_type()
                _need_registration(session)
                on_message(session, payload)

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
        resume = None if left_off is None else Resume(left_off.epoch, left_off.offsets)
        self._registration.register(session, identity, self, resume=resume, replaces=True, greet=True)

    def on_registered(self, session: Session, identity: Identity, registered: Registered) -> None:
        """It gets every push from now on: say so, with its automatic login right behind."""
        resume: dict[str, object] = {
            "epoch": registered.epoch,
            "offsets": registered.offsets,
            "recovered": registered.recovered,
        }
        if registered.lost:
            resume["lost"] = sorted(registered.lost)
        session.send(
            wire.registration_success(
                identity,
                session.id,
                self._backplane.node,
                self._heartbeat_interval,
                resume,
                None if session.proof is None else session.proof.expires_at,
            )
        )
        if registered.greeting is not None:
            session.send(wire.push(registered.greeting))

    def on_refused(self, session: Session, identity: Identity, refusal: Refusal) -> None:
        """It is not who it wants to be."""
        session.send(wire.registration_rejected(refusal.reason, refusal.message, identity))

    def refusal(self, fault: PeerFault) -> Frame:
        """The answer to a fault."""
        return wire.error(fault)

    def push(self, event: Event) -> Frame:
        """An event in this dialect."""
        return wire.push(event)

    def answer(self, session: Session, request: "Request", outcome: "Outcome") -> None:
        """C-Clients ask nothing."""

    def draining(self, retry_within_ms: int) -> Frame:
        """The notice before a drain."""
        return wire.draining(retry_within_ms)

    def expired(self, session: Session) -> None:
        """A C-Client that never registered; one that waits for the answer has."""
        if session.state is State.SPEAKING:
            session.close(CloseCode.SILENT, "register within the registration timeout")

    def closed(self, session: Session) -> None:
        """Nothing to undo beyond the hub."""


def _need_registration(session: Session) -> None:
    if session.state is not State.REGISTERED and session.state is not State.JOINING:
        raise PeerFault(ErrorCode.NOT_REGISTERED, f"Register first, with a {wire.REGISTER}.")
