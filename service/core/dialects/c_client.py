"""What the gateway does with C-Clients: registration, heartbeats, reports on automatic logins, and message types
that were added. Source: protocol reference, "C-Client dialect"."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.dialects import c_client as wire
from portico.wire.dialects.negotiate import Dialect
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import Event, Identity, identity_of

from ..cluster.backplane import Joined, Resume
from ..connections.duplicates import REPLACED
from ..connections.enrolment import Enrolment
from ..connections.hub import Hub
from ..connections.session import Session, State
from ..connections.user_limit import TOO_MANY, UserLimit
from ..push.login_store import Login
from ..push.logins import Logins
from ..reply import Reply

if TYPE_CHECKING:
    from ..dispatch.model import Outcome, Request

DuplicatePolicy = Literal["replace", "keep", "allow"]
OnMessage = Callable[[Session, bytes], None]
"""What is done with one type of message: it may send, close, or raise PeerFault; it must not wait."""


class CClientHandler:
    """The C-Client dialect's decisions."""

    name = Dialect.C_CLIENT.value

    def __init__(
        self,
        hub: Hub,
        enrolment: Enrolment,
        logins: Logins,
        *,
        node: Callable[[], str],
        heartbeat_interval: float,
        duplicates: DuplicatePolicy,
        user_limit: UserLimit,
        make_id: Callable[[], str],
        registered: Callable[[Session], None],
    ) -> None:
        self._hub = hub
        self._enrolment = enrolment
        self._logins = logins
        self._node = node
        self._heartbeat_interval = heartbeat_interval
        self._duplicates: Final = duplicates
        self._user_limit = user_limit
        self._make_id = make_id
        self._registered = registered
        self._on: dict[str, OnMessage] = {
            wire.REGISTER: self._register,
            "heartbeat": self._heartbeat,
            "session_feedback": self._feedback,
        }

    def add(self, kind: str, on_message: OnMessage) -> None:
        """Add a message type: `on_message(session, payload)` gets each message whose `type` is `kind` from
        a registered client. ValueError where the type is taken."""
        if kind in self._on:
            raise ValueError(f"there is a message type {kind!r} already; choose another name")

        def on_registered(session: Session, payload: bytes) -> None:
            _need_registration(session)
            on_message(session, payload)

        self._on[kind] = on_registered

    def opened(self, session: Session) -> None:
        """The client speaks first."""

    def receive(self, session: Session, payload: bytes) -> None:
        """One message. Raises PeerFault."""
        if payload in wire.HEARTBEAT_MESSAGES:
            self._heartbeat(session, payload)
            return
        on_message = self._on.get(wire.type_of(payload))
        if on_message is None:
            raise wire.unknown_type()
        on_message(session, payload)

    def _heartbeat(self, session: Session, _: bytes) -> None:
        _need_registration(session)
        session.send(wire.HEARTBEAT)

    def _register(self, session: Session, payload: bytes) -> None:
        try:
            register = wire.register_of(payload)
        except PeerFault as fault:
            session.house.faulted(session, fault)
            session.send(wire.registration_rejected(fault.code, fault.message, payload))
            return
        identity = identity_of(register)
        if identity.client_id is None:
            # A client that never named itself keeps the name that it was given.
            given = session.identity.client_id or f"c-client-{self._make_id()}"
            identity = Identity(given, *(getattr(identity, field) for field in Identity.__struct_fields__[1:]))
        older = [
            other
            for other in self._hub.same_client(identity)
            if other is not session and other.handler is self and not other.over
        ]
        if older and self._duplicates == "keep":
            session.send(
                wire.registration_rejected(
                    "already_connected", "This client is connected already; close that connection first.", payload
                )
            )
            return
        if older and self._duplicates == "replace":
            for other in older:
                self._enrolment.forget(other)
                other.close(CloseCode.REPLACED, REPLACED)
        if self._user_limit.full_here(session, identity.user_id):
            self._refuse_for_now(session, payload)
            return
        named = register.resume
        resume = None if named is None else Resume(named.epoch, named.offsets)
        self._enrolment.enroll(session, identity, resume, lambda joined: self._joined(session, identity, joined))
        self._registered(session)

    def _refuse_for_now(self, session: Session, payload: bytes) -> None:
        limit = self._user_limit.limit
        message = f"This user is at the limit of {limit} connections; close one of them first."
        session.send(wire.registration_rejected(ErrorCode.RATE_LIMITED, message, payload))
        session.close(CloseCode.TRY_LATER, TOO_MANY)

    def _joined(self, session: Session, identity: Identity, joined: Joined) -> None:
        """It gets every push from now on: say so, with what it missed right behind."""
        resume: dict[str, object] = {"epoch": joined.epoch, "offsets": joined.offsets, "recovered": joined.recovered}
        if joined.lost:
            resume["lost"] = sorted(joined.lost)
        session.send(wire.registration_success(identity, session.id, self._node(), self._heartbeat_interval, resume))

        def current(login: Login | None) -> None:
            if login is not None and session.identity is identity:
                session.send(wire.push(self._logins.auto_login(login)))

        self._logins.current(identity.user_id, Reply(current))
        for events in joined.missed.values():
            for event in events:
                session.send(wire.push(event))

    def _feedback(self, session: Session, payload: bytes) -> None:
        _need_registration(session)
        feedback = wire.feedback_of(payload)
        self._logins.report(session, feedback.session_id, feedback.success, feedback.message, session.refuse)

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
        """A C-Client by subprotocol that never registered."""
        session.close(CloseCode.SILENT, "register within the registration timeout")

    def closed(self, session: Session) -> None:
        """Nothing to undo beyond the hub."""


def _need_registration(session: Session) -> None:
    if session.state is not State.REGISTERED and session.state is not State.JOINING:
        raise PeerFault(ErrorCode.NOT_REGISTERED, f"Register first, with a {wire.REGISTER}.")
