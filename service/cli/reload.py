"""Reloading: a program that is started again whenever a Python file changes, for development.

The program is a process of its own, so that nothing of its old code stays. On a change it gets SIGTERM, and ends in
order; one that has ended by itself, such as for a syntax error, is started again at the next change. It is in a process
group of its own, so Ctrl-C reaches it once, through us; a second one too.
"""

import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import trio
from watchfiles import PythonFilter, watch

from portico.client.errors import printable

DEBOUNCE: Final = 400
"""Milliseconds that a change may still be joined by others, as when an editor saves all files."""
STEP: Final = 200
"""Milliseconds between two looks at what the system has noticed."""


class _Reloader:
    def __init__(self, command: Sequence[str], folders: Iterable[Path], tell: Callable[[str], None]) -> None:
        self._command = list(command)
        self._folders = list(folders)
        self._tell = tell
        self._process: trio.Process | None = None
        self._changed = trio.Event()
        self._ending: signal.Signals | None = None

    async def run(self) -> int:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._heed_signals)
            await nursery.start(self._watch)
            while True:
                code = await self._run_once()
                if self._ending is not None:
                    break
                if not self._changed.is_set():
                    self._tell(f"it ended with exit code {code}; waiting for a change")
                    await self._changed.wait()
                    if self._ending is not None:
                        break
                self._changed = trio.Event()
            nursery.cancel_scope.cancel()
        return 0 if code == 0 else 128 + self._ending if code < 0 else code

    async def _run_once(self) -> int:
        """Run it until it ends, and end it when something changes. Returns its exit code."""
        self._process = await trio.lowlevel.open_process(self._command, process_group=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_on_change)
            code = await self._process.wait()
            nursery.cancel_scope.cancel()
        return code

    async def _end_on_change(self) -> None:
        await self._changed.wait()
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _heed_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if self._ending is None:
                    self._ending = signal.Signals(number)
                    if self._process is None or self._process.returncode is not None:
                        self._changed.set()
                self._send(signal.SIGTERM)

    async def _watch(self, *, task_status: trio.TaskStatus[None]) -> None:
        stop = threading.Event()
        changes = watch(
            *self._folders,
            watch_filter=PythonFilter(),
            debounce=DEBOUNCE,
            step=STEP,
            stop_event=stop,
            rust_timeout=STEP,
            yield_on_timeout=True,
            raise_interrupt=False,
        )
        try:
            await trio.to_thread.run_sync(next, changes, None, abandon_on_cancel=True)
            task_status.started()
            while True:
                found = await trio.to_thread.run_sync(next, changes, None, abandon_on_cancel=True)
                if found:
                    names = ", ".join(sorted({Path(path).name for _, path in found}))
                    self._tell(f"changed: {printable(names)}")
                    self._changed.set()
        finally:
            stop.set()


async def run_reloading(command: Sequence[str], folders: Iterable[Path], tell: Callable[[str], None]) -> int:
    """Run `command`, again and again, until SIGINT, SIGTERM or SIGHUP; returns its last exit code.

    `folders`: where Python files are watched, with everything below; `tell`: what happens, a line each.
    """
    return await _Reloader(command, folders, tell).run()
