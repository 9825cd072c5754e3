"""Who is connected, over several nodes, some of which may say nothing."""

from typing import Any

import msgspec
import pytest

from portico.wire.messages import Target
from service.core.connections import presence
from service.core.connections.presence import Distinct, Kicked, Page, Status, Workers
from service.core.reply import Reply
from tests.fakes import Stage, stages


def crowd() -> list[Stage]:
    """Three nodes; `c1` is at two of them."""
    a, b, c = made = stages(3)
    a.client(client_id="c1", user_id="u1")
    a.client(client_id="c2", user_id="u2")
    b.worker("w1", commands=["echo"])
    c.client(client_id="c3", user_id="u1")
    c.client(client_id="c1", user_id="u3")
    c.connect("/requester")
    return made


def deafen(stage: Stage) -> None:
    """The node hears nothing of the others any more."""
    stage.gateway.cluster_messages.on_message = lambda *_: None  # type: ignore[method-assign]


def page(stage: Stage, offset: int = 0, limit: int = 100, **filters: str) -> tuple[list[str], int, Any]:
    """The pairs `client@node` of a page, the total, and who is missing."""
    got: list[Page] = []
    stage.gateway.presence.clients(filters, offset, limit, Reply(got.append))
    if not got:
        stage.pass_time(2)
    if not got:
        stage.pass_time(2)
    [found] = got
    rows = [msgspec.json.decode(row) for row in found.clients]
    return [f"{row['client_id']}@{row['node']}" for row in rows], found.total, found.missing


EVERYBODY = ["c1@node-1", "c2@node-1", "w1@node-2", "c3@node-3", "c1@node-3"]


def test_totals_are_those_of_all_nodes() -> None:
    got: list[Status] = []
    for stage in crowd():
        stage.gateway.presence.status(Reply(got.append))
    assert len(got) == 3
    for status in got:
        totals = status.totals
        assert (totals.total, totals.registered, totals.workers) == (6, 5, 1)
        assert totals.by_dialect == {"c_client": 4, "envelope": 1, "requester": 1}
        assert totals.by_transport == {"memory": 6}
        assert status.by_node == {"node-1": 2, "node-2": 1, "node-3": 3}
        assert list(status.by_node) == sorted(status.by_node)
        assert status.missing is None


def test_who_says_nothing_is_named() -> None:
    a, b, _ = crowd()
    deafen(b)
    got: list[Status] = []
    a.gateway.presence.status(Reply(got.append))
    assert not got
    a.pass_time(2)
    [status] = got
    assert (status.by_node, status.missing) == ({"node-1": 2, "node-3": 3}, ["node-2"])


def test_an_answer_that_cannot_be_read_is_none() -> None:
    a, b, _ = crowd()
    b.gateway.cluster_messages._answers["totals"] = lambda _: b"[1, 2]"
    got: list[Status] = []
    a.gateway.presence.status(Reply(got.append))
    assert [status.missing for status in got] == [["node-2"]]


def test_a_list_goes_node_by_node_in_the_order_of_arrival() -> None:
    for stage in crowd():
        assert page(stage) == (EVERYBODY, 5, None)


def test_pages_over_several_nodes_have_everybody_once() -> None:
    a, *_ = crowd()
    for limit in (1, 2, 3, 4, 10):
        seen: list[str] = []
        while found := page(a, len(seen), limit)[0]:
            assert len(found) <= limit
            seen += found
        assert seen == EVERYBODY


def test_filters_hold_on_every_node() -> None:
    _, b, _ = crowd()
    assert page(b, user_id="u1") == (["c1@node-1", "c3@node-3"], 2, None)
    assert page(b, 1, 1, client_id="c1") == (["c1@node-3"], 2, None)
    assert page(b, role="worker", dialect="envelope") == (["w1@node-2"], 1, None)
    assert page(b, user_id="nobody") == ([], 0, None)


def test_a_page_without_a_node_says_so() -> None:
    a, _, c = crowd()
    deafen(c)
    assert page(a) == (["c1@node-1", "c2@node-1", "w1@node-2"], 3, ["node-3"])


def test_a_page_for_which_a_node_went_silent_halfway_says_so() -> None:
    a, _, c = crowd()
    answers = c.gateway.cluster_messages._answers
    answers["clients"] = lambda body: b"{"
    assert page(a) == (["c1@node-1", "c2@node-1", "w1@node-2"], 5, ["node-3"])
    del answers["clients"]
    assert page(a) == (["c1@node-1", "c2@node-1", "w1@node-2"], 5, ["node-3"])


def test_workers_of_all_nodes() -> None:
    a, _, c = crowd()
    a.worker("w0")
    got: list[Workers] = []
    c.gateway.presence.workers(Reply(got.append))
    assert [(node, worker.client_id) for node, worker in got[0].workers] == [("node-1", "w0"), ("node-2", "w1")]
    assert got[0].missing is None


def test_a_kick_reaches_every_node() -> None:
    a, b, c = crowd()
    got: list[Kicked] = []
    b.gateway.presence.kick("c1", Reply(got.append))
    b.gateway.presence.kick("c1", Reply(got.append))
    b.gateway.presence.kick("nobody", Reply(got.append))
    assert [kicked.connections for kicked in got] == [2, 0, 0]
    closed = [peer.close_code for stage in (a, b, c) for peer in stage.peers.values()]
    assert closed == [4010, None, None, None, 4010, None]
    assert len(c.gateway.hub.find(Target("user_id", "u3"))) == 1  # until its Close is answered


def test_alone_all_is_answered_at_once() -> None:
    [at] = stages(1)
    at.client(client_id="c1")
    assert page(at) == (["c1@node"], 1, None)
    got: list[Status] = []
    at.gateway.presence.status(Reply(got.append))
    assert [status.by_node for status in got] == [{"node": 1}]


def test_a_user_of_several_nodes_is_one_user() -> None:
    one, two = stages(2)
    for house, client, node in ((one, "a", "n1"), (two, "b", "n1"), (two, "a", "n2")):
        house.client(client_id=client, user_id="u1", node_id=node)
    found: list[Status] = []
    one.gateway.presence.status(Reply(found.append))
    assert found[0].distinct == Distinct(clients=2, users=1, nodes=2)


def test_too_many_to_name_are_counted_at_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "NAMED", 1)
    one, two = stages(2)
    for house, client, node in ((one, "a", "n1"), (two, "b", "n2"), (two, "a", "n2")):
        house.client(client_id=client, user_id="u1", node_id=node)
    found: list[Status] = []
    one.gateway.presence.status(Reply(found.append))
    assert found[0].distinct == Distinct(clients=3, users=1, nodes=2)
