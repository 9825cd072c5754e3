"""Whatever comes in whatever order: no exception leaves a session, nothing is left when all are gone.

Connections of every kind come, say well- and ill-formed things, are pushed to, kicked and closed; workers answer,
late, twice, or for others. After each step the tables agree with each other; at the end all are empty.
"""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from msgspec import Raw

from portico.wire.codes import CloseCode
from portico.wire.messages import ADDRESS_FIELDS, EVERYBODY, Event, Target
from service.backplane.memory_logins import MemoryLoginStore
from service.core.connections.session import Session, State
from service.core.ports import HttpAnswer

from ..fakes import MemoryPeer, Stage, handshake, publish, stage, start_login
from ..portico.wire.mutations import mutated

IDS = st.sampled_from([None, "a", "b"])
COMMANDS = st.sampled_from(["echo", "sum"])
PATHS = ["/", "/ws", "/api/websocket", "/ws/u1", "/ws/a", "/worker", "/requester"]


@st.composite
def messages(draw: st.DrawFn) -> object:
    """A well-formed message of some dialect."""
    identity = {"client_id": draw(IDS), "user_id": draw(IDS), "node_id": draw(IDS), "channel_id": draw(IDS)}
    role = draw(st.sampled_from(["worker", "client", None]))
    worker: dict[str, Any] = {"role": role, "capacity": draw(st.integers(0, 2))}
    if draw(st.booleans()):
        worker["commands"] = [draw(COMMANDS)]
    call = {"command": draw(COMMANDS), "request_id": draw(IDS), "timeout": draw(st.sampled_from([0.2, 5]))}
    call |= {"affinity": draw(IDS), "idempotent": draw(st.booleans()), "stream": draw(st.booleans())}
    valid: list[dict[str, Any]] = [
        {"type": "c_client_register", **identity},
        {"type": "heartbeat"},
        {"type": "session_feedback", "success": True},
        {"type": "connect", "data": {**identity, **worker}},
        {"type": "handshake", "data": {"handshake_key": draw(st.sampled_from(["key", "wrong", None]))}},
        {
            "type": "request",
            "msg_id": "m1",
            "data": {"action": draw(st.sampled_from(["echo", "get_time", "calculate"]))},
        },
        {"type": "response", "data": {"request_id": f"r-{draw(st.integers(1, 9))}", "success": True, "result": 1}},
        {"type": "custom", "data": {"event": "capacity", "capacity": draw(st.integers(0, 3))}},
        {"type": "disconnect"},
        call,
    ]
    if draw(st.integers(0, 5)) == 0:
        return draw(mutated(valid))
    return draw(st.sampled_from(valid))


