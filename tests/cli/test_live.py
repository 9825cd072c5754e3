"""The table that keeps itself up to date: only on a terminal, and drawn although the gateway is away."""

import os
from typing import Any

import click
import pytest

from service.cli import live
from service.cli.client_rows import Wanted
from service.cli.operation import Asked
from tests.cli.desk import Desk, error

PAGE: dict[str, Any] = {
    "clients": [{"client_id": f"c\x1b{number}"} for number in range(3)],
    "total": 9,
    "next_offset": 3,
    "missing_nodes": ["n2"],
}


async def test_it_draws_on_a_terminal_only() -> None:
    with pytest.raises(click.UsageError, match="--live draws on a terminal"):
        await live.show_live(Asked(Desk(PAGE).api, Desk().screen), Wanted(()), 10)


async def test_as_many_rows_as_the_terminal_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.live.shutil.get_terminal_size", lambda *_, **__: os.terminal_size((80, 7)))
    desk = Desk(PAGE)
    picture = await live._picture(Asked(desk.api, desk.screen), Wanted(()), 100)
    assert desk.asked[0].url.params["limit"] == "3"
    assert r"c\x1b0" in picture
    assert picture.splitlines()[-1] == "3 of 9, without n2; Enter or Ctrl-C ends it"


async def test_a_gateway_that_is_away_is_said_where_the_table_was() -> None:
    desk = Desk(lambda _: error(503, "unavailable", "It drains."))
    assert "It drains." in await live._picture(Asked(desk.api, desk.screen), Wanted(()), 100)
