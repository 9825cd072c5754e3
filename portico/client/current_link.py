"""Standing: the link of the moment, for a program whose calls come from other tasks than its reader.

Shared by the client and the requester. Knows whether there is a link, whether there will ever be one
again, and who waits for it; nothing of a dialect. Promises that nobody waits on a connection that has
ended for good: they get the error that ended it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from .background import background_nursery
from .errors import ClientError, NotRunning
from .link import Link


class Standing:
    """`on_end` is called with the error once no link will come any more."""

    def __init__(self, on_end: Callable[[ClientError], None]) -> None:
        self._on_end = on_end
        self._link: Link | None = None
        self._ended: ClientError | None = NotRunning("It must be used inside `async with`.")
        self._changed = trio.Event()

    @property
    def now(self) -> Link | None:
        """The link that is usable at this moment, if there is one."""
        return self._link

    def up(self, link: Link) -> None:
        """From now on `link` can be used."""
        self._link = link
        self._notify()

    def down(self) -> None:
        """The link is gone; another may come."""
        self._link = None

    async def link(self) -> Link:
        """The usable link, waited for. Raises what ended the connection. Cancelling is safe."""
        while self._link is None:
            if self._ended is not None:
                # One error may end a thousand calls, and each raise would lengthen its traceback.
                raise self._ended.with_traceback(None)
            await self._changed.wait()
        return self._link

    @asynccontextmanager
    async def running(self, connection: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
        """Run `connection` behind the body, which begins when the first link is usable.

        Raises what ended the connection before that. Cancelling is safe.
        """
        self._ended = None
        async with background_nursery() as nursery:
            nursery.start_soon(self._run, connection)
            try:
                await self.link()
                yield
            finally:
                self._end(NotRunning("It was closed."))

    async def _run(self, connection: Callable[[], Awaitable[None]]) -> None:
        try:
            await connection()
        except ClientError as error:
            self._end(error)

    def _end(self, error: ClientError) -> None:
        if self._ended is None:
            self._ended = error
            self._link = None
            self._on_end(error)
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
