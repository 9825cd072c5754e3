"""Where a console's lines come from: a person at a prompt, or a pipe.

Promises that what is written while somebody types (the log, events) goes above the prompt, whole lines only, and that
cancelling a read leaves the terminal as it was found. The prompt is prompt_toolkit's, which is imported only for a
terminal; it runs in a thread, since it brings a loop of its own.
"""

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from shlex import quote
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol

import trio

from .lines import typed

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completion
    from prompt_toolkit.document import Document

LONGEST_LINE: Final = 4 << 20
"""Bytes of one line of a pipe: more than the gateway takes."""

Candidates = Callable[[str], Iterable[tuple[str, str]]]
"""From the line up to the cursor to what may stand there: the whole word, and what it means."""


class Lines(Protocol):
    """Lines, one at a time. `interactive`: a person types them."""

    interactive: bool

    async def read(self) -> str | None:
        """The next line; None at the end. Cancelling is safe."""
        ...


class Pipe:
    """The lines of a pipe or a file."""

    interactive = False

    def __init__(self) -> None:
        self._waiting = b""
        self._ended = False

    async def read(self) -> str | None:
        """The next line; None at the end."""
        while True:
            line, newline, rest = self._waiting.partition(b"\n")
            if newline or (self._ended and line) or len(line) > LONGEST_LINE:
                self._waiting = rest
                return line.decode("utf-8", "replace").rstrip("\r")
            if self._ended:
                return None
            # Not sys.stdin, whose lock a thread that is left in a read would hold at the interpreter's end.
            more = await trio.to_thread.run_sync(os.read, 0, 1 << 16, abandon_on_cancel=True)
            self._ended = not more
            self._waiting += more


class Given:
    """Lines that were given beforehand."""

    interactive = False

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)

    async def read(self) -> str | None:
        """The next one; None at the end."""
        await trio.lowlevel.checkpoint()
        return next(self._lines, None)


class Prompt:
    """A person at a terminal, with history and completion."""

    interactive = True

    def __init__(self, session: "PromptSession[str]") -> None:
        self._session = session
        # prompt_toolkit writes above a prompt from a thread of its own, some time later, and where none is shown yet it
        # writes into one that is just being drawn. So it is given text only while there is a prompt to write above.
        self._lock = Lock()
        self._shown = False

    async def read(self) -> str | None:
        """The next line; None after Ctrl-D. Ctrl-C gives up the line that was begun."""
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._leave_when_cancelled, done)
            try:
                line = await trio.to_thread.run_sync(self._ask)
            finally:
                done.set()
            nursery.cancel_scope.cancel()
        return line

    def write(self, text: str) -> None:
        """Write whole lines: above the prompt where one is shown, else at once."""
        with self._lock:
            if self._shown:
                sys.stdout.write(text)
                sys.stdout.flush()
            else:
                self._session.output.write_raw(text)
                self._session.output.flush()

    def _ask(self) -> str | None:
        try:
            return self._session.prompt(handle_sigint=False, pre_run=self._begin)
        except KeyboardInterrupt:
            return ""
        except (EOFError, OSError):  # Ctrl-D, or the terminal is gone
            return None
        finally:
            with self._lock:
                self._shown = False

    def _begin(self) -> None:
        """Just before it is drawn for the first time, in its loop."""
        with self._lock:
            self._shown = True

    async def _leave_when_cancelled(self, done: trio.Event) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                while not done.is_set() and not self._left():  # noqa: ASYNC110 — its start is no event of trio's
                    await trio.sleep(0.05)

    def _left(self) -> bool:
        app = self._session.app
        loop = app.loop
        if not app.is_running or loop is None:
            return False
        with suppress(RuntimeError):  # its loop has just ended
            loop.call_soon_threadsafe(_exit, app)
            return True
        return False


def _exit(app: object) -> None:
    with suppress(Exception):  # it has a result already, or has ended: that is what is wanted
        app.exit(exception=EOFError())  # type: ignore[attr-defined]  # any Application


@asynccontextmanager
async def open_lines(
    prompt: str, candidates: Candidates, history: str, *, lines: Iterable[str] | None = None
) -> AsyncIterator[tuple[Lines, Callable[[str], None] | None]]:
    """Lines from `lines`, a terminal or a pipe, and how text is written meanwhile (None: to standard output).

    `history`: the name of the file that keeps what was typed.
    """
    if lines is not None:
        yield Given(lines), None
    elif not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield Pipe(), None
    else:
        from prompt_toolkit.patch_stdout import patch_stdout

        session = _session(prompt, candidates, history)
        with patch_stdout(raw=True):
            prompt_lines = Prompt(session)
            yield prompt_lines, prompt_lines.write


def _session(prompt: str, candidates: Candidates, history: str) -> "PromptSession[str]":
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    class Words(Completer):
        def get_completions(self, document: "Document", complete_event: object) -> "Iterable[Completion]":
            before = document.text_before_cursor
            for word, start, meaning in _placed(before, candidates(before)):
                yield Completion(word, start_position=start, display=word.strip(), display_meta=meaning)

    kept: History = InMemoryHistory()
    if (file := _history_file(history)) is not None:
        kept = FileHistory(str(file))
    return PromptSession(
        prompt,
        history=kept,
        completer=Words(),
        complete_in_thread=True,
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
    )


def _placed(before: str, found: Iterable[tuple[str, str]]) -> Iterable[tuple[str, int, str]]:
    """Where candidates go, and in which quotes. None where the word is in quotes already."""
    begun = typed(before).word
    if not before.endswith(begun):
        return
    for word, meaning in found:
        # Done with, unless more of the same word is to come: `user:`, `role=`.
        yield (word if word.endswith((":", "=")) else f"{quote(word)} "), -len(begun), meaning


def _history_file(name: str) -> Path | None:
    """Where history is kept, for its owner only; None where there is no place for it."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    file = Path(state) / "portico" / name
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        if not os.access(file, os.R_OK | os.W_OK):
            return None
    except (OSError, RuntimeError):
        return None
    return file
