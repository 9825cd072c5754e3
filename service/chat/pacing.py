"""Pacing: passes an answer of the API on no faster than the caller takes it.

What has come while a part was on its way goes on as one part. Promises that no more than LIMIT characters wait, and the
piece that goes over it: whoever adds more waits too.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

LIMIT: Final = 32 * 2**10
"""Characters that may wait."""


class Pacing:
    """The text of one answer that is not passed on yet."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._pieces: list[str] = []
        self._size = 0
        self._closed = False
        self._some = trio.Event()
        self._room = trio.Event()

    async def add(self, text: str) -> None:
        """Let this go on with what waits; returns when there is room for more. Cancelling is safe."""
        self._pieces.append(text)
        self._size += len(text)
        self._some.set()
        while self._size > self._limit:
            await self._room.wait()

    def close(self) -> None:
        """Nothing more is added: `run` ends once all is passed on."""
        self._closed = True
        self._some.set()

    async def run(self, part: Callable[[str], Awaitable[None]]) -> None:
        """Pass on what is added, as it comes, until `close`. Raises what `part` raises."""
        while True:
            await self._some.wait()
            if not self._pieces:
                return
            text = "".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            if not self._closed:
                self._some = trio.Event()
            self._room.set()
            self._room = trio.Event()
            await part(text)
