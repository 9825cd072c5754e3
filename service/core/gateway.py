"""Gateway: the core put together. What transports, HTTP and the app talk to; it decides by delegating.

Synchronous, no I/O: clocks, randomness, deferring and the journal are handed in. One per process.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from msgspec import Raw

from portico.wire.codes import CloseCode
from portico.wire.dialects.negotiate import dialect_of
from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Identity, Target, encode, stream_of

from .cluster.backplane import Backplane, Publication, Published
from .cluster.cluster_messages import ClusterMessages
from .connections.admission import UNDECIDED, AdmissionControl, Ticket
from .connections.duplicates import Duplicates
from .connections.enrolment import Enrolment
from .connections.hub import Hub
from .connections.limits import ConnectionLimits
from .connections.origins import OriginPolicy
from .connections.presence import Presence
from .connections.session import Handler, Session
from .connections.user_limit import UserLimit
from .connections.worker_authentication import WorkerAuthentication
from .counters import Counters
from .deadlines import DeadlineWheel
from .dialects.actions import Actions, add_own
from .dialects.c_client import CClientHandler, DuplicatePolicy
from .dialects.client_requests import ClientRequests
from .dialects.envelope import EnvelopeHandler
from .dialects.requester import RequesterHandler
from .dialects.undecided import UndecidedHandler
from .dialects.user import UserHandler
from .dispatch.dispatcher import Dispatcher, DispatchRules
from .dispatch.remote_dispatch import RemoteDispatch
from .ports import Admission, Defer, Handshake, HttpAnswer, Monotonic, Peer, Wall
from .push.delivery import Delivery
from .push.login_store import LoginStore
from .push.logins import Logins
from .push.user_push import UserPush
from .reply import Reply


class Journal(Protocol):
    """Where the core says what happened, for people. Implementations keep untrusted text harmless."""

    def opened(self, session: Session) -> None:
        """A connection was accepted."""

    def registered(self, session: Session) -> None:
        """A connection said who it is, or who it is now."""

    def closed(self, session: Session, code: int, reason: str, seconds: float) -> None:
        """A connection is over, after so many seconds."""

    def faulted(self, session: Session, fault: PeerFault) -> None:
        """A message was refused."""

    def broke(self, session: Session | None, error: Exception) -> None:
        """A bug of ours came up, while something of a session's was handled, or of another node's."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the core needs; seconds, bytes and counts, 0 for no limit where a limit is meant."""

    node: str = "node"
    production: bool = False
    handshake_key: str | None = None
    api_keys: Collection[str] = ()
    allowed_origins: Collection[str] | None = None
    registration_timeout: float = 60.0
    heartbeat_interval: float = 25.0
    duplicates: DuplicatePolicy = "replace"
    max_message_size: int = 1 << 20
    max_worker_message_size: int = 5 << 20
    max_connections: int = 0
    max_connections_per_address: int = 0
    max_connections_per_user: int = 0
    max_handshakes_per_second: float = 0.0
    worker_capacity: int = 16
    worker_timeout: float = 30.0
    queue_limit: int = 1000
    max_attempts: int = 3
    strategy: str = "least_loaded"
    random: Random = field(default_factory=Random)


