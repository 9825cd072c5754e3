"""Background tasks that must not die: each is restarted when it raises, with back-off, and readiness tells.

Knows nothing of what the tasks do. A task that is down, or has just been restarted, is named by `down`; every
restart is counted. Only cancellation ends a task for good.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 10.0
STEADY_AFTER: Final = 30.0
"""Seconds that a task must run before its failures are forgotten."""


class Background:
    """The lasting tasks of one node, and how they are doing."""

    def __init__(self, report: Callable[[str, Exception], None]) -> None:
        self._report = report
        self._down: dict[str, None] = {}
        self.restarts: dict[str, int] = {}

    @property
    def down(self) -> str | None:
        """The name of a task that isn't running, or None."""
        return next(iter(self._down), None)

    async def keep(self, name: str, task: Callable[[], Awaitable[None]]) -> None:
        """Run `task` until cancelled, again and again if it raises or returns. Cancelling is safe."""
        self.restarts.setdefault(name, 0)
        delay = FIRST_DELAY
        while True:
            started = trio.current_time()
            try:
                await task()
                raise RuntimeError(f"the task {name} ended, and should not have")
            except Exception as error:
                self._report(name, error)
            self.restarts[name] += 1
            self._down[name] = None
            delay = FIRST_DELAY if trio.current_time() - started > STEADY_AFTER else min(delay * 2, LONGEST_DELAY)
            await trio.sleep(delay)
            del self._down[name]
