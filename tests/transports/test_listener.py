"""Listening sockets: which addresses, which errors, and one that is given up to other processes."""

import errno
import os
import socket
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing

from service.transports.listener import Listener, why_it_cannot_listen

from .contract import Options
from .native_harness import NativeHarness
from .raw import RawClient
from .script import Counts, ScriptGate


async def test_a_port_that_is_taken(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()) as (host, port):
        with pytest.raises(OSError, match=rf"Cannot listen on {host} port {port}: .+\.") as caught:
            await harness.reactor.listen(host, port, "websocket")
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match="no address or known name"):
            await harness.reactor.listen("no.such.host.invalid", 0, "websocket")


async def test_both_families_on_one_port(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()), trio.open_nursery() as nursery:
        try:
            probe = socket.socket(socket.AF_INET6)
            probe.bind(("::1", 0))
            probe.close()
        except OSError:
            pytest.skip("no IPv6 here")
        found = await nursery.start(harness.reactor.listen, "::", 0, "worker")
        for host in ("127.0.0.1", "::1"):
            async with await RawClient.open((host, found[0][1])):
                recorder = await gate.recorder(len(gate.recorders) - 1)
                assert recorder.peer.address == host
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_what_is_accepted_waits_for_nothing(family: socket.AddressFamily, tmp_path: Path) -> None:
    """No delay (where there is one) and no blocking: neither the peer nor the loop waits."""
    where = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}.get(family, str(tmp_path / "socket"))
    with socket.socket(family) as listening, socket.socket(family) as client:
        try:
            listening.bind(where)
        except OSError:
            pytest.skip("no IPv6 here")
        listening.listen()
        listener = Listener(listening, "websocket")
        assert list(listener.accept(1)) == []
        client.connect(listening.getsockname())
        ((fd, address),) = listener.accept(2)
        assert address == ("" if family == socket.AF_UNIX else where[0])
        with closing(socket.socket(fileno=fd)) as accepted:
            assert not os.get_blocking(fd)
            assert not os.get_inheritable(fd)
            if family != socket.AF_UNIX:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (
            errno.EADDRINUSE,
            "cannot listen on h port 80 (Address already in use): stop what uses it, or set PORT to another port.",
        ),
        (
            errno.EACCES,
            "cannot listen on h port 80 (Permission denied): set PORT to a port above 1023, or let this user have the "
            "lower ones.",
        ),
        (
            errno.EADDRNOTAVAIL,
            "cannot listen on h, which is no address of this machine: set HOST to one, such as 127.0.0.1, or 0.0.0.0 "
            "for all.",
        ),
        (
            errno.EMFILE,
            "cannot listen on h port 80 (Too many open files): raise the limit of open files (ulimit -n).",
        ),
    ],
)
def test_why_it_cannot_listen_names_what_has_to_change(number: int, sentence: str) -> None:
    assert why_it_cannot_listen(OSError(number, "whatever"), "h", 80, "PORT") == sentence
