import re
from typing import Any

import pytest
import trio

from portico.client.envelope import Call
from portico.client.handlers import CommandFailed, run_handler
from portico.client.reference_worker import COMMANDS


async def test_get_time_is_local_text() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", await COMMANDS["get_time"](None))


async def test_echo() -> None:
    assert await COMMANDS["echo"]({"message": "Hello World"}) == "Echo: Hello World"


async def test_echo_streams_word_by_word_to_who_asks_for_it(autojump_clock: trio.testing.MockClock) -> None:
    parts: list[Any] = []

    async def part(item: Any) -> None:
        parts.append(item)

    async def echoed(*, stream: bool) -> Any:
        call = Call("r", "m", "echo", {"message": "Hello  World"}, stream=stream)
        return await run_handler(COMMANDS["echo"], call, part=part, threads=trio.CapacityLimiter(1), largest=1000)

    assert await echoed(stream=True) == "Echo: Hello  World"
    assert parts == [{"delta": "Echo: "}, {"delta": "Hello "}, {"delta": " World"}]
    parts.clear()
    assert await echoed(stream=False) == "Echo: Hello  World"
    assert parts == []


@pytest.mark.parametrize("data", [None, {}, [], "x", {"message": 5}])
async def test_echo_of_nothing_says_what_it_wants(data: Any) -> None:
    with pytest.raises(CommandFailed, match="message"):
        await COMMANDS["echo"](data)


async def test_get_system_info_names_the_process() -> None:
    info = await COMMANDS["get_system_info"](None)
    assert {"hostname", "platform", "python_version", "cpu_count", "pid"} <= info.keys()


@pytest.mark.parametrize(
    ("a", "op", "b", "result"),
    [(10, "+", 20, 30), (1, "-", 2.5, -1.5), (6, "*", 7, 42), (1, "/", 4, 0.25)],
)
async def test_calculate(a: float, op: str, b: float, result: float) -> None:
    assert await COMMANDS["calculate"]({"a": a, "op": op, "b": b}) == result


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"a": 1, "b": 0, "op": "/"}, "Division by zero"),
        ({"a": 1, "b": 2, "op": "**"}, "op must be one of"),
        ({"a": 1, "b": 2}, "op must be one of"),
        ({"a": "__import__('os')", "b": 2, "op": "+"}, "a must be a number"),
        ({"a": 1, "b": True, "op": "+"}, "b must be a number"),
        ({"a": 1e308, "b": 1e308, "op": "*"}, "too large"),
        ({"a": 10**400, "b": 1, "op": "+"}, "too large"),
        ({"a": 10**400, "b": 3, "op": "/"}, "too large"),
        ([1, 2], "calculate needs"),
    ],
)
async def test_calculate_refuses_in_a_sentence(data: Any, why: str) -> None:
    with pytest.raises(CommandFailed, match=re.escape(why)):
        await COMMANDS["calculate"](data)


async def test_execute_command_runs_nothing() -> None:
    with pytest.raises(CommandFailed, match="refused"):
        await COMMANDS["execute_command"]({"command": "id"})
