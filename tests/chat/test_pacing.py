"""Pacing between a fast API and a slow listener."""

import pytest
import trio

from service.chat.pacing import Pacing


async def test_what_waits_goes_on_as_one_and_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    pacing = Pacing(limit=10)
    added = 0
    parts: list[str] = []

    async def add() -> None:
        nonlocal added
        for number in range(12):
            await pacing.add(f"{number:04}")
            added = number + 1
        pacing.close()

    async def part(text: str) -> None:
        parts.append(text)
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(add)
        await trio.testing.wait_all_tasks_blocked()
        assert added == 2  # the third is over the limit, and waits
        await pacing.run(part)
    assert "".join(parts) == "".join(f"{number:04}" for number in range(12))
    assert parts == ["".join(f"{number:04}" for number in range(at, at + 3)) for at in (0, 3, 6, 9)]


async def test_it_ends_with_nothing_added() -> None:
    pacing = Pacing()
    pacing.close()
    await pacing.run(trio.sleep)  # type: ignore[arg-type]  # never called


async def test_what_the_listener_raises_is_raised() -> None:
    pacing = Pacing()
    await pacing.add("x")

    async def part(text: str) -> None:
        raise OSError(text)

    with pytest.raises(OSError, match="x"):
        await pacing.run(part)
