"""A program on a terminal without a screen: what it would show is read from there, as a person would read it."""

import codecs
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pyte

PATIENCE: Final = 60.0
"""Seconds for something to be shown, however busy the machine is."""
CTRL_C: Final = "\x03"
CTRL_D: Final = "\x04"


class Terminal:
    """One program on a terminal of `columns` by `lines`."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int, columns: int, lines: int) -> None:
        self.process = process
        self._master = master
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self._stream = pyte.Stream(self._screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.raw = b""
        """Every byte that it wrote."""

    def type(self, text: str) -> None:
        """Press keys; `\\r` is Enter."""
        os.write(self._master, text.encode())

    def shown(self) -> str:
        """What is on the screen and what has scrolled off it, without trailing blanks."""
        before = ["".join(line[x].data for x in range(self._screen.columns)) for line in self._screen.history.top]
        return "\n".join(line.rstrip() for line in [*before, *self._screen.display]).rstrip()

    def expect(self, text: str, *, count: int = 1) -> str:
        """Wait until `text` is shown, `count` times; everything that is shown then."""
        deadline = time.monotonic() + PATIENCE
        while (shown := self.shown()).count(text) < count:
            assert self._read(deadline), f"{text!r} was not shown {count} times:\n{shown}"
        return shown

    def at_prompt(self, prompt: str, text: str) -> None:
        """Wait until the last line is the prompt alone, and type there: what is typed before it is shown, is shown
        before it."""
        deadline = time.monotonic() + PATIENCE
        while (shown := self.shown()).rpartition("\n")[2] != prompt:
            assert self._read(deadline), f"{prompt!r} was not shown:\n{shown}"
        self.type(text)

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, as one does that no prompt has in its hands."""
        flags: int = termios.tcgetattr(self._master)[3]
        return bool(flags & termios.ECHO) and bool(flags & termios.ICANON)

    def _read(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._master], [], [], left)[0]:
            return False
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.raw += data
        self._stream.feed(self._decoder.decode(data))
        return bool(data)


@contextmanager
def terminal(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], columns: int = 120, lines: int = 40
) -> Iterator[Terminal]:
    """Run `command` on a terminal of its own while the block runs; what is left of it then is killed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command,
        cwd=cwd,
        # It would ask where the cursor is, and wait for an answer that no one here gives.
        env={**env, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(cwd / "state")},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    os.close(slave)
    try:
        yield Terminal(process, master, columns, lines)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(master)
