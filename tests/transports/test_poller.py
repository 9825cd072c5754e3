"""The poller for systems without epoll, over a selector of the standard library."""

import selectors
import socket

import pytest

from service.transports.poller import NOTHING, READABLE, WRITABLE, SelectorPoller, make_poller


@pytest.mark.skipif(not hasattr(selectors, "EpollSelector"), reason="a selector with a descriptor is needed")
def test_a_selector_serves_as_a_poller() -> None:
    poller = SelectorPoller(selectors.EpollSelector())
    here, there = socket.socketpair()
    with here, there:
        poller.register(here.fileno(), READABLE)
        assert poller.poll(0, 10) == []
        there.send(b"x")
        assert poller.poll(0, 10) == [(here.fileno(), READABLE)]
        poller.modify(here.fileno(), READABLE | WRITABLE)
        assert poller.poll(0, 10) == [(here.fileno(), READABLE | WRITABLE)]
        poller.modify(here.fileno(), NOTHING)
        assert poller.poll(0, 10) == []
        poller.modify(here.fileno(), WRITABLE)
        assert poller.poll(0, 10) == [(here.fileno(), WRITABLE)]
        poller.modify(here.fileno(), NOTHING)
        poller.unregister(here.fileno())
        poller.register(here.fileno(), READABLE)
        poller.unregister(here.fileno())
    assert poller.fileno() > 0
    poller.close()


def test_there_is_one_for_this_system() -> None:
    poller = make_poller()
    assert poller.fileno() > 0
    poller.close()
