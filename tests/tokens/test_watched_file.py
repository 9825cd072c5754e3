"""WatchedFile: a file of keys is read again when it changes, and never for the worse."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from service.tokens.keys import BadKey
from service.tokens.watched_file import CHECK, LONGEST_WRITING, MAX_FILE, SETTLED, WatchedFile

from .test_jwks_endpoint import Told


class Lines:
    """Keys for the test: what the file has, a key a line."""

    def __init__(self) -> None:
        self.found: list[bytes] = []

    def use(self, raw: bytes) -> int:
        if b"?" in raw:
            raise BadKey("A line is wrong.")
        self.found = raw.split()
        return len(self.found)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def file(tmp_path: Path, told: Told, lines: Lines) -> WatchedFile:
    (tmp_path / "keys").write_text("one")
    file = WatchedFile(tmp_path / "keys", "keys", lines.use, told)
    file.load()
    return file


def test_it_is_read_when_it_changes_and_only_then(file: WatchedFile, tmp_path: Path, told: Told, lines: Lines) -> None:
    file.look()
    assert told.counts == [1]
    (tmp_path / "keys").write_text("one two")
    file.look()
    file.look()
    assert (told.counts, lines.found) == ([1, 2], [b"one", b"two"])
    (tmp_path / "other").write_text("six")
    (tmp_path / "other").rename(tmp_path / "keys")
    file.look()
    assert (told.counts, lines.found) == ([1, 2, 1], [b"six"])


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.write_text("what?"), "A line is wrong."),
        (
            lambda path: path.write_bytes(b"#" * (MAX_FILE + 1)),
            "The file cannot be read (it is larger than 262144 bytes).",
        ),
        (become_a_pipe, "The file cannot be read (it is no regular file)."),
        (
            lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
            "The file cannot be read (it is no regular file).",
        ),
        (Path.unlink, "The file cannot be read (No such file or directory)."),
        (lambda path: (path.unlink(), path.mkdir()), "The file cannot be read (Is a directory)."),
        (
            lambda path: (path.unlink(), path.symlink_to(path)),
            "The file cannot be read (Too many levels of symbolic links).",
        ),
    ],
)
def test_one_that_cannot_be_used_changes_nothing_and_is_told_of(
    spoil: Callable[[Path], object], problem: str, file: WatchedFile, tmp_path: Path, told: Told, lines: Lines
) -> None:
    path = tmp_path / "keys"
    spoil(path)
    file.look()
    assert told.problems[-1] == problem
    assert lines.found == [b"one"]
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_text("two")
    file.look()
    assert lines.found == [b"two"]
    assert told.counts == [1, 1]


def test_one_that_has_not_been_there_comes_into_force_when_it_comes(tmp_path: Path, told: Told, lines: Lines) -> None:
    file = WatchedFile(tmp_path / "keys", "keys", lines.use, told)
    with pytest.raises(BadKey, match="cannot be read"):
        file.load()
    (tmp_path / "keys").write_text("one")
    file.look()
    assert lines.found == [b"one"]


async def test_one_that_is_being_written_is_waited_for(
    file: WatchedFile, tmp_path: Path, told: Told, lines: Lines, autojump_clock: trio.testing.MockClock
) -> None:
    """Most programs empty a file before they write it: whoever looked then would close every door for a second."""
    path = tmp_path / "keys"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.run)
        await trio.sleep(CHECK - 0.05)
        path.write_text("")
        await trio.sleep(0.1)  # it has been seen empty
        path.write_text("one two")
        await trio.sleep(SETTLED)
        assert told.counts == [1]
        await trio.sleep(SETTLED)
        assert lines.found == [b"one", b"two"]
        assert told.counts == [1, 2]
        # One that is written all the time is read all the same.
        for number in range(round(3 * LONGEST_WRITING / 0.1)):
            path.write_text("two " * (number + 3))
            await trio.sleep(0.1)
        assert b"one" not in lines.found
        nursery.cancel_scope.cancel()


async def test_one_that_goes_while_it_is_watched_is_told_of_and_taken_up_when_it_is_back(
    file: WatchedFile, tmp_path: Path, told: Told, lines: Lines, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "keys"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.run)
        path.unlink()
        await trio.sleep(3 * CHECK)
        assert "cannot be read" in told.problems[-1]
        assert lines.found == [b"one"]
        path.write_text("two")
        await trio.sleep(3 * CHECK)
        assert lines.found == [b"two"]
        nursery.cancel_scope.cancel()
