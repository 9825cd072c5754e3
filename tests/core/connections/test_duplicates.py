"""One client at two nodes: the newer connection stays, and exactly one does."""

from collections.abc import Callable
from typing import Any

import pytest

from service.core.cluster.backplane import Joined
from tests.fakes import MemoryPeer, Stage, stages

ANN = {"client_id": "c1", "user_id": "u1", "node_id": "n1"}


def closes(*peers: MemoryPeer) -> list[int | None]:
    return [peer.close_code for peer in peers]


@pytest.mark.parametrize("seconds", [0.0, 0.5, 60.0])
def test_the_newer_wins_over_nodes(seconds: float) -> None:
    a, b, c = stages(3)
    session, first = a.client(**ANN)
    a.clock.move(max(seconds, 0.001))
    _, second = b.client(**ANN)
    assert closes(first, second) == [4009, None]
    assert first.closes[0][1] == "replaced by a newer connection of this client"
    # It is found no more even before its Close was answered.
    assert session not in a.gateway.hub
    a.clock.move(1)
    _, third = c.client(**ANN)
    assert closes(first, second, third) == [4009, 4009, None]
    a.clock.move(1)
    _, back = a.client(**ANN)
    assert closes(second, third, back) == [4009, 4009, None]


@pytest.mark.parametrize("other", [{"user_id": "u2"}, {"node_id": None}, {"client_id": "c2"}])
def test_another_client_stays(other: dict[str, str | None]) -> None:
    a, b = stages(2)
    _, first = a.client(**ANN)
    _, second = b.client(**{**ANN, **other})
    assert closes(first, second) == [None, None]


@pytest.mark.parametrize("policy", ["allow", "keep"])
def test_only_where_that_is_wanted(policy: str) -> None:
    a, b = stages(2, duplicates=policy)
    _, first = a.client(**ANN)
    a.clock.move(10)
    _, second = b.client(**ANN)
    assert closes(first, second) == [None, None]


def test_an_envelope_client_of_the_same_name_stays() -> None:
    a, b = stages(2)
    _, first = a.worker("c1")
    _, second = b.client(client_id="c1")
    a.clock.move(10)
    _, third = a.worker("c1")
    assert closes(first, second, third) == [None, None, None]


class SlowJoins:
    """Holds up what a stage's backplane says to `join`, as Redis would."""

    def __init__(self, stage: Stage) -> None:
        self.waiting: list[Callable[[], None]] = []
        backplane: Any = stage.gateway.backplane
        join = backplane.join

        def slow(targets: Any, resume: Any, done: Callable[[Joined], None]) -> None:
            join(targets, resume, lambda joined: self.waiting.append(lambda: done(joined)))

        backplane.join = slow

    def let_go(self) -> None:
        """The first of them is answered."""
        self.waiting.pop(0)()


def connect(stage: Stage) -> MemoryPeer:
    session, peer = stage.connect("/ws")
    stage.say(session, {"type": "c_client_register", **ANN})
    return peer


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("skew", [0.0, -1.0, 1.0])
def test_of_two_that_come_at_once_exactly_one_stays(first: int, skew: float) -> None:
    both = stages(2)
    joins = [SlowJoins(stage) for stage in both]
    peers = [connect(stage) for stage in both]
    joins[first].let_go()
    both[0].clock.move(skew)  # the two clocks may differ
    joins[1 - first].let_go()
    assert sorted(closes(*peers), key=str) == [4009, None]


def test_where_clocks_differ_one_that_was_there_for_long_is_the_older_one() -> None:
    a, b = stages(2)
    session, first = a.client(**ANN)
    a.clock.move(60)
    assert session.registered_at is not None
    # The other node's clock is so far behind that the one that has just come seems to be older.
    claim = [ANN["client_id"], ANN["user_id"], ANN["node_id"], session.registered_at - 40, "x"]
    b.gateway.backplane.tell(a.gateway.rules.node, "claim", str(claim).replace("'", '"').encode())
    assert first.close_code == 4009


def test_a_claim_that_makes_no_sense_does_no_harm() -> None:
    a, b = stages(2)
    _, first = a.client(**ANN)
    for body in (b"", b"[]", b'["c1"]', b'["c1", "u1", "n1", "now", "x"]'):
        b.gateway.backplane.tell(a.gateway.rules.node, "claim", body)
    assert first.close_code is None
    assert len(a.journal.broken) == 4