class GatewayMachine(RuleBasedStateMachine):
    """Drives one Gateway."""

    connections = Bundle("connections")

    @initialize(
        production=st.booleans(),
        key=st.sampled_from([None, "key"]),
        duplicates=st.sampled_from(["replace", "keep", "allow"]),
        strategy=st.sampled_from(["least_loaded", "round_robin", "random", "weighted_random"]),
    )
    def begin(self, production: bool, key: str | None, duplicates: str, strategy: str) -> None:
        self.stage: Stage = stage(
            production=production,
            handshake_key=key,
            duplicates=duplicates,
            strategy=strategy,
            registration_timeout=3.0,
            queue_limit=4,
            max_attempts=2,
            worker_capacity=2,
            worker_timeout=2.0,
            max_connections_per_address=6,
        )
        self.gateway = self.stage.gateway
        self.alive: dict[Session, MemoryPeer] = {}
        self.ended: list[Session] = []

    @rule(target=connections, path=st.sampled_from(PATHS), address=st.sampled_from(["192.0.2.1", "192.0.2.2"]))
    def come(self, path: str, address: str) -> Session | None:
        return self.connect(path, address)

    def connect(self, path: str, address: str) -> Session | None:
        """A connection; None where it is one too many."""
        answer = self.gateway.admit(handshake(path, address=address))
        if isinstance(answer, HttpAnswer):
            return None
        peer = MemoryPeer(address=address)
        session = self.gateway.opened(peer, answer)
        self.alive[session] = peer
        return session

    @rule(target=connections, key=st.sampled_from(["key", None]), role=st.sampled_from(["worker", "client", None]))
    def come_as_worker(self, key: str | None, role: str | None) -> Session | None:
        session = self.connect("/worker", "192.0.2.3")
        if session is not None and role is not None:
            data = {"role": role, "client_id": "w", "token": key, "capacity": 1}
            session.receive(json.dumps({"type": "connect", "data": data}).encode(), True)
        return session

    @rule(target=connections, timeout=st.sampled_from([0.5, 5]), idempotent=st.booleans(), times=st.integers(1, 3))
    def come_with_requests(self, timeout: float, idempotent: bool, times: int) -> Session | None:
        session = self.connect("/requester", "192.0.2.4")
        call = {
            "command": "echo",
            "timeout": timeout,
            "idempotent": idempotent,
            "affinity": "a" if times == 3 else None,
        }
        for _ in range(times if session is not None else 0):
            assert session is not None
            session.receive(json.dumps(call).encode(), True)
        return session

    @rule(session=connections, message=messages(), text=st.booleans())
    def say(self, session: Session | None, message: object, text: bool) -> None:
        if session in self.alive:
            payload = message if isinstance(message, bytes) else json.dumps(message).encode()
            try:
                payload.decode()
            except UnicodeDecodeError:
                text = False  # what a transport gives as text is UTF-8
            session.receive(payload, text)

    @rule(session=connections, good=st.booleans(), partial=st.booleans())
    def answer(self, session: Session | None, good: bool, partial: bool) -> None:
        """A worker answers the last request that it was sent, maybe once more."""
        if session not in self.alive or session.handler is not self.gateway.envelopes:
            return
        asked = [sent for sent in self.alive[session].messages if sent["type"] == "request"]
        if asked:
            data = {"request_id": asked[-1]["msg_id"], "success": good, "result": "x", "partial": partial}
            session.receive(json.dumps({"type": "response", "data": data}).encode(), True)

    @rule(session=consumes(connections), code=st.sampled_from([1000, 1006]))
    def close(self, session: Session | None, code: int) -> None:
        if session in self.alive:
            session.closed(code, "")
            session.closed(1006, "told twice")
            session.receive(b'{"type":"heartbeat"}', True)
            del self.alive[session]
            self.ended.append(session)

    @rule(session=connections)
    def kick(self, session: Session | None) -> None:
        if session is not None:
            session.close(CloseCode.KICKED, "kicked")

    @rule(kind=st.sampled_from([*ADDRESS_FIELDS, "all"]), value=st.sampled_from(["a", "b", "u1"]))
    def push(self, kind: str, value: str) -> None:
        target = EVERYBODY if kind == "all" else Target(kind, value)
        receipt = publish(self.stage, target, Event("e", Raw(b'{"a":1}')))
        assert receipt.queued <= receipt.matched == len(self.gateway.hub.find(target))

    @rule(user=st.sampled_from(["a", "b", "u1"]), ttl=st.sampled_from([1.0, 100.0]))
    def log_in(self, user: str, ttl: float) -> None:
        start_login(self.stage, user, None, ttl)

    @rule(session=connections, timeout=st.sampled_from([0.2, 5.0]))
    def ask(self, session: Session | None, timeout: float) -> None:
        """A back end asks an envelope client something."""
        if session in self.alive and not session.over and session.handler is self.gateway.envelopes:
            link = self.gateway.envelopes.link(session)
            self.gateway.dispatcher.ask_client(link, _Nobody(), None, "echo", Raw(b"{}"), timeout)

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 4.0]))
    def pass_time(self, seconds: float) -> None:
        self.stage.pass_time(seconds)

    @rule()
    def run_deferred(self) -> None:
        self.stage.defer.run()

    @invariant()
    def the_tables_agree(self) -> None:
        if not hasattr(self, "stage"):
            return
        gateway = self.gateway
        assert not self.stage.journal.broken, self.stage.journal.broken
        assert set(gateway.sessions) == set(self.alive)
        assert gateway.admission_control.limits._open == len(self.alive)
        for session in gateway.hub:
            assert session in self.alive
            assert session.state in (State.REGISTERED, State.CLOSING)
        for session, peer in self.alive.items():
            assert len(peer.closes) == (session.state is State.CLOSING)
            assert peer.sent_after_close == 0
            if session.state is State.REGISTERED:
                assert session in gateway.hub
            if session.over:
                assert session.worker is None
        employed = [session for session in self.alive if session.worker is not None]
        assert len(gateway.dispatcher.worker_statuses()) == len(employed)
        assert gateway.envelopes.arrivals.arriving <= set(self.alive)
        assert gateway.envelopes.arrivals.unproven <= set(self.alive) - set(employed)
        for caller in gateway.dispatcher._requests._by_caller:
            assert isinstance(caller, _Nobody) or (caller in self.alive and not caller.over)
        assert set(gateway.envelopes._links) <= {session for session in self.alive if not session.over}

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        gateway = self.gateway
        for session in list(self.alive):
            session.closed(1006, "")
            self.ended.append(session)
        self.alive.clear()
        self.the_tables_agree()
        closed = [entry[1] for entry in self.stage.journal.of("closed")]
        assert len(closed) == len(set(closed)) == len(self.ended)
        for session in self.ended:
            assert session.state is State.CLOSED
        assert not gateway.sessions
        assert len(gateway.hub) == 0
        assert not any(gateway.hub._by.values())
        assert len(gateway._deadlines) == 0
        assert not gateway.admission_control.limits._by_address
        assert not gateway.envelopes.arrivals.arriving
        assert not gateway.envelopes.arrivals.unproven
        assert not gateway.envelopes._links
        dispatcher = gateway.dispatcher
        assert dispatcher.queue_length == dispatcher.outstanding == 0
        assert not dispatcher.worker_statuses()
        assert not dispatcher._requests._by_caller
        assert not dispatcher._asked
        self.stage.defer.run()
        assert gateway.delivery.waiting == 0
        assert not gateway.delivery._lines
        self.stage.pass_time(1000.0)
        assert len(gateway.logins) == 0
        assert isinstance(gateway.logins.store, MemoryLoginStore)
        assert gateway.logins.store.empty
        self.stage.world.forget_old()
        assert not self.stage.world.known


class _Nobody:
    """A back end that asked and doesn't mind the answer."""

    trusted = False
    party = "somebody"

    def on_answer(self, request: object, outcome: object) -> None:
        pass


TestGateway = GatewayMachine.TestCase
TestGateway.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
