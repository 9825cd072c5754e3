"""Gateway: the core put together: it makes the parts of one node, and opens and ends connections.

Pushes and messages of other nodes don't pass through it: the backplane tells Delivery and ClusterMessages.

Synchronous, no I/O: clocks, randomness, deferring and the journal are handed in (`GatewayParts`). One per process.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from random import Random
from typing import Final

from portico.wire.codes import CloseCode, ErrorCode, close_label
from portico.wire.faults import PeerFault
from portico.wire.messages import Identity

from .api_keys import ApiKey, ApiKeys
from .audit import Audit, Unaudited
from .back_end_events import BackEndEvents, EventLog
from .cluster.backplane import Backplane
from .cluster.cluster_messages import ClusterMessages
from .connections.admission import AdmissionControl, ConnectionLimits, OriginPolicy
from .connections.ahead import Ahead
from .connections.authentication import Authentication, AuthenticationRules, Mode
from .connections.hub import Hub
from .connections.presence import Presence
from .connections.registration import DuplicatePolicy, Registration, RegistrationRules
from .connections.revoking import Revoking
from .connections.session import DialectHandler, Session
from .connections.unknown_positions import UnknownPositions
from .connections.worker_authentication import WorkerAuthentication
from .counters import Counters
from .deadlines import DeadlineWheel
from .dialects.actions import Actions, add_own
from .dialects.c_client import CClientHandler, CClientParts
from .dialects.client_requests import ClientRequests
from .dialects.envelope import EnvelopeHandler
from .dialects.envelope_parts import EnvelopeParts, EnvelopeRules
from .dialects.proving import ProvingHandler
from .dialects.requester import RequesterHandler
from .dialects.undecided import UndecidedHandler
from .dialects.user import UserHandler
from .dispatch.dispatcher import Dispatcher, DispatchRules
from .dispatch.model import Outcome, Request, WorkerLink
from .dispatch.remote_dispatch import RemoteDispatch
from .event_tail import EventTail
from .hosts import HostPolicy
from .journal import ContainedJournal, Journal
from .ports import UNDECIDED, Admission, Defer, Handshake, HttpAnswer, Monotonic, Peer, Wall
from .proof import ConnectHook, Tokens, cause_of
from .push.announcements import Announcements
from .push.delivery import Delivery
from .push.login_store import LoginStore
from .push.logins import Logins
from .push.user_push import UserPush
from .refusals import Refusals
from .revocations import LocalRevocations, RevocationIndex, RevocationStore


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the core needs; seconds, bytes and counts, 0 for no limit where a limit is meant.

    `more_api_keys`: others come beside `api_keys`, from a place that is read while the gateway runs."""

    production: bool = False
    handshake_key: str | None = None
    api_keys: Collection[ApiKey | str] = ()
    more_api_keys: bool = False
    authentication: Mode = "off"
    open_requesters: bool = True
    open_users: bool = True
    allowed_origins: Collection[str] | None = None
    allowed_hosts: Collection[str] | None = None
    any_host_over_tls: bool = False
    hsts: int = 0
    open_metrics: bool = True
    page: bool = True
    registration_timeout: float = 60.0
    heartbeat_interval: float = 25.0
    duplicates: DuplicatePolicy = "replace"
    max_message_size: int = 1 << 20
    max_worker_message_size: int = 5 << 20
    max_requester_message_size: int = 5 << 20
    max_connections: int = 0
    max_connections_per_address: int = 0
    spare_loopback: bool = False
    max_connections_per_user: int = 0
    max_handshakes_per_second: float = 0.0
    worker_capacity: int = 16
    worker_timeout: float = 30.0
    max_request_timeout: float = 3600.0
    queue_limit: int = 1000
    queue_bytes: int = 64 << 20
    max_attempts: int = 3
    strategy: str = "least_loaded"
    relayed: Collection[str] = ()
    announce_others: bool = False
    offline_seconds: float = 10.0
    random: Random = field(default_factory=Random)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts:
    """What a node's core is handed from outside, since it does no I/O and reads no clock.

    `now` and `wall` are its clocks; `defer` has it called back soon; `journal` and `audit` are told what happens;
    `backplane` joins it to the other nodes, with which it shares `login_store`, `revocations` (None: it is alone) and
    `event_log` (None: no back end listens). `tokens` and `connect_hook` say who a connection is; None: nobody is asked.
    """

    now: Monotonic
    wall: Wall
    defer: Defer
    journal: Journal
    backplane: Backplane
    login_store: LoginStore
    revocations: RevocationStore | None = None
    event_log: EventLog | None = None
    tokens: Tokens | None = None
    connect_hook: ConnectHook | None = None
    audit: Audit | None = None


