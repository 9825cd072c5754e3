"""Who is there: filters, pages, kicking, workers."""

import pytest

from tests.fakes import START

from .stage import House, house, problem


def crowd() -> House:
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
            }
        ]
    }
