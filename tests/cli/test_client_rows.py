"""Which clients are shown: what the gateway is asked, what is looked for here, page by page."""

from typing import Any

import click
import httpx
import pytest

from portico.publisher import calls
from service.cli.client_rows import Wanted, some_clients
from tests.cli.desk import Desk

ROWS = [{"client_id": f"c{number}", "username": "Ann Berlin" if number % 2 else "Bob"} for number in range(2500)]


def pages(request: httpx.Request) -> httpx.Response:
    """`GET /api/clients`, with as many rows as are asked for."""
    limit, offset = int(request.url.params["limit"]), int(request.url.params["offset"])
    more = offset + limit < len(ROWS)
    answer: dict[str, Any] = {
        "clients": ROWS[offset : offset + limit],
        "total": len(ROWS),
        "next_offset": offset + limit if more else None,
        "missing_nodes": ["n2"] if offset == 0 else [],
    }
    return httpx.Response(200, json=answer)


def test_names_are_the_gateways_and_words_are_ours() -> None:
    wanted = Wanted(("user_id=u1", "ANN", "role="))
    assert (wanted.exact, wanted.words) == ({"user_id": "u1", "role": ""}, ["ann"])
    assert wanted.matches({"username": "Ann", "load": 3})
    assert not wanted.matches({"username": "Bob"})
    with pytest.raises(click.UsageError, match=r"no filter 'user'; known are: client_id, user_id"):
        Wanted(("user=u1",))


async def test_no_more_is_asked_for_than_is_shown() -> None:
    desk = Desk(pages)
    rows, total, missing = await some_clients(desk.api, Wanted(("role=client",)), 1200)
    assert (rows, total, missing) == (ROWS[:1200], 2500, ["n2"])
    assert [dict(one.url.params) for one in desk.asked] == [
        {"role": "client", "limit": str(calls.PAGE), "offset": "0"},
        {"role": "client", "limit": "200", "offset": "1000"},
    ]


async def test_words_are_looked_for_in_every_page() -> None:
    desk = Desk(pages)
    rows, total, _ = await some_clients(desk.api, Wanted(("ann", "berlin")), 3)
    assert ([row["client_id"] for row in rows], total) == (["c1", "c3", "c5"], 1250)
    assert len(desk.asked) == 3
