"""Answers that the core gives later."""

import pytest
import trio
import trio.testing

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.ports import HttpAnswer
from service.core.reply import Reply
from service.http.answers import core_answer, text_answer, when_answered

Done = Reply[int | PeerFault]


def shown(number: int) -> HttpAnswer:
    return text_answer(200, str(number))


def test_what_is_answered_at_once_needs_no_awaiting() -> None:
    assert when_answered(lambda done: done(5), shown) == shown(5)


async def test_what_is_answered_later_is_awaited() -> None:
    asked: list[Done] = []
    answers: list[HttpAnswer] = []
    waiting = when_answered(asked.append, shown)
    assert not isinstance(waiting, HttpAnswer)

    async def wait() -> None:
        answers.append(await waiting)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []
        asked[0](7)
    assert answers == [shown(7)]


async def test_a_fault_is_raised_now_or_then() -> None:
    fault = PeerFault(ErrorCode.UNAVAILABLE, "Away.")
    with pytest.raises(PeerFault) as caught:
        when_answered(lambda done: done(fault), shown)
    assert caught.value is fault
    asked: list[Done] = []
    waiting = when_answered(asked.append, shown)
    assert not isinstance(waiting, HttpAnswer)
    asked[0](fault)
    with pytest.raises(PeerFault):
        await waiting


async def test_an_answer_at_once_lets_nobody_in_between() -> None:
    others = 0

    async def other() -> None:
        nonlocal others
        others += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        answer: int = await core_answer(lambda done: done(5))
        assert (answer, others) == (5, 0)