class Gateway:
    """The whole core of one node (the transports' Gate, the sessions' SessionOwner, the observer of Registration and
    of the Dispatcher)."""

    def __init__(self, rules: Rules, parts: GatewayParts) -> None:
        now, wall, defer, backplane = parts.now, parts.wall, parts.defer, parts.backplane
        self.rules: Final = rules
        self.backplane: Final = backplane
        self.audit: Final = parts.audit or Unaudited()
        self._now = now
        self._wall = wall
        self._deadlines: DeadlineWheel[Session] = DeadlineWheel(0.1)
        self.sessions: dict[Session, None] = {}
        self.counters = Counters()
        self._journal = ContainedJournal(parts.journal, self.counters)
        self.refusals: Final = Refusals(self.audit, self._journal.on_refused, now=now)
        self.counters.refused = self.refusals.counted
        self.hub = Hub()
        self.events: Final = BackEndEvents(
            parts.event_log, relayed=rules.relayed, node=lambda: backplane.node, wall=wall, make_id=make_id
        )
        self.cluster_messages = ClusterMessages(backplane, self, now=now, make_id=make_id)
        self._announcements: Announcements | None = None
        if rules.announce_others:
            self._announcements = Announcements(self.hub, self.cluster_messages, self.events)
        self.event_tail = EventTail(
            self.hub,
            self.cluster_messages,
            self.events,
            now=now,
            wall=wall,
            make_id=make_id,
            offline_seconds=rules.offline_seconds,
        )
        self.ahead: Final = Ahead(backplane)
        self.delivery = Delivery(self.hub, backplane, self.ahead, self.counters, defer=defer)
        users = UserPush(self.delivery, self.cluster_messages)
        self.logins = Logins(parts.login_store, users, now=now, wall=wall, make_id=make_id)
        positions = self._positions = UnknownPositions(self.hub, backplane, self.delivery)
        self.delivery.watch(positions)
        self.registration = Registration(
            self.hub,
            self.cluster_messages,
            greetings=self.logins,
            positions=positions,
            ahead=self.ahead,
            observer=self,
            rules=RegistrationRules(rules.duplicates, rules.max_connections_per_user),
            now=now,
            wall=wall,
        )
        dispatch_rules = DispatchRules(
            strategy=rules.strategy,
            worker_timeout=rules.worker_timeout,
            max_timeout=rules.max_request_timeout,
            queue_limit=rules.queue_limit,
            queue_bytes=rules.queue_bytes,
            max_attempts=rules.max_attempts,
            default_capacity=rules.worker_capacity,
        )
        self.dispatcher = Dispatcher(
            dispatch_rules, now=now, random=rules.random, counters=self.counters, observer=self
        )
        self.remote = RemoteDispatch(
            self.dispatcher, self.cluster_messages, now=now, defer=defer, counters=self.counters, process=make_id()
        )
        self.presence = Presence(
            self.hub,
            self.sessions,
            self.dispatcher,
            self.cluster_messages,
            wall=wall,
            on_kicked=self.registration.on_put_out,
        )
        self.api_keys = ApiKeys(rules.api_keys, configured=rules.more_api_keys)
        self.api_keys.on_change = self._close_without_key
        self.worker_authentication = WorkerAuthentication(
            production=rules.production, handshake_key=rules.handshake_key, api_keys=self.api_keys
        )
        revoked = RevocationIndex()
        self.authentication = Authentication(
            AuthenticationRules(rules.authentication, rules.production, rules.open_requesters, rules.open_users),
            parts.tokens,
            revoked,
            parts.connect_hook,
            refusals=self.refusals,
            now=now,
            wall=wall,
        )
        self.revoking = Revoking(
            self.sessions,
            parts.revocations or LocalRevocations(),
            self.cluster_messages,
            revoked,
            self.authentication,
            defer=defer,
            wall=wall,
        )
        self.counters.proofs_refused = self.authentication.refused
        self.admission_control = self._make_admission_control()
        self._make_dialects()
        backplane.attach(self.delivery, self.cluster_messages)

    def _make_admission_control(self) -> AdmissionControl:
        rules = self.rules
        origins = OriginPolicy(
            None if rules.allowed_origins is None else list(rules.allowed_origins),
            open_by_default=not rules.production,
        )
        limits = ConnectionLimits(
            now=self._now,
            total=rules.max_connections,
            per_address=rules.max_connections_per_address,
            handshakes_per_second=rules.max_handshakes_per_second,
            refused=self.counters.refused_by_limit,
            refusals=self.refusals,
            spare_loopback=rules.spare_loopback,
        )
        return AdmissionControl(
            origins,
            HostPolicy(rules.allowed_hosts, over_tls=rules.any_host_over_tls),
            limits,
            self.api_keys,
            self.authentication,
            self.refusals,
            max_message_size=rules.max_message_size,
            hsts=rules.hsts,
        )

    def _make_dialects(self) -> None:
        rules, wall = self.rules, self._wall
        self.actions = Actions()
        add_own(self.actions, self.presence, self.authentication, self.counters, wall)
        self.c_clients = CClientHandler(
            CClientParts(
                self.registration,
                self.authentication,
                self.logins,
                self.backplane,
                self.dispatcher,
                self.events,
                rules.heartbeat_interval,
                make_id,
            )
        )
        self.envelopes = EnvelopeHandler(
            EnvelopeParts(
                self.registration,
                self.authentication,
                self.actions,
                self.dispatcher,
                self.worker_authentication,
                WorkerAuthentication(production=True, handshake_key=rules.handshake_key, api_keys=self.api_keys),
                self.events,
                wall,
                make_id,
            ),
            EnvelopeRules(
                heartbeat_interval=rules.heartbeat_interval,
                worker_capacity=rules.worker_capacity,
                message_size=rules.max_message_size,
                worker_message_size=rules.max_worker_message_size,
                registration_timeout=rules.registration_timeout,
            ),
            self,
        )
        self.users = UserHandler(self.hub, self.cluster_messages)
        self.client_requests = ClientRequests(
            self.hub, (self.envelopes, self.c_clients), self.cluster_messages, self.remote
        )
        self.own_commands: dict[str, WorkerLink] = {}
        requesters = RequesterHandler(
            self.dispatcher,
            self.authentication,
            self.own_commands,
            message_size=rules.max_requester_message_size,
            prove=rules.production,
        )
        self.handlers: dict[str, DialectHandler] = {
            handler.name: handler for handler in (self.c_clients, self.envelopes, self.users, requesters)
        }
        self._undecided = UndecidedHandler(self.c_clients, self.handlers, self.authentication)
        self.handlers[UNDECIDED] = self._undecided
        self._proving = ProvingHandler(self.authentication, self)

    def add_dialect(self, handler: DialectHandler, *, path: str | None = None, subprotocol: str | None = None) -> None:
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
        session = Session(
            self,
            peer,
            make_id(),
            self._undecided,
            self._wall(),
            key=admission.key,
            locality=admission.locality,
        )
        self.authentication.adopt(session, admission.proof)
        self.sessions[session] = None
        too_many = self.admission_control.limits.opened(session.address)
        self.counters.connections_opened[peer.transport] += 1
        self._journal.on_opened(session)
        if too_many is not None:
            session.close(CloseCode.TRY_LATER, too_many)
            return session
        try:
            if admission.presented is None:
                self.welcome(session, admission)
            else:
                self._proving.begin(session, admission, admission.presented, self.rules.registration_timeout)
        except Exception as error:
            self.on_error(session, error)
            session.close(CloseCode.INTERNAL, "internal error")
        return session

    def welcome(self, session: Session, admission: Admission) -> None:
        """It is known what a connection has proven: see which dialect it speaks, and what it has to do next."""
        if admission.dialect == UNDECIDED:
            self.expect(session, self.rules.registration_timeout)
        else:
            session.speak(self.handlers[admission.dialect])
            if admission.presented is not None:
                refusal = self.authentication.refusal_after_hook(session, admission.dialect, admission.user_id)
                if refusal is not None:
                    session.refuse(refusal)
                    return
        if admission.worker:
            try:
                self.envelopes.arrivals.begin(session)
            except PeerFault as fault:
                session.refuse(fault)  # it shows what is no worker's
        elif admission.user_id is not None:
            self.registration.register(session, Identity(user_id=admission.user_id))
        elif admission.dialect == self.c_clients.name or self.authentication.wants_proof(session):
            self.expect(session, self.rules.registration_timeout)

    # The sessions' SessionOwner, and their deadlines

    def on_closed(self, session: Session, code: int, reason: str) -> None:
        """A session is over: forget it."""
        self._deadlines.discard(session)
        self.authentication.forget(session)
        self.registration.forget(session)
        self.sessions.pop(session, None)
        self.admission_control.limits.closed(session.address)
        self.counters.connections_closed[close_label(code)] += 1
        if code == CloseCode.RATE_LIMITED and reason == CloseCode.RATE_LIMITED.meaning:
            self.refusals.on_refused("limit_messages", session.address)
        self._journal.on_closed(session, code, reason, self._wall() - session.opened_at)
        if self.events.listening:
            self._contained(self.events.on_closed, session, code, reason)
        if self._announcements is not None:
            self._announcements.on_closed(session)

    def on_fault(self, session: Session, fault: PeerFault) -> None:
        """A message was refused."""
        self.counters.faults[session.handler.name, fault.code.value] += 1
        if fault.code in _REFUSING:
            self.refusals.on_fault(cause_of(fault), session.address)
        self._journal.on_fault(session, fault)

    def on_key_refused(self, cause: str, address: str) -> None:
        """An API key was refused to a caller by HTTP, or was missing."""
        self.authentication.refused[cause] += 1
        self.refusals.on_refused(cause, address)

    def on_error(self, session: Session | None, error: Exception) -> None:
        """A bug of ours came up."""
        self.counters.internal_errors += 1
        self._journal.on_error(session, error)

    def on_registered(self, session: Session, identity: Identity) -> None:
        """A session was told that it is registered."""
        if session.handler is self.c_clients:
            self.expect(session, None)
        self._journal.on_registered(session)
        if self.events.listening:
            self._contained(self.events.on_registered, session)
        if self._announcements is not None:
            self._contained(self._announcements.on_registered, session)

    def on_request_failed(self, request: Request, outcome: Outcome) -> None:
        """A request of this node's has failed (the dispatcher's observer)."""
        if self.events.listening:
            self._contained(self.events.on_request_failed, request, outcome)

    def _contained(self, call: Callable[..., None], *what: object) -> None:
        # What only tells must not be able to break.
        try:
            call(*what)
        except Exception as error:
            self.on_error(None, error)

    def expect(self, session: Session, seconds: float | None) -> None:
        """Have the dialect's `expired` called after so long; None: never."""
        self._deadlines.discard(session)
        if seconds is not None:
            self._deadlines.add(session, self._now() + seconds)

    def _close_without_key(self) -> None:
        """The API keys have changed: who came with one that is none any more goes."""
        for session in [s for s in self.sessions if s.key is not None and s.key not in self.api_keys]:
            session.close(CloseCode.NOT_AUTHENTICATED, "the API key was taken back")

    # What the app does now and then

    def tick(self, *, judge: bool = True) -> None:
        """Everything that is due: deadlines of sessions, requests and logins. To be called every 100 ms or so.

        Unless it may `judge` (`standstill`), who has said nothing in time is given up later.
        """
        now = self._now()
        for session in self._deadlines.expire(now) if judge else ():
            # It is the present dialect's to say whether the deadline still counts: it may have been set before.
            if not session.over:
                try:
                    session.handler.expired(session)
                except Exception as error:
                    self.on_error(session, error)
        self.logins.expire(now)
        self.event_tail.tick()
        self._positions.tick()
        self.revoking.tick()
        if judge:
            self.dispatcher.expire_requests(now)
            self.cluster_messages.tick()
            self.authentication.tick()
            self.remote.tick()

    def busy(self, session: Session) -> bool:
        """Whether a request is under way that the session made, was sent as a worker, or was asked as a client."""
        return (
            self.dispatcher.awaits_answer(session)
            or (session.worker is not None and session.worker.outstanding > 0)
            or self.envelopes.is_asked(session)
            or self.c_clients.is_asked(session)
        )

    def asks_workers(self, session: Session) -> bool:
        """Whether requests to workers may come from this session."""
        return session.worker is None and session.handler is not self.c_clients and session.handler is not self.users

    def announce_drain(self, retry_within_ms: int) -> None:
        """Tell everybody whose dialect has a place for it; admit nobody. What is asked is answered as long as it
        can be."""
        self.admission_control.draining = True
        self.dispatcher.leave()
        for session in self.sessions:
            try:
                frame = session.handler.draining(retry_within_ms)
            except Exception as error:
                self.on_error(session, error)
                continue
            if frame is not None:
                session.send(frame)


_REFUSING: Final = (ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.RATE_LIMITED)
_ID_BYTES: Final = 16
_randomness: list[bytes] = []  # read ahead: each reading is a system call
os.register_at_fork(after_in_child=_randomness.clear)  # or both processes would make the same ids


def make_id() -> str:
    """A new id: 32 hexadecimal digits, unguessable."""
    if not _randomness:
        block = os.urandom(256 * _ID_BYTES)
        _randomness.extend(block[at : at + _ID_BYTES] for at in range(0, len(block), _ID_BYTES))
    return _randomness.pop().hex()
