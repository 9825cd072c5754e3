"""LogWriter: lines to a descriptor that may be a full disk, a pipe that nobody reads, or nothing at all any more.

What only reports must not be able to break. `write` never raises and never waits: it puts the text into a bounded
buffer, and a thread of its own writes it, since there is no other way to write to a file or a terminal that cannot
block. For example a gateway whose standard error is a pipe to a log collector that hangs goes on serving; when the
collector reads again it gets what was kept, and then one line about how many lines were not.

When the buffer is full, new lines are dropped and counted. When writing fails (ENOSPC, EPIPE) it is tried again, with
back-off. `close` ends all that: it waits for the rest, but not for long, and afterwards nothing is written any more.
The process' exit calls it. A descriptor may be closed only when its writer says that it has ended: its number is
given to whatever is opened next, a client's socket for example, and the lines would go there.
"""

import atexit
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

from service.backoff import Backoff

LIMIT: Final = 1 << 20
"""Bytes that may wait to be written."""
FLUSH_SECONDS: Final = 0.5
"""How long the end of a process waits for what was not written yet."""
_BATCH: Final = 64 << 10
# Lines that come in a burst go out together: a wake-up for each would cost more than the writing.
_PAUSE: Final = 0.05
_FIRST_RETRY: Final = 0.1
_LONGEST_RETRY: Final = 1.0
# How often a writer that waits for room in a descriptor that doesn't block looks whether it was closed.
_LOOK_MS: Final = 100
_NOTICE_SECONDS: Final = 0.5


class LogWriter:
    """Writes to one descriptor, which stays somebody else's. Its methods may be called from any thread."""

    def __init__(self, fd: int) -> None:
        self.dropped = 0
        """Lines that were never written, since the start."""
        self.on_recovery: Callable[[int], object] | None = None
        """Called by the writing thread when lines were dropped and writing works again, with their number."""
        self._fd = fd
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._untold = 0  # lines that were dropped since the last recovery
        self._work = threading.Event()
        self._written = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def write(self, text: str) -> None:
        """Have one line written soon, unless this was closed. It has its line break."""
        line = text.encode("utf-8", "backslashreplace")
        with self._lock:
            if self._closed.is_set():
                self.dropped += 1
                return
            if self._size + len(line) > LIMIT:
                self.dropped += 1
                self._untold += 1
                return
            self._lines.append(line)
            self._size += len(line)
            started = self._thread is not None
        if not started:
            self._start()
        if not self._work.is_set():
            self._work.set()

    def flush(self) -> None:
        """Nothing: what is written goes out soon by itself."""

    def finish(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until everything is written, the line about lost ones too, at most so long."""
        give_up = time.monotonic() + seconds
        while self._waits() and (left := give_up - time.monotonic()) > 0:
            self._written.clear()
            if self._waits():
                self._written.wait(left)

    def close(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until everything is written, at most so long, and end the thread; whether it has ended.

        Lines that are written afterwards are dropped, and counted. False while the thread is stuck in a write that
        the descriptor's reader doesn't take (it ends once that write does): the descriptor must stay open then. May be
        called again. Takes at most half a second longer than `seconds`.
        """
        self.finish(seconds)
        with self._lock:
            self._closed.set()
            thread = self._thread
        atexit.unregister(self.close)
        if thread is None:
            return True
        self._work.set()
        thread.join(_NOTICE_SECONDS)
        return not thread.is_alive()

    def _waits(self) -> bool:
        return bool(self._size or self._untold) and not self._closed.is_set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None or self._closed.is_set():
                return
            # A daemon: one that is stuck in a write must not keep the process.
            thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads can be had, or the interpreter is ending
                return
            self._thread = thread
        atexit.register(self.close)

    def _run(self) -> None:
        backoff = Backoff(_FIRST_RETRY, _LONGEST_RETRY)
        while not self._closed.is_set():
            self._work.wait()
            self._work.clear()
            while self._size and not self._closed.is_set():
                if self._write_some():
                    backoff.reset()
                else:
                    self._closed.wait(backoff.pause())
            if not self._closed.is_set():
                self._tell()
            if not self._size:
                self._written.set()
            self._closed.wait(_PAUSE)

    def _write_some(self) -> bool:
        """Write the oldest lines, or a part of them; whether that went well."""
        batch: list[bytes] = []
        size = 0
        with self._lock:
            for line in self._lines:
                if batch and size + len(line) > _BATCH:
                    break
                batch.append(line)
                size += len(line)
        try:
            written = os.write(self._fd, b"".join(batch))
        except BlockingIOError:  # whoever gave us the descriptor made it so
            self._wait_for_room()
            return True
        except OSError:
            return False
        with self._lock:
            self._size -= written
            while written:
                first = self._lines.popleft()
                if len(first) > written:
                    self._lines.appendleft(first[written:])
                    break
                written -= len(first)
        return True

    def _wait_for_room(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll(_LOOK_MS)

    def _tell(self) -> None:
        count = self._untold
        if count and self.on_recovery is not None:
            self.on_recovery(count)
        with self._lock:  # only now: `finish` waits for that line too
            self._untold -= count


def writer_for(stream: TextIO) -> LogWriter | None:
    """A LogWriter for where this stream writes; None for one that is not over a descriptor, such as a StringIO."""
    try:
        return LogWriter(stream.fileno())
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return None


def say(stream: TextIO, text: str) -> None:
    """Write text for people, once, wherever it goes; that nobody can read it ends nothing."""
    writer = writer_for(stream)
    if writer is None:
        stream.write(text)
        stream.flush()
    else:
        writer.write(text)
        writer.close()
