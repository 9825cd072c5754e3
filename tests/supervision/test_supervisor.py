"""What the supervisor decides by itself, without a process: back-off, names, and what is said on a link."""

import socket

import pytest
import trio

from service.supervision.link import lines
from service.supervision.process import how
from service.supervision.supervisor import MOST_FAILURES, Series, Slot


def test_back_off_grows_and_is_forgotten_after_a_steady_while() -> None:
    series = Series()
    waits = [series.ended(started=True, after=1.0) for _ in range(8)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert series.failures == 0
    assert series.ended(started=True, after=30.0) == 0.1


def test_only_starts_in_a_row_that_fail_count() -> None:
    series = Series()
    for _ in range(MOST_FAILURES - 1):
        series.ended(started=False, after=0.5)
    series.ended(started=True, after=0.5)
    assert series.failures == 0
    for _ in range(MOST_FAILURES):
        series.ended(started=False, after=0.5)
    assert series.failures == MOST_FAILURES


def test_no_name_is_used_twice() -> None:
    slots = [Slot(1), Slot(2)]
    names = [slot.next_name("gw") for slot in slots for _ in range(3)]
    assert names == ["gw-1", "gw-1.2", "gw-1.3", "gw-2", "gw-2.2", "gw-2.3"]


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (2, "exit code 2"), (-9, "SIGKILL"), (-99, "signal 99")]
)
def test_an_end_in_words(code: int, words: str) -> None:
    assert how(code) == words


async def test_a_link_s_lines_come_whole_and_half_a_line_at_its_end_is_none() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"started\nfailed some")
        theirs.sendall(b"thing \xff\nrea")
        theirs.shutdown(socket.SHUT_WR)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
            assert [line async for line in lines(stream)] == ["started", "failed something �"]
