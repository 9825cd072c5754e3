"""Waiting for what is told by a callback."""

from collections.abc import Callable

import pytest
import trio
import trio.testing

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.http.waiting import answer_of


async def test_what_is_told_at_once_lets_nobody_in_between() -> None:
    others = 0

    async def other() -> None:
        nonlocal others
        others += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        answer: int = await answer_of(lambda done: done(5))
        assert (answer, others) == (5, 0)


async def test_what_is_told_later() -> None:
    asked: list[Callable[[int | PeerFault], None]] = []
    answers: list[int] = []

    async def ask() -> None:
        answers.append(await answer_of(asked.append))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []
        asked[0](7)
    assert answers == [7]


async def test_a_fault_is_raised() -> None:
    fault = PeerFault(ErrorCode.UNAVAILABLE, "Away.")
    with pytest.raises(PeerFault) as caught:
        await answer_of(lambda done: done(fault))
    assert caught.value is fault
