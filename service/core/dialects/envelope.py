"""What the gateway does in the envelope dialect: what clients and workers say, are asked and answer.

How a connection becomes a worker is in `worker_arrivals`. An answer that can't be read is mended where it can be (NaN
becomes null), or its requester is told at once. For example, a worker that answers with 20 MB is closed, and its
requester gets an error that says so, not a timeout.
Source: protocol reference, "Envelope dialect".
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

from msgspec import Raw

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.dialects import envelope as wire
from portico.wire.dialects.negotiate import Dialect
from portico.wire.faults import PeerFault, unknown_type
from portico.wire.frame import Frame
from portico.wire.messages import Event, Identity, encode, identity_of, named

from ..cluster.backplane import StreamPositions
from ..connections.registrant import Refusal, Registered
from ..connections.session import Session, SessionDeadlines, State
from ..connections.worker_authentication import InvalidHandshake
from ..dispatch.model import Outcome, Request, Verdict
from ..ports import Wall
from ..reply import Reply
from .actions import ActionCall, ActionError
from .envelope_parts import EnvelopeParts, EnvelopeRules
from .worker_arrivals import WorkerArrivals

_KNOWN: Final = (State.JOINING, State.REGISTERED)
# Named once: looking a member up in its enum takes time, and this one is asked for with every answer.
_UNKNOWN: Final = Verdict.UNKNOWN


class _MendedInVain(PeerFault):
    """What is wrong with an answer that has NaN in it and can't be accepted even without; `still`: why not."""

    def __init__(self, still: PeerFault) -> None:
        fault = wire.not_json()
        super().__init__(fault.code, fault.message)
        self.still = still


