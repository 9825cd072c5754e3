"""The console: lines to one gateway, the first failure is the exit code, and the greeting of a person."""

import httpx
import pytest

from portico.client.errors import ClientError
from service.cli.console import command
from service.cli.console.command import ALIASES, OPERATIONS, converse
from service.cli.console.ids import Ids
from service.cli.outcomes import WRONG
from service.cli.screen import Screen
from tests.cli.desk import Desk, error


async def test_lines_are_run_one_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk({"total": 1, "clients": [], "next_offset": None, "workers": 0})
    begun: list[Screen] = []

    async def before(screen: Screen) -> None:
        begun.append(screen)

    lines = ["# nobody reads this", "list --json", "nosuch", "push", "quit", "list"]
    assert await converse(desk.api, lines=lines, before=before) == WRONG
    assert [one.url.path for one in desk.asked] == ["/api/clients"], "an alias is its command; quit ends it"
    assert len(begun) == 1
    told = capsys.readouterr()
    assert "nosuch" in told.err
    assert "(help push)" in told.err
    assert "Portico's console" not in told.out, "a script is not greeted"


async def test_after_a_command_ids_are_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[bool] = []
    monkeypatch.setattr(Ids, "forget", lambda _: forgotten.append(True))
    desk = Desk(lambda _: error(401, "unauthorized", "Who are you?"))
    assert await converse(desk.api, lines=["stats", "kick c1"]) == 3
    assert forgotten == [True, True]


def test_every_alias_is_of_a_command() -> None:
    names = [one.name for one in OPERATIONS]
    assert len(set(names)) == len(names)
    assert set(ALIASES.values()) <= set(names)


@pytest.mark.parametrize(
    ("total", "workers", "said"),
    [(0, 0, "0 connections, 0 workers."), (1, 1, "1 connection, 1 worker."), (3, 2, "3 connections, 2 workers.")],
)
async def test_a_person_is_told_who_is_there(total: int, workers: int, said: str) -> None:
    desk = Desk({"total": total, "workers": workers})
    await command._greet(desk.api, desk.screen)
    assert desk.said[1:] == [said]


async def test_a_gateway_that_is_away_is_no_end() -> None:
    def cut(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody")

    desk = Desk(cut)
    await command._greet(desk.api, desk.screen)
    assert "gateway.example" in desk.said[0]
    assert len(desk.said) == 2
    with pytest.raises(ClientError):
        await desk.api.status()
