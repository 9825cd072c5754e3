"""Background tasks: restarted with back-off, counted, and named while they are down."""

from itertools import pairwise

import pytest
import trio
import trio.testing

from service.background import FIRST_PAUSE, LONGEST_PAUSE, Background


async def test_a_task_that_raises_is_restarted_with_back_off(autojump_clock: trio.testing.MockClock) -> None:
    starts: list[float] = []
    reported: list[str] = []

    async def falls() -> None:
        starts.append(trio.current_time())
        raise ValueError("no")

    background = Background(lambda name, error: reported.append(f"{name}: {error}"))
    with trio.move_on_after(100):
        await background.keep("falls", falls)
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps[0] == pytest.approx(FIRST_PAUSE)
    assert gaps[1] == pytest.approx(2 * gaps[0])
    assert max(gaps) == pytest.approx(LONGEST_PAUSE)
    assert reported == ["falls: no"] * len(starts)


async def test_down_names_the_task_only_until_it_runs_again(autojump_clock: trio.testing.MockClock) -> None:
    fail = trio.Event()
    background = Background(lambda name, error: None)
    runs = 0

    async def fails_once() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            await fail.wait()
            raise OSError
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(background.keep, "once", fails_once)
        await trio.testing.wait_all_tasks_blocked()
        assert background.down is None
        fail.set()
        await trio.testing.wait_all_tasks_blocked()
        assert background.down == "once"
        await trio.sleep(LONGEST_PAUSE)
        assert background.down is None
        assert runs == 2
        nursery.cancel_scope.cancel()


async def test_a_task_that_returns_counts_as_one_that_fell(autojump_clock: trio.testing.MockClock) -> None:
    errors: list[Exception] = []
    background = Background(lambda name, error: errors.append(error))

    async def returns() -> None:
        await trio.lowlevel.checkpoint()

    with trio.move_on_after(FIRST_PAUSE):
        await background.keep("returns", returns)
    assert "ended" in str(errors[0])
