"""A worker inside the gateway, through a real dispatcher."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import pytest
import trio
from msgspec import Raw

from service.chat.in_process import Command, InProcessLink, InProcessWorker, Part, Refusal
from service.core.counters import Counters
from service.core.dispatch.dispatcher import Dispatcher, DispatchRules
from service.core.dispatch.model import Outcome, OutcomeKind, Request


class Asker:
    """Whoever asks."""

    trusted = False
    party = "somebody"

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.outcome: Outcome | None = None
        self.over = trio.Event()

    def on_answer(self, request: Request, outcome: Outcome) -> None:
        if outcome.partial:
            assert outcome.data is not None
            self.parts.append(msgspec.json.decode(outcome.data))
            return
        assert self.outcome is None
        self.outcome = outcome
        self.over.set()

    @property
    def result(self) -> Any:
        assert self.outcome is not None
        return self.outcome.data and msgspec.json.decode(self.outcome.data)


class Commands:
    """What is served."""

    def __init__(self) -> None:
        self.opened = 0
        self.cancelled = trio.Event()
        self.errors: list[Exception] = []

    async def count(self, params: object, *, stream: bool, part: Part) -> object:
        assert isinstance(params, Mapping)
        for number in range(params.get("to", 0)):
            await part(number)
        return {"stream": stream}

    async def refuse(self, params: object, *, stream: bool, part: Part) -> object:
        raise Refusal("Not today.")

    async def fail(self, params: object, *, stream: bool, part: Part) -> object:
        raise KeyError("secret")

    async def wait(self, params: object, *, stream: bool, part: Part) -> object:
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Mapping[str, Command]]:
        self.opened += 1
        yield {"count": self.count, "refuse": self.refuse, "fail": self.fail, "wait": self.wait}
        self.opened -= 1


def dispatcher() -> Dispatcher:
    return Dispatcher(DispatchRules(), now=trio.current_time, random=Random(1), counters=Counters())


@asynccontextmanager
async def serving(capacity: int = 2) -> AsyncIterator[tuple[Dispatcher, Commands, trio.Nursery]]:
    at, commands = dispatcher(), Commands()
    names = ("count", "refuse", "fail", "wait")
    worker = InProcessWorker(
        at, lambda: "inside-1", names, commands.open, capacity=capacity, on_error=commands.errors.append
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await trio.testing.wait_all_tasks_blocked()
        yield at, commands, nursery
        nursery.cancel_scope.cancel()


def asked(at: Dispatcher, command: str, data: Any = None, *, stream: bool = False) -> tuple[Asker, Request]:
    asker = Asker()
    return asker, at.submit(asker, None, command, Raw(msgspec.json.encode(data)), stream=stream)


async def test_it_is_a_worker_like_any_other() -> None:
    async with serving() as (at, _, _):
        [status] = at.worker_statuses()
        assert (status.client_id, status.commands, status.capacity) == (
            "inside-1",
            ["count", "fail", "refuse", "wait"],
            2,
        )
        asker, _ = asked(at, "count", {"to": 3}, stream=True)
        await asker.over.wait()
    assert asker.parts == [0, 1, 2]
    assert asker.result == {"stream": True}
    assert asker.outcome is not None
    assert asker.outcome.processed_by == "inside-1"


async def test_absent_data_and_no_stream() -> None:
    async with serving() as (at, _, _):
        asker, _ = asked(at, "count")
        await asker.over.wait()
    assert (asker.parts, asker.result) == ([], {"stream": False})


@pytest.mark.parametrize(("command", "said"), [("refuse", "Not today."), ("fail", "Something went wrong here.")])
async def test_a_failure_is_its_requesters_alone(command: str, said: str) -> None:
    async with serving() as (at, commands, _):
        asker, _ = asked(at, command)
        await asker.over.wait()
        assert asker.outcome is not None
        assert (asker.outcome.success, asker.outcome.error) == (False, said)
        assert len(commands.errors) == (command == "fail")
        again, _ = asked(at, "count")
        await again.over.wait()
        assert again.outcome is not None
        assert again.outcome.success


async def test_cancelling_ends_the_command_and_frees_its_place() -> None:
    async with serving(capacity=1) as (at, commands, _):
        _, request = asked(at, "wait")
        await trio.testing.wait_all_tasks_blocked()
        waiting, _ = asked(at, "count")
        assert waiting.outcome is None
        at.cancel_request(request)
        await commands.cancelled.wait()
        await waiting.over.wait()


async def test_when_its_time_is_up_the_command_ends() -> None:
    async with serving() as (at, commands, _):
        asker, request = asked(at, "wait")
        await trio.testing.wait_all_tasks_blocked()
        at.expire_requests(request.deadline + 1)
        assert asker.outcome is not None
        assert asker.outcome.error == "Worker response timeout"
        with trio.fail_after(30):
            await commands.cancelled.wait()


async def test_one_that_ends_loses_what_it_has() -> None:
    async with serving() as (at, commands, nursery):
        asker, _ = asked(at, "wait")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert asker.outcome is not None
    assert asker.outcome.kind in (OutcomeKind.LOST, OutcomeKind.NO_WORKERS)
    assert at.worker_statuses() == []
    assert commands.opened == 0 or commands.cancelled.is_set()


async def test_a_link_alone_is_asked_as_a_client_is() -> None:
    """As the page's echo is: no worker of the dispatcher's, so nobody else's requests go there."""
    at, commands = dispatcher(), Commands()
    link = InProcessLink(at, commands.errors.append)
    early = Asker()
    at.ask_client(link, early, None, "count", Raw(b"{}"))
    assert early.outcome is not None
    assert early.outcome.error == "This worker is not running just now: try again."
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await link.run(commands.open, task_status=task_status)

        await nursery.start(run)
        asker = Asker()
        at.ask_client(link, asker, None, "count", Raw(b'{"to": 2}'), stream=True)
        await asker.over.wait()
        assert (asker.parts, asker.result) == ([0, 1], {"stream": True})
        other, _ = asked(at, "count")
        assert other.outcome is not None
        assert other.outcome.error == "No available workers"
        nursery.cancel_scope.cancel()
