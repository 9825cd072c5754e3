"""Sweeping, with a Redis that answers what it is told to; what the script does: `test_events` and `test_recovery`."""

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from service.backplane.redis.names import Names
from service.backplane.redis.sweeping import EVERY, Sweeper
from service.redis.faults import Refusal, Unreachable


class Scripted:
    """Answers these, one after the other, then that there is nothing; and when it was asked."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)
        self.asked: list[float] = []

    async def ask(self, *words: bytes | str | int) -> object:
        assert words[0] == "EVALSHA"
        await trio.lowlevel.checkpoint()
        self.asked.append(trio.current_time())
        answer = self._answers.pop(0) if self._answers else [0, 0, 0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def swept(redis: Scripted, seconds: float) -> Sweeper:
    """What a sweeper knows after so long."""
    sweeper = Sweeper(redis.ask, Names("test:"), 60)
    with trio.move_on_after(seconds):
        await sweeper.run()
    return sweeper


async def test_it_goes_on_at_once_while_there_is_more(autojump_clock: MockClock) -> None:
    redis = Scripted([900, 3, 1], [500, 2, 1], [100, 1, 0])
    sweeper = await swept(redis, EVERY)
    assert (sweeper.bytes, sweeper.streams) == (100, 1)
    assert len(redis.asked) >= 3
    assert redis.asked[0] == redis.asked[1] == redis.asked[2]
    assert EVERY / 2 <= redis.asked[0] <= EVERY


@pytest.mark.parametrize("trouble", [Unreachable("it is away"), Refusal("OOM it is full"), b"nonsense", [1]])
async def test_whatever_becomes_of_redis_it_sweeps_again(autojump_clock: MockClock, trouble: object) -> None:
    redis = Scripted([900, 3, 0], trouble)
    await swept(redis, 3 * EVERY + 0.1)
    assert len(redis.asked) >= 3
    assert all(EVERY / 2 <= later - one <= EVERY for one, later in pairwise(redis.asked))


async def test_there_is_never_less_than_nothing_whatever_redis_has_counted(autojump_clock: MockClock) -> None:
    redis = Scripted([-5, 2, 0])
    sweeper = await swept(redis, EVERY)
    assert (len(redis.asked), sweeper.bytes, sweeper.streams) == (1, 0, 2)


async def test_what_was_known_is_kept_while_nothing_is_answered(autojump_clock: MockClock) -> None:
    redis = Scripted([900, 3, 0], *[Unreachable("it is away")] * 20)
    sweeper = await swept(redis, 4 * EVERY)
    assert (sweeper.bytes, sweeper.streams) == (900, 3)
