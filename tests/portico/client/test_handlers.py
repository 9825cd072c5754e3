"""How a worker's functions are called: plain, async, or as generators of parts."""

import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio

from portico.client.envelope import Call
from portico.client.errors import MessageTooLarge
from portico.client.handlers import CommandFailed, check_handlers, current_call, error_text, run_handler, send_part

CALL = Call("r1", "m1", "add", {"a": 1})
STREAM = Call("r1", "m1", "add", {"a": 1}, stream=True)


async def run(handler: Any, call: Call = CALL, largest: int = 1000) -> tuple[Any, list[Any]]:
    parts: list[Any] = []

    async def part(item: Any) -> None:
        await trio.lowlevel.checkpoint()
        parts.append(item)

    result = await run_handler(handler, call, part=part, threads=trio.CapacityLimiter(1), largest=largest)
    return result, parts


async def three(data: Any) -> AsyncIterator[int]:
    for number in range(3):
        await trio.lowlevel.checkpoint()
        yield number


class Adder:
    def __init__(self) -> None:
        self.closed = False

    async def __call__(self, data: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return data["a"] + 1

    async def endless(self, data: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 50
        finally:
            self.closed = True


async def test_every_kind_of_function() -> None:
    async def with_more(more: int, data: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return data["a"] + more

    assert (await run(lambda data: data["a"]))[0] == 1
    assert (await run(partial(with_more, 2)))[0] == 3
    assert (await run(Adder()))[0] == 2
    assert (await run(lambda _: threading.get_ident()))[0] != threading.get_ident(), "a plain one never blocks the loop"


async def test_parts_are_streamed_to_who_wants_them_and_else_collected() -> None:
    assert await run(three, STREAM) == (None, [0, 1, 2])
    assert await run(three) == ([0, 1, 2], [])
    adder = Adder()
    with pytest.raises(MessageTooLarge, match="ask for a stream"):
        await run(adder.endless)
    assert adder.closed


async def test_a_handler_sends_parts_and_returns_its_result() -> None:
    async def handler(data: Any) -> str:
        for number in range(3):
            await send_part({"n": number})
        return "done"

    assert await run(handler, STREAM) == ("done", [{"n": 0}, {"n": 1}, {"n": 2}])
    assert await run(handler) == ("done", [])
    with pytest.raises(LookupError):
        await send_part("outside of a handler")


async def test_a_handler_finds_out_about_its_request_and_only_while_it_runs() -> None:
    assert (await run(lambda _: current_call()))[0] is CALL
    with pytest.raises(LookupError):
        current_call()

    def fails(data: Any) -> None:
        raise CommandFailed("no")

    with pytest.raises(CommandFailed):
        await run(fails)
    with pytest.raises(LookupError):
        current_call()


def plain_generator(data: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("commands", "kind", "said"),
    [
        ({}, ValueError, "at least one"),
        ({"": print}, ValueError, "needs a name"),
        ({"a": 1}, TypeError, "'a' is not a function"),
        ({"a": plain_generator}, TypeError, "make it an async one"),
        ({"a": partial(plain_generator)}, TypeError, "make it an async one"),
    ],
)
def test_what_cannot_serve(commands: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        check_handlers(commands)
    check_handlers({"a": print, "b": three, "c": Adder()})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CommandFailed("exactly\nthis"), "exactly\nthis"),
        (CommandFailed(""), "The command failed."),
        (ValueError("no\x1bpe"), "ValueError: no\\x1bpe"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_the_requester_is_told(error: Exception, said: str) -> None:
    assert error_text(error) == said
