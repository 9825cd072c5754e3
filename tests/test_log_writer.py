"""Lines to descriptors of every condition: nothing raises, nothing waits, and what was dropped is counted."""

import fcntl
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.log_writer import LIMIT, LogWriter, say, writer_for
from service.observe import make_log

LINE = "x" * 99 + "\n"


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)  # another thread's doing has no event


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that holds as little as it can."""
    read, write = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(read, False)
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:
            continue


def read_all(fd: int) -> bytes:
    found = b""
    while True:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return found
        if not data:
            return found
        found += data


def test_lines_arrive_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        writer = LogWriter(file.fileno())
        for number in range(5000):
            writer.write(f"{number}\n")
        writer.finish(10)
    assert (tmp_path / "log").read_text().split() == [str(number) for number in range(5000)]
    assert writer.dropped == 0


def test_a_pipe_that_nobody_reads_makes_nobody_wait(pipe: tuple[int, int]) -> None:
    read, write = pipe
    writer = LogWriter(write)
    told: list[int] = []
    writer.on_recovery = told.append
    count = 2 * LIMIT // len(LINE)
    start = time.monotonic()
    for _ in range(count):
        writer.write(LINE)
    assert time.monotonic() - start < 5
    assert 0 < writer.dropped < count
    start = time.monotonic()
    writer.finish()
    assert time.monotonic() - start < 5
    heard = b""

    def all_heard() -> bool:
        nonlocal heard
        heard += read_all(read)
        return bool(told)

    eventually(all_heard)
    heard += read_all(read)
    assert told == [writer.dropped]
    assert heard.count(b"\n") == count - writer.dropped
    assert set(heard.split(b"\n")) == {LINE[:-1].encode(), b""}, "no line is torn"


def test_a_pipe_whose_reader_is_gone(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(read)
    writer = LogWriter(write)
    for _ in range(2 * LIMIT // len(LINE)):
        writer.write(LINE)
    writer.finish()
    assert writer.dropped > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux' /dev/full is a disk that is full")
def test_a_full_disk_that_has_room_again(tmp_path: Path) -> None:
    full, log = os.open("/dev/full", os.O_WRONLY), os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    writer = LogWriter(full)
    told: list[int] = []
    writer.on_recovery = told.append
    count = 2 * LIMIT // len(LINE)
    for _ in range(count):
        writer.write(LINE)
    assert writer.dropped > 0
    os.dup2(log, full)  # as if somebody had cleared it up
    eventually(lambda: bool(told))
    assert told == [writer.dropped]
    assert (tmp_path / "log").read_text().count("\n") == count - writer.dropped
    os.close(full)
    os.close(log)


def test_a_descriptor_that_does_not_block_loses_nothing(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.set_blocking(write, False)
    writer = LogWriter(write)
    for number in range(2000):
        writer.write(f"{number}\n")
    heard = b""

    def all_heard() -> bool:
        nonlocal heard
        heard += read_all(read)
        return heard.count(b"\n") == 2000

    eventually(all_heard)
    assert heard.split() == [b"%d" % number for number in range(2000)]


def test_any_text_can_be_written(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        writer = LogWriter(file.fileno())
        writer.write("caf\u00e9 \ud800\n")
        writer.finish(10)
    assert (tmp_path / "log").read_bytes() == b"caf\xc3\xa9 \\ud800\n"


def test_a_stream_without_a_descriptor_has_no_writer() -> None:
    assert writer_for(io.StringIO()) is None
    stream = io.StringIO()
    say(stream, "hello\n")
    assert stream.getvalue() == "hello\n"


def test_the_log_says_how_many_lines_it_lost(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with os.fdopen(os.dup(write), "w") as stream:
        writer = writer_for(stream)
        assert writer is not None
        log = make_log("json", "info", stream, writer)
        while not writer.dropped:
            log.info("an event", text="x" * 200)
        heard = b""

        def told() -> bool:
            nonlocal heard
            heard += read_all(read)
            return b"log lines dropped" in heard and heard.endswith(b"\n")

        eventually(told)
    assert f'"count":{writer.dropped}'.encode() in heard.splitlines()[-1]


def test_it_is_standard_errors_by_default() -> None:
    writer = writer_for(sys.__stderr__) if sys.__stderr__ is not None else None
    assert writer is None or writer.dropped == 0
