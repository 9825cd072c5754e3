"""A nursery that does not wrap what its body raises.

A trio nursery puts every exception into a group, because several of its tasks may fail at once. Where
the children never raise (each one reports its failure some other way), only the body can, and whoever
wrote `async with` around a requester wants to catch `RequestFailed`, not a group that holds one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that never raise; they are cancelled when the body ends, however it ends.

    What the body raises comes out as it is. Cancelling is safe.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException as error:  # kept from the nursery, and raised again below
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            # Without this the frame and the exception would keep each other alive.
            del failure
