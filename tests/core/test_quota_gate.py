"""The quotas' gate: handshakes, connections, messages and requests beyond a quota, each with when to come again."""

import json
from dataclasses import replace
from typing import Any

import pytest

from service.core.connections.session import Session
from service.core.ports import Admission, HttpAnswer
from service.core.proof import Proof
from service.core.quota_gate import QuotaGate
from service.core.quotas import Quota, Quotas, who_is
from tests.core.connections.test_authentication import FakeTokens
from tests.fakes import FakeHandshake, MemoryPeer, Stage, handshake, stage

ADDRESS = "192.0.2.1"


def from_outside(path: str = "/", **shown: Any) -> FakeHandshake:
    return handshake(path, **{"address": ADDRESS, **shown})


class Gated(Stage):
    """A Stage with a QuotaGate before its gateway."""

    gate: QuotaGate
    quotas: Quotas

    def come(self, path: str = "/", *, proof: Proof | None = None, **shown: Any) -> tuple[Session, Any, MemoryPeer]:
        """A connection: its session, what takes its messages, and its peer."""
        admission = self.gate.admit(from_outside(path, **shown))
        assert isinstance(admission, Admission)
        peer = MemoryPeer(address=shown.get("address", ADDRESS))
        receiver = self.gate.opened(peer, replace(admission, proof=proof))
        session = next(reversed(self.gateway.sessions), None)
        return session, receiver, peer  # type: ignore[return-value]  # None where it was turned away at once


def gated(*quotas: tuple[str, str, int], **rules: Any) -> Gated:
    made = stage(**rules)
    made.__class__ = Gated
    at: Gated = made  # type: ignore[assignment]
    at.quotas = Quotas([Quota(*quota) for quota in quotas], made.clock.now)
    at.gate = QuotaGate(made.gateway, at.quotas)
    return at


def register(receiver: Any, user: str, client: str = "c1") -> None:
    message = {"type": "c_client_register", "client_id": client, "user_id": user}
    receiver.receive(json.dumps(message).encode(), True)


def refused(answer: Admission | HttpAnswer) -> tuple[int, str]:
    assert isinstance(answer, HttpAnswer)
    return answer.status, dict(answer.headers)["retry-after"]


def test_handshakes_beyond_the_quota_are_told_when_to_come() -> None:
    at = gated(("handshakes", "address", 1))
    for _ in range(2):
        at.come()
    assert refused(at.gate.admit(from_outside())) == (503, "1")
    assert isinstance(at.gate.admit(from_outside(address="192.0.2.2")), Admission)
    at.clock.move(1.1)
    assert isinstance(at.gate.admit(from_outside()), Admission)


def test_connections_of_an_address_and_of_a_user() -> None:
    at = gated(("connections", "address", 3), ("connections", "user", 1))
    first, one, peer = at.come()
    register(one, "ann", "c1")
    at.gate.on_known(first)
    second, two, other = at.come()
    register(two, "ann", "c2")
    at.gate.on_known(second)
    assert other.closes == [(1013, "retry_within_ms=5000")]
    assert not peer.closes
    two.closed(1013, "")
    at.gate.on_closed(second)
    at.come()
    at.come()
    assert refused(at.gate.admit(from_outside())) == (503, "5")
    # A user switch moves the connection from one to the other.
    ann = who_is(first).user
    register(one, "bob", "c1")
    at.gate.on_known(first)
    bob = who_is(first).user
    assert ann
    assert bob
    assert list(at.quotas.sessions_of("user", ann)) == []
    assert list(at.quotas.sessions_of("user", bob)) == [first]
    one.closed(1000, "")
    at.gate.on_closed(first)
    assert isinstance(at.gate.admit(from_outside()), Admission)


@pytest.mark.parametrize(("quota", "text"), [(("messages", "user", 5), b"{}"), (("bytes", "address", 50), b"x" * 11)])
def test_messages_and_bytes_beyond_the_quota_close(quota: tuple[str, str, int], text: bytes) -> None:
    at = gated(quota)
    _, receiver, peer = at.come()
    register(receiver, "ann")
    for _ in range(15):
        receiver.receive(text, True)
    ((code, reason),) = peer.closes
    assert code == 4029
    assert reason.startswith("retry_within_ms=")
    assert int(reason.partition("=")[2]) > 0


@pytest.mark.parametrize("path", ["/requester", "/"])
@pytest.mark.parametrize(
    ("holder", "proof"), [("tenant", Proof("ann", role="requester", tenant="shop")), ("address", None)]
)
def test_requests_beyond_the_quota_are_answered_so(path: str, holder: str, proof: Proof | None) -> None:
    at = gated(("requests", holder, 1))
    _, receiver, peer = at.come(path, proof=proof)
    for _ in range(3):
        receiver.receive(b'{"request_id": 1, "command": "echo"}', True)
    answers = [json.loads(frame.payload) for frame in peer.frames]
    assert [answer["error"].partition(":")[0] for answer in answers] == [
        "No available workers", "No available workers", "There are too many requests from here",
    ]  # fmt: skip
    assert not peer.closes


def test_who_has_shown_a_key_is_exempt() -> None:
    key = "a-key-of-sixteen-characters"
    at = gated(("messages", "address", 1), ("handshakes", "address", 1), api_keys=(key,))
    for _ in range(5):
        _, receiver, peer = at.come("/worker", headers={"authorization": f"Bearer {key}"})
    for _ in range(10):
        receiver.receive(b'{"type": "heartbeat"}', True)
    assert not peer.closes


def test_workers_are_exempt_by_whatever_secret() -> None:
    at = gated(("messages", "address", 1), ("connections", "address", 1), production=True, handshake_key="k" * 16)
    session, receiver, peer = at.come("/worker")
    receiver.receive(json.dumps({"type": "handshake", "data": {"handshake_key": "k" * 16}}).encode(), True)
    at.gate.on_known(session)
    for _ in range(10):
        receiver.receive(b'{"type": "heartbeat"}', True)
    assert not peer.closes
    assert isinstance(at.gate.admit(from_outside()), Admission), "nor does it take anybody's place"


@pytest.mark.parametrize("stranger", [None, Proof("ann", tenant="other")])
def test_who_has_not_proven_the_same_takes_nothing_of_a_users_quota(stranger: Proof | None) -> None:
    at = gated(("connections", "user", 1), ("messages", "user", 2), authentication="optional", tokens=FakeTokens())
    _, theirs, their_peer = at.come(proof=stranger)
    for _ in range(6):
        register(theirs, "ann", "theirs")
    assert their_peer.close_code is not None
    _, hers, peer = at.come(proof=Proof("ann"))
    for _ in range(3):
        register(hers, "ann", "hers")
    assert peer.close_code is None
