"""Workers inside the gateway: commands that this process answers itself, through the dispatcher like any worker's.

The dispatcher sees a link (its WorkerLink): it sends requests and cancels them, and is told answers. Each request is a
task of the worker's own nursery, and its failure is its requester's alone. Promises: a part waits while who asked has a
backlog, so that a slow requester is felt where the parts come from; and a request that is cancelled ends at once.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol

import msgspec
import trio
from msgspec import Raw

from service.core.connections.session import Session
from service.core.counters import Counters
from service.core.dispatch.dispatcher import Dispatcher
from service.core.dispatch.model import Request, Worker, WorkerLink

from .faults import ChatFault
from .report import Answered
from .rules import ChatRules

Part = Callable[[Any], Awaitable[None]]


class Refusal(Exception):
    """A command cannot answer; the text is the answer's error."""


class Command(Protocol):
    """One command: from a request's data to its result. `part` passes a part on, where a `stream` is wanted.

    Raises Refusal.
    """

    def __call__(self, params: object, *, stream: bool, part: Part) -> Awaitable[object]: ...


OpenCommands = Callable[[], AbstractAsyncContextManager[Mapping[str, Command]]]
"""What a worker serves, for as long as it is there."""


class InProcessLink:
    """How dispatch reaches commands in this process (its WorkerLink). Takes requests while it `run`s."""

    def __init__(self, dispatcher: Dispatcher, on_error: Callable[[Exception], None]) -> None:
        """`on_error` is told of a bug in a command."""
        self._dispatcher = dispatcher
        self._on_error = on_error
        self._commands: Mapping[str, Command] = {}
        self._nursery: trio.Nursery | None = None
        self._running: dict[str, trio.CancelScope] = {}
        self.at: Worker | WorkerLink = self
        """As what it is known to the dispatcher."""

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return len(self._running)

    async def run(self, open_commands: OpenCommands, *, task_status: trio.TaskStatus[None]) -> None:
        """Take requests until cancelled; those in flight are cancelled too."""
        async with open_commands() as commands, trio.open_nursery() as nursery:
            self._commands = commands
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def send_request(self, request: Request, deadline_ms: int) -> None:
        """See WorkerLink."""
        if self._nursery is None:
            self._say(request, error="This worker is not running just now: try again.")
            return
        scope = self._running[request.id] = trio.CancelScope()
        self._nursery.start_soon(self._serve, request, scope)

    def send_cancel(self, request: Request) -> None:
        """See WorkerLink."""
        scope = self._running.get(request.id)
        if scope is not None:
            scope.cancel()

    async def _serve(self, request: Request, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self._answer(request)
            except Refusal as refusal:
                self._say(request, error=str(refusal))
            except Exception as error:
                self._on_error(error)
                self._say(request, error="Something went wrong here.")
            finally:
                del self._running[request.id]

    async def _answer(self, request: Request) -> None:
        async def part(item: Any) -> None:
            self._say(request, result=item, partial=True)
            await _room_of(request)

        command = self._commands[request.command]
        params = msgspec.json.decode(request.data)
        result = await command(params, stream=request.stream, part=part)
        self._say(request, result=result)

    def _say(self, request: Request, *, result: object = None, error: str | None = None, partial: bool = False) -> None:
        self._dispatcher.on_answer(
            self.at,
            request.id,
            success=error is None,
            result=Raw(msgspec.json.encode(result)),
            error=error,
            partial=partial,
        )


async def _room_of(request: Request) -> None:
    """Wait while who asked has a backlog. One whose connection ends meanwhile has its requests cancelled."""
    caller = request.caller
    if not isinstance(caller, Session) or not caller.peer.has_backlog:
        await trio.lowlevel.checkpoint()
        return
    room = trio.Event()
    caller.peer.when_room(room.set)
    await room.wait()


@asynccontextmanager
async def chat_commands(
    rules: ChatRules, counters: Counters, report: Callable[[Answered], None]
) -> AsyncIterator[Mapping[str, Command]]:
    """`chat`, for an InProcessWorker."""
    from .command import open_chat  # it needs httpx, which a gateway without chat does without

    async with open_chat(rules, counters, report) as chat:

        async def answer(params: object, *, stream: bool, part: Part) -> object:
            try:
                return await chat.answer(params, stream=stream, part=part)
            except ChatFault as fault:
                raise Refusal(str(fault)) from None

        yield {"chat": answer}


class InProcessWorker:
    """A worker of this process, which the dispatcher has among all others."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        name: Callable[[], str],
        commands: tuple[str, ...],
        open_commands: OpenCommands,
        *,
        capacity: int,
        on_error: Callable[[Exception], None],
    ) -> None:
        """`name`: what it is called, asked for when it begins; `capacity`: requests at a time."""
        self._dispatcher = dispatcher
        self._name = name
        self._names: Final = commands
        self._open = open_commands
        self._capacity = capacity
        self._link = InProcessLink(dispatcher, on_error)

    async def run(self) -> None:
        """Serve until cancelled. What is in flight then goes to other workers, or is lost."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run_link)
            worker = self._dispatcher.add_worker(self._link, self._name(), self._names, 0)
            self._link.at = worker
            self._dispatcher.change_worker(worker, capacity=self._capacity)
            try:
                await trio.sleep_forever()
            finally:
                self._dispatcher.remove_worker(worker)

    async def _run_link(self, task_status: trio.TaskStatus[None]) -> None:
        await self._link.run(self._open, task_status=task_status)
