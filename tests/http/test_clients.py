"""Who is there: filters, pages, kicking, workers."""

from typing import Any

import pytest
import trio
import trio.testing

from tests.fakes import START, stages

from .stage import SessionOwner, house, house_of, problem


def crowd() -> SessionOwner:
    at = house()
    for n in range(5):
        at.stage.client(client_id=f"c{n}", user_id=f"u{n % 2}", channel_id="ch1", username="ann" if n == 3 else None)
    at.stage.worker("w1", commands=["echo"], capacity=3, weight=2.0)
    at.stage.connect("/requester")
    return at


async def test_a_connection_is_described() -> None:
    at = house()
    session, _ = at.stage.client(client_id="c1", user_id="u1", node_id="n1")
    answer = await at.call("GET", "/api/clients")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "clients": [
                {
                    "client_id": "c1",
                    "user_id": "u1",
                    "username": None,
                    "node_id": "n1",
                    "domain_id": None,
                    "cluster_id": None,
                    "channel_id": None,
                    "dialect": "c_client",
                    "transport": "memory",
                    "role": "client",
                    "connection_id": session.id,
                    "connected_at": START,
                    "id": "c1",
                    "ip": "127.0.0.1",
                    "port": 50000,
                    "status": "connected",
                    "duration": 0.0,
                    "node": "node",
                }
            ],
            "total": 1,
            "offset": 0,
            "limit": 100,
            "next_offset": None,
        },
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["c0", "c1", "c2", "c3", "c4", "w1"]),
        ("user_id=u0", ["c0", "c2", "c4"]),
        ("channel_id=ch1&user_id=u1", ["c1", "c3"]),
        ("client_id=c2", ["c2"]),
        ("client_id=c2&user_id=u1", []),
        ("username=ann", ["c3"]),
        ("dialect=envelope", ["w1"]),
        ("role=worker", ["w1"]),
        ("role=client&user_id=u1", ["c1", "c3"]),
        ("transport=asgi", []),
        ("node_id=", []),
    ],
)
async def test_filters(query: str, found: list[str]) -> None:
    answer = await crowd().call("GET", f"/api/clients?{query}")
    assert [client["client_id"] for client in answer.json()["clients"]] == found
    assert answer.json()["total"] == len(found)


@pytest.mark.parametrize("query", ["", "channel_id=ch1&"])
async def test_pages(query: str) -> None:
    at = crowd()
    seen, offset = [], 0
    while offset is not None:
        page = (await at.call("GET", f"/api/clients?{query}limit=2&offset={offset}")).json()
        assert len(page["clients"]) <= 2
        seen += [client["client_id"] for client in page["clients"]]
        offset = page["next_offset"]
    assert seen == ["c0", "c1", "c2", "c3", "c4", *([] if query else ["w1"])]
    beyond = (await at.call("GET", f"/api/clients?{query}offset=1000")).json()
    assert (beyond["clients"], beyond["next_offset"]) == ([], None)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=1e2", "limit"),
        ("limit=²", "limit"),
        ("offset=" + "9" * 5000, "offset"),
        ("offset=-1", "offset"),
        ("usr_id=u1", None),
    ],
)
async def test_a_bad_query_is_refused(query: str, field: str | None) -> None:
    assert problem(await crowd().call("GET", f"/api/clients?{query}")) == (400, "bad_field", field)


async def test_kicking_closes_all_connections_of_the_client_and_no_other() -> None:
    at = house()
    _, first = at.stage.client(client_id="a/b", user_id="u1")
    _, second = at.stage.client(client_id="a/b", user_id="u2")
    _, other = at.stage.client(client_id="c2", user_id="u1")
    answer = await at.call("DELETE", "/api/clients/a%2Fb")
    assert (answer.status_code, answer.json()) == (200, {"client_id": "a/b", "kicked": 2})
    assert (first.close_code, second.close_code, other.close_code) == (4010, 4010, None)
    assert problem(await at.call("DELETE", "/api/clients/a%2Fb")) == (404, "not_found", "client_id")
    assert problem(await at.call("DELETE", "/api/clients/nobody")) == (404, "not_found", "client_id")


async def test_workers_and_how_they_do() -> None:
    answer = await crowd().call("GET", "/api/workers")
    assert answer.json() == {
        "workers": [
            {
                "client_id": "w1",
                "commands": ["echo"],
                "capacity": 3,
                "weight": 2.0,
                "outstanding": 0,
                "answers": 0,
                "errors": 0,
                "error_share": 0.0,
                "average_ms": 0.0,
                "healthy": True,
                "node": "node",
            }
        ]
    }


def two_nodes() -> tuple[SessionOwner, SessionOwner]:
    one, other = stages(2)
    return house_of(one), house_of(other)


async def test_over_two_nodes_everything_is_put_together() -> None:
    one, other = two_nodes()
    one.stage.client(client_id="c1", user_id="u1")
    _, second = other.stage.client(client_id="c2", user_id="u1")
    other.stage.worker("w1")
    for at in (one, other):
        page = (await at.call("GET", "/api/clients?user_id=u1")).json()
        assert [(client["client_id"], client["node"]) for client in page["clients"]] == [
            ("c1", "node-1"),
            ("c2", "node-2"),
        ]
        assert set(page) == {"clients", "total", "offset", "limit", "next_offset"}
        [worker] = (await at.call("GET", "/api/workers")).json()["workers"]
        assert (worker["client_id"], worker["node"]) == ("w1", "node-2")
        status = (await at.call("GET", "/api/c-client/status")).json()
        assert (status["total"], status["by_node"]) == (3, {"node-1": 1, "node-2": 2})
    assert (await one.call("DELETE", "/api/clients/c2")).json() == {"client_id": "c2", "kicked": 1}
    assert second.close_code == 4010
    assert problem(await one.call("DELETE", "/api/clients/c2")) == (404, "not_found", "client_id")


async def test_a_node_that_says_nothing_is_named_in_the_answer() -> None:
    one, other = two_nodes()
    one.stage.client(client_id="c1")
    other.stage.client(client_id="c2")
    other.stage.gateway.cluster_messages.on_message = lambda *_: None  # type: ignore[method-assign]
    found: dict[str, Any] = {}

    async def ask(method: str, path: str) -> None:
        found[path] = await one.call(method, path)

    paths = [("GET", path) for path in ("/api/clients", "/api/workers", "/api/c-client/status")]
    async with trio.open_nursery() as nursery:
        for method, path in (*paths, ("DELETE", "/api/clients/c2")):
            nursery.start_soon(ask, method, path)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not found
        one.stage.pass_time(2)
    for _, path in paths:
        body = found[path].json()
        assert (body["incomplete"], body["missing_nodes"]) == (True, ["node-2"])
    # Maybe it is there: that it isn't would be a lie.
    assert problem(found["/api/clients/c2"]) == (503, "unavailable", None)
