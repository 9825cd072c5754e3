"""Lines to descriptors of every condition: nothing raises, nothing waits, and what was dropped is counted."""

import fcntl
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from service.log_writer import LIMIT, LogWriter, say, writer_for
from service.observe import make_log

LINE = "x" * 99 + "\n"


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)  # another thread's doing has no event


class Pipe:
    """A pipe that holds as little as it can."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self.read, False)
        self._reads = True

    def close_reader(self) -> None:
        """Who reads is gone. A write that waits for it fails."""
        if self._reads:
            self._reads = False
            os.close(self.read)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close_reader()
    os.close(made.write)


Ended = Callable[[LogWriter], LogWriter]


@pytest.fixture
def ended(pipe: Pipe) -> Iterator[Ended]:
    """Ends the writers it is given before anybody closes the pipe they write to: its number is soon another test's."""
    writers: list[LogWriter] = []

    def later(writer: LogWriter) -> LogWriter:
        writers.append(writer)
        return writer

    yield later
    pipe.close_reader()
    for writer in writers:
        eventually(partial(writer.close, 0))


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


def test_a_pipe_that_nobody_reads_makes_nobody_wait(pipe: Pipe, ended: Ended) -> None:
    writer = ended(LogWriter(pipe.write))
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
        heard += read_all(pipe.read)
        return bool(told)

    eventually(all_heard)
    heard += read_all(pipe.read)
    assert told == [writer.dropped]
    assert heard.count(b"\n") == count - writer.dropped
    assert set(heard.split(b"\n")) == {LINE[:-1].encode(), b""}, "no line is torn"


def test_a_pipe_whose_reader_is_gone(pipe: Pipe, ended: Ended) -> None:
    pipe.close_reader()
    writer = ended(LogWriter(pipe.write))
    for _ in range(2 * LIMIT // len(LINE)):
        writer.write(LINE)
    writer.finish()
    assert writer.dropped > 0


def test_once_closed_it_writes_to_nobody_who_is_given_the_number(pipe: Pipe, ended: Ended) -> None:
    pipe.close_reader()
    writer = ended(LogWriter(pipe.write))
    for _ in range(2 * LIMIT // len(LINE)):
        writer.write(LINE)
    threads = {thread for thread in threading.enumerate() if thread.name == "log writer"}
    eventually(partial(writer.close, 0))
    assert {thread for thread in threads if thread.is_alive()} < threads, "nobody is left to try it again"
    read, another = os.pipe()
    os.dup2(another, pipe.write)
    os.close(another)
    os.set_blocking(read, False)
    dropped = writer.dropped
    writer.write(LINE)
    assert writer.close()
    assert read_all(read) == b""
    assert writer.dropped == dropped + 1
    os.close(read)


def test_close_writes_what_was_said_and_the_line_about_what_was_lost(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        writer = LogWriter(file.fileno())
        writer.on_recovery = lambda count: writer.write(f"{count} lost\n")
        while not writer.dropped:
            writer.write("x" * (LIMIT // 4) + "\n")
        lost = writer.dropped
        assert writer.close(60)
    assert (tmp_path / "log").read_text().splitlines()[-1] == f"{lost} lost"


def test_close_does_not_wait_for_a_reader_that_is_stuck(pipe: Pipe, ended: Ended) -> None:
    writer = ended(LogWriter(pipe.write))
    for _ in range(1000):
        writer.write(LINE)
    assert not writer.close()  # and so it says that the descriptor can't be closed yet
    pipe.close_reader()
    eventually(partial(writer.close, 0))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux' /dev/full is a disk that is full")
def test_a_full_disk_that_has_room_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    full, log = os.open("/dev/full", os.O_WRONLY), os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    request.addfinalizer(partial(os.close, full))
    request.addfinalizer(partial(os.close, log))
    writer = LogWriter(full)
    request.addfinalizer(lambda: eventually(partial(writer.close, 0)))  # the first to be called
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


def test_a_descriptor_that_does_not_block_loses_nothing(pipe: Pipe, ended: Ended) -> None:
    os.set_blocking(pipe.write, False)
    writer = ended(LogWriter(pipe.write))
    for number in range(2000):
        writer.write(f"{number}\n")
    heard = b""

    def all_heard() -> bool:
        nonlocal heard
        heard += read_all(pipe.read)
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


def test_the_log_says_how_many_lines_it_lost(pipe: Pipe, ended: Ended) -> None:
    with os.fdopen(pipe.write, "w", closefd=False) as stream:
        writer = writer_for(stream)
        assert writer is not None
        ended(writer)
        log = make_log("json", "info", stream, writer)
        while not writer.dropped:
            log.info("an event", text="x" * 200)
        heard = b""

        def told() -> bool:
            nonlocal heard
            heard += read_all(pipe.read)
            return b"log lines dropped" in heard and heard.endswith(b"\n")

        eventually(told)
    assert f'"count":{writer.dropped}'.encode() in heard.splitlines()[-1]


def test_it_is_standard_errors_by_default() -> None:
    writer = writer_for(sys.__stderr__) if sys.__stderr__ is not None else None
    assert writer is None or writer.dropped == 0
