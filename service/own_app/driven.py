"""Driven: runs the app's coroutine step by step, so that it can be timed, and left alone if it won't end.

Trio resumes a task by sending into its coroutine. Between the two stands this: each step is timed, and when a step
takes long the Watch says whose it is, while it still lasts. An app that catches its cancellation and goes on would do
so for ever, at full speed: after PATIENCE it is not resumed any more. Its task then waits for the end of the process,
since nothing can take it off the loop safely while scopes and nurseries of its own are open.
"""

import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Generator
from math import inf
from types import FrameType
from typing import Any, Final

import outcome
import trio

from portico.wire.safe_text import safe_text

PATIENCE: Final = 5.0
"""Seconds that an app may go on after it was cancelled."""
LONG: Final = 1.0
"""Seconds of a step after which it is reported while it lasts."""
NOTABLE: Final = 0.25
"""Seconds of a step after which it is reported when it is over."""
_QUIET: Final = 10.0  # seconds between two lines


Log = Callable[..., object]
"""Where to say what an operator should know: an event, and its fields by name."""


class Watch:
    """Sees the app block the loop that serves everybody. `run_thread` looks from another thread."""

    def __init__(self, log: Log) -> None:
        self.blocked = 0
        """Steps that took longer than NOTABLE."""
        self._log = log
        self._step: tuple[str, float] | None = None
        self._told: tuple[str, float] | None = None
        self._quiet_until = 0.0
        self._loop = 0
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to look at the thread that this is called in."""
        self._loop = threading.get_ident()
        threading.Thread(target=self._look, name="portico-app-watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def begin(self, whose: str) -> tuple[str, float]:
        """A step begins."""
        self._step = step = (whose, time.perf_counter())
        return step

    def end(self, step: tuple[str, float]) -> None:
        """It is over."""
        self._step = None
        seconds = time.perf_counter() - step[1]
        if seconds < NOTABLE:
            return
        self.blocked += 1
        now = step[1] + seconds
        if self._told is step or now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            self._log("the app blocked the event loop", request=step[0], seconds=round(seconds, 3), remedy=_REMEDY)

    def _look(self) -> None:
        while not self._stop.wait(LONG / 2):
            step = self._step
            if step is None or step is self._told or time.perf_counter() - step[1] < LONG:
                continue
            frame = sys._current_frames().get(self._loop)
            if self._step is step:
                self._told = step
                seconds = round(time.perf_counter() - step[1], 3)
                self._log("the app blocks the event loop", request=step[0], seconds=seconds, where=place(frame))


_REMEDY: Final = "await what waits, or run it in a thread (trio.to_thread.run_sync)"


def place(frame: FrameType | None) -> str:
    """Where a thread is: its innermost calls, the innermost first."""
    if frame is None:
        return "unknown"
    calls = traceback.extract_stack(frame)[:-4:-1]
    return safe_text(" < ".join(f"{call.filename}:{call.lineno} in {call.name}" for call in calls), 600)


class Driven:
    """An awaitable: the result of `coroutine`, which `scope` may cancel. `whose` names it in the log."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, object], whose: str, watch: Watch, scope: trio.CancelScope
    ) -> None:
        self.stuck = False
        """Whether it is not resumed any more."""
        self._coroutine = coroutine
        self._whose = whose
        self._watch = watch
        self._scope = scope
        self._give_up = inf

    def __await__(self) -> Generator[Any, Any, object]:
        coroutine, watch = self._coroutine, self._watch
        value: Any = None
        error: BaseException | None = None
        while True:
            step = watch.begin(self._whose)
            try:
                trap = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                watch.end(step)
            try:
                value, error = (yield trap), None
            except BaseException as thrown:  # trio throws what answers a foreign trap
                error = thrown
            # Only now, when what it waited for knows that it waits no more.
            if isinstance(value, outcome.Error) and self._scope.cancel_called:
                now = trio.current_time()
                self._give_up = min(self._give_up, now + PATIENCE)
                if now >= self._give_up:
                    self.stuck = True
                    yield from _for_ever().__await__()


async def _for_ever() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()