class EnvelopeHandler:
    """The envelope dialect's decisions (its connections' Registrant)."""

    name = Dialect.ENVELOPE.value

    def __init__(self, parts: EnvelopeParts, rules: EnvelopeRules, deadlines: SessionDeadlines) -> None:
        self._registration = parts.registration
        self._authentication = parts.authentication
        self._actions = parts.actions
        self._dispatcher = parts.dispatcher
        self._events = parts.events
        self._payload = b""  # of the message that is being handled
        self._wall = parts.wall
        self._make_id = parts.make_id
        self._rules = rules
        self._deadlines = deadlines
        self._sequence = count(1)
        self._prefix = parts.make_id()[:8]
        self._links: dict[Session, EnvelopeLink] = {}
        # Who has sent a large answer with NaN: theirs are mended before they are read, and not after reading failed.
        self._mended: set[Session] = set()
        self.arrivals: Final = WorkerArrivals(parts, rules, deadlines, self)
        self._arriving = self.arrivals.arriving  # looked at with every answer
        self._on: dict[str, Callable[[Session, wire.Envelope], None]] = {
            "connect": self._connect,
            "handshake": self._handshake,
            "request": self._request,
            "response": self._response,
            "heartbeat": self._heartbeat,
            "custom": self._custom,
            "disconnect": self._disconnect,
            # For back ends, where they want it; the gateway itself does nothing with it.
            "notification": self._notification,
            "error": self._nothing,
        }
        self._on_custom: dict[str, Callable[[Session, wire.Envelope], None]] = {
            "capacity": self._capacity,
            "token_refresh": self._refresh,
        }

    def add(self, event: str, on_custom: Callable[[Session, Raw], None]) -> None:
        """Add a kind of `custom` message, by its `event`; `on_custom(session, data)` gets the data of each.

        ValueError where the event is taken.
        """
        if event in self._on_custom:
            raise ValueError(f"there is a custom event {event!r} already; choose another name")
        self._on_custom[event] = lambda session, envelope: on_custom(session, wire.data_of(envelope))

    # Arriving

    def opened(self, session: Session) -> None:
        """The client speaks first, except on the worker path: `WorkerArrivals.begin`."""

    def expired(self, session: Session) -> None:
        """A worker's grace is over, or the time in which the session had to prove who it is."""
        if not self.arrivals.is_expected(session) and self._authentication.wants_proof(session):
            session.close(CloseCode.NOT_AUTHENTICATED, "show a token within the registration timeout")
        else:
            self.arrivals.expired(session)

    def link(self, session: Session) -> "EnvelopeLink":
        """How dispatch reaches this session; one for its whole life."""
        link = self._links.get(session)
        if link is None:
            link = self._links[session] = EnvelopeLink(self, session, self._wall)
        return link

    def is_asked(self, session: Session) -> bool:
        """Whether the session has yet to answer what it was asked as a client."""
        link = self._links.get(session)
        return link is not None and self._dispatcher.awaits_client(link)

    def on_registered(self, session: Session, identity: Identity, registered: Registered) -> None:
        """Greet it; its automatic login comes right behind, and then what it missed."""
        self.greet(session, identity, resume=registered.resume())
        if registered.greeting is not None:
            session.send(self.push(registered.greeting))

    def greet(self, session: Session, identity: Identity, **more: object) -> None:
        """Send it a `connect`."""
        data: dict[str, object] = {
            "client_id": identity.client_id,
            "server_time": self._wall(),
            "heartbeat_interval": self._rules.heartbeat_interval,
            **more,
        }
        if session.proof is not None and session.proof.expires_at is not None:
            data["expires_at"] = session.proof.expires_at
        session.send(self._envelope("connect", data))

    def on_refused(self, session: Session, identity: Identity, refusal: Refusal) -> None:
        """The close says it."""

    # What comes in

    def receive(self, session: Session, payload: bytes) -> None:
        """One message. Raises PeerFault."""
        try:
            quick = wire.quick_response(payload)
            if quick is not None:
                self._answered(session, *quick)
            elif session not in self._mended or not self._mend(session, payload):
                self._receive(session, payload)
        except PeerFault as fault:
            if self._answers(session) and self._mend_or_reject(session, payload, fault):
                return
            if self._arriving and session in self._arriving:
                self.arrivals.refuse(session)
            raise

    def _answers(self, session: Session) -> bool:
        return session.worker is not None or session in self._links

    def _mend_or_reject(self, session: Session, payload: bytes, fault: PeerFault) -> bool:
        """A message from a worker, or from a client that was asked, can't be read. If it is an answer that can be
        mended, take it and return True. If it may be an answer, tell the requester, who would wait for it in vain."""
        if fault.code is ErrorCode.UNKNOWN_REQUEST or b'"response"' not in payload:
            return False
        if isinstance(fault, _MendedInVain):
            fault = fault.still
        elif fault.code is ErrorCode.BAD_JSON:
            try:
                if self._mend(session, payload):
                    if len(payload) > wire.QUICK:
                        self._mended.add(session)
                    return True
            except _MendedInVain as vain:
                fault = vain.still
        if fault.code is not ErrorCode.UNKNOWN_REQUEST:
            self._dispatcher.reject_answer(
                session.worker or self._links[session], wire.names_in(payload), fault.message
            )
        return False

    def _mend(self, session: Session, payload: bytes) -> bool:
        """Take an answer that has NaN in it, mended; False if it has none. Raises _MendedInVain."""
        if not self._answers(session) or b'"response"' not in payload:
            return False
        mended = wire.without_nan(payload)
        if mended is None:
            return False
        try:
            self._receive(session, mended)
        except PeerFault as still:
            raise _MendedInVain(still) from None
        self._dispatcher.counters.answers_mended += 1
        return True

    def _receive(self, session: Session, payload: bytes) -> None:
        envelope = wire.decode_envelope(payload)
        on_message = self._on.get(envelope.type)
        self._payload = payload
        try:
            if on_message is None:
                if self._relay(session, envelope.type):
                    return
                raise unknown_type(self._on)
            on_message(session, envelope)
        except PeerFault as fault:
            if fault.msg_id is None:
                fault.msg_id = envelope.msg_id
            raise
        if self._arriving and session in self._arriving:
            self.arrivals.settle(session)

    def _connect(self, session: Session, envelope: wire.Envelope) -> None:
        connect = wire.connect_of(envelope)
        expected = self.arrivals.is_expected(session)
        identity = identity_of(connect)
        if identity.client_id is None:
            identity = named(identity, session.identity.client_id or f"client-{self._make_id()}")
        if connect.role == "worker" or (connect.role is None and expected):
            self.arrivals.connect(session, connect, identity, self)
            return
        identity = self._authentication.identity_of(session, connect.token, identity)
        if expected:
            self.arrivals.dismiss(session)
            session.peer.allow_message_size(self._rules.message_size)
        self._deadlines.expect(session, None)
        left_off = connect.resume
        resume = None if left_off is None else StreamPositions(left_off.epoch, left_off.offsets)
        self._registration.register(session, identity, self, resume=resume, greet=True)

    def _handshake(self, session: Session, envelope: wire.Envelope) -> None:
        # One that has said what it serves has said so, whatever proof it adds.
        new = session.worker is None or session in self._arriving
        proof = self.arrivals.shake_hands(session, wire.handshake_of(envelope).handshake_key)
        data = {
            "event": "handshake",
            "payload": {"client_id": session.identity.client_id},
            "title": "Handshake Successful",
            "content": "You are connected as a worker",
            "level": "success",
            "stream": None,
            "offset": None,
        }
        session.send(self._envelope("notification", data))
        if new:
            self.arrivals.employ_for_all(session, proof)

    def _heartbeat(self, session: Session, _: wire.Envelope) -> None:
        session.send(self._envelope("heartbeat", {}))

    def _disconnect(self, session: Session, _: wire.Envelope) -> None:
        session.close(CloseCode.NORMAL, "disconnect")

    def _notification(self, session: Session, envelope: wire.Envelope) -> None:
        self._relay(session, "notification")

    def _relay(self, session: Session, kind: str) -> bool:
        """Pass the message that is being handled on to the back ends, if they want this kind and the client is
        registered. Returns whether it was passed on."""
        if session.worker is not None or session.state not in _KNOWN or not self._events.relays(kind):
            return False
        self._events.on_message(session, self._payload)
        return True

    def _nothing(self, session: Session, _: wire.Envelope) -> None:
        pass

    def _request(self, session: Session, envelope: wire.Envelope) -> None:
        call = wire.call_of(envelope)
        msg_id = envelope.msg_id or self._msg_id()
        ours = call.action in self._actions
        self._authentication.check_command(session, call.action, ours=ours)
        if not ours:
            self._dispatcher.submit(session, msg_id, call.action, call.params, timeout=call.timeout)
            return
        reply: Reply[object] = Reply(partial(self._on_result, session, msg_id))
        try:
            self._actions.run(call.action, ActionCall(session, call.params), reply)
        except ActionError as error:
            session.send(wire.response(msg_id, self._wall(), False, None, str(error)))

    def _on_result(self, session: Session, msg_id: str, result: object) -> None:
        session.send(wire.response(msg_id, self._wall(), True, Raw(encode(result)), None))

    def _response(self, session: Session, envelope: wire.Envelope) -> None:
        self._answered(session, envelope.msg_id, wire.answer_of(envelope))

    def _answered(self, session: Session, msg_id: str | None, answer: wire.Answer) -> None:
        if self._arriving and session in self._arriving:
            self.arrivals.settle(session)
        request_id = msg_id if answer.request_id is None else answer.request_id
        if request_id is None:
            raise PeerFault(
                ErrorCode.MISSING_FIELD,
                "A response names its request in data.request_id, or by its msg_id.",
                field="request_id",
            )
        # A session that was never sent anything has neither.
        sent_to = session.worker or self._links.get(session)
        verdict = _UNKNOWN
        if sent_to is not None:
            verdict = self._dispatcher.on_answer(
                sent_to,
                request_id,
                success=bool(answer.success),
                result=answer.result,
                error=None if answer.success else wire.error_text(answer),
                partial=bool(answer.partial),
            )
        if verdict is _UNKNOWN:
            raise PeerFault(
                ErrorCode.UNKNOWN_REQUEST,
                "You were not sent this request; answer what you are sent.",
                field="request_id",
                msg_id=msg_id,
            )

    def _custom(self, session: Session, envelope: wire.Envelope) -> None:
        custom = wire.custom_of(envelope)
        on_custom = self._on_custom.get(custom.event)
        if on_custom is None:
            if self._relay(session, custom.event):
                return
            raise unknown_type(self._on_custom, "custom event", field="event")
        on_custom(session, envelope)

    def _capacity(self, session: Session, envelope: wire.Envelope) -> None:
        if session.worker is None:
            raise PeerFault(ErrorCode.FORBIDDEN, "Only a worker has a capacity; connect as one first.", field="event")
        capacity = wire.capacity_of(envelope)
        self._arriving.discard(session)
        self._dispatcher.change_worker(session.worker, capacity=capacity)

    def _refresh(self, session: Session, envelope: wire.Envelope) -> None:
        expires_at = self._authentication.refresh(session, wire.token_of(envelope))
        session.send(self._envelope("custom", {"event": "token_refresh", "expires_at": expires_at}))

    # What goes out

    def refusal(self, fault: PeerFault) -> Frame:
        """The answer to a fault."""
        if isinstance(fault, InvalidHandshake):
            return self._envelope("error", {"error": fault.message, "code": "HANDSHAKE_ERROR", "msg_id": fault.msg_id})
        return wire.error(fault, self._msg_id(), self._wall())

    def push(self, event: Event) -> Frame:
        """An event in this dialect; one msg_id for all that get it."""
        return wire.push(event, self._msg_id(), self._wall())

    def answer(self, session: Session, request: Request, outcome: Outcome) -> None:
        """What came of a request of this client's."""
        session.send(
            wire.response(
                request.token or request.id, self._wall(), outcome.success, outcome.data, outcome.error, outcome.partial
            )
        )

    def draining(self, retry_within_ms: int) -> Frame:
        """The notice before a drain."""
        return self.push(Event("server_draining", Raw(encode({"retry_within_ms": retry_within_ms}))))

    def block_worker(self, session: Session) -> None:
        """There is a backlog of what the worker is sent: it gets no more requests until there is room."""
        worker = session.worker
        if worker is not None and not worker.blocked:
            self._dispatcher.block_worker(worker)
            session.peer.when_room(partial(self._dispatcher.unblock_worker, worker))

    def send_cancel(self, session: Session, request: Request) -> None:
        """Tell a worker to stop."""
        session.send(wire.cancel(request.id, self._msg_id(), self._wall()))

    def oversized(self, session: Session, head: bytes) -> None:
        """A message over the limit begins with `head`. If it answers a request, the requester is told at once, and the
        request goes to no other worker, which its answer might close as well. The worker is closed next, and its other
        requests are treated as when a worker is lost; so are all of them, if no request is found in `head`."""
        answer = wire.beginning_of(head)
        sent_to = session.worker or self._links.get(session)
        if sent_to is None or not answer.may_be_response:
            return
        limit = self._rules.message_size
        if session.worker is not None:
            limit = self._rules.worker_message_size
            # It is about to be closed: the room that the answer makes must not bring it another request.
            self._dispatcher.change_worker(session.worker, capacity=0)
        names = [name for name in (answer.request_id or answer.msg_id,) if name is not None]
        reason = f"it is too large, more than {limit} bytes."
        self._dispatcher.reject_answer(sent_to, names, reason, certain=answer.request_id is not None)

    def closed(self, session: Session) -> None:
        """A worker's requests go elsewhere; a client's own are cancelled."""
        if session.worker is not None:
            # The requests that it made are cancelled next. Some may be at itself: the room that this makes must not
            # bring it others.
            self._dispatcher.change_worker(session.worker, capacity=0)
        self._dispatcher.cancel_requests_of(session)
        self.arrivals.dismiss(session)
        self._mended.discard(session)
        link = self._links.pop(session, None)
        if link is not None:
            self._dispatcher.forget_client(link)

    def _msg_id(self) -> str:
        return f"msg_{self._prefix}{next(self._sequence):x}"

    def _envelope(self, kind: str, data: object) -> Frame:
        return wire.encode_envelope(kind, self._msg_id(), self._wall(), data)


class EnvelopeLink:
    """How dispatch reaches one envelope session (its WorkerLink)."""

    __slots__ = ("_handler", "_session", "_wall")

    def __init__(self, handler: EnvelopeHandler, session: Session, wall: Wall) -> None:
        self._handler = handler
        self._session = session
        self._wall = wall

    def send_request(self, request: Request, deadline_ms: int) -> None:
        """Pass a request on, to a worker or to a client that is asked."""
        session = self._session
        frame = wire.request(
            request.id,
            self._wall(),
            request.command,
            request.data,
            attempt=request.attempt,
            deadline_ms=deadline_ms,
            stream=request.stream,
        )
        session.send(frame)
        if session.peer.has_backlog and request.worker is session.worker:
            self._handler.block_worker(session)

    def send_cancel(self, request: Request) -> None:
        """Tell it to stop."""
        self._handler.send_cancel(self._session, request)
