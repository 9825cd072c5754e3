"""Where lines come from when nobody sits there; how completions are placed; where history is kept."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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
