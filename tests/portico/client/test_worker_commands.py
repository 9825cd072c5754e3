"""Commands that are added to a worker one by one, and a worker made like another."""

from typing import Any

import pytest

from portico import LinkOptions, Worker


def test_commands_are_added_by_decorating_functions() -> None:
    worker = Worker("http://localhost:8000")

    @worker.command
    def add(data: dict[str, int]) -> int:
        return data["a"] + data["b"]

    @worker.command(name="a.b")
    async def other(data: Any) -> Any:
        return data

    assert add({"a": 1, "b": 2}) == 3
    assert worker.commands == {"add": add, "a.b": other}
    with pytest.raises(ValueError, match="'add' already"):
        worker.command(add)
    with pytest.raises(TypeError, match="async one"):
        worker.command(name="g")(generator)


def generator(data: Any) -> Any:
    yield data


async def test_a_worker_without_a_command_does_not_run() -> None:
    with pytest.raises(ValueError, match="at least one command"):
        await Worker("http://localhost:8000").run()


def test_a_worker_like_another() -> None:
    options = LinkOptions(api_key="k")
    first = Worker("http://one:1", commands={"f": len}, name="w", capacity=3, weight=2.0, token="t", options=options)
    same = first.replaced()
    assert (same.commands, same.name, same.capacity, same.weight, same.token) == ({"f": len}, "w", 3, 2.0, "t")
    assert same.options == first.options
    assert same.report is first.report
    other = first.replaced(url="ws://two:2", name="x", capacity=5, token="u", drain_seconds=1.0)
    assert (other.name, other.capacity, other.token, other.drain_seconds) == ("x", 5, "u", 1.0)
    assert other._connection.locate.where == "ws://two:2/worker"
    assert first._connection.locate.where == "http://one:1"
