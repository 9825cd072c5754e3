"""Where lines come from when nobody sits there; how completions are placed; where history is kept."""

import errno
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from service.cli.console import terminal
from service.cli.console.terminal import Given, Pipe, open_lines


async def all_of(lines: terminal.Lines) -> list[str]:
    found = []
    while (line := await lines.read()) is not None:
        found.append(line)
    return found


async def test_the_lines_of_a_pipe_however_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: Iterator[bytes] = iter([b"on", b"e\r\ntwo\n\nth\xff", b"ree", b""])
    monkeypatch.setattr("service.cli.console.terminal.os.read", lambda *_: next(parts))
    assert await all_of(Pipe()) == ["one", "two", "", "th\ufffdree"]


async def test_a_line_without_an_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "LONGEST_LINE", 5)
    monkeypatch.setattr("service.cli.console.terminal.os.read", lambda *_: b"endless")
    assert await Pipe().read() == "endless"


async def test_lines_that_were_given_come_before_any_terminal() -> None:
    async with open_lines("> ", lambda _: (), "history", lines=["a", "b"]) as (lines, write):
        assert (type(lines), lines.interactive, write) == (Given, False, None)
        assert await all_of(lines) == ["a", "b"]


async def test_between_two_prompts_text_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written later may come into the next prompt while that is being drawn."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    written = StringIO()
    output = Vt100_Output(written, lambda: Size(40, 120), term="dumb")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with create_pipe_input() as keys, create_app_session(input=keys, output=output):
        async with open_lines("portico> ", lambda _: (), "history") as (lines, write):
            assert write is not None
            for number in range(10):
                keys.send_text("stats\r")
                assert await lines.read() == "stats"
                write(f"answer {number}\n")
                assert written.getvalue().endswith(f"answer {number}\n")


async def test_a_terminal_that_is_gone_ends_the_lines() -> None:
    """A console whose window was closed stayed for ever."""

    class Gone:
        def prompt(self, **_options: object) -> str:
            raise OSError(errno.EIO, "Input/output error")

    assert await terminal.Prompt(Gone()).read() is None  # type: ignore[arg-type]  # all that is asked of a session


@pytest.mark.parametrize(
    ("before", "placed"),
    [
        ("push us", [("user: ", -2), ("user:", -2)]),
        ("push ", [("user: ", 0), ("user:", 0)]),
        ('push "us"', []),  # in quotes already
    ],
)
def test_a_completion_takes_the_place_of_the_word_that_was_begun(before: str, placed: list[tuple[str, int]]) -> None:
    found = [(word, start) for word, start, _ in terminal._placed(before, [("user: ", ""), ("user:", "")])]
    assert found == [(f"'{word}' " if " " in word else word, start) for word, start in placed]


def test_history_is_for_its_owner_and_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = terminal._history_file("console_history")
    assert file == tmp_path / "portico" / "console_history"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", os.fspath(tmp_path / "file"))
    assert terminal._history_file("console_history") is None
