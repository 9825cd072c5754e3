"""One connection's life: the table of states, and that nothing leaves it but answers."""

import pytest

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import EVERYBODY, Event, Identity
from service.core.api_keys import ApiKey
from service.core.connections.session import MOVES, Session, State
from service.core.proof import Proof

from ...fakes import stage

ALLOWED = {
    ("opened", "speaking"),
    ("opened", "closing"),
    ("opened", "closed"),
    ("speaking", "joining"),
    ("speaking", "closing"),
    ("speaking", "closed"),
    ("joining", "joining"),
    ("joining", "registered"),
    ("joining", "closing"),
    ("joining", "closed"),
    ("registered", "joining"),
    ("registered", "closing"),
    ("registered", "closed"),
    ("closing", "closed"),
}


@pytest.mark.parametrize("before", list(State))
@pytest.mark.parametrize("after", list(State))
def test_the_table(before: State, after: State) -> None:
    session, _ = stage().connect("/")
    session.state = before
    if (before.value, after.value) in ALLOWED:
        session.move(after)
        assert session.state is after
    else:
        with pytest.raises(RuntimeError, match=f"from {before.value} to {after.value}"):
            session.move(after)
    assert set(MOVES) == set(State)


def test_after_a_close_nothing_is_sent_read_or_closed_again() -> None:
    house = stage()
    session, peer = house.client(client_id="c")
    session.close(CloseCode.KICKED, "kicked")
    session.close(CloseCode.NORMAL)
    session.send(Frame(b"late"))
    assert house.ask(session, {"type": "heartbeat"}) == []
    house.gateway.delivery.deliver(EVERYBODY, Event("e"))
    assert peer.closes == [(CloseCode.KICKED, "kicked")]
    assert peer.sent_after_close == 0
    house.close(session, 4010)
    house.close(session, 1006)
    assert [entry[2] for entry in house.journal.of("closed")] == [4010]
    assert house.gateway.counters.connections_closed == {"4010": 1}


class Broken:
    """A dialect with a bug in everything."""

    name = "broken"

    def __init__(self, but: str = "") -> None:
        self.but = but
        self.calls: list[str] = []

    def _fail(self, call: str) -> None:
        self.calls.append(call)
        if call != self.but:
            raise ZeroDivisionError(call)

    def opened(self, session: Session) -> None:
        self._fail("opened")

    def receive(self, session: Session, payload: bytes) -> None:
        self._fail("receive")

    def refusal(self, fault: PeerFault) -> Frame:
        self._fail("refusal")
        return Frame(b"no")

    def push(self, event: Event) -> Frame | None:
        self._fail("push")
        return None

    def answer(self, session: Session, request: object, outcome: object) -> None:
        self._fail("answer")

    def draining(self, retry_within_ms: int) -> Frame | None:
        self._fail("draining")
        return None

    def expired(self, session: Session) -> None:
        self._fail("expired")

    def oversized(self, session: Session, head: bytes) -> None:
        self._fail("oversized")

    def closed(self, session: Session) -> None:
        self._fail("closed")


def test_a_dialect_s_bugs_are_its_own() -> None:
    house = stage()
    house.gateway.add_dialect(Broken("opened"), path="/broken")
    session, peer = house.connect("/broken")
    _, well = house.client(client_id="c")
    house.gateway.registration.register(session, Identity())
    house.say(session, "hello")
    assert house.gateway.delivery.deliver(EVERYBODY, Event("e")) == (2, 1)
    house.gateway.announce_drain(5)
    house.gateway.expect(session, 1)
    house.pass_time(2)
    house.gateway.dispatcher.submit(session, None, "x", Event("e").data)
    house.close(session)
    assert [message["type"] for message in well.take()] == ["e", "server_draining"]
    assert peer.frames == []
    assert [str(error) for error in house.journal.broken] == [
        "receive",
        "refusal",
        "push",
        "draining",
        "expired",
        "answer",
        "closed",
    ]
    assert house.gateway.counters.internal_errors == 7
    assert session not in house.gateway.sessions
    assert len(house.gateway.hub) == 1


def test_a_dialect_that_fails_at_once_costs_the_connection_only() -> None:
    house = stage()
    house.gateway.add_dialect(Broken(), path="/broken")
    session, peer = house.connect("/broken")
    assert peer.close_code == 1011
    house.close(session, 1011)
    assert not house.gateway.sessions


def test_a_bug_while_handling_a_message_is_answered_with_internal() -> None:
    house = stage()

    def bug(session: Session, payload: bytes) -> None:
        raise KeyError("secret")

    house.gateway.c_clients.add("bug", bug)
    session, peer = house.client(client_id="c")
    (answer,) = house.ask(session, {"type": "bug"})
    assert answer["code"] == ErrorCode.INTERNAL
    assert "secret" not in answer["message"]
    assert peer.close_code is None
    assert house.ask(session, {"type": "heartbeat"}) == [{"type": "heartbeat"}]


def test_every_fault_is_counted_and_journalled() -> None:
    house = stage()
    session, _ = house.client(client_id="c")
    house.say(session, b"\xff", text=False)
    ((_, who, fault),) = house.journal.of("faulted")
    assert (who, fault.code) == (session, ErrorCode.BINARY_NOT_SUPPORTED)
    assert house.gateway.counters.faults == {("c_client", "binary_not_supported"): 1}


def test_whom_requests_count_for() -> None:
    house = stage()
    sessions = [house.connect("/requester", address=address)[0] for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2")]
    parties = [session.party for session in sessions]
    assert parties[0] == parties[1] != parties[2]
    inside, outside = (house.connect("/", address=f"2001:db8:0:{net}::1")[0].party for net in (1, 2))
    assert inside == house.connect("/", address="2001:db8:0:1:9:9:9:9")[0].party != outside
    for session, proof in zip(
        sessions, (Proof("ann"), Proof("ann", tenant="t"), Proof("ann", tenant="t", token_id="2")), strict=True
    ):
        session.proof = proof
    shown = [session.party for session in sessions]
    assert shown[0] != shown[1] == shown[2]
    sessions[0].proof = Proof()
    assert sessions[0].party == parties[0], "a proof that names nobody"
    sessions[0].key = sessions[2].key = ApiKey("shop", frozenset(), b"")
    assert sessions[0].party == sessions[2].party not in (*parties, *shown)
    worker, _ = house.worker("w1")
    assert worker.party == f"worker {worker.id}"
