"""One client at two nodes: the newer connection stays, and exactly one does, whatever the clocks show; and how many
connections a user may have, over all nodes."""

from collections.abc import Callable
from typing import Any

import pytest

from service.core.cluster.backplane import Joined
from service.core.cluster.cluster_messages import ClusterMessages
from service.core.reply import Reply
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


def test_a_worker_of_the_same_name_stays_beside_a_client_and_replaces_only_a_worker() -> None:
    a, b = stages(2)
    _, first = a.worker("c1")
    _, second = b.client(client_id="c1")
    assert closes(first, second) == [None, None]
    a.clock.move(10)
    _, third = b.worker("c1")
    assert closes(first, second, third) == [4009, None, None]


class SlowJoins:
    """Holds up what a stage's backplane says to `join`, as Redis would."""

    def __init__(self, stage: Stage) -> None:
        self.waiting: list[Callable[[], None]] = []
        backplane: Any = stage.gateway.backplane
        join = backplane.join

        def slow(targets: Any, resume: Any, reply: Reply[Joined]) -> None:
            join(targets, resume, Reply(lambda joined: self.waiting.append(lambda: reply(joined))))

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


@pytest.mark.shows("the newer connection stays", "whatever the clocks show")
@pytest.mark.parametrize("skew", [2.5, -2.5, 3600.0])
def test_the_newer_one_stays_whatever_the_clocks_show(skew: float) -> None:
    a, b = stages(2)
    _, first = a.client(**ANN)
    a.clock.move(1 - skew)  # at the other node it is another time
    _, second = b.client(**ANN)
    assert closes(first, second) == [4009, None]
    a.clock.move(1 + skew)
    _, third = a.client(**ANN)
    assert closes(second, third) == [4009, None]


class Mail:
    """Holds up what the nodes say to one another, in order for each pair."""

    def __init__(self, *nodes: Stage) -> None:
        self.waiting: list[Callable[[], None]] = []
        for node in nodes:
            self._hold_up(node.gateway.cluster_messages)

    def _hold_up(self, messages: ClusterMessages) -> None:
        deliver = messages.on_message

        def later(sender: str, kind: str, body: bytes) -> None:
            self.waiting.append(lambda: deliver(sender, kind, body))

        messages.on_message = later  # type: ignore[method-assign]

    def deliver(self, last_first: bool) -> None:
        """Until nothing waits."""
        while self.waiting:
            self.waiting.pop(-1 if last_first else 0)()


@pytest.mark.shows("and exactly one")
@pytest.mark.parametrize("last_first", [False, True])
@pytest.mark.parametrize("crossing", [False, True])
def test_exactly_one_stays_of_two_whose_claims_cross(crossing: bool, last_first: bool) -> None:
    a, b = stages(2)
    mail = Mail(a, b)
    if crossing:
        joins = [SlowJoins(node) for node in (a, b)]
        peers = [connect(node) for node in (a, b)]
        for join in joins:
            join.let_go()
    else:
        peers = [connect(a), connect(b)]
    mail.deliver(last_first)
    codes = closes(*peers)
    assert sorted(codes, key=str) == [4009, None]
    if not crossing:
        assert codes == [4009, None]


def test_a_claim_that_makes_no_sense_does_no_harm() -> None:
    a, b = stages(2)
    _, first = a.client(**ANN)
    for body in (b"", b"[]", b'["c1"]', b'["c1", "u1", "n1", "now", "x"]'):
        b.gateway.backplane.tell(a.gateway.backplane.node, "claim", body)
    assert first.close_code is None
    assert len(a.journal.broken) == 4


LIMIT = 2


def test_one_too_many_on_one_node_is_refused_before_it_registers() -> None:
    [at] = stages(1, max_connections_per_user=LIMIT)
    peers = [at.client(client_id=f"c{n}", user_id="u1")[1] for n in range(LIMIT)]
    session, peer = at.connect("/ws")
    at.say(session, {"type": "c_client_register", "client_id": "c9", "user_id": "u1"})
    [answer] = peer.take()
    assert (answer["type"], answer["reason"], answer["client_id"]) == ("registration_rejected", "rate_limited", "c9")
    assert "2 connections" in answer["message"]
    assert (peer.close_code, [other.close_code for other in peers]) == (1013, [None, None])
    assert session not in at.gateway.hub
    # Others, and connections of nobody, are not concerned.
    at.client(client_id="c9", user_id="u2")
    for n in range(LIMIT + 1):
        at.client(client_id=f"n{n}")


def test_a_client_that_comes_back_takes_its_own_place() -> None:
    a, b = stages(2, max_connections_per_user=1)
    _, first = a.client(client_id="c1", user_id="u1")
    a.clock.move(1)
    _, second = a.client(client_id="c1", user_id="u1")
    a.clock.move(1)
    _, third = b.client(client_id="c1", user_id="u1")
    assert [peer.close_code for peer in (first, second, third)] == [4009, 4009, None]


def test_a_client_may_say_who_it_is_again() -> None:
    [at] = stages(1, max_connections_per_user=1)
    session, peer = at.client(client_id="c1", user_id="u1")
    [answer] = at.ask(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u1", "username": "ann"})
    assert (answer["type"], peer.close_code) == ("registration_success", None)


def test_the_limit_counts_over_all_nodes_and_dialects_and_the_newest_goes() -> None:
    a, b, c = stages(3, max_connections_per_user=LIMIT)
    _, first = a.client(client_id="c1", user_id="u1")
    a.clock.move(1)
    _, second = b.connect("/ws/u1")
    a.clock.move(1)
    session, third = c.connect("/ws")
    c.say(session, {"type": "c_client_register", "client_id": "c3", "user_id": "u1"})
    assert [(m["type"], m["reason"]) for m in third.take()] == [("registration_rejected", "rate_limited")]
    _, fourth = c.connect("/ws/u1")
    assert [peer.close_code for peer in (first, second, third, fourth)] == [None, None, 1013, 1013]
    assert third.closes[0][1] == "this user is at the limit of connections"
    assert c.gateway.registration.takeover.refused == 2
    assert c.journal.of("registered") == []


def test_where_one_goes_another_may_come() -> None:
    a, b = stages(2, max_connections_per_user=1)
    session, first = a.client(client_id="c1", user_id="u1")
    a.close(session)
    a.clock.move(1)
    _, second = b.client(client_id="c2", user_id="u1")
    assert (first.close_code, second.close_code) == (None, None)


def test_a_node_that_says_nothing_shuts_nobody_out() -> None:
    a, b = stages(2, max_connections_per_user=1)
    a.client(client_id="c1", user_id="u1")
    a.gateway.cluster_messages.on_message = lambda *_: None  # type: ignore[method-assign]
    a.clock.move(1)
    session, second = b.connect("/ws")
    b.say(session, {"type": "c_client_register", "client_id": "c2", "user_id": "u1"})
    b.pass_time(1.2)
    assert ([m["type"] for m in second.take()], second.close_code) == (["registration_success"], None)


def test_without_a_limit_nobody_is_asked() -> None:
    a, b = stages(2)
    for n in range(5):
        a.client(client_id=f"c{n}", user_id="u1")
        b.client(client_id=f"d{n}", user_id="u1")
    assert len(a.gateway.hub) + len(b.gateway.hub) == 10
