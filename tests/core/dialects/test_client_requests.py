"""Which client is asked: the newest of this node that can answer, else another node's; and why not."""

import pytest

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Identity, Target
from service.core.cluster.survey import SurveyResult
from service.core.connections.session import Session
from service.core.dispatch.model import WorkerLink
from service.core.reply import Reply
from tests.fakes import MemoryPeer, Stage, stage, stages


def find(at: Stage, client_id: str = "c1") -> WorkerLink | PeerFault:
    found: list[WorkerLink | PeerFault] = []
    at.gateway.client_requests.find(client_id, Reply(found.append))
    at.defer.run()
    (one,) = found
    return one


def fault(at: Stage, client_id: str = "c1") -> PeerFault:
    found = find(at, client_id)
    assert isinstance(found, PeerFault)
    return found


def envelope_client(at: Stage, client_id: str = "c1") -> tuple[Session, MemoryPeer]:
    session, peer = at.connect("/")
    at.say(session, {"type": "connect", "data": {"client_id": client_id, "role": "client"}})
    return session, peer


def test_the_newest_connection_that_is_not_over() -> None:
    at = stage()
    session, _ = envelope_client(at)
    link = at.gateway.client_requests.find_client("c1")
    assert link is not None
    assert find(at) is link
    at.close(session)
    assert at.gateway.client_requests.find_client("c1") is None
    assert fault(at).code == ErrorCode.NOT_FOUND


@pytest.mark.parametrize("kind", ["c-client", "envelope"])
def test_one_of_another_node_is_asked_there(kind: str) -> None:
    here, there = stages(2)
    if kind == "envelope":
        envelope_client(there)
    else:
        there.client(client_id="c1")
    assert here.gateway.client_requests.find_client("c1") is None
    assert not isinstance(find(here), PeerFault)


@pytest.mark.parametrize("number", [0, 1], ids=["here", "there"])
def test_a_dialect_without_answers_is_named(number: int) -> None:
    both = stages(2)
    at = both[number]
    session, _ = at.connect("/ws/ann")
    at.gateway.hub.remove(session)
    at.gateway.hub.add(session, Identity("c1", "ann"))  # as a token may say
    at.gateway.backplane.join([Target("client_id", "c1")], None, Reply(lambda _: None))
    told = fault(both[0])
    assert (told.code, told.field) == (ErrorCode.UNKNOWN_DIALECT, "client_id")
    assert "the dialect user" in told.message


def test_where_not_every_node_could_tell_nothing_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    at = stage()
    monkeypatch.setattr(
        at.gateway.cluster_messages,
        "ask_holders",
        lambda target, kind, body, reply: reply(SurveyResult([], complete=False)),
    )
    assert fault(at).code == ErrorCode.UNAVAILABLE
