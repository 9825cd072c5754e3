"""How an envelope connection becomes a worker, and stops being one.

A connection on the worker path is a worker as soon as it may be one: at once, or once it has shown a secret or a token.
Elsewhere `connect` with role `worker`, or `handshake`, makes it one. A worker that has just arrived takes nothing for
GRACE seconds or until its first message, since it may be about to say which commands it serves; requests wait for it
meanwhile. If that first message is refused, it is no worker until it sends one that is accepted: it has not said that
it serves everything.

Knows what a worker has to prove, and not what it is asked or answers.
Source: protocol reference, "Envelope dialect" and "Who gets in".
"""

from typing import Final, Protocol

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.dialects import envelope as wire
from portico.wire.faults import PeerFault
from portico.wire.messages import Identity, identity_of

from ..cluster.backplane import StreamPositions
from ..connections.registrant import UNANSWERED, Refusal, Registered, Registrant
from ..connections.session import Session, SessionDeadlines, State
from ..connections.worker_authentication import Entry, WorkerAuthentication, refused
from ..dispatch.model import WorkerLink
from ..dispatch.remote_messages import LARGEST_COMMANDS, size_of_commands
from ..locality import Locality
from ..proof import Proof, not_allowed
from .envelope_parts import EnvelopeParts, EnvelopeRules

GRACE: Final = 0.25
"""Seconds that a silent new worker is given to say what it serves. Longer than most round trips."""


class Envelopes(Protocol):
    """What is needed of the dialect's handler."""

    def link(self, session: Session) -> WorkerLink:
        """How dispatch reaches this session; one for its whole life."""

    def greet(self, session: Session, identity: Identity, **more: object) -> None:
        """Send it a `connect`."""


