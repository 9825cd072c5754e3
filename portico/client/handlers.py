"""How a worker's functions are called: plain, async, or as async generators that stream.

Knows nothing of connections: it gets a call and a place to put parts, and returns the result.
Promises that a plain function never blocks the event loop (it runs in a thread), and that any handler
can find out about its request with `current_call`.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from functools import partial
from typing import Any

import msgspec
import trio

from portico.wire.dialects.envelope import LONGEST_ACTION

from .envelope import Call
from .errors import MessageTooLarge, printable

Handler = Callable[[Any], Any]
"""Takes the request's data and returns the result, an awaitable of it, or an async generator of parts."""

SendPart = Callable[[Any], Awaitable[None]]
"""Passes one partial answer on; waits while the connection is slow."""

_current: ContextVar[Call] = ContextVar("portico_current_call")
_send_part: ContextVar[SendPart] = ContextVar("portico_send_part")


class CommandFailed(Exception):
    """Raised by a handler to answer an error with exactly this text."""


def current_call() -> Call:
    """The request that the running handler serves. Raises LookupError outside of a handler."""
    return _current.get()


async def send_part(item: Any) -> None:
    """Answer a part from within an async handler, which returns the final result at its end.

    Where the requester asked for no stream nothing is sent: return all of it. Waits while the connection, or the
    requester, is slow. Raises LookupError outside of a handler. Cancelling is safe.
    """
    await _send_part.get()(item)


def _function(handler: Handler) -> Any:
    """What decides how to call `handler`: a function, or the `__call__` of an object."""
    inner = handler.func if isinstance(handler, partial) else handler
    return inner if inspect.isroutine(inner) else getattr(inner, "__call__", inner)  # noqa: B004 (the method itself is wanted)


def check_handlers(commands: Mapping[str, Handler]) -> None:
    """Raises TypeError or ValueError for what cannot serve as a worker's commands."""
    if not commands:
        raise ValueError("A worker needs at least one command.")
    for name, handler in commands.items():
        if not name:
            raise ValueError("A command needs a name.")
        if len(name) > LONGEST_ACTION:
            raise ValueError(f"A command's name has at most {LONGEST_ACTION} characters.")
        if not callable(handler):
            raise TypeError(f"The handler of {name!r} is not a function.")
        if inspect.isgeneratorfunction(_function(handler)):
            raise TypeError(f"The handler of {name!r} is a plain generator; make it an async one.")


async def run_handler(
    handler: Handler,
    call: Call,
    *,
    part: SendPart,
    threads: trio.CapacityLimiter,
    largest: int,
) -> Any:
    """Call a handler and return its result.

    An async generator's parts go to `part` if the requester wants a stream, and the result is then
    None; otherwise the result is the list of them, which may take `largest` bytes. Raises whatever the
    handler raises. Cancelling is safe; a plain function that is cancelled goes on in its thread, keeps
    its place in `threads`, and its result is dropped.
    """
    token = _current.set(call)
    sending = _send_part.set(part if call.stream else _to_nobody)
    try:
        function = _function(handler)
        if inspect.isasyncgenfunction(function):
            return await _parts(handler, call, part, largest)
        if inspect.iscoroutinefunction(function):
            return await handler(call.params)
        return await trio.to_thread.run_sync(partial(handler, call.params), abandon_on_cancel=True, limiter=threads)
    finally:
        _send_part.reset(sending)
        _current.reset(token)


async def _to_nobody(_item: Any) -> None:
    await trio.lowlevel.checkpoint()


async def _parts(handler: Handler, call: Call, part: SendPart, largest: int) -> list[Any] | None:
    collected: list[Any] = []
    size = 0
    async with aclosing(handler(call.params)) as produced:
        async for item in produced:
            if call.stream:
                await part(item)
                continue
            collected.append(item)
            size += len(msgspec.json.encode(item))
            if size > largest:
                raise MessageTooLarge("The parts together are too large for one answer; ask for a stream.")
    return None if call.stream else collected


def error_text(error: Exception) -> str:
    """What the requester is told of a handler's exception: its class and message, never a traceback."""
    if isinstance(error, CommandFailed):
        return str(error) or "The command failed."
    said = printable(str(error), 1000)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
