"""Reading the operator's files: whatever stands at the path, it neither waits nor goes on without end."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from service.regular_file import read_regular_file


def test_a_file_and_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_regular_file(tmp_path / "file", 5) == read_regular_file(str(tmp_path / "link"), 5) == b"12345"


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "it is no regular file"),
        (_socket, "it is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (_sparse, "it is larger than 5 bytes"),
        (lambda path: None, "No such file or directory"),
    ],
)
def test_what_is_not_read(
    make: Callable[[Path], object], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
    make(Path("it"))
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its words are looked at
        read_regular_file("it", 5)
    assert caught.value.strerror == reason


def test_one_that_becomes_a_pipe_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"12345")
    opened = os.open

    def swapped(*given: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return opened(path, *given[1:])

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(OSError, match="no regular file"):
        read_regular_file(path, 5)
