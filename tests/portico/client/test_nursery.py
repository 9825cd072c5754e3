import pytest
import trio

from portico.client.nursery import background_nursery


async def test_what_the_body_raises_is_not_put_into_a_group() -> None:
    async def fail() -> None:
        async with background_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()


async def test_children_end_with_the_body() -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("child")

    async with background_nursery() as nursery:
        nursery.start_soon(child)
        await trio.lowlevel.checkpoint()
    assert ended == ["child"]


async def test_a_child_that_breaks_its_promise_is_not_hidden() -> None:
    async def child() -> None:
        raise ValueError("a bug")

    async def wait() -> None:
        async with background_nursery() as nursery:
            nursery.start_soon(child)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await wait()
    assert caught.group_contains(ValueError, match="a bug")


async def test_cancelling_from_outside_cancels_body_and_children() -> None:
    with trio.move_on_after(0.01) as scope:
        async with background_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_what_the_body_raises_is_not_lost_in_a_cancellation_from_outside() -> None:
    async def fail() -> None:
        with trio.CancelScope() as scope:
            async with background_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.lowlevel.checkpoint()
                scope.cancel()
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()


async def test_a_body_and_a_task_that_both_fail_are_both_told_of() -> None:
    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("a bug")

    async def fail() -> None:
        async with background_nursery() as nursery:
            nursery.start_soon(child)
            await trio.lowlevel.checkpoint()
            raise KeyError("mine")

    with pytest.raises(BaseExceptionGroup) as caught:
        await fail()
    assert caught.group_contains(KeyError)
    assert caught.group_contains(ValueError)