class Gateway:
    """The whole core of one node (the transports' Gate, the sessions' SessionOwner)."""

    def __init__(
        self,
        rules: Rules,
        *,
        now: Monotonic,
        wall: Wall,
        defer: Defer,
        journal: Journal,
        backplane: Backplane,
        login_store: LoginStore,
    ) -> None:
        self.rules = rules
        self.backplane = backplane
        self._now = now
        self._wall = wall
        self._journal = journal
        self._deadlines: DeadlineWheel[Session] = DeadlineWheel(0.1)
        self.sessions: dict[Session, None] = {}
        self.counters = Counters()
        self.hub = Hub()
        self.delivery = Delivery(self.hub, self.counters, defer=defer)
        self.enrolment = Enrolment(self.hub, backplane, wall=wall, enrolled=self._enrolled)
        self.cluster_messages = ClusterMessages(
            backplane, now=now, make_id=make_id, broke=lambda error: self.broke(None, error)
        )
        self.user_limit = UserLimit(self.hub, self.cluster_messages, rules.max_connections_per_user)
        self.duplicates = Duplicates(
            self.hub,
            self.cluster_messages,
            wall=wall,
            concerns=lambda session: rules.duplicates == "replace" and session.handler is self.c_clients,
            forget=self.enrolment.forget,
        )
        user_push = UserPush(self.delivery, self.cluster_messages, self.publish)
        self.logins = Logins(login_store, user_push, now=now, wall=wall, make_id=make_id)
        self.actions = Actions()
        add_own(self.actions, self.hub, wall)
        dispatch_rules = DispatchRules(
            strategy=rules.strategy,
            worker_timeout=rules.worker_timeout,
            queue_limit=rules.queue_limit,
            max_attempts=rules.max_attempts,
            default_capacity=rules.worker_capacity,
        )
        self.dispatcher = Dispatcher(dispatch_rules, now=now, random=rules.random, counters=self.counters)
        self.presence = Presence(self.hub, self.sessions, self.dispatcher, self.cluster_messages, now=now)
        self.worker_authentication = WorkerAuthentication(
            production=rules.production, handshake_key=rules.handshake_key, api_keys=rules.api_keys
        )
        self.origins = OriginPolicy(
            None if rules.allowed_origins is None else list(rules.allowed_origins),
            open_by_default=not rules.production,
        )
        self.limits = ConnectionLimits(
            now=now,
            total=rules.max_connections,
            per_address=rules.max_connections_per_address,
            handshakes_per_second=rules.max_handshakes_per_second,
            refused=self.counters.refused_by_limit,
        )
        self.admission_control = AdmissionControl(
            self.origins,
            self.limits,
            self.worker_authentication,
            max_message_size=rules.max_message_size,
        )
        self.c_clients = CClientHandler(
            self.hub,
            self.enrolment,
            self.logins,
            node=lambda: backplane.node,
            heartbeat_interval=rules.heartbeat_interval,
            duplicates=rules.duplicates,
            user_limit=self.user_limit,
            make_id=make_id,
            registered=self._registered,
        )
        self.envelopes = EnvelopeHandler(
            self.enrolment,
            self.logins,
            self.actions,
            self.dispatcher,
            self.worker_authentication,
            wall=wall,
            heartbeat_interval=rules.heartbeat_interval,
            worker_capacity=rules.worker_capacity,
            message_size=rules.max_message_size,
            worker_message_size=rules.max_worker_message_size,
            registration_timeout=rules.registration_timeout,
            make_id=make_id,
            registered=self._registered,
            expect=self._expect,
        )
        self.users = UserHandler(self.hub, self.cluster_messages)
        self.remote = RemoteDispatch(
            self.dispatcher, self.cluster_messages, now=now, defer=defer, counters=self.counters
        )
        self.client_requests = ClientRequests(self.hub, self.envelopes, self.cluster_messages, self.remote)
        self.handlers: dict[str, Handler] = {
            handler.name: handler
            for handler in (self.c_clients, self.envelopes, self.users, RequesterHandler(self.dispatcher))
        }
        self.handlers[UNDECIDED] = self._undecided = UndecidedHandler(
            self.handlers, lambda payload: dialect_of(payload).value
        )
        backplane.attach(self)

    def add_dialect(self, handler: Handler, *, path: str | None = None, subprotocol: str | None = None) -> None:
        """Add a dialect: connections on `path`, or that ask for `subprotocol` on a path for all dialects, are its.

        ValueError where the name, the path or the subprotocol is taken.
        """
        if handler.name in self.handlers:
            raise ValueError(f"there is a dialect {handler.name!r} already; choose another name")
        self.admission_control.add(handler.name, path=path, subprotocol=subprotocol)
        self.handlers[handler.name] = handler

    # The transports' Gate

    def admit(self, handshake: Handshake) -> Admission | HttpAnswer:
        """Decide on an upgrade. Never raises."""
        return self.admission_control.admit(handshake)

    def opened(self, peer: Peer, admission: Admission) -> Session:
        """The upgrade was answered."""
        if not isinstance(admission, Ticket):
            raise TypeError("an admission comes from admit()")
        session = Session(self, peer, make_id(), self._undecided, self._wall(), trusted=admission.trusted)
        self.sessions[session] = None
        too_many = self.limits.came(session.address)
        self.counters.connections_opened[peer.transport] += 1
        self._journal.opened(session)
        if too_many is not None:
            session.close(CloseCode.TRY_LATER, too_many)
            return session
        try:
            self._welcome(session, admission)
        except Exception as error:
            self.broke(session, error)
            session.close(CloseCode.INTERNAL, "internal error")
        return session

    def _welcome(self, session: Session, admission: Ticket) -> None:
        entrance = admission.entrance
        if entrance.dialect == UNDECIDED:
            self._expect(session, self.rules.registration_timeout)
        else:
            session.speak(self.handlers[entrance.dialect])
        if entrance.worker:
            self.envelopes.worker_arrived(session)
        elif admission.user_id is not None:
            self.enrolment.enroll(session, Identity(user_id=admission.user_id))
            self._registered(session)
        elif entrance.dialect == self.c_clients.name:
            self._expect(session, self.rules.registration_timeout)

    # The sessions' SessionOwner

    def left(self, session: Session, code: int, reason: str) -> None:
        """A session is over: forget it."""
        self._deadlines.discard(session)
        self.enrolment.forget(session)
        self.sessions.pop(session, None)
        self.limits.went(session.address)
        self.counters.connections_closed[str(code)] += 1
        self._journal.closed(session, code, reason, self._wall() - session.opened_at)

    def faulted(self, session: Session, fault: PeerFault) -> None:
        """A message was refused."""
        self.counters.faults[session.handler.name, fault.code.value] += 1
        self._journal.faulted(session, fault)

    def broke(self, session: Session | None, error: Exception) -> None:
        """A bug of ours came up."""
        self.counters.internal_errors += 1
        self._journal.broke(session, error)

    def _registered(self, session: Session) -> None:
        if session.handler is self.c_clients:
            self._expect(session, None)
        self._journal.registered(session)

    def _enrolled(self, session: Session) -> None:
        self.duplicates.claim(session)
        self.user_limit.check(session)

    def _expect(self, session: Session, seconds: float | None) -> None:
        self._deadlines.discard(session)
        if seconds is not None:
            self._deadlines.add(session, self._now() + seconds)

    # Pushes

    def publish(self, publication: Publication, reply: Reply[Published | PeerFault]) -> None:
        """Push to whoever the publication's target means, on whatever node. Maybe answered before this returns."""
        try:
            self.delivery.check_room(publication.target)
        except PeerFault as fault:
            reply(fault)
            return
        self.backplane.publish(publication, reply)

    # What the backplane tells (its Inbound)

    def arrived(self, target: Target, event: Event) -> tuple[int, int]:
        """A push, from whatever node."""
        try:
            return self.delivery.deliver(target, event)
        except PeerFault:
            return len(self.hub.find(target)), 0

    def lost(self, target: Target, epoch: str, offset: int) -> None:
        """Events of a target's stream may be gone: its clients are told, with the position from which they go on, and
        may ask their back end for what is missing."""
        self.counters.streams_broken += 1
        stream = stream_of(target)
        gap = {"streams": [stream], "epoch": epoch, "offsets": {stream: offset}}
        self.arrived(target, Event("stream_gap", Raw(encode(gap))))

    def heard(self, sender: str, kind: str, body: bytes) -> None:
        """A message of another node's."""
        self.cluster_messages.heard(sender, kind, body)

    def node_left(self, node: str) -> None:
        """A node is gone."""
        self.cluster_messages.node_left(node)

    def nodes_changed(self) -> None:
        """Nodes came, went, or tell something else of themselves."""
        self.remote.nodes_changed()

    # What the app does now and then

    def tick(self) -> None:
        """Everything that is due: deadlines of sessions, requests and logins. To be called every 100 ms or so."""
        now = self._now()
        for session in self._deadlines.expire(now):
            # A deadline that was set for the dialect being unknown is void once it is known.
            if not session.over:
                try:
                    session.handler.expired(session)
                except Exception as error:
                    self.broke(session, error)
        self.dispatcher.expire_requests(now)
        self.logins.expire(now)
        self.cluster_messages.tick()
        self.remote.tick()

    def kick(self, session: Session, reason: str) -> None:
        """Close a connection for the operator."""
        session.close(CloseCode.KICKED, reason)

    def busy(self, session: Session) -> bool:
        """Whether a request is under way that the session made, was sent as a worker, or was asked as a client."""
        return (
            self.dispatcher.awaits_answer(session)
            or (session.worker is not None and session.worker.outstanding > 0)
            or self.envelopes.is_asked(session)
        )

    def announce_drain(self, retry_within_ms: int) -> None:
        """Tell everybody whose dialect has a place for it; admit nobody and send workers nothing any more."""
        self.admission_control.draining = True
        self.dispatcher.drain()
        for session in self.sessions:
            try:
                frame = session.handler.draining(retry_within_ms)
            except Exception as error:
                self.broke(session, error)
                continue
            if frame is not None:
                session.send(frame)


def make_id() -> str:
    """A new id: 32 hexadecimal digits, unguessable."""
    return os.urandom(16).hex()
