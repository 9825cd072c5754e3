"""Who is connected, as tables: clients, workers, totals; and closing somebody's connections."""

import json
from typing import Any

import httpx

from service.cli.outcomes import FAILED
from service.cli.people import clients, kick, status, workers
from tests.cli.desk import Desk, error

CLIENTS: dict[str, Any] = {
    "clients": [{"client_id": "c1", "user_id": "u1", "connected_at": "soon"}],
    "total": 4,
    "next_offset": 1,
    "missing_nodes": ["n2"],
}


async def test_clients_are_a_table_that_says_what_it_leaves_out() -> None:
    desk = Desk(CLIENTS)
    assert await desk.run(clients, "user_id=u1", "--limit", "1") == 0
    table, *rest = desk.said
    assert table.split()[:2] == ["CLIENT", "USER"]
    assert table.splitlines()[-1].split() == ["c1", "u1", "soon"]
    assert rest == ["1 of 4: filter them, or give --limit 4", "without the nodes that did not answer: n2"]
    programs = Desk(CLIENTS, as_json=True)
    await programs.run(clients, "--limit", "1")
    assert json.loads(programs.said[0]) == CLIENTS["clients"][0]


async def test_workers_say_how_busy_they_are() -> None:
    row = {"client_id": "w1", "commands": ["add", "mul"], "outstanding": 2, "capacity": 8, "healthy": True}
    other = {"client_id": "w2", "commands": None, "outstanding": 0, "capacity": 1, "healthy": False}
    desk = Desk({"workers": [row, other]})
    assert await desk.run(workers) == 0
    assert [" ".join(line.split()) for line in desk.said[0].splitlines()[-2:]] == [
        "w1 add, mul 2/8 yes", "w2 every command 0/1 no",
    ]  # fmt: skip
    nobody = Desk({"workers": []})
    await nobody.run(workers)
    assert "`portico worker` starts" in nobody.said[0]


async def test_totals() -> None:
    totals = {"total": 5, "registered": 3, "workers": 1, "by_dialect": {"user": 2}, "by_node": {}, "missing_nodes": []}
    desk = Desk(totals)
    assert await desk.run(status) == 0
    lines = desk.said[0].splitlines()
    assert lines[0].startswith("http://gateway.example answered in ")
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "connections 5, registered 3",
        "workers 1",
        "by dialect user 2",
    ]


async def test_a_kick_says_how_many_and_fails_for_nobody() -> None:
    for kicked, said in ((1, "closed 1 connection"), (2, "closed 2 connections")):
        desk = Desk({"kicked": kicked})
        assert (await desk.run(kick, "c1"), desk.said) == (0, [said])
    away = Desk(lambda _: error(404, "not_found", "No such client."))
    assert (await away.run(kick, "c/1"), away.said) == (FAILED, ["no client of this id is connected"])
    assert [(one.method, one.url.raw_path) for one in away.asked] == [("DELETE", b"/api/clients/c%2F1")]
    programs = Desk(lambda _: httpx.Response(200, json={"kicked": 2}), as_json=True)
    await programs.run(kick, "c1")
    assert json.loads(programs.said[0]) == {"client_id": "c1", "kicked": 2}