class WorkerArrivals:
    """Who is a worker, or may become one. (It is the Registrant of those that have not said who they are.)

    `arriving`: workers in their grace. `unproven`: have to show a secret. `refused`: on the worker path, and said
    something wrong.
    """

    def __init__(
        self, parts: EnvelopeParts, rules: EnvelopeRules, deadlines: SessionDeadlines, envelopes: Envelopes
    ) -> None:
        self._registration = parts.registration
        self._authentication = parts.authentication
        self._dispatcher = parts.dispatcher
        self._workers = parts.workers
        self._distant_workers = parts.distant_workers
        self._make_id = parts.make_id
        self._rules = rules
        self._deadlines = deadlines
        self._envelopes = envelopes
        self.arriving: Final[set[Session]] = set()
        self.unproven: Final[set[Session]] = set()
        self.refused: Final[set[Session]] = set()

    def begin(self, session: Session) -> None:
        """A connection on the worker path: greet it, and take it as a worker if it may be one already."""
        proof = self._authentication.worker_of(session, None)
        entry = Entry.IN if proof is not None else self._gate(session).entry(session.key)
        if entry is Entry.REFUSED:
            session.refuse(refused())
            return
        self._registration.register(session, self._new_identity(), self)
        if session.over:
            return
        if entry is Entry.PROVE:
            self.unproven.add(session)
            self._deadlines.expect(session, self._rules.registration_timeout)
        else:
            if proof is not None or self._gate(session).trusts(None, session.key):
                session.peer.allow_message_size(self._rules.worker_message_size)
            if proof is not None or self._gate(session).proven(None, session.key):
                session.peer.lift_rate_limit()
            self.arriving.add(session)
            self._employ(session, session.identity, _served(None, proof), 0, 1.0)
            self._deadlines.expect(session, GRACE)

    def expired(self, session: Session) -> None:
        """A silent worker's grace is over, or the time in which it had to show a secret."""
        if session in self.unproven:
            session.close(CloseCode.NOT_AUTHENTICATED, "show the handshake key or an API key")
        else:
            self.settle(session)

    def settle(self, session: Session) -> None:
        """A worker's grace is over: it takes requests."""
        if session in self.arriving:
            self.arriving.discard(session)
            self._deadlines.expect(session, None)
            if session.worker is not None:
                self._dispatcher.change_worker(session.worker, capacity=self._rules.worker_capacity)

    def refuse(self, session: Session) -> None:
        """What it said in its grace can't be accepted: it is no worker until it says something that is."""
        self.dismiss(session)
        self._deadlines.expect(session, None)
        self.refused.add(session)

    def is_expected(self, session: Session) -> bool:
        """Whether a session counts as a worker if its `connect` names no role."""
        return session.worker is not None or session in self.unproven or session in self.refused

    def connect(self, session: Session, connect: wire.Connect, identity: Identity, registrant: Registrant) -> None:
        """A session says that it is a worker: check its secret, register it, employ it. Raises PeerFault."""
        left_off = connect.resume
        proof = self._authentication.worker_of(session, connect.token)
        if proof is None:
            session.key = self._gate(session).check_token(connect.token, session.key)
        self._authentication.check_worker(session, proof, identity_of(connect))
        commands = _served(connect.commands, proof)
        if commands is not None and size_of_commands(commands) > LARGEST_COMMANDS:
            raise PeerFault(
                ErrorCode.BAD_FIELD,
                f"The field 'commands' takes more than {LARGEST_COMMANDS} bytes, which other nodes can't be told of.",
                field="commands",
            )
        self._accepted(session, connect.token)
        capacity = self._rules.worker_capacity if connect.capacity is None else connect.capacity
        weight = 1.0 if connect.weight is None else connect.weight
        # Employed with no capacity before it replaces an older connection of the same worker: otherwise the requests of
        # the older one would find no worker. A worker that lost its link without noticing always comes back this way,
        # whatever the policy on duplicate clients is.
        self._employ(session, identity, commands, 0, weight)
        resume = None if left_off is None else StreamPositions(left_off.epoch, left_off.offsets)
        self._registration.register(session, identity, registrant, resume=resume, replaces=True, duplicates="replace")
        if not session.over:
            self._employ(session, identity, commands, capacity, weight)

    def shake_hands(self, session: Session, key: str | None) -> Proof | None:
        """A session shows the handshake key, or another secret. Returns the proof, if a token was shown. Raises
        PeerFault."""
        proof = self._authentication.worker_of(session, key)
        if proof is None:
            session.key = self._gate(session).check_handshake(key, session.key)
        self._accepted(session, key)
        if session.state is State.SPEAKING:
            self._registration.register(session, self._new_identity(), UNANSWERED)
        return proof

    def employ_for_all(self, session: Session, proof: Proof | None) -> None:
        """Make the session a worker for every command, or for all that its token names; after `shake_hands`."""
        self._employ(session, session.identity, _served(None, proof), self._rules.worker_capacity, 1.0)

    def dismiss(self, session: Session) -> None:
        """Make the session no worker, if it is one; its requests go elsewhere."""
        self.unproven.discard(session)
        self.arriving.discard(session)
        self.refused.discard(session)
        if session.worker is not None:
            self._dispatcher.remove_worker(session.worker)
            session.worker = None

    def on_registered(self, session: Session, identity: Identity, registered: Registered) -> None:
        """Greet it. It has not said who it is, so it resumes nothing."""
        self._envelopes.greet(session, identity)

    def on_refused(self, session: Session, identity: Identity, refusal: Refusal) -> None:
        """The close says it."""

    def _gate(self, session: Session) -> WorkerAuthentication:
        return self._workers if session.locality is Locality.LOCAL else self._distant_workers

    def _new_identity(self) -> Identity:
        return Identity(client_id=f"worker-{self._make_id()}")

    def _accepted(self, session: Session, token: str | None) -> None:
        self.unproven.discard(session)
        self.arriving.discard(session)
        self.refused.discard(session)
        self._deadlines.expect(session, None)
        if session.proof is not None or self._gate(session).trusts(token, session.key):
            session.peer.allow_message_size(self._rules.worker_message_size)
        if session.proof is not None or self._gate(session).proven(token, session.key):
            if token is not None and session.proof is None:
                self._authentication.refusals.on_proven(session.address, token)
            # A worker answers as fast as all requesters together ask, so its rate is no sign of abuse.
            session.peer.lift_rate_limit()

    def _employ(
        self, session: Session, identity: Identity, commands: list[str] | None, capacity: int, weight: float
    ) -> None:
        """Make the session a worker, or change what it is as one."""
        serves = None if commands is None else frozenset(commands)
        client_id = identity.client_id or session.id
        before = session.worker
        if before is not None and (before.client_id == client_id or before.outstanding):
            # The worker goes on with its requests, under its new name.
            before.client_id = client_id
            self._dispatcher.change_worker(before, commands=serves, capacity=capacity, weight=weight)
            return
        session.worker = self._dispatcher.add_worker(self._envelopes.link(session), client_id, serves, capacity, weight)
        if before is not None:
            # Only after the new one was added: requests that wait for it would find no worker in between.
            self._dispatcher.remove_worker(before)


def _served(commands: list[str] | None, proof: Proof | None) -> list[str] | None:
    """What a worker serves: what it says, or all that its token names. Raises PeerFault (4003) for more than that."""
    if proof is None or proof.commands is None:
        return commands
    if commands is None:
        # A pattern names no commands that could be listed: a worker with one has to say what it serves.
        return [command for command in proof.commands if "*" not in command]
    if not all(map(proof.may_use, commands)):
        raise not_allowed("commands")
    return commands
