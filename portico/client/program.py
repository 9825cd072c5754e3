"""Running a program that uses the SDK: `run(main)` instead of `trio.run(main)`.

Knows signals, standard error and exit codes, which no other module of the SDK does. Promises that neither Ctrl-C nor
anything that the SDK raises ends the program with a traceback; a bug of the program's own still does.
"""

import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import trio

from .errors import ClientError
from .nursery import background_nursery

FAILED: Final = 1
INTERRUPTED: Final = 130
"""What shells report of a program that Ctrl-C ended (128 + SIGINT)."""

_log = logging.getLogger("portico.client")
_left_out = False


@contextmanager
def left_out() -> Iterator[None]:
    """While the body runs, `run` does nothing. `portico worker` imports a program for the worker that is in it."""
    global _left_out
    before, _left_out = _left_out, True
    try:
        yield
    finally:
        _left_out = before


def run(program: Callable[[], Awaitable[object]]) -> None:
    """Run an async program, such as `worker.run`, until it ends or is told to end.

    Ctrl-C and SIGTERM cancel it, which a Worker takes as `stop()`: it finishes what is in flight, and `run` says
    `ended` and returns. A second Ctrl-C ends it at once. What the SDK raises (ClientError) is printed as one sentence
    on standard error, alone or out of a group, and the exit code is 1. If the program has not set up logging, what
    happens to its connections is shown on standard error too. To be called in the main thread. In a module that
    `portico worker module:name` imports it returns at once: the command runs the worker.
    """
    if _left_out:
        return
    _show_what_happens()
    before = signal.getsignal(signal.SIGINT)
    told_again: list[int] = []
    try:
        trio.run(_until_told, program, told_again)
        if told_again:
            sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ClientError as error:
        _fail([error])
    except BaseExceptionGroup as group:
        causes = list(_leaves(group))
        if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            sys.exit(INTERRUPTED)
        if not all(isinstance(cause, ClientError) for cause in causes):
            raise
        _fail(causes)
    finally:
        signal.signal(signal.SIGINT, before)


def _fail(causes: list[BaseException]) -> None:
    # Ten calls that found no worker are one sentence, not ten.
    for sentence in dict.fromkeys(str(cause) for cause in causes):
        print(sentence, file=sys.stderr)
    sys.exit(FAILED)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _until_told(program: Callable[[], Awaitable[object]], told_again: list[int]) -> None:
    with trio.CancelScope() as scope:
        async with background_nursery() as nursery:
            await nursery.start(_cancel_when_told, scope, told_again)
            await program()
    if scope.cancel_called and not told_again:
        # An answer to the Ctrl-C: without it nobody can tell an orderly end from one that was cut short.
        _log.info("ended")


async def _cancel_when_told(
    scope: trio.CancelScope, told_again: list[int], *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            break
    # The next signal does what it does by default: it raises KeyboardInterrupt in whatever code is running. That may be
    # a library's, which takes it for the end of a connection, so it is noted too.
    by_default = signal.getsignal(signal.SIGINT)

    def again(number: int, frame: FrameType | None) -> None:
        told_again.append(number)
        if callable(by_default):
            by_default(number, frame)

    signal.signal(signal.SIGINT, again)
    scope.cancel()


def _show_what_happens() -> None:
    if not _log.hasHandlers():
        _log.addHandler(logging.StreamHandler())
        _log.setLevel(logging.INFO)
