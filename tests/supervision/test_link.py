"""The link between the supervisor and a process of its: words, a line each, until either is gone."""

import os
import socket
from collections.abc import Iterator

import msgspec
import pytest
import trio

from service.supervision.link import Place, Supervised, lines


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Supervised]]:
    """The supervisor's end and the process's."""
    ours, theirs = socket.socketpair()
    place = Place("n1", os.dup(theirs.fileno()), {})
    theirs.close()
    with ours:
        supervised = Supervised(msgspec.json.encode(place).decode())
        yield ours, supervised
        supervised._link.close()


def test_what_a_process_says_is_one_line(ends: tuple[socket.socket, Supervised]) -> None:
    ours, supervised = ends
    supervised.say("failed", "port 1 is taken:\n stop what uses it")
    supervised.say("ready")
    assert ours.recv(1000) == b"failed port 1 is taken: stop what uses it\nready\n"
    assert (supervised.name, supervised.sockets) == ("n1", {})
    assert not os.get_inheritable(supervised._link.fileno())
    ours.close()
    supervised.say("nobody hears it")


async def test_orders_come_in_their_order_and_the_end_is_a_drain(ends: tuple[socket.socket, Supervised]) -> None:
    ours, supervised = ends
    ours.sendall(b"hand over\nno order\nst")
    ours.sendall(b"op\nhalf of a li")
    ours.shutdown(socket.SHUT_WR)
    assert [order async for order in supervised.orders()] == ["hand over", "stop", "drain"]


async def test_lines_however_they_come() -> None:
    send, receive = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def say() -> None:
            for part in (b"on", b"e\ntwo\n\n", b"th\xff", b"ree\n", b"rest"):
                await send.send_all(part)
            await send.aclose()

        assert [line async for line in lines(receive)] == ["one", "two", "", "th\ufffdree"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "n1", "link": 999999, "sockets": {}}'])
def test_what_no_supervisor_says(text: str) -> None:
    with pytest.raises(ValueError, match="use --workers"):
        Supervised(text)
