"""Ids for completion: asked for once in a while, from the prompt's thread, and never a fault of the prompt's."""

import trio

from service.cli.client_rows import FILTERS
from service.cli.console import ids as module
from service.cli.console.ids import Ids
from tests.cli.desk import Desk, error

PAGE = {"clients": [{"client_id": "c2", "user_id": "u1"}, {"client_id": "c1", "user_id": None}]}


async def known(ids: Ids, kind: str) -> list[str]:
    """As the prompt asks: from a thread of its own."""
    return list(await trio.to_thread.run_sync(ids.known, kind))


async def test_they_are_remembered_until_a_command_was_run() -> None:
    desk = Desk(PAGE)
    ids = Ids(desk.api)
    assert await known(ids, "client_id") == ["c1", "c2"]
    assert await known(ids, "user_id") == ["u1"]
    assert len(desk.asked) == 1
    ids.forget()
    assert await known(ids, "user_id") == ["u1"]
    assert len(desk.asked) == 2


async def test_what_is_no_kind_costs_no_question() -> None:
    desk = Desk(PAGE)
    ids = Ids(desk.api)
    assert await known(ids, "") == list(FILTERS)
    assert await known(ids, "colour_id") == []
    assert desk.asked == []


async def test_a_gateway_that_refuses_leaves_nothing_to_complete() -> None:
    desk = Desk(lambda _: error(401, "unauthorized", "Who are you?"))
    ids = Ids(desk.api)
    assert await known(ids, "client_id") == []
    await known(ids, "client_id")
    assert len(desk.asked) == 2, "it may be let in by now"


def test_an_answer_is_good_for_longer_than_a_person_waits() -> None:
    assert module.FRESH > module.PATIENCE
