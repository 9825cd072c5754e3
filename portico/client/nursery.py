"""A nursery that does not wrap what its body raises.

A trio nursery puts every exception into a group, because several of its tasks may fail at once. Where
the tasks never raise (each one reports its failure some other way), only the body can. A program that
wraps its calls in `async with Requester(…)` wants to catch `RequestFailed`, not a group that holds one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from .errors import NotRunning


@asynccontextmanager
async def background_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that never raise; they are cancelled when the body ends, however it ends.

    What the body raises comes out as it is, also while the whole is being cancelled from outside. Raises NotRunning
    under another loop than trio's. Cancelling is safe.
    """
    if not trio.lowlevel.in_trio_run():
        raise NotRunning("Client, Worker and Requester run on trio: start the program with portico.run or trio.run.")
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:  # kept from the nursery, and raised again below
                failure = error
            nursery.cancel_scope.cancel()
    except BaseException as ended:
        # The tasks' own Cancelled must not take the place of what the body raised; a bug of theirs stands beside it.
        if failure is None or isinstance(failure, trio.Cancelled):
            raise
        if not _is_cancellation(ended):
            raise BaseExceptionGroup("The body failed, and a task beside it.", [failure, ended]) from None
    if failure is not None:
        try:
            raise failure
        finally:
            # Without this the frame and the exception would keep each other alive.
            del failure


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_cancellation(part) for part in error.exceptions)
    return isinstance(error, trio.Cancelled)
