"""Background tasks that must not die: each is restarted when it ends, with back-off, and readiness tells.

Knows nothing of what the tasks do. A task that has failed is named by `down` until it is running again. Only
cancellation ends a task for good.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from service.backoff import Backoff

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 10.0
STEADY_AFTER: Final = 30.0
"""Seconds that a task must run before its failures are forgotten."""


class Background:
    """The lasting tasks of one node, and how they are doing."""

    def __init__(self, on_failure: Callable[[str, Exception], None]) -> None:
        """`on_failure` is told of each failure: the task's name, and what it raised."""
        self._on_failure = on_failure
        self._down: dict[str, None] = {}

    @property
    def down(self) -> str | None:
        """The name of a task that isn't running, or None."""
        return next(iter(self._down), None)

    async def keep(self, name: str, task: Callable[[], Awaitable[None]]) -> None:
        """Run `task` until cancelled, again and again if it raises or returns. Cancelling is safe."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            started = trio.current_time()
            try:
                await task()
                raise RuntimeError(f"the task {name} ended, and should not have")
            except Exception as error:
                self._on_failure(name, error)
            if trio.current_time() - started > STEADY_AFTER:
                backoff.reset()
            self._down[name] = None
            await trio.sleep(backoff.pause())
            del self._down[name]
