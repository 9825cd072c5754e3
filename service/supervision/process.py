"""Process: another program, from its start to its end.

Knows how to start one so that no signal of the terminal reaches it behind the supervisor's back, and how to wait for
its end. Knows nothing of what it does.
"""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

import trio


class Process:
    """A program that was started. `code` is its exit code once it has ended, negative for a signal."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, keep: Sequence[int] = ()
    ) -> None:
        """Start it. `keep`: descriptors that it inherits under their numbers. Raises OSError.

        Called in trio's own thread: a program that asked the kernel to end with whoever started it would end with
        the thread that did.
        """
        # In a group of its own: Ctrl-C is for the supervisor, which passes it on in its own way.
        self._popen = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, pass_fds=keep, process_group=0
        )
        self.pid = self._popen.pid
        self.code: int | None = None

    async def wait(self) -> int:
        """Wait for its end. Cancelling is safe."""
        self.code = await trio.to_thread.run_sync(self._popen.wait, abandon_on_cancel=True, limiter=_unlimited())
        return self.code

    def terminate(self) -> None:
        """SIGTERM, unless it has ended."""
        with suppress(ProcessLookupError):
            self._popen.terminate()

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        with suppress(ProcessLookupError):
            self._popen.kill()


def how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _unlimited() -> trio.CapacityLimiter:
    # One thread for each program that runs, however many: trio's own limit would have some go unwatched.
    return trio.CapacityLimiter(1)
